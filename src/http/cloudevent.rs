//! CloudEvents 1.0.2 over HTTP: from a request to a proposal, and from a record to a CloudEvent.

use std::collections::BTreeMap;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::proposal::{Proposal, structured_parts};
use annals_events::record::Record;
use annals_events::verdict::{Code, Refusal};
use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use super::uri;

/// The source of proposals whose producer names none.
pub const SOURCE: &str = "/http";

type Attributes = BTreeMap<String, String>;

/// How a request carries its CloudEvents (HTTP protocol binding, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in `ce-*` headers, the data as the body.
    Binary,
    /// One CloudEvent as JSON.
    Structured,
    /// A JSON array of CloudEvents.
    Batch,
}

/// Tells the mode of a request.
///
/// # Errors
/// 415, if it is none that we read.
pub fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        _ if essence.starts_with("application/cloudevents") => Err(unsupported(&essence)),
        _ if !headers.contains_key("ce-specversion") && !headers.contains_key("ce-type") => Err(unsupported(&essence)),
        "" | "application/json" => Ok(Mode::Binary),
        _ if essence.ends_with("+json") => Ok(Mode::Binary),
        _ => Err(unsupported(&essence)),
    }
}

fn unsupported(essence: &str) -> Problem {
    let found = if essence.is_empty() { "no content type and no ce-* headers".to_owned() } else { format!("the content type `{essence}`") };
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        format!("the request has {found}, which is not a CloudEvent with JSON data"),
        "send application/cloudevents+json, application/cloudevents-batch+json, or application/json with ce-* headers",
    )
}

/// Reads a single event in binary mode.
///
/// # Errors
/// A refusal that names the header or the fields.
pub fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Proposal, Refusal> {
    let mut attributes = Attributes::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        if attributes.insert(name.to_owned(), header_text(name, value.as_bytes())?).is_some() {
            return Err(malformed(format!("the header ce-{name} comes twice"), "send each attribute once"));
        }
    }
    let data = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8", "send JSON as UTF-8"))?;
    complete(attributes, data.to_owned(), headers)
}

/// Reads a single event in structured mode, or one item of a batch.
///
/// # Errors
/// A refusal that names the member or the fields.
pub fn structured(headers: &HeaderMap, body: &[u8]) -> Result<Proposal, Refusal> {
    let (attributes, data) = structured_parts(body)?;
    complete(attributes, data, headers)
}

/// A header's value (HTTP binding, section 3.1.3.2): unquoted, then one round of percent-decoding.
fn header_text(name: &str, value: &[u8]) -> Result<String, Refusal> {
    let unquoted = match value {
        [b'"', inner @ .., b'"'] => {
            let mut text = Vec::with_capacity(inner.len());
            let mut escaped = false;
            for byte in inner {
                if *byte == b'\\' && !escaped {
                    escaped = true;
                } else {
                    text.push(*byte);
                    escaped = false;
                }
            }
            text
        }
        plain => plain.to_vec(),
    };
    String::from_utf8(uri::decode(&unquoted))
        .map_err(|_| malformed(format!("the header ce-{name} is not UTF-8"), "percent-encode the UTF-8 bytes of the value"))
}

/// Fills in what a door may fill in, and checks the whole.
///
/// # Errors
/// A refusal that names the attribute or the fields.
pub fn complete(mut attributes: Attributes, data: String, headers: &HeaderMap) -> Result<Proposal, Refusal> {
    if !attributes.contains_key("id") {
        attributes.insert("id".into(), uuid::Uuid::now_v7().to_string());
    }
    if !attributes.contains_key("source") {
        attributes.insert("source".into(), SOURCE.into());
    }
    let kind = attributes.get("type").and_then(|name| Kind::from_any(name));
    if let Some(kind) = kind {
        attributes.insert("type".into(), kind.name().into());
    }
    expectation(&mut attributes, headers)?;
    let key = attributes.get("subject").and_then(|subject| {
        let mut parts = subject.splitn(3, '/');
        Key::of(kind?, parts.next()?, parts.next()?).ok()
    });
    // without a type or with a subject that is no key it is wrong, and `from_parts` says so before it looks at the key
    Proposal::from_parts(attributes, data, key.as_ref().map(|k| k.as_str().as_bytes()))
}

