//! Where a view is in the journal, and what it is given.

use annals_events::model::Decided;
use annals_events::record::{Corrupt, Hash, Record, View};
use annals_events::time::Timestamp;
use serde::Serialize;

/// A record of the journal, and where it lies in its partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub partition: u32,
    /// Its offset in the log: grows, may leave gaps.
    pub offset: u64,
    /// The record, accepted by rule R.
    pub record: Record,
}

/// How far a view has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The last event that is in the view.
    pub seq: u64,
    /// Its hash: the next event must name it as its predecessor.
    pub hash: Hash,
    /// Its offset: the log is read on behind it.
    pub offset: u64,
    /// When it was recorded.
    pub recorded: Timestamp,
}

/// An entry, read once for all that a projection does with it.
#[derive(Debug)]
pub struct Event<'a> {
    /// The partition.
    pub partition: u32,
    /// The record's hash.
    pub hash: Hash,
    /// The record's parts.
    pub view: View<'a>,
    /// What the engine decided.
    pub decided: Decided,
    /// `recorded` as text: RFC 3339, milliseconds.
    pub recorded: Box<str>,
}

impl<'a> Event<'a> {
    /// Reads what the engine decided; `view` is the entry's record.
    ///
    /// # Errors
    /// [`Corrupt`] if the record is not one of ours.
    pub(crate) fn of(entry: &Entry, view: View<'a>) -> Result<Self, Corrupt> {
        let decided = Decided::parse(view.kind, view.decided)?;
        let recorded = view.recorded.to_string().into();
        Ok(Self { partition: entry.partition, hash: entry.record.hash(), view, decided, recorded })
    }

    /// Workspace and name of the model that the event is about.
    #[must_use]
    pub fn names(&self) -> (&'a str, &'a str) {
        self.view.key.split_once('/').unwrap_or((self.view.key, ""))
    }
}
