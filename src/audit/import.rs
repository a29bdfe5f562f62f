//! An export becomes a journal again: every byte and hash as it was, and behind them `journal.continued`.
//!
//! An import reads its file twice: the first time it is checked whole, as `annals audit verify` does,
//! and the end of every partition is learned; the second time the records are checked again while they
//! are written. The target must hold nothing and have as many partitions, for a key's partition is part
//! of history.
//!
//! Nothing half imported is ever served. In a directory the file has its name only when it is whole.
//! A log that others can read has no such moment, so there an import says first where it will end:
//!
//! ```text
//!  offset 0            1        2              42       43
//!  [continued, seq 42] [seq 0] [seq 1] … … … [seq 41] [continued, seq 42]
//! ```
//! Its first record in each partition is that partition's last one, ahead of its place. Rule R drops it
//! as an orphan, and takes the second copy, which has the same bytes. A fold that has seen the first and
//! not reached the second knows that something is missing (`Ledger::unfinished`): an arbiter does not
//! judge then, and `audit verify` says so. Only the first record of a log counts as such, so nobody can
//! stop a journal with one later.
//!
//! From `journal.continued` on, `ce_src` counts in the new journal's own log of proposals, from 0: the
//! old proposals and their verdicts are in no export. What the engine makes up from an offset carries
//! the generation (`refused-3-g2-17`), so that ids stay unique; the ids of proposals are remembered as
//! before, so that a retry is a duplicate on the other side, too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use annals_events::ledger::Person;
use annals_events::record::{Hash, Record};

use super::bundle::End;
use super::chain::{Chain, Fault};
use super::shelf::{self, Shelf};
use super::verify::{Report, VerifyError, file};
use crate::journal::{AppendError, Batch, Claim, ClaimError, Journal, ReadError};

/// How long what was committed may take until it can be read, and how often it is looked for.
const SEEN_MAX: Duration = Duration::from_secs(30);
const SEEN_EVERY: Duration = Duration::from_millis(20);
/// Records in one transaction, and their bytes.
const BATCH_MAX: usize = 2_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Who writes `journal.continued`.
const ACTOR: &str = "annals";

/// Whether an import announces its end in front of all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// Where others can read the records as they come.
    First,
    /// Where nothing is to be seen before all is there.
    Never,
}