/// `If-Match: "17"` is the attribute `expectedseq`; `If-Match: *` refuses to create a model.
fn expectation(attributes: &mut Attributes, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        attributes.insert("modelexists".into(), "true".into());
        return Ok(());
    }
    let seq = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if seq.is_empty() || !seq.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed(format!("`If-Match: {text}` is not a model sequence"), "send the ETag that you were given, such as \"17\""));
    }
    match attributes.insert("expectedseq".into(), seq.to_owned()) {
        Some(other) if other != seq => {
            Err(malformed(format!("If-Match says {seq}, and the attribute `expectedseq` says {other}"), "send one of the two"))
        }
        _ => Ok(()),
    }
}

fn malformed(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, message, remedy)
}

/// Writes a record as a CloudEvent on one line: every `ce_*` attribute as text, its hash and position,
/// and as `data` the journal's value. Line breaks between the producer's tokens become blanks; the
/// export has every byte as it is.
///
/// # Errors
/// If the record is not one of ours.
pub fn write(partition: u32, record: &Record, out: &mut Vec<u8>) -> Result<(), annals_events::record::Corrupt> {
    let view = record.view()?;
    let mut separator = b'{';
    let mut member = |name: &str, value: &str| {
        out.push(std::mem::replace(&mut separator, b','));
        json_string(name, out);
        out.push(b':');
        json_string(value, out);
    };
    for (name, value) in view.headers() {
        member(name.strip_prefix("ce_").unwrap_or(name), value);
    }
    member("position", &format!("{partition}:{}", view.seq));
    member("hash", &record.hash().to_string());
    member("datacontenttype", "application/json");
    out.extend_from_slice(b",\"data\":");
    let from = out.len();
    out.extend_from_slice(view.value().as_bytes());
    // a raw line break cannot be inside a JSON string, so this changes no value
    out[from..].iter_mut().filter(|b| matches!(**b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    out.push(b'}');
    Ok(())
}

/// Writes a JSON string.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    let from = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.truncate(from); // writing to memory cannot fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(n, v): &(&str, &str)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(v.as_bytes()).unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_content_type_tells_the_mode() {
        let with = |content_type: &str| mode(&headers(&[("content-type", content_type), ("ce-type", "created")])).map_err(|p| p.status);
        assert_eq!(with("application/cloudevents+json; charset=utf-8"), Ok(Mode::Structured));
        assert_eq!(with("application/cloudevents-batch+json"), Ok(Mode::Batch));
        assert_eq!(with("application/json"), Ok(Mode::Binary));
        assert_eq!(with("text/plain"), Err(415));
        assert_eq!(with("application/cloudevents+avro"), Err(415));
        assert_eq!(mode(&headers(&[("content-type", "application/json")])).map_err(|p| p.status), Err(415));
    }

    #[test]
    fn binary_mode_decodes_header_values_and_fills_in_what_is_missing() {
        let given = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "created"),
            ("ce-subject", "default/%C3%A9t%C3%A9"),
            ("ce-actor", "\"a \\\"b\\\"\""),
            ("if-match", "\"3\""),
        ]);
        let proposal = binary(&given, b"{}");
        let proposal = proposal.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(proposal.key.as_str(), "default/été");
        assert_eq!(proposal.actor.as_deref(), Some("a \"b\""));
        assert_eq!((proposal.source.as_str(), proposal.expected, proposal.id.len()), (SOURCE, Some(3), 36));
    }

    #[test]
    fn header_values_that_are_not_text_are_refused() {
        let refusal =
            binary(&headers(&[("ce-specversion", "1.0"), ("ce-type", "created"), ("ce-subject", "default/%FF")]), b"{}").unwrap_err();
        assert_eq!(refusal.code, Code::Malformed);
        assert!(refusal.message.contains("ce-subject"), "{}", refusal.message);
    }

    #[test]
    fn if_match_must_be_a_sequence_and_agree_with_the_attribute() {
        for (value, extra) in [("W/\"3\"", "3"), ("\"a\"", "3"), ("\"4\"", "3")] {
            let given = headers(&[
                ("ce-specversion", "1.0"),
                ("ce-type", "created"),
                ("ce-subject", "default/m"),
                ("ce-expectedseq", extra),
                ("if-match", value),
            ]);
            assert_eq!(binary(&given, b"{}").map_err(|r| r.code), Err(Code::Malformed), "{value}");
        }
    }

    #[test]
    fn a_record_becomes_one_line_with_the_journals_value() {
        let record = annals_events::ledger::opening(3, 12, annals_events::time::Timestamp(0));
        let mut line = Vec::new();
        write(3, &record, &mut line).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((event["specversion"].as_str(), event["seq"].as_str()), (Some("1.0"), Some("0")));
        assert_eq!(event["position"], "3:0");
        assert_eq!(event["hash"], record.hash().to_string());
        assert_eq!(event["data"]["decided"]["partitions"], 12);
    }
}
