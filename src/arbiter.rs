//! The arbiter of one partition: owns it, folds its journal, judges proposals, answers on read-back.
//!
//! A state machine without a thread or a clock of its own: [`Arbiter::step`] does the next thing, so
//! that a simulation can stop it between any two. The README walks one event through it.

mod dispute;
pub mod door;
pub mod drive;
pub mod resume;
pub mod snapshot;
mod status;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use annals_events::ledger::{self, Dispute, Ledger};
use annals_events::model::Decided;
use annals_events::record::{Hash, Record, View};
use annals_events::rule::Judged;
use annals_events::verdict::Verdict;

use crate::journal::{AppendError, Batch, Claim, ClaimError, Journal, Located, ReadError};
use snapshot::{Snapshot, Snapshots};
pub use status::{Counts, Mutant, Status, Step};

/// Most proposals in one transaction.
pub const BATCH_MAX: usize = 500;
/// Most records read at once.
const CHUNK_MAX: usize = 2_000;
/// A snapshot is due after this many events.
pub const SNAPSHOT_EVENTS: u64 = 100_000;

/// Who hears what became of proposals. Told once per accepted event and told verdict, in order.
pub trait Listener: Send {
    /// An event was read back from the journal and passed rule R.
    fn accepted(&mut self, located: &Located, view: &View<'_>, decided: &Decided);
    /// A verdict was read back.
    fn told(&mut self, verdict: &Verdict);
    /// The ledger moved on, or the arbiter's state changed.
    fn moved(&mut self, ledger: &Ledger, status: &Status);
}

enum Phase {
    Standby,
    Folding {
        claim: Box<dyn Claim>,
        end: u64,
    },
    Ready {
        claim: Box<dyn Claim>,
    },
    Appended {
        claim: Box<dyn Claim>,
        last_seq: Option<u64>,
    },
    Committed {
        claim: Box<dyn Claim>,
        last_seq: Option<u64>,
    },
    /// `waits`: a record may come that lets it go on.
    Halted {
        waits: bool,
    },
}

/// See the module.
pub struct Arbiter {
    journal: Arc<dyn Journal>,
    partition: u32,
    ledger: Ledger,
    phase: Phase,
    wanted: bool,
    /// Where to read on in the log, and where its last accepted record lies.
    offset: u64,
    last_offset: u64,
    verdict_cursor: Option<u64>,
    next_src: u64,
    /// Whether the partition is ours to watch: from the first fold until it is no longer wanted, also
    /// while a lost claim is being renewed. A record that somebody slips in then must not pass.
    owning: bool,
    /// Whether the end of the log was reached once: before that, nobody waits for what comes by.
    caught_up: bool,
    /// Whether the journal was read right before: there is no need to look for others' records again.
    looked: bool,
    /// What was written and not yet read back: anything else that appears is looked at closely.
    written: HashSet<Hash>,
    /// What was found that nobody decided, until the journal says so; and where judging would go on.
    disputed: Option<(Dispute, u64)>,
    listener: Box<dyn Listener>,
    snapshots: Arc<dyn Snapshots>,
    snapshot_seq: u64,
    counts: Counts,
    mutant: Mutant,
    clock: i64,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Halt(#[from] ledger::Halt),
    #[error("{0}")]
    Stop(String),
    /// A person decides, and the journal says what.
    #[error("{0}")]
    Undecided(String),
}

impl Trouble {
    fn is_final(&self) -> bool {
        match self {
            Self::Halt(_) | Self::Stop(_) | Self::Undecided(_) | Self::Read(ReadError::Corrupt(_) | ReadError::Gap(_)) => true,
            Self::Read(ReadError::Unavailable(_)) | Self::Claim(_) | Self::Append(_) => false,
        }
    }

