//! Where proposals wait, events stay and verdicts are told: the contract that every journal keeps.
//!
//! ```text
//!  doors ──propose──▶ [proposals] ──proposals──▶ arbiter ──append, commit──▶ [records][verdicts]
//!                                                   ▲                            │
//!                                                   └────── records, verdicts ◀──┘  (everybody)
//! ```
//!
//! Rules, checked by one suite on every implementation:
//! 1. The offsets of a partition's proposals grow, and may leave gaps; the append time never decreases.
//! 2. [`Journal::claim`] fences: when it has returned, nothing that an earlier claim of the
//!    partition appends or commits can become visible, and what it had left open is decided.
//! 3. The records of one commit and its verdicts become visible together or never, but for verdicts that an event says
//!    by itself: they may follow it. Where they can stay away, only those of the last commit do, and [`Journal::owed`]
//!    names them.
//! 4. [`Journal::records`] shows committed records only, in one order that is the same for everybody
//!    and never changes. A record may be there twice; **rule R** tells, and every reader applies it.
//! 5. A commit that failed with [`AppendError::Unknown`] may or may not become visible, until the
//!    next claim has returned; then it is decided.
//! 6. What is visible stays: after a crash, too.

pub mod facts;
pub mod follow;
pub mod kafka;
pub mod open;
mod owed;
pub mod publishing;
mod ring;
pub mod sqlite;

#[cfg(test)]
pub mod simulated;
#[cfg(test)]
mod suite;

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annals_events::ledger::Ledger;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;

/// How many partitions a journal gets unless told otherwise.
pub const PARTITIONS: u32 = 12;

/// A proposal in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its offset in the partition.
    pub src: u64,
    /// When it was appended: the only clock that decisions see.
    pub at: Timestamp,
    /// What was sent.
    pub submission: Submission,
}

/// A record in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its offset in the partition's log; grows, but may leave gaps. Not the same as `seq`.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// Some of a log, and where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<T> {
    /// In log order; empty at the end.
    pub items: Vec<T>,
    /// The offset to ask for next.
    pub next: u64,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The accepted events, and the refusals that matter.
    pub records: Vec<Record>,
    /// One verdict for each judged proposal, in their order.
    pub verdicts: Vec<Verdict>,
}

/// A proposal's offset, once the journal has it.
pub type Proposed<'a> = Pin<Box<dyn Future<Output = Result<u64, ProposeError>> + Send + 'a>>;