/// Why a journal was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no export, or was changed: the report says what.
    #[error("the file does not verify: run `annals audit verify` on it")]
    NotWhole(Box<Report>),
    /// It cannot be read as a journal.
    #[error(transparent)]
    Shelf(#[from] shelf::OpenError),
    /// It changed between the two readings.
    #[error("the file changed while it was imported, in partition {partition}: empty the target and import again")]
    Changed {
        /// Where that was seen.
        partition: u32,
    },
    /// The target is not empty.
    #[error("partition {partition} of the target holds records: import into an empty journal; nothing was written")]
    Taken {
        /// A partition that is not empty.
        partition: u32,
    },
    /// The target has another number of partitions.
    #[error("the file has {wanted} partitions and the target has {found}: make one with {wanted}; nothing was written")]
    OtherPartitions {
        /// The file's.
        wanted: u32,
        /// The target's.
        found: u32,
    },
    /// The file or the target could not be read.
    #[error("the import broke off, empty the target and import again: {0}")]
    Read(#[from] ReadError),
    /// The target cannot be written.
    #[error("the import broke off, empty the target and import again: {0}")]
    Claim(#[from] ClaimError),
    /// A batch was not written, or it is not known.
    #[error("the import broke off, empty the target and import again: {0}")]
    Append(#[from] AppendError),
    /// What was written is not what is there.
    #[error("partition {partition} of the target does not end with what was written: empty the target and import again")]
    Unlike {
        /// Where.
        partition: u32,
    },
}

/// An exported file that was checked whole.
pub struct Source {
    shelf: Shelf,
    report: Report,
    chains: Vec<Chain>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How many records, those that the import wrote of its own included.
    pub records: u64,
    /// By partition: its `journal.continued`.
    pub heads: BTreeMap<u32, End>,
}

impl Source {
    /// Checks a file. `progress` hears how many bytes were read.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn open(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Self, ImportError> {
        let mut input = BufReader::with_capacity(256 * 1024, File::open(path)?);
        let (report, chains) = file::read(&mut input, progress).map_err(|error| match error {
            VerifyError::Io(error) => ImportError::Io(error),
            VerifyError::Read(error) => ImportError::Read(error),
        })?;
        if !report.ok {
            return Err(ImportError::NotWhole(Box::new(report)));
        }
        Ok(Self { shelf: Shelf::open(path)?, report, chains })
    }

    /// How many partitions the journal has.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.report.partitions
    }

    /// How many records are imported.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.report.records
    }

    /// Writes all into an empty journal. `time` is now (RFC 3339), for `ce_time`; `progress` hears how
    /// many records were written.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn write(
        &self,
        target: &dyn Journal,
        announce: Announce,
        time: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, ImportError> {
        let (wanted, found) = (self.partitions(), target.partitions());
        if wanted != found {
            return Err(ImportError::OtherPartitions { wanted, found });
        }
        let empty = |partition| if target.end(partition)? == 0 { Ok(()) } else { Err(ImportError::Taken { partition }) };
        (0..wanted).try_for_each(empty)?;
        let note = format!("imported from journal {}", self.report.journal);
        let person = Person { actor: ACTOR, reason: Some(&note), time };
        // all of them before the first record of any: a partition without one would look new
        let mut writes = Vec::new();
        for (partition, chain) in (0..).zip(&self.chains) {
            let end = chain.ledger().continuing(0, person);
            let mut write = Write { claim: target.claim(partition)?, batch: Batch::default(), bytes: 0 };
            empty(partition)?; // behind the claim nobody else can come in between
            if announce == Announce::First {
                write.add(end.clone())?;
                write.commit()?;
            }
            writes.push((write, end));
        }
        let mut imported = Imported { records: 0, heads: BTreeMap::new() };
        for ((partition, chain), (mut write, end)) in (0..).zip(&self.chains).zip(writes) {
            let records = self.copy(partition, &mut write, progress)?;
            write.add(end.clone())?;
            write.commit()?;
            read_back(target, partition, &end)?;
            imported.records += records + 1;
            imported.heads.insert(partition, End { seq: chain.next_seq(), hash: end.hash().to_string() });
        }
        Ok(imported)
    }

    /// Checks every record again: the file may have changed since.
    fn copy(&self, partition: u32, write: &mut Write, progress: &mut dyn FnMut(u64)) -> Result<u64, ImportError> {
        let changed = |_: Fault| ImportError::Changed { partition };
        let mut chain = Chain::new(partition, self.partitions());
        let mut from = 0;
        loop {
            let chunk = self.shelf.records(partition, from, BATCH_MAX)?;
            if chunk.items.is_empty() {
                break;
            }
            progress(chunk.items.len() as u64);
            for located in chunk.items {
                chain.take(&located.record).map_err(changed)?;
                write.add(located.record)?;
            }
            from = chunk.next;
        }
        let head = |chain: &Chain| -> Hash { chain.ledger().last_hash() };
        let same = self.chains.get(partition as usize).is_some_and(|checked| head(checked) == head(&chain));
        if same { Ok(chain.next_seq()) } else { Err(ImportError::Changed { partition }) }
    }
}

struct Write {
    claim: Box<dyn Claim>,
    batch: Batch,
    bytes: usize,
}

impl Write {
    fn add(&mut self, record: Record) -> Result<(), AppendError> {
        self.bytes += record.frame().len();
        self.batch.records.push(record);
        if self.batch.records.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        self.bytes = 0;
        self.claim.append(std::mem::take(&mut self.batch))?;
        self.claim.commit()
    }
}

/// What is there is what was written, as far as the last record can tell: it is chained to all others. What was committed may
/// take a moment until readers see it: Kafka answers a commit before its markers are written.
fn read_back(target: &dyn Journal, partition: u32, end: &Record) -> Result<(), ImportError> {
    let until = Instant::now() + SEEN_MAX;
    loop {
        if let Some(last) = target.end(partition)?.checked_sub(1)
            && target.records(partition, last, 1)?.items.first().is_some_and(|located| located.record == *end)
        {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(ImportError::Unlike { partition });
        }
        std::thread::sleep(SEEN_EVERY);
    }
}