    /// Whether a record may come that ends it.
    fn waits(&self) -> bool {
        matches!(self, Self::Undecided(_) | Self::Read(ReadError::Gap(_)))
    }
}

impl Arbiter {
    /// An arbiter that owns nothing yet; it begins at the newest snapshot that the journal confirms.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, partition: u32, listener: Box<dyn Listener>, snapshots: Arc<dyn Snapshots>) -> Self {
        let loaded = snapshot::load(&*journal, &*snapshots, partition);
        let (start, contradiction) = match loaded {
            Ok(start) => (start.unwrap_or_else(|| Snapshot::beginning(partition)), None),
            Err(contradiction) => (Snapshot::beginning(partition), Some(contradiction)),
        };
        let mut arbiter = Self {
            snapshot_seq: start.ledger.last_seq().unwrap_or(0),
            journal,
            partition,
            ledger: start.ledger,
            phase: Phase::Standby,
            wanted: false,
            offset: start.offset.map_or(0, |o| o + 1),
            last_offset: start.offset.unwrap_or(0),
            verdict_cursor: None,
            next_src: 0,
            owning: false,
            caught_up: false,
            looked: false,
            written: HashSet::new(),
            disputed: None,
            listener,
            snapshots,
            counts: Counts::default(),
            mutant: Mutant::None,
            clock: 0,
        };
        if let Some(contradiction) = contradiction {
            arbiter.trouble(&Trouble::Stop(contradiction));
        }
        arbiter
    }

    /// Breaks it on purpose.
    #[cfg(test)]
    pub(crate) fn mutate(&mut self, mutant: Mutant, clock: i64) {
        self.mutant = mutant;
        self.clock = clock;
    }

    /// Says whether the partition is to be owned: always when embedded, by the group on Kafka.
    pub fn want(&mut self, owned: bool) {
        self.wanted = owned;
        if !owned && !matches!(self.phase, Phase::Halted { waits: false }) {
            self.step_down();
        }
    }

    /// The folded state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Counts since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Where the fold is in the log.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Does the next thing. Never blocks for longer than the journal's own calls do.
    pub fn step(&mut self) -> Step {
        let claimed = self.has_claim();
        match self.advance() {
            Ok(step) => step,
            Err(trouble) => {
                self.counts.claims_lost += u64::from(claimed);
                self.counts.fenced += u64::from(matches!(trouble, Trouble::Append(AppendError::Fenced)));
                self.trouble(&trouble)
            }
        }
    }

    fn has_claim(&self) -> bool {
        !matches!(self.phase, Phase::Standby | Phase::Halted { .. })
    }

    /// Blocks until there may be something to do.
    pub fn wait(&self, idle_max: Duration) {
        self.journal.wait(self.partition, idle_max);
    }

    fn trouble(&mut self, trouble: &Trouble) -> Step {
        let partition = self.partition;
        if trouble.is_final() {
            tracing::error!(partition, "partition halted: {trouble}");
            self.phase = Phase::Halted { waits: trouble.waits() };
            self.owning = false;
            self.listener.moved(&self.ledger, &Status::Halted(trouble.to_string()));
            return Step::Halted;
        }
        tracing::warn!(partition, "partition given up for now: {trouble}");
        self.phase = Phase::Standby;
        self.listener.moved(&self.ledger, &Status::Troubled(trouble.to_string()));
        Step::Troubled
    }

    /// Drops the claim and what was decided on top of the ledger. The ledger itself is only ever
    /// what the journal says, so it stays.
    fn step_down(&mut self) {
        self.counts.claims_lost += u64::from(self.has_claim());
        self.phase = Phase::Standby;
        self.owning = false;
        self.written.clear();
    }

    fn advance(&mut self) -> Result<Step, Trouble> {
        match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Standby if self.wanted => self.claim(),
            Phase::Standby => self.stand_by(),
            Phase::Folding { claim, end } => self.fold(claim, end),
            Phase::Ready { claim } => self.judge(claim),
            Phase::Appended { mut claim, last_seq } => {
                match claim.commit() {
                    Err(AppendError::Unknown(_)) if self.mutant == Mutant::KeepsClaim => {
                        self.next_src = 0; // the ledger knows better
                        self.phase = Phase::Ready { claim };
                        return Ok(Step::Worked);
                    }
                    committed => committed?,
                }
                self.counts.commits += 1;
                self.phase = Phase::Committed { claim, last_seq };
                Ok(Step::Worked)
            }
            Phase::Committed { claim, last_seq } => self.read_back(claim, last_seq),
            Phase::Halted { waits } => {
                self.phase = Phase::Halted { waits };
                if waits { self.await_decision() } else { Ok(Step::Halted) }
            }
        }
    }

    fn stand_by(&mut self) -> Result<Step, Trouble> {
        let read = self.read_records()? + self.read_verdicts()?;
        let status = self.ledger.halted().map_or(Status::Standby, |found| Status::Halted(self.explain(found)));
        self.listener.moved(&self.ledger, &status);
        Ok(if read == 0 { Step::Idle } else { Step::Worked })
    }