/// Proposals, events and verdicts of all partitions. See the module for the rules.
pub trait Journal: Send + Sync + 'static {
    /// Names this very journal; a snapshot of another one must not be loaded.
    fn id(&self) -> &str;

    /// How many partitions it has; never changes.
    fn partitions(&self) -> u32;

    /// Appends a proposal and returns its offset. Accepted means *proposed*, nothing more.
    fn propose(&self, partition: u32, submission: Submission) -> Proposed<'_>;

    /// As [`Journal::propose`], but the arbiter is not woken: the caller steps it, at once. `None`
    /// where its steps may wait for a network: that is not for a caller's thread.
    fn propose_and_step(&self, _partition: u32, _submission: &dyn Fn() -> Submission) -> Option<Result<u64, ProposeError>> {
        None
    }

    /// Takes a partition over: fences whoever had it, and waits until what they left is decided.
    ///
    /// # Errors
    /// [`ClaimError`]; the partition is not ours then.
    fn claim(&self, partition: u32) -> Result<Box<dyn Claim>, ClaimError>;

    /// Proposals from offset `from` on that may still need a verdict, at most `max`. Those that came last may be
    /// missing: they come in time, and in their order.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    fn proposals(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Queued>, ReadError>;

    /// The proposal at an offset, also if it came last; `None` says that the log has none there.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    fn proposal(&self, partition: u32, src: u64) -> Result<Option<Queued>, ReadError> {
        Ok(self.proposals(partition, src, 1)?.pop().filter(|queued| queued.src == src))
    }

    /// Committed records from offset `from` on, at most `max`.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError>;

    /// The offset behind the last committed record.
    ///
    /// # Errors
    /// [`ReadError`].
    fn end(&self, partition: u32) -> Result<u64, ReadError>;

    /// Told verdicts from cursor `from` on, at most `max`. The cursor is the journal's own number.
    /// Those of accepted proposals may be left out: their records say the same.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    fn verdicts(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Verdict>, ReadError>;

    /// The cursor behind the last told verdict.
    ///
    /// # Errors
    /// [`ReadError`].
    fn verdicts_end(&self, partition: u32) -> Result<u64, ReadError>;

    /// The last verdict told on a proposal, and its partition, while it is retained; likewise.
    ///
    /// # Errors
    /// [`ReadError`].
    fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError>;

    /// Every proposal of the partition that was appended before this time has its verdict.
    fn settled_until(&self, partition: u32) -> Timestamp;

    /// Whether this instance is to arbitrate the partition: always, where there is only one.
    fn wanted(&self, _partition: u32) -> bool {
        true
    }

    /// Checks that every proposal from offset `from` on can still be read.
    ///
    /// # Errors
    /// [`ReadError::Gap`] if some are gone.
    fn check_resume(&self, _partition: u32, _from: u64) -> Result<(), ReadError> {
        Ok(())
    }

    /// The verdicts of the newest events that were never told, in order; `ledger` is folded to the end. None, where
    /// rule 3 holds whatever happens; else whoever has claimed the partition tells them.
    ///
    /// # Errors
    /// [`ReadError`].
    fn owed(&self, _partition: u32, _ledger: &Ledger) -> Result<Vec<Verdict>, ReadError> {
        Ok(Vec::new())
    }

    /// Told by the arbiter: every proposal before offset `next` is judged. For people who watch the
    /// lag; nothing is ever resumed from it.
    fn judged(&self, _partition: u32, _next: u64) {}

    /// What only the journal knows of itself, for people who watch it. Comes back at once, whatever
    /// its servers do; `None` where there are none.
    fn facts(&self) -> Option<facts::Facts> {
        None
    }

    /// How it stands with the schema registry, where there is one. Nothing waits for it.
    fn schemas(&self) -> Option<kafka::registry::Status> {
        None
    }

    /// Blocks until the partition may have something new for its arbiter, or `idle_max` has passed.
    fn wait(&self, partition: u32, idle_max: Duration);
}

/// The right to append to one partition, until somebody else claims it.
pub trait Claim: Send {
    /// Writes a batch into a new transaction. Nothing is visible yet.
    ///
    /// # Errors
    /// [`AppendError`]; the claim is dead then, whatever it was: drop it and claim again.
    fn append(&mut self, batch: Batch) -> Result<(), AppendError>;

    /// Makes the appended batch visible and durable.
    ///
    /// # Errors
    /// [`AppendError`]; the claim is dead then.
    fn commit(&mut self) -> Result<(), AppendError>;
}

/// What this machine's clock says. A journal that stamps proposals asks it; decisions never do.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Why a proposal is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Too many are waiting; nothing was appended.
    #[error("too many proposals are waiting: try again in a moment")]
    Busy,
    /// The journal cannot be reached; nothing was appended.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
    /// It may have landed: ask with the same id.
    #[error("it is not known whether the proposal was stored: send it again with the same id ({0})")]
    Unknown(String),
}

/// Why a partition could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Try again.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
}

/// Why a transaction did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another arbiter has the partition now; nothing of this batch will be visible.
    #[error("another arbiter has claimed the partition")]
    Fenced,
    /// Nothing of this batch will be visible. Claim again, later.
    #[error("the journal could not write: {0}")]
    Failed(String),
    /// It may or may not have landed: the journal tells, after the next claim.
    #[error("it is not known whether the batch was written: {0}")]
    Unknown(String),
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Try again.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
    /// Call a person: what is stored is damaged.
    #[error("the journal is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// Call a person: proposals that have no verdict are gone, or those that are there are others.
    #[error("{0}")]
    Gap(String),
}
