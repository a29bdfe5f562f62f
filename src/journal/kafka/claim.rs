//! The right to append to one partition: the producer of that partition's name, which fences every other.
//!
//! ```text
//!  append ─▶ transaction: records ─▶ commit ─▶ verdicts that the records say, outside of it
//!       or ─▶ transaction: verdicts, records ─▶ commit
//! ```
//!
//! A transaction costs the brokers a round trip of their own for each partition that it writes to, and so a lone
//! caller of an accept a fifth of its time; what an event says by itself need not be in it.

use std::sync::Arc;
use std::time::Duration;

use annals_events::verdict::Verdict;
use rdkafka::error::KafkaResult;

use super::codec;
use super::connect::{Connection, Topic};
use super::delivery::{Ear, Outgoing, Sent, Teller};
use super::transaction::{APPEND_MAX, Transactions};
use crate::journal::owed::is_told_by_its_records;
use crate::journal::{AppendError, Batch, Claim, ClaimError};

/// How long the end of a claim may wait until its last verdicts are told; the next owner tells the others.
const END_MAX: Duration = Duration::from_secs(1);

/// Tells verdicts behind their events, for all partitions.
pub fn teller(connection: &Connection) -> KafkaResult<Arc<Teller>> {
    connection.teller(Ear).map(Arc::new)
}

/// See the module.
pub struct KafkaClaim {
    partition: u32,
    connection: Connection,
    transactions: Transactions,
    teller: Arc<Teller>,
    journal: String,
    verdicts: String,
    /// What is to be told as soon as the transaction is committed.
    later: Vec<Verdict>,
    /// What was told so, and may be under way.
    told: Arc<Sent>,
}

impl KafkaClaim {
    /// Fences whoever had the partition, and waits until what they left open is aborted or committed.
    pub fn new(connection: &Connection, partition: u32, teller: Arc<Teller>) -> Result<Self, ClaimError> {
        let transactions = Transactions::fence(connection, &format!("arbiter.{partition}"));
        let transactions = transactions.map_err(|e| ClaimError::Unavailable(e.to_string()))?;
        Ok(Self {
            partition,
            transactions,
            teller,
            journal: connection.topic(Topic::Journal),
            verdicts: connection.topic(Topic::Verdicts),
            connection: connection.clone(),
            later: Vec::new(),
            told: Arc::default(),
        })
    }

    /// Verdicts stay in the order of their proposals, and only those of the last commit can be missing: so what was
    /// told before is stored before anything else is written.
    fn finish_telling(&self) -> Result<(), AppendError> {
        if !self.told.all_known(APPEND_MAX) {
            return Err(AppendError::Failed(format!("no broker acknowledged the last verdicts within {} s", APPEND_MAX.as_secs())));
        }
        let untold = |error| AppendError::Failed(format!("the last verdicts could not be told, and will be at once: {error}"));
        self.told.failed().map_or(Ok(()), |error| Err(untold(error)))
    }
}

impl Claim for KafkaClaim {
    /// Verdicts that the events say by themselves are told behind the commit; if that fails, the next owner tells them
    /// ([`Journal::owed`](crate::journal::Journal::owed)). Of others, verdicts first, and events only when those are
    /// stored: behind an event nobody looks back, so its verdict must be there by then; a verdict whose event is
    /// missing is only early, since whoever judges the proposal again decides the same.
    fn append(&mut self, batch: Batch) -> Result<(), AppendError> {
        self.finish_telling()?;
        let Self { partition, connection, transactions, journal, verdicts: topic, .. } = self;
        let records = batch.records.iter().map(|record| {
            let schema = record.view().ok().and_then(|view| connection.schema_header(view.kind));
            let wire = codec::encode_record(record, schema.as_deref()).ok_or_else(|| bug("a record cannot be read"))?;
            let (key, value, at) = (wire.key.into(), wire.value.into_bytes().into(), Some(wire.at));
            Ok(Outgoing { topic: journal, partition: *partition, key, headers: wire.headers, value, at })
        });
        if is_told_by_its_records(&batch) {
            transactions.write(records, [])?;
            self.later = batch.verdicts;
            return Ok(());
        }
        transactions.write(batch.verdicts.iter().map(|verdict| telling(topic, *partition, verdict)), records)
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        self.transactions.commit()?;
        for verdict in self.later.drain(..) {
            let sent = self.told.send(&self.teller, telling(&self.verdicts, self.partition, &verdict)?);
            // the events are there: whoever claims next tells the rest
            sent.map_err(|error| AppendError::Unknown(format!("verdicts could not be told: {error}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl KafkaClaim {
    /// Commits, and dies before it has told anything.
    pub fn commit_and_die(mut self) {
        self.later.clear();
        self.commit().expect("the transaction is committed");
    }
}

impl Drop for KafkaClaim {
    fn drop(&mut self) {
        self.told.all_known(END_MAX);
    }
}

fn telling<'a>(topic: &'a str, partition: u32, verdict: &'a Verdict) -> Result<Outgoing<'a>, AppendError> {
    let value = serde_json::to_vec(verdict).map_err(|e| bug(&format!("a verdict cannot be written: {e}")))?;
    let (key, headers) = (verdict.id.as_str().into(), codec::verdict_headers(verdict));
    Ok(Outgoing { topic, partition, key, headers, value: value.into(), at: None })
}

fn bug(what: &str) -> AppendError {
    AppendError::Failed(format!("{what}; this is a bug"))
}
