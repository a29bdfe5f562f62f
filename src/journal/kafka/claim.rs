//! The right to append to one partition: the producer of that partition's name, which fences every other.

use super::codec;
use super::connect::{Connection, Topic};
use super::transaction::{Outgoing, Transactions};
use crate::journal::owed::is_told_by_its_records;
use crate::journal::{AppendError, Batch, Claim, ClaimError};

/// See the module.
pub struct KafkaClaim {
    partition: u32,
    connection: Connection,
    transactions: Transactions,
    journal: String,
    verdicts: String,
}

impl KafkaClaim {
    /// Fences whoever had the partition, and waits until what they left open is aborted or committed.
    pub fn new(connection: &Connection, partition: u32) -> Result<Self, ClaimError> {
        let transactions = Transactions::fence(connection, &format!("arbiter.{partition}"));
        let transactions = transactions.map_err(|e| ClaimError::Unavailable(e.to_string()))?;
        let (journal, verdicts) = (connection.topic(Topic::Journal), connection.topic(Topic::Verdicts));
        Ok(Self { partition, connection: connection.clone(), transactions, journal, verdicts })
    }
}

impl Claim for KafkaClaim {
    /// Verdicts first, and events only when those are stored: behind an event nobody looks back, so its
    /// verdict must be there by then; a verdict whose event is missing is only early, since whoever
    /// judges the proposal again decides the same. Verdicts that the events say by themselves can be
    /// told later ([`Journal::owed`](crate::journal::Journal::owed)), so such a batch is sent at once.
    fn append(&mut self, batch: Batch) -> Result<(), AppendError> {
        let Self { partition, connection, transactions, journal, verdicts: told } = self;
        let verdicts = batch.verdicts.iter().map(|verdict| {
            let value = serde_json::to_vec(verdict).map_err(|e| bug(&format!("a verdict cannot be written: {e}")))?;
            let (key, headers) = (verdict.id.as_str().into(), codec::verdict_headers(verdict));
            Ok(Outgoing { topic: told, partition: *partition, key, headers, value: value.into(), at: None })
        });
        let records = batch.records.iter().map(|record| {
            let schema = record.view().ok().and_then(|view| connection.schema_header(view.kind));
            let wire = codec::encode_record(record, schema.as_deref()).ok_or_else(|| bug("a record cannot be read"))?;
            let (key, value, at) = (wire.key.into(), wire.value.into_bytes().into(), Some(wire.at));
            Ok(Outgoing { topic: journal, partition: *partition, key, headers: wire.headers, value, at })
        });
        if is_told_by_its_records(&batch) { transactions.write(verdicts.chain(records), []) } else { transactions.write(verdicts, records) }
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        self.transactions.commit()
    }
}

fn bug(what: &str) -> AppendError {
    AppendError::Failed(format!("{what}; this is a bug"))
}
