//! A record, a proposal and a verdict as Kafka messages: the CloudEvents Kafka binding, and back.
//!
//! Source: CloudEvents 1.0.2 Kafka protocol binding, section 3.2 (binary content mode).

use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use crate::journal::{Located, Queued};

/// What a record is on the wire.
pub struct Wire {
    /// `workspace/model`.
    pub key: String,
    /// Its headers.
    pub headers: OwnedHeaders,
    /// `{"data":…,"decided":…}`.
    pub value: String,
    /// The recorded time, in milliseconds, so that Kafka finds a time by itself.
    pub at: i64,
}

/// A record of ours, as a message. `None` if it cannot be read: no record of ours, then.
/// `schema` is the value of the header by which Confluent's deserializers find the schema.
#[must_use]
pub fn encode_record(record: &Record, schema: Option<&[u8]>) -> Option<Wire> {
    let view = record.view().ok()?;
    let mut headers = OwnedHeaders::new_with_capacity(24).insert(Header { key: "content-type", value: Some("application/json") });
    for (key, value) in view.headers() {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let hash = record.hash().to_string();
    headers = headers.insert(Header { key: "ce_hash", value: Some(&hash) });
    if let Some(schema) = schema {
        headers = headers.insert(Header { key: "__value_schema_id", value: Some(schema) });
    }
    Some(Wire { key: view.key.to_owned(), headers, value: view.value().to_owned(), at: view.recorded.0 })
}

/// A message of the journal. What is none of ours becomes a record that nobody can read, so that
/// whoever folds it halts.
#[must_use]
pub fn decode_record(message: &BorrowedMessage<'_>) -> Located {
    let offset = offset(message);
    Located { offset, record: build(message).unwrap_or_else(|| Record::from_frame(Box::default())) }
}

fn build(message: &BorrowedMessage<'_>) -> Option<Record> {
    let key = std::str::from_utf8(message.key()?).ok()?;
    let found = message.headers()?;
    let mut headers = Vec::with_capacity(found.count());
    for header in found.iter() {
        if header.key.starts_with("ce_") && header.key != "ce_hash" {
            headers.push((header.key, std::str::from_utf8(header.value?).ok()?));
        }
    }
    Some(Record::build(key, &mut headers, message.payload()?))
}

/// A proposal, as the doors send it.
#[must_use]
pub fn encode_headers(submission: &Submission) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(submission.headers.len());
    submission.headers.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// A proposal, whatever it may be.
#[must_use]
pub fn decode_proposal(message: &BorrowedMessage<'_>) -> Queued {
    let headers = message.headers().map(|headers| {
        let pair = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.unwrap_or_default().to_vec());
        headers.iter().map(pair).collect()
    });
    let submission = Submission {
        key: message.key().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    };
    Queued { src: offset(message), at: Timestamp(message.timestamp().to_millis().unwrap_or(0)), submission }
}

/// The headers of a verdict: its key is the proposal's id, which is unique for each source only.
#[must_use]
pub fn verdict_headers(verdict: &Verdict) -> OwnedHeaders {
    OwnedHeaders::new()
        .insert(Header { key: "content-type", value: Some("application/json") })
        .insert(Header { key: "ce_source", value: Some(&verdict.source) })
}

/// A verdict and its offset; `None` for what is none.
#[must_use]
pub fn decode_verdict(message: &BorrowedMessage<'_>) -> Option<(u64, Verdict)> {
    Some((offset(message), serde_json::from_slice(message.payload()?).ok()?))
}

/// Where a message is.
#[must_use]
pub fn offset(message: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(message.offset()).unwrap_or(0)
}