    /// Fences first, then looks where the journal ends: nothing can be added behind our back then.
    fn claim(&mut self) -> Result<Step, Trouble> {
        self.read_verdicts()?;
        self.check_halted()?;
        let claim = self.journal.claim(self.partition)?;
        self.counts.claims += 1;
        let end = self.journal.end(self.partition)?;
        if self.ledger.last_seq().is_some() && self.last_offset >= end {
            let last = self.last_offset;
            return Err(Trouble::Stop(format!("the journal ends at offset {end} although a record at offset {last} was read from it")));
        }
        self.phase = Phase::Folding { claim, end };
        self.listener.moved(&self.ledger, &Status::Folding);
        Ok(Step::Worked)
    }

    fn fold(&mut self, mut claim: Box<dyn Claim>, end: u64) -> Result<Step, Trouble> {
        let read = self.read_records()?;
        if self.offset < end && read == 0 {
            // a slow reader is no damage; a journal that has become shorter is
            let now = self.journal.end(self.partition)?;
            if now < end {
                return Err(Trouble::Stop(format!("the journal ends at offset {now} although it had records up to {end}")));
            }
        }
        if self.offset < end {
            self.phase = Phase::Folding { claim, end };
            return Ok(if read > 0 { Step::Worked } else { Step::Idle });
        }
        if self.ledger.last_seq().is_none() {
            return Err(Trouble::Stop("the journal is empty: not even its opening record is there; restore it from a backup".into()));
        }
        if self.disputed.is_some() {
            return self.stand_still(claim);
        }
        self.check_halted()?;
        // the journal alone says where to go on: a stored offset could be reset, or be ahead of it
        let resume = self.ledger.next_src();
        self.journal.check_resume(self.partition, resume)?;
        self.next_src = if self.mutant == Mutant::StoredOffset { self.next_src.max(resume) } else { resume };
        let owed = self.journal.owed(self.partition, &self.ledger)?;
        self.phase = if owed.is_empty() || self.mutant == Mutant::StaysSilent {
            Phase::Ready { claim }
        } else {
            claim.append(Batch { verdicts: owed, ..Batch::default() })?;
            Phase::Appended { claim, last_seq: self.ledger.last_seq() }
        };
        (self.owning, self.caught_up) = (true, true);
        self.listener.moved(&self.ledger, &Status::Owner);
        Ok(Step::Worked)
    }

    fn judge(&mut self, mut claim: Box<dyn Claim>) -> Result<Step, Trouble> {
        if self.disputed.is_some() || self.ledger.halted().is_some() {
            return self.stand_still(claim);
        }
        // what the journal has an answer to is judged, whoever it was that judged it
        self.next_src = self.next_src.max(self.ledger.next_src());
        let queued = self.journal.proposals(self.partition, self.next_src, BATCH_MAX)?;
        let looked = std::mem::take(&mut self.looked);
        let Some(last) = queued.last() else {
            if looked {
                self.phase = Phase::Ready { claim };
                return Ok(Step::Idle);
            }
            let read = self.read_records()? + self.read_verdicts()?;
            self.phase = Phase::Ready { claim };
            return Ok(if read == 0 { Step::Idle } else { Step::Worked });
        };
        let last_src = last.src;
        let mut batch = Batch::default();
        let mut overlay = self.ledger.overlay();
        for proposal in &queued {
            let skew = if self.mutant == Mutant::Clock { self.clock } else { 0 };
            let at = annals_events::time::Timestamp(proposal.at.0 + skew);
            let (verdict, record) = overlay.judge(proposal.src, at, &proposal.submission);
            batch.verdicts.push(verdict);
            batch.records.extend(record);
        }
        self.written = batch.records.iter().map(Record::hash).collect();
        let last_seq = self.ledger.last_seq().map(|seq| seq + batch.records.len() as u64);
        if self.mutant == Mutant::AnswersEarly {
            self.answer_early(&batch);
        }
        self.next_src = last_src + 1;
        claim.append(batch)?;
        self.phase = Phase::Appended { claim, last_seq };
        Ok(Step::Worked)
    }

