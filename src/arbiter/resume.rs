//! A person's decision about a partition that stands still, appended in the arbiter's place.
//!
//! `accept` answers `partition.halted`: the record that it names stands, and so does whatever lies
//! behind it until now. `skip_to` answers a gap in the proposals: those before an offset are given up,
//! or, if their log was made anew and ends before what was judged, `src` counts in the new one from there.
//! Both look first and claim then, so that a refused decision disturbs nobody; both look again behind
//! the claim, append one record, and come back when it is read back. Nobody who is alive needs to be
//! told: a halted arbiter reads on and goes on by itself.

use std::time::Duration;

use annals_events::ledger::{self, Ledger, Person};
use annals_events::record::{Hash, Record};
use annals_events::rule::Judged;

use super::dispute::in_words;
use crate::journal::{AppendError, Batch, ClaimError, Journal, ReadError};

/// Records that are read at once.
const CHUNK_MAX: usize = 1_000;
/// Most of the records behind a disputed one that are named.
const NAMED_MAX: usize = 20;
/// How often, and how long each time, it waits for its own record to come by.
const LOOKS_MAX: u32 = 300;
const LOOK: Duration = Duration::from_millis(100);

/// What a person has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The disputed record stands.
    Accept {
        /// Its place.
        seq: u64,
        /// Its hash.
        hash: Hash,
    },
    /// The proposals before this offset are given up.
    SkipTo(u64),
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The place of the record that says so.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// The records that stand because of it, for a person.
    pub accepted: Vec<String>,
    /// Offset of the proposal at which judging goes on.
    pub next: u64,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// What was decided about is not so.
    #[error("{0}; nothing was written")]
    Refused(String),
    /// The log cannot be folded: no decision is of use then.
    #[error("partition {partition} cannot be folded, and nothing was written: {source}")]
    Halt {
        /// The partition.
        partition: u32,
        /// Why.
        source: ledger::Halt,
    },
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody else may write meanwhile, and that could not be had.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It could not be written, or it is not known whether it was.
    #[error("{0}; run the command again: it says if there is nothing left to decide")]
    Append(#[from] AppendError),
    /// It was written, and did not come by again.
    #[error("the decision was committed and cannot be read back yet: look with `annals doctor`")]
    Unseen,
}

struct Fold<'a> {
    journal: &'a dyn Journal,
    partition: u32,
    ledger: Ledger,
    from: u64,
}

impl Fold<'_> {
    /// Folds what there is; how far it came is remembered. `see` is shown every accepted record.
    fn advance(&mut self, see: &mut dyn FnMut(u64, &Record)) -> Result<(), ResumeError> {
        loop {
            let chunk = self.journal.records(self.partition, self.from, CHUNK_MAX)?;
            for located in &chunk.items {
                let judged = self.ledger.apply(&located.record);
                let judged = judged.map_err(|source| ResumeError::Halt { partition: self.partition, source })?;
                if let (Judged::Accepted, Some(seq)) = (judged, self.ledger.last_seq()) {
                    see(seq, &located.record);
                }
            }
            let moved = chunk.next > self.from;
            self.from = chunk.next;
            if !moved {
                return Ok(());
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), ResumeError> {
        let end = self.journal.end(self.partition)?;
        self.advance(&mut |_, _| {})?;
        if self.from < end {
            return Err(ReadError::Unavailable(format!("the records up to offset {end} cannot be read yet")).into());
        }
        if self.ledger.last_seq().is_none() {
            return Err(ResumeError::Refused(format!("partition {} is empty: restore the journal from a backup", self.partition)));
        }
        Ok(())
    }
}

/// Records a decision about a partition.
///
/// # Errors
/// [`ResumeError`]; nothing was written, but for `Append` and `Unseen`, which say what they know.
pub fn resume(journal: &dyn Journal, partition: u32, decision: Decision, person: Person<'_>) -> Result<Done, ResumeError> {
    if partition >= journal.partitions() {
        return Err(ResumeError::Refused(format!("there is no partition {partition}: the journal has {}", journal.partitions())));
    }
    let mut fold = Fold { journal, partition, ledger: Ledger::new(partition), from: 0 };
    fold.catch_up()?;
    check(&fold, decision)?;
    let mut claim = journal.claim(partition)?;
    fold.catch_up()?;
    let accepted = check(&fold, decision)?;
    let record = match (decision, fold.ledger.halted()) {
        (Decision::Accept { .. }, Some(dispute)) => fold.ledger.resuming(dispute, person),
        // offsets only ever grow: at one that was judged, another log has begun
        (Decision::SkipTo(next), _) if next < fold.ledger.next_src() => fold.ledger.continuing(next, person),
        (Decision::SkipTo(next), _) => fold.ledger.skipping(next - 1, person),
        (Decision::Accept { .. }, None) => return Err(ResumeError::Refused(not_halted(partition))),
    };
    let hash = record.hash();
    claim.append(Batch { records: vec![record], verdicts: Vec::new() })?;
    claim.commit()?;
    for _ in 0..LOOKS_MAX {
        fold.advance(&mut |_, _| {})?;
        if fold.ledger.last_hash() == hash {
            let seq = fold.ledger.last_seq().unwrap_or(0);
            return Ok(Done { seq, hash, accepted, next: fold.ledger.next_src() });
        }
        journal.wait(partition, LOOK);
    }
    Err(ResumeError::Unseen)
}

/// Whether there is something to decide, and it is this; the records that would stand by it.
fn check(fold: &Fold<'_>, decision: Decision) -> Result<Vec<String>, ResumeError> {
    match decision {
        Decision::Accept { seq, hash } => check_accept(fold, seq, hash),
        Decision::SkipTo(next) => check_skip(fold, next).map(|()| Vec::new()),
    }
}

fn not_halted(partition: u32) -> String {
    format!("partition {partition} is not halted: no record in it is disputed")
}

fn check_accept(fold: &Fold<'_>, seq: u64, hash: Hash) -> Result<Vec<String>, ResumeError> {
    let partition = fold.partition;
    let Some(dispute) = fold.ledger.halted() else { return Err(ResumeError::Refused(not_halted(partition))) };
    if (dispute.seq, dispute.hash) != (seq, hash) {
        let (seq, hash) = (dispute.seq, dispute.hash);
        return Err(ResumeError::Refused(format!("partition {partition} is halted at another record: {seq}:{hash}")));
    }
    // that the journal calls it disputed does not say that it is there
    let (mut found, mut behind) = (None, Vec::new());
    let mut again = Fold { journal: fold.journal, partition, ledger: Ledger::new(partition), from: 0 };
    again.advance(&mut |at, record| {
        if at == seq {
            found = Some(record.hash());
        }
        if at >= seq && behind.len() < NAMED_MAX {
            behind.push(in_words(record));
        }
    })?;
    if found != Some(hash) {
        return Err(ResumeError::Refused(format!("the record at seq {seq} of partition {partition} does not have the hash {hash}")));
    }
    Ok(behind)
}

fn check_skip(fold: &Fold<'_>, next: u64) -> Result<(), ResumeError> {
    let (partition, resume) = (fold.partition, fold.ledger.next_src());
    match fold.journal.check_resume(partition, resume) {
        Err(ReadError::Gap(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(()) => {
            let what = format!("partition {partition} has no gap: every proposal from offset {resume} on can be read");
            return Err(ResumeError::Refused(what));
        }
    }
    match fold.journal.check_resume(partition, next) {
        Err(ReadError::Gap(why)) => Err(ResumeError::Refused(format!("judging cannot go on at offset {next} either: {why}"))),
        other => Ok(other?),
    }
}
