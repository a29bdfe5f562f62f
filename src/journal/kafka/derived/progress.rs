//! How far the derived topics are, as they say themselves: read by whoever begins to publish.

use std::collections::BTreeMap;

use annals_events::record::Hash;
use rdkafka::message::{BorrowedMessage, Message};
use serde::{Deserialize, Serialize};

use super::super::codec;
use super::super::connect::Topic;
use super::super::history::History;
use crate::journal::{Journal, ReadError};

/// So many of the last copies are looked at for repeated ones.
const COPIES_BACK: u64 = 1_000;
/// What the keys begin with.
const READER: &str = "derived/";

/// The last event of a partition that the derived topics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its place.
    pub seq: u64,
    /// Its offset in the journal.
    pub offset: u64,
    /// Its hash.
    pub hash: Hash,
}

#[derive(Serialize, Deserialize)]
struct Note {
    seq: u64,
    offset: u64,
    hash: String,
}

impl Progress {
    /// The key of its message.
    pub fn key(partition: u32) -> String {
        format!("{READER}{partition}")
    }

    /// The value of its message.
    pub fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&Note { seq: self.seq, offset: self.offset, hash: self.hash.to_string() }).ok()
    }

    fn decode(message: &BorrowedMessage<'_>) -> Option<(u32, Self)> {
        let key = std::str::from_utf8(message.key()?).ok()?;
        let Note { seq, offset, hash } = serde_json::from_slice(message.payload()?).ok()?;
        Some((key.strip_prefix(READER)?.parse().ok()?, Self { seq, offset, hash: hash.parse().ok()? }))
    }

    /// Why the journal is not the one that was published up to here; `None` if it is.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] while that cannot be told.
    pub fn contradiction(&self, journal: &dyn Journal, partition: u32) -> Result<Option<String>, ReadError> {
        let found = match journal.records(partition, self.offset, 1) {
            Ok(chunk) => chunk.items.into_iter().next().filter(|found| found.offset == self.offset),
            Err(ReadError::Unavailable(reason)) => return Err(ReadError::Unavailable(reason)),
            Err(damage) => return Ok(Some(damage.to_string())),
        };
        let what = match found {
            Some(found) if found.record.hash() == self.hash => return Ok(None),
            Some(_) => "another record",
            None if journal.end(partition)? <= self.offset => "no record",
            None => return Err(ReadError::Unavailable(format!("the record at offset {} has not come yet", self.offset))),
        };
        Ok(Some(format!(
            "the derived topics were published up to seq {}, where the journal has {what} now: it was cut or changed; restore it \
             from a backup (after restoring one on purpose, delete the topics promotions, models and progress of the prefix and \
             run `annals topics create`)",
            self.seq
        )))
    }
}

/// By partition how far the derived topics are. Nobody else may be able to write them any more.
pub fn read(history: &History) -> Result<BTreeMap<u32, Progress>, ReadError> {
    let mut known = BTreeMap::new();
    walk(history, Topic::Progress, 0, 0, Progress::decode, |progress| known.extend(progress))?;
    Ok(known)
}

/// What is known of the copies in a partition of the promotions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The highest place of one.
    pub last: Option<u64>,
    /// How many came again after they were there.
    pub repeated: u64,
    /// The offset behind the last that was looked at.
    next: u64,
}

impl Copies {
    /// Looks at those that were not looked at yet; of many, at the last.
    pub fn look(&mut self, history: &History, partition: u32) -> Result<(), ReadError> {
        let (_, end) = history.range(Topic::Promotions, partition)?;
        let from = self.next.max(end.saturating_sub(COPIES_BACK));
        let seq = |message: &BorrowedMessage<'_>| codec::decode_record(message).record.view().ok().map(|view| view.seq);
        walk(history, Topic::Promotions, partition, from, seq, |seq| {
            self.repeated += u64::from(seq.is_some() && seq <= self.last);
            self.last = self.last.max(seq);
        })?;
        self.next = end;
        Ok(())
    }
}

/// Every committed message from an offset on, or from the first that is retained.
fn walk<T: Send>(
    history: &History,
    topic: Topic,
    partition: u32,
    from: u64,
    decode: impl Fn(&BorrowedMessage<'_>) -> T + Sync,
    mut take: impl FnMut(T),
) -> Result<(), ReadError> {
    let (low, _) = history.range(topic, partition)?;
    let mut from = from.max(low);
    loop {
        let chunk = history.read(topic, partition, from, usize::MAX, &decode)?;
        chunk.items.into_iter().for_each(&mut take);
        if chunk.next <= from {
            return Ok(());
        }
        from = chunk.next;
    }
}