    /// Answers come from here: what the journal shows, not what was sent to it.
    fn read_back(&mut self, claim: Box<dyn Claim>, last_seq: Option<u64>) -> Result<Step, Trouble> {
        let read = self.read_records()?;
        if self.ledger.last_seq() < last_seq {
            self.phase = Phase::Committed { claim, last_seq };
            // a journal may hand out less than was asked for: there is more at once then
            return Ok(if read == 0 { Step::Idle } else { Step::Worked });
        }
        self.listener.moved(&self.ledger, &Status::Owner);
        // every time, also when all were accepted: a cursor that falls behind under load would let
        // the next refusal wait until the load is over
        self.read_verdicts()?;
        self.looked = true;
        self.written.clear();
        self.journal.judged(self.partition, self.next_src);
        self.phase = Phase::Ready { claim };
        self.snapshot_if_due();
        Ok(Step::Worked)
    }

    fn read_records(&mut self) -> Result<usize, Trouble> {
        let chunk = self.journal.records(self.partition, self.offset, CHUNK_MAX)?;
        for located in &chunk.items {
            self.take_record(located)?;
            self.offset = located.offset + 1;
        }
        let moved = chunk.items.len() + usize::from(chunk.next > self.offset);
        self.offset = chunk.next;
        self.caught_up |= moved == 0;
        Ok(moved)
    }

    fn take_record(&mut self, located: &Located) -> Result<(), Trouble> {
        let after = self.ledger.last_seq();
        let view = located.record.view().map_err(|source| ledger::Halt::Corrupt { after, source })?;
        let next = after.map_or(0, |seq| seq + 1);
        if self.owning && view.seq == next && !self.written.contains(&located.record.hash()) {
            self.check_foreign(&view, located)?;
        }
        let (judged, decided) = self.ledger.apply_view(&view, located.record.hash())?;
        self.disputed.take_if(|_| self.ledger.halted().is_some());
        match (judged, &decided) {
            (Judged::Accepted, Some(decided)) => {
                self.last_offset = located.offset;
                let is_quiet = self.disputed.is_some() || self.ledger.halted().is_some();
                if self.caught_up && !is_quiet {
                    self.listener.accepted(located, &view, decided);
                }
            }
            (Judged::Duplicate, _) => self.counts.duplicates += 1,
            (Judged::Orphan | Judged::Accepted, _) => self.counts.orphans += 1,
        }
        if self.mutant == Mutant::RuleOff
            && judged != Judged::Accepted
            && let Ok(decided) = Decided::parse(view.kind, view.decided)
        {
            self.listener.accepted(located, &view, &decided);
        }
        Ok(())
    }

    fn read_verdicts(&mut self) -> Result<usize, Trouble> {
        // nobody who is alive waits for a verdict from before we began to read
        let Some(cursor) = self.verdict_cursor else {
            self.verdict_cursor = Some(self.journal.verdicts_end(self.partition)?);
            return Ok(0);
        };
        let chunk = self.journal.verdicts(self.partition, cursor, CHUNK_MAX)?;
        for verdict in &chunk.items {
            self.listener.told(verdict);
        }
        self.verdict_cursor = Some(chunk.next);
        Ok(chunk.items.len())
    }

    /// Writes a snapshot if enough has happened since the last one.
    fn snapshot_if_due(&mut self) {
        let seq = self.ledger.last_seq().unwrap_or(0);
        if seq - self.snapshot_seq >= SNAPSHOT_EVENTS {
            self.snapshot();
        }
    }

    /// Writes a snapshot now. A failure is logged and does no harm: the journal has everything.
    pub fn snapshot(&mut self) {
        let seq = self.ledger.last_seq().unwrap_or(0);
        if seq == self.snapshot_seq {
            return;
        }
        self.snapshot_seq = seq;
        let snapshot = Snapshot { journal: self.journal.id().to_owned(), offset: Some(self.last_offset), ledger: self.ledger.clone() };
        if let Err(e) = self.snapshots.save(snapshot) {
            tracing::warn!(partition = self.partition, "no snapshot written: {e}");
        }
    }

    fn answer_early(&mut self, batch: &Batch) {
        for record in &batch.records {
            let located = Located { offset: u64::MAX, record: record.clone() };
            if let Ok(view) = record.view()
                && let Ok(decided) = Decided::parse(view.kind, view.decided)
            {
                self.listener.accepted(&located, &view, &decided);
            }
        }
    }
}
