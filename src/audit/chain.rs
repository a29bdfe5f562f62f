//! One partition's records, checked one by one: rule R, and what the engine never breaks.

use annals_events::kind::{About, Kind};
use annals_events::ledger::{self, Ledger};
use annals_events::model::Decided;
use annals_events::names::{Key, partition_of};
use annals_events::record::{Hash, Record, View};
use annals_events::rule::{self, Judged};

/// The fold of one partition's records so far.
pub struct Chain {
    partition: u32,
    partitions: u32,
    ledger: Ledger,
}

/// Why a record cannot stand where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was there before. Harmless in a log, where a transaction may be repeated; not in an export.
    Repeated {
        /// Its place.
        seq: u64,
    },
    /// Records before it are missing. Harmless in a log, where it may be an orphan; not in an export.
    Gap {
        /// Its place.
        seq: u64,
        /// The place that comes next.
        next: u64,
    },
    /// Another record holds its place.
    Diverged {
        /// The place.
        seq: u64,
        /// The record that was there first.
        kept: Hash,
        /// This one.
        found: Hash,
    },
    /// It follows from another record than the one before it.
    Broken {
        /// Its place.
        seq: u64,
        /// The hash of the record before it.
        expected: Hash,
        /// The predecessor that it names.
        found: Hash,
    },
    /// It is not a record of ours, or breaks a rule of the engine although its hash is right.
    Unlawful {
        /// Its place, if that much can be read.
        seq: Option<u64>,
        /// Which rule.
        why: String,
    },
    /// A newer build wrote it.
    Newer(String),
}

impl Chain {
    /// The chain of a partition before its first record.
    #[must_use]
    pub fn new(partition: u32, partitions: u32) -> Self {
        Self { partition, partitions, ledger: Ledger::new(partition) }
    }

    /// What the records so far add up to.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The place that comes next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ledger.last_seq().map_or(0, |seq| seq + 1)
    }

    /// Checks the next record and folds it.
    ///
    /// # Errors
    /// [`Fault`]; the chain stays where it was.
    pub fn take(&mut self, record: &Record) -> Result<(), Fault> {
        let view = record.view().map_err(|e| Fault::Unlawful { seq: None, why: e.to_string() })?;
        let next = self.next_seq();
        if view.seq == next && view.prevhash == self.ledger.last_hash() {
            self.check_law(&view).map_err(|why| Fault::Unlawful { seq: Some(view.seq), why })?;
        }
        match self.ledger.apply_view(&view, record.hash()) {
            Ok((Judged::Accepted, _)) => Ok(()),
            Ok((Judged::Duplicate, _)) => Err(Fault::Repeated { seq: view.seq }),
            Ok((Judged::Orphan, _)) => Err(Fault::Gap { seq: view.seq, next }),
            Err(ledger::Halt::Rule(rule::Halt::Diverged { seq, kept, found })) => Err(Fault::Diverged { seq, kept, found }),
            Err(ledger::Halt::Rule(rule::Halt::Broken { seq, expected, found })) => Err(Fault::Broken { seq, expected, found }),
            Err(ledger::Halt::Corrupt { source, .. }) => Err(Fault::Unlawful { seq: Some(view.seq), why: source.to_string() }),
            Err(halt @ ledger::Halt::UnknownRules { .. }) => Err(Fault::Newer(halt.to_string())),
        }
    }

    /// What holds for every record that the engine writes next, whatever is in it.
    fn check_law(&self, view: &View<'_>) -> Result<(), String> {
        if serde_json::from_str::<&serde_json::value::RawValue>(view.data).is_err() {
            return Err("its data is not JSON".into());
        }
        if view.recorded < self.ledger.recorded() {
            return Err(format!("it was recorded at {}, before the record that it follows", view.recorded));
        }
        if view.seq == 0 || view.kind == Kind::JournalOpened {
            return self.check_opening(view);
        }
        if view.kind.about() == About::Engine && view.kind != Kind::ProposalRefused {
            return self.check_control(view);
        }
        let right = partition_of(view.key, self.partitions);
        if right != self.partition {
            return Err(format!("its key `{}` belongs into partition {right}", view.key));
        }
        if view.subject != view.key && view.subject.strip_prefix(view.key).is_none_or(|rest| !rest.starts_with('/')) {
            return Err(format!("its subject `{}` is not about its key `{}`", view.subject, view.key));
        }
        if view.src.is_none() || view.src <= self.ledger.last_src() {
            return Err("the proposal that it names was judged before".into());
        }
        let before = self.ledger.model(view.key).map_or(0, |model| model.modelseq);
        let expected = if view.kind == Kind::ProposalRefused { before } else { before + 1 };
        if view.modelseq != expected {
            return Err(format!("it is number {} of its model's events, and {expected} comes next", view.modelseq));
        }
        Ok(())
    }

    /// What the engine and its operators write about the partition itself.
    fn check_control(&self, view: &View<'_>) -> Result<(), String> {
        let key = Key::control(self.partition);
        if view.key != key.as_str() || view.subject != key.as_str() || view.modelseq != 0 {
            return Err(format!("it is about `{}`, and this is partition {}", view.subject, self.partition));
        }
        let has_src = view.kind == Kind::PartitionProgressed;
        if view.src.is_some() != has_src || (has_src && view.src <= self.ledger.last_src()) {
            return Err("it names a proposal that was judged before, or that it cannot be about".into());
        }
        let is_true = match Decided::parse(view.kind, view.decided).map_err(|e| e.to_string())? {
            Decided::PartitionProgressed(d) => view.src == Some(d.src),
            Decided::PartitionHalted(d) => d.seq < view.seq && (d.seq + 1 < view.seq || d.hash == view.prevhash),
            Decided::PartitionResumed(d) => self.ledger.halted().is_some_and(|found| (found.seq, found.hash) == (d.seq, d.hash)),
            Decided::JournalContinued(d) => d.generation == self.ledger.generation() + 1,
            _ => true,
        };
        if is_true { Ok(()) } else { Err("what it says does not fit the records before it".into()) }
    }

    fn check_opening(&self, view: &View<'_>) -> Result<(), String> {
        if view.seq != 0 {
            return Err("it opens a partition that is open already".into());
        }
        let partitions = match Decided::parse(view.kind, view.decided) {
            Ok(Decided::JournalOpened(opened)) => opened.partitions,
            Ok(_) => return Err(format!("the first record of a partition is `journal.opened`, and this is `{}`", view.kind)),
            Err(e) => return Err(e.to_string()),
        };
        if partitions != self.partitions {
            return Err(format!("it opens a journal of {partitions} partitions, and there are {}", self.partitions));
        }
        if view.key != Key::control(self.partition).as_str() {
            return Err(format!("it opens `{}`, and this is partition {}", view.key, self.partition));
        }
        Ok(())
    }
}
