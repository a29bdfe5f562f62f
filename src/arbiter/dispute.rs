//! A record that nobody decided: how the owner tells it from its own, and what it leaves behind in the journal.
//!
//! The chain has no secret, so a well-formed record of somebody else passes rule R. Whoever owns the
//! partition when it appears compares it with what it would decide itself, and if they differ:
//!
//! ```text
//!  … 5 ─ 6 ─ [7: nobody's] ─ 8 partition.halted {7} ─ … ─ 9 partition.resumed {7} ─ 10 …
//! ```
//! 1. Behind the disputed record and whatever else came with it, it appends `partition.halted`. From
//!    there on whoever folds the partition knows: after a restart, after a takeover, everywhere.
//! 2. If it loses its claim before that, it claims again; if it is no longer wanted, it remembers,
//!    and does so when it is wanted again.
//! 3. Nobody judges behind `partition.halted`, and callers hear nothing of the disputed records.
//! 4. A person appends `partition.resumed` (see `resume`): whoever waits goes on, without a restart.
//!
//! A record that contradicts rule R itself (another record in a place that is taken) leaves no trace:
//! nothing that is appended behind it would be read, and every fold of the log stops there anyway.

use annals_events::kind::Kind;
use annals_events::ledger::Dispute;
use annals_events::record::{Record, View};

use super::{Arbiter, Claim, Mutant, Phase, Step, Trouble};
use crate::journal::{Batch, Located, ReadError};

impl Arbiter {
    /// A record that we did not write appears while the partition is ours: it stands only if we
    /// would have decided the same. Otherwise it is disputed from now on.
    pub(super) fn check_foreign(&mut self, view: &View<'_>, located: &Located) -> Result<(), Trouble> {
        if self.would_decide(view, located)? {
            // one that was decided on top of a disputed record: its proposal is judged
            if let (Some((_, resume)), Some(src)) = (&mut self.disputed, view.src) {
                *resume = src + 1;
            }
            return Ok(());
        }
        if self.disputed.is_none() {
            let reason = "not decided by the rules: somebody else wrote to the journal".to_owned();
            let found = Dispute { seq: view.seq, hash: located.record.hash(), reason };
            tracing::error!(partition = self.partition, seq = found.seq, hash = %found.hash, "a record was {}", found.reason);
            self.disputed = Some((found, self.ledger.next_src()));
        }
        Ok(())
    }

    fn would_decide(&mut self, view: &View<'_>, located: &Located) -> Result<bool, Trouble> {
        if view.kind == Kind::PartitionHalted {
            return Ok(true); // another owner has noticed what we have not: to stand still does no harm
        }
        let Some(src) = view.src else { return Ok(false) };
        let proposal = match self.mutant {
            Mutant::TrustsTail => self.journal.proposals(self.partition, src, 1)?.pop().filter(|q| q.src == src),
            _ => self.journal.proposal(self.partition, src)?,
        };
        let Some(proposal) = proposal else { return Ok(false) };
        let (_, record) = self.ledger.overlay().judge(src, proposal.at, &proposal.submission);
        Ok(record.is_some_and(|r| r.hash() == located.record.hash()))
    }

    /// Leaves the trace, behind all that is there; stops when it is read back.
    pub(super) fn stand_still(&mut self, mut claim: Box<dyn Claim>) -> Result<Step, Trouble> {
        self.check_halted()?;
        let read = self.read_records()?;
        if read == 0
            && let Some((found, resume)) = &self.disputed
        {
            let record = self.ledger.halting(found, *resume);
            let last_seq = Some(self.ledger.last_seq().map_or(0, |seq| seq + 1));
            self.written = [record.hash()].into();
            claim.append(Batch { records: vec![record], verdicts: Vec::new() })?;
            self.phase = Phase::Appended { claim, last_seq };
        } else {
            self.phase = Phase::Ready { claim };
        }
        Ok(Step::Worked)
    }

    /// Whether the journal says that the partition is not to be judged.
    pub(super) fn check_halted(&self) -> Result<(), Trouble> {
        if let Some(found) = self.ledger.halted() {
            return Err(Trouble::Undecided(self.explain(found)));
        }
        if let Some(end) = self.ledger.unfinished() {
            let what = format!("an import into the journal did not come to its end, which is at seq {end}");
            return Err(Trouble::Undecided(format!("{what}: empty the journal and import again, whole")));
        }
        Ok(())
    }

    pub(super) fn explain(&self, found: &Dispute) -> String {
        let Dispute { seq, hash, reason } = found;
        let partition = self.partition;
        format!(
            "the record at seq {seq} was {reason}; keep a copy of the journal, then restore a backup, or accept the record with \
             `annals partition resume {partition} --accept {seq}:{hash}`"
        )
    }

    /// Looks whether a record has come that lets it go on: without a claim, so that whoever decides
    /// can have it.
    pub(super) fn await_decision(&mut self) -> Result<Step, Trouble> {
        let read = match self.read_records() {
            Err(Trouble::Read(ReadError::Unavailable(_))) => 0, // it stays halted, and asks again
            read => read?,
        };
        if read == 0 || self.ledger.halted().is_some() || self.ledger.unfinished().is_some() {
            return Ok(Step::Halted);
        }
        self.phase = Phase::Standby;
        Ok(Step::Worked)
    }
}

/// What a person sees of a record that is disputed, or lies behind one.
#[must_use]
pub fn in_words(record: &Record) -> String {
    match record.view() {
        Ok(view) => format!("seq {} {} of {} by {} (hash {})", view.seq, view.kind, view.subject, view.actor, record.hash()),
        Err(e) => format!("a record that cannot be read ({e}), hash {}", record.hash()),
    }
}
