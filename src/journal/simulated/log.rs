//! What the simulated cluster holds: per partition three logs, transactions and who may write.
//!
//! As in Kafka, a transaction's items lie in the log from the moment they are written; readers stop
//! at the first one that is undecided, skip the aborted ones, and markers take offsets, too.

use std::collections::HashSet;

use annals_events::record::Record;
use annals_events::verdict::Verdict;

use super::dice::Dice;
use super::faults::Faults;
use crate::journal::{Chunk, Queued};

/// Everything behind the simulated journal.
#[derive(Debug)]
pub struct State {
    /// The cluster's clock, in milliseconds since 1970; may go back.
    pub now: i64,
    /// Decides which calls fail.
    pub dice: Dice,
    /// How often they do.
    pub faults: Faults,
    /// Whether a claim fences the one before it.
    pub fencing: bool,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// How many claims were given out: each has a number, from 1.
    pub claims: u64,
    /// What happened, for people; `None` when nobody reads it.
    pub trace: Option<Vec<String>>,
}

/// One partition of each topic.
#[derive(Debug, Default)]
pub struct Partition {
    /// What was proposed and is kept; offsets grow, and leave gaps.
    pub proposals: Vec<Queued>,
    /// The offset that comes next.
    pub next_src: u64,
    /// Every proposal before this offset is gone.
    pub first_src: u64,
    /// The journal.
    pub records: Log<Record>,
    /// The verdicts.
    pub verdicts: Log<Verdict>,
    /// Every transaction there was; the index is its number.
    pub transactions: Vec<Transaction>,
    /// The number of the last claim that was given out.
    pub owner: u64,
    /// Claims whose transaction ran out of time: they are fenced by that.
    pub dead: HashSet<u64>,
    /// Requests to commit that are still on their way, by claim.
    pub underway: Vec<u64>,
    /// What became visible of a claim after a later one had returned: fencing forbids it.
    pub late: Vec<String>,
    /// Times that a request to commit hit a transaction that it was not meant for.
    pub misled: u32,
}

/// A transaction of one claim.
#[derive(Debug)]
pub struct Transaction {
    /// The claim's number.
    pub claim: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Items may be added.
    Open,
    /// Somebody asked to commit it, and does not know whether that arrived.
    Pending,
    /// Visible.
    Committed,
    /// Never visible.
    Aborted,
}

/// A log whose items belong to transactions.
#[derive(Debug)]
pub struct Log<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
enum Entry<T> {
    Item { item: T, transaction: Option<usize> },
    Marker,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: Clone> Log<T> {
    /// Appends an item; outside of a transaction it is visible at once.
    pub fn push(&mut self, item: T, transaction: Option<usize>) {
        self.entries.push(Entry::Item { item, transaction });
    }

    fn holds(&self, number: usize) -> bool {
        self.entries.iter().any(|e| matches!(e, Entry::Item { transaction: Some(t), .. } if *t == number))
    }

    /// Committed items from `from` on up to the last stable offset, and that offset.
    fn stable<'a>(&'a self, from: u64, transactions: &'a [Transaction]) -> (Vec<(u64, &'a T)>, u64) {
        let mut found = Vec::new();
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        for (offset, entry) in (from..).zip(self.entries.iter().skip(start)) {
            let Entry::Item { item, transaction } = entry else { continue };
            match transaction.map_or(Fate::Committed, |t| transactions[t].fate) {
                Fate::Open | Fate::Pending => return (found, offset),
                Fate::Committed => found.push((offset, item)),
                Fate::Aborted => {}
            }
        }
        (found, from.max(self.entries.len() as u64))
    }

    /// What a reader that sees committed items only gets.
    /// Some readers are `ahead`: they move over markers and aborted items by themselves, others only
    /// with the next item.
    pub fn read(&self, from: u64, max: usize, transactions: &[Transaction], ahead: bool) -> Chunk<(u64, T)> {
        let (mut found, stable) = self.stable(from, transactions);
        let cut = found.len() > max || max == 0;
        found.truncate(max);
        let behind = found.last().map_or(from, |(offset, _)| offset + 1);
        let next = if cut || !ahead { behind } else { stable };
        Chunk { items: found.into_iter().map(|(offset, item)| (offset, item.clone())).collect(), next }
    }

    /// Everything that is visible.
    pub fn visible(&self, transactions: &[Transaction]) -> Vec<(u64, T)> {
        self.stable(0, transactions).0.into_iter().map(|(offset, item)| (offset, item.clone())).collect()
    }

    /// Whether some visible item is so.
    pub fn shows(&self, transactions: &[Transaction], is: impl Fn(&T) -> bool) -> bool {
        self.stable(0, transactions).0.iter().any(|(_, item)| is(item))
    }

    /// The offset behind the last visible item.
    pub fn end(&self, transactions: &[Transaction]) -> u64 {
        self.stable(0, transactions).0.last().map_or(0, |(offset, _)| offset + 1)
    }
}

impl Partition {
    /// Ends a transaction and writes its markers.
    pub fn decide(&mut self, number: usize, fate: Fate) {
        self.transactions[number].fate = fate;
        let claim = self.transactions[number].claim;
        let (in_records, in_verdicts) = (self.records.holds(number), self.verdicts.holds(number));
        if in_records {
            self.records.entries.push(Entry::Marker);
        }
        if in_verdicts {
            self.verdicts.entries.push(Entry::Marker);
        }
        if fate == Fate::Committed && claim != self.owner && (in_records || in_verdicts) {
            self.late.push(format!("transaction {number} of claim {claim} was committed after claim {} had returned", self.owner));
        }
    }

    /// Opens a transaction for a claim.
    pub fn open(&mut self, claim: u64) -> usize {
        self.transactions.push(Transaction { claim, fate: Fate::Open });
        self.transactions.len() - 1
    }

    /// The transaction of a claim that is not decided.
    pub fn undecided(&self, claim: u64) -> Option<usize> {
        self.transactions.iter().rposition(|t| t.claim == claim && matches!(t.fate, Fate::Open | Fate::Pending))
    }

    /// Every transaction that is not decided.
    pub fn all_undecided(&self) -> Vec<usize> {
        let undecided = |t: &&(usize, &Transaction)| matches!(t.1.fate, Fate::Open | Fate::Pending);
        self.transactions.iter().enumerate().collect::<Vec<_>>().iter().filter(undecided).map(|(number, _)| *number).collect()
    }

    /// The coordinator's time limit passes: what is open is aborted, what hangs goes either way,
    /// and the claim is fenced by it.
    pub fn expire(&mut self, number: usize, commit_pending: bool) {
        let Transaction { claim, fate } = self.transactions[number];
        self.decide(number, if fate == Fate::Pending && commit_pending { Fate::Committed } else { Fate::Aborted });
        self.dead.insert(claim);
    }

    /// A request to commit arrives late: it ends whatever transaction its sender has open by now.
    pub fn deliver(&mut self, fencing: bool) -> Option<String> {
        let claim = if self.underway.is_empty() { return None } else { self.underway.remove(0) };
        if (fencing && claim != self.owner) || self.dead.contains(&claim) {
            return Some(format!("a late commit of claim {claim} arrives and is fenced"));
        }
        let number = self.undecided(claim)?;
        if self.transactions[number].fate == Fate::Open {
            self.misled += 1;
        }
        self.decide(number, Fate::Committed);
        Some(format!("a late commit of claim {claim} arrives and ends transaction {number}"))
    }
}

impl State {
    /// Writes down what happened, if anybody reads it.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = what();
            if trace.last() != Some(&line) {
                trace.push(line);
            }
        }
    }
}
