//! Is a journal whole? Names the first record that is not; `audit.rs` says what that can show.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use crate::audit::bundle::End;
use crate::audit::chain::{Chain, Fault};
use crate::journal::{Chunk, Journal, Located, ReadError};

pub mod file;
#[cfg(test)]
mod tests;

/// Records that are read from the journal at once.
const CHUNK_MAX: usize = 1_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything is as it should be.
    pub ok: bool,
    /// The journal's own name, as far as it could be read.
    pub journal: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many records are good, up to the first bad one.
    pub records: u64,
    /// How many models they speak of.
    pub models: usize,
    /// Copies that rule R drops; always 0 in an export.
    pub duplicates: u64,
    /// Records of transactions that never ended, which rule R drops; always 0 in an export.
    pub orphans: u64,
    /// By partition: the last good record. To be noted elsewhere, and compared next time.
    pub heads: BTreeMap<u32, End>,
    /// The first bad record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}

/// What happened to a record, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Its key, a header, its value or its hash was changed.
    Edited,
    /// It is missing.
    Dropped,
    /// It stands at another place.
    Swapped,
    /// It was never in the journal.
    Inserted,
    /// It is there a second time.
    Repeated,
    /// Everything from it on is missing.
    Truncated,
    /// It cannot be read.
    Unreadable,
    /// A newer build wrote it: not a fault, but this build cannot check it.
    Unknown,
}

/// The first bad record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What happened to it.
    pub what: What,
    /// Its partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its place there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Its line in the file; where a missing one should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong, for a person.
    pub message: String,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] io::Error),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Finding {
    fn new(what: What, partition: u32, seq: Option<u64>, message: impl Into<String>) -> Self {
        Self { what, partition: Some(partition), seq, line: None, message: message.into() }
    }

    /// What a fault says without looking further.
    fn of(partition: u32, fault: &Fault, next: u64) -> Self {
        match fault {
            Fault::Repeated { seq } => {
                Self::new(What::Repeated, partition, Some(*seq), format!("there is a second record for seq {seq} behind it"))
            }
            Fault::Gap { seq, next } => Self::new(What::Dropped, partition, Some(*next), missing(*next, *seq)),
            Fault::Diverged { seq, kept, found } => Self::new(
                What::Inserted,
                partition,
                Some(*seq),
                format!("two different records claim seq {seq}: first {kept}, then {found}; one of them was inserted"),
            ),
            // what a record follows is inside its hash, which is right: so it is the one before that changed
            Fault::Broken { seq, expected, found } => Self::new(
                What::Edited,
                partition,
                Some(seq.saturating_sub(1)),
                format!(
                    "seq {seq} follows a record with the hash {found}, but the one before it has {expected}: it was rewritten together with its hash"
                ),
            ),
            Fault::Unlawful { seq, why } => {
                Self::new(What::Edited, partition, seq.or(Some(next)), format!("the engine never wrote this record: {why}"))
            }
            Fault::Newer(why) => Self::new(What::Unknown, partition, Some(next), why.clone()),
        }
    }
}

fn missing(next: u64, seq: u64) -> String {
    if seq == next + 1 { format!("seq {next} is missing") } else { format!("seq {next} to {} are missing", seq - 1) }
}

/// What the chains add up to, for a report.
fn report(journal: String, chains: &[Chain], finding: Option<Finding>) -> Report {
    let head = |(partition, chain): (u32, &Chain)| {
        let ledger = chain.ledger();
        Some((partition, End { seq: ledger.last_seq()?, hash: ledger.last_hash().to_string() }))
    };
    Report {
        ok: finding.is_none(),
        journal,
        partitions: u32::try_from(chains.len()).unwrap_or(u32::MAX),
        records: chains.iter().map(Chain::next_seq).sum(),
        models: chains.iter().map(|chain| chain.ledger().models()).sum(),
        duplicates: 0,
        orphans: 0,
        heads: (0..).zip(chains).filter_map(head).collect(),
        finding,
    }
}

/// Checks every record of a journal up to where it ends now. `progress` hears how many were read.
///
/// # Errors
/// [`VerifyError`] if the journal is not available; a damaged one is a finding.
pub fn journal(journal: &dyn Journal, progress: &mut dyn FnMut(u64)) -> Result<Report, VerifyError> {
    let partitions = journal.partitions();
    let mut chains: Vec<Chain> = (0..partitions).map(|p| Chain::new(p, partitions)).collect();
    let mut walk = Walk { journal, duplicates: 0, orphans: 0, progress };
    let mut finding = None;
    for (partition, chain) in (0..).zip(&mut chains) {
        finding = walk.partition(partition, chain)?;
        if finding.is_some() {
            break;
        }
    }
    let (duplicates, orphans) = (walk.duplicates, walk.orphans);
    Ok(Report { duplicates, orphans, ..report(journal.id().to_owned(), &chains, finding) })
}

struct Walk<'a> {
    journal: &'a dyn Journal,
    duplicates: u64,
    orphans: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Walk<'_> {
    fn partition(&mut self, partition: u32, chain: &mut Chain) -> Result<Option<Finding>, VerifyError> {
        match self.read(partition, chain) {
            Err(VerifyError::Read(ReadError::Corrupt(why))) => {
                let message = format!("the journal is damaged: {why}; restore it from a backup");
                Ok(Some(Finding::new(What::Unreadable, partition, Some(chain.next_seq()), message)))
            }
            other => other,
        }
    }

    fn read(&mut self, partition: u32, chain: &mut Chain) -> Result<Option<Finding>, VerifyError> {
        let end = self.journal.end(partition)?;
        let mut from = 0;
        while from < end {
            let chunk = self.chunk(partition, from)?;
            for located in &chunk.items {
                match chain.take(&located.record) {
                    Ok(()) => {}
                    Err(Fault::Repeated { .. }) => self.duplicates += 1,
                    Err(Fault::Gap { .. }) => self.orphans += 1,
                    Err(fault) => return Ok(Some(Finding::of(partition, &fault, chain.next_seq()))),
                }
            }
            (self.progress)(chunk.items.len() as u64);
            if chunk.next <= from {
                return Err(ReadError::Corrupt(format!("it ends at offset {from} although it had records up to {end}")).into());
            }
            from = chunk.next;
        }
        if let Some(end) = chain.ledger().unfinished() {
            let message = format!("an import did not come to its end, which is at seq {end}: empty the journal and import again");
            return Ok(Some(Finding::new(What::Truncated, partition, Some(chain.next_seq()), message)));
        }
        let empty = Finding::new(What::Truncated, partition, Some(0), "the partition is empty: not even its opening record is there");
        Ok((chain.next_seq() == 0).then_some(empty))
    }

    /// Fewer and fewer records where some cannot be read: the good ones before the first bad one are
    /// judged, so that the finding names its place.
    fn chunk(&self, partition: u32, from: u64) -> Result<Chunk<Located>, ReadError> {
        let mut max = CHUNK_MAX;
        loop {
            match self.journal.records(partition, from, max) {
                Err(ReadError::Corrupt(_)) if max > 1 => max /= 2,
                other => return other,
            }
        }
    }
}
