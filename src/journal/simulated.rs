//! A journal with Kafka's semantics in memory, on which everything can go wrong that may.
//!
//! The same seed fails the same calls. With `fencing` off, claims do not fence each other: rule R
//! alone must hold then.

mod dice;
mod faults;
mod log;

mod checker;
mod ears;
mod intruder;
mod script;
mod tests;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use annals_events::ledger::{self, Ledger};
use annals_events::record::{Hash, Record};
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;

use super::owed::{self, is_told_by_its_records};
use super::{AppendError, Batch, Chunk, Claim, ClaimError, Journal, Located, ProposeError, Proposed, Queued, ReadError};
use dice::Dice;
use faults::Faults;
use log::{Fate, Partition, State};

/// Longest gap in the proposals' offsets.
const GAP_MAX: u64 = 800;
/// 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600_000;

/// See the module.
pub struct Simulated {
    id: String,
    partitions: u32,
    state: Arc<Mutex<State>>,
}

impl Simulated {
    /// A journal without faults, that fences.
    pub fn new(id: &str, partitions: u32) -> Self {
        Self::seeded(id, partitions, 0, Faults::default(), true)
    }

    /// A journal whose calls fail as the seed says.
    pub(super) fn seeded(id: &str, partitions: u32, seed: u64, faults: Faults, fencing: bool) -> Self {
        let opened = |partition| {
            let mut opened = Partition::default();
            opened.records.push(ledger::opening(partition, partitions, Timestamp(EPOCH)), None);
            opened
        };
        let state = State {
            now: EPOCH,
            dice: Dice::new(seed),
            faults,
            fencing,
            partitions: (0..partitions).map(opened).collect(),
            claims: 0,
            trace: None,
        };
        Self { id: id.to_owned(), partitions, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Appends a proposal, without a future.
    fn propose_now(&self, partition: u32, submission: Submission) -> Result<u64, ProposeError> {
        let mut state = self.state();
        let chance = state.faults.propose;
        let fault = state.dice.chance(chance).then(|| state.dice.below(4));
        match fault {
            Some(0) => return Err(ProposeError::Busy),
            Some(1) => return Err(ProposeError::Unavailable("simulated".into())),
            Some(2) => return Err(ProposeError::Unknown("simulated, lost".into())),
            _ => {}
        }
        let chance = state.faults.clock;
        let jump = if state.dice.chance(chance) { -500 } else { i64::try_from(state.dice.below(4)).unwrap_or(0) };
        state.now += jump;
        let now = Timestamp(state.now);
        let chance = state.faults.gaps;
        let gap = if state.dice.chance(chance) { state.dice.roll() % GAP_MAX } else { 0 };
        let p = &mut state.partitions[partition as usize];
        let at = p.proposals.last().map_or(now, |last| last.at.max(now));
        let src = p.next_src + gap;
        p.next_src = src + 1;
        p.proposals.push(Queued { src, at, submission });
        state.note(|| format!("proposal {partition}:{src} is stored"));
        if fault.is_some() { Err(ProposeError::Unknown("simulated, stored".into())) } else { Ok(src) }
    }

    /// Whether a record with this hash is visible.
    fn shows_record(&self, partition: u32, hash: Hash) -> bool {
        let state = self.state();
        let p = &state.partitions[partition as usize];
        p.records.shows(&p.transactions, |record| record.hash() == hash)
    }

    /// Whether this verdict is visible.
    fn shows_verdict(&self, partition: u32, verdict: &Verdict) -> bool {
        let state = self.state();
        let p = &state.partitions[partition as usize];
        p.verdicts.shows(&p.transactions, |told| told == verdict)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn reachable(&mut self, call: &str) -> Result<(), ReadError> {
        let chance = self.faults.unavailable;
        if self.dice.chance(chance) {
            self.note(|| format!("{call} finds nobody"));
            return Err(ReadError::Unavailable("simulated".into()));
        }
        Ok(())
    }

    fn moves_ahead(&mut self) -> bool {
        let chance = self.faults.ahead;
        self.dice.chance(chance)
    }

    /// How much a slow reader gets of what it asked for.
    fn shortened(&mut self, max: usize) -> usize {
        let chance = self.faults.short;
        if self.dice.chance(chance) { self.dice.below(3).min(max) } else { max }
    }
}

impl Journal for Simulated {
    fn id(&self) -> &str {
        &self.id
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn propose(&self, partition: u32, submission: Submission) -> Proposed<'_> {
        Box::pin(async move { self.propose_now(partition, submission) })
    }

    /// `init_transactions` of Kafka: what the one before had open is aborted, what hangs is decided,
    /// and then nothing of it can follow.
    fn claim(&self, partition: u32) -> Result<Box<dyn Claim>, ClaimError> {
        let mut state = self.state();
        let unavailable = || ClaimError::Unavailable("simulated".into());
        state.reachable("claim").map_err(|_| unavailable())?;
        state.claims += 1;
        let (number, fencing) = (state.claims, state.fencing);
        if fencing {
            for undecided in state.partitions[partition as usize].all_undecided() {
                let commit = state.dice.chance(500);
                state.partitions[partition as usize].expire(undecided, commit);
            }
        }
        state.partitions[partition as usize].owner = number;
        state.note(|| format!("claim {number} of partition {partition}"));
        // the answer may get lost after all that: the one before is fenced, and nobody owns it
        state.reachable("the answer to the claim").map_err(|_| unavailable())?;
        Ok(Box::new(Producer { state: Arc::clone(&self.state), partition: partition as usize, number }))
    }

    fn proposals(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Queued>, ReadError> {
        let mut state = self.state();
        state.reachable("reading proposals")?;
        let max = state.shortened(max);
        let proposals = &state.partitions[partition as usize].proposals;
        Ok(proposals.iter().filter(|q| q.src >= from).take(max).cloned().collect())
    }

    fn proposal(&self, partition: u32, src: u64) -> Result<Option<Queued>, ReadError> {
        let mut state = self.state();
        state.reachable("reading a proposal")?;
        let proposals = &state.partitions[partition as usize].proposals;
        Ok(proposals.iter().find(|q| q.src == src).cloned())
    }

    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        let mut state = self.state();
        state.reachable("reading records")?;
        let max = state.shortened(max);
        let ahead = state.moves_ahead();
        let p = &state.partitions[partition as usize];
        let Chunk { items, next } = p.records.read(from, max, &p.transactions, ahead);
        Ok(Chunk { items: items.into_iter().map(|(offset, record)| Located { offset, record }).collect(), next })
    }

    fn end(&self, partition: u32) -> Result<u64, ReadError> {
        let mut state = self.state();
        state.reachable("asking for the end")?;
        let p = &state.partitions[partition as usize];
        Ok(p.records.end(&p.transactions))
    }

    fn verdicts(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Verdict>, ReadError> {
        let mut state = self.state();
        state.reachable("reading verdicts")?;
        let max = state.shortened(max);
        let ahead = state.moves_ahead();
        let p = &state.partitions[partition as usize];
        let Chunk { items, next } = p.verdicts.read(from, max, &p.transactions, ahead);
        Ok(Chunk { items: items.into_iter().map(|(_, verdict)| verdict).collect(), next })
    }

    fn verdicts_end(&self, partition: u32) -> Result<u64, ReadError> {
        let mut state = self.state();
        state.reachable("asking for the verdicts' end")?;
        let p = &state.partitions[partition as usize];
        Ok(p.verdicts.end(&p.transactions))
    }

    fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        let mut state = self.state();
        state.reachable("looking a verdict up")?;
        let told = (0..).zip(&state.partitions).flat_map(|(number, p)| {
            let visible = p.verdicts.visible(&p.transactions);
            visible.into_iter().map(move |(_, verdict)| (number, verdict))
        });
        Ok(told.filter(|(_, v)| v.source == source && v.id == id).last())
    }

    fn settled_until(&self, partition: u32) -> Timestamp {
        let state = self.state();
        let p = &state.partitions[partition as usize];
        let waits = |q: &&Queued| !p.verdicts.shows(&p.transactions, |v| v.src == q.src);
        p.proposals.iter().find(waits).map_or(Timestamp(state.now), |q| q.at)
    }

    fn owed(&self, partition: u32, ledger: &Ledger) -> Result<Vec<Verdict>, ReadError> {
        let mut state = self.state();
        state.reachable("asking what is owed")?;
        let p = &state.partitions[partition as usize];
        let told = p.verdicts.visible(&p.transactions).into_iter().map(|(_, verdict)| verdict.src).collect();
        let records = p.records.visible(&p.transactions).into_iter().map(|(_, record)| record);
        let owed = owed::owed(records, ledger.last_hash(), &told, 0);
        if !owed.is_empty() {
            state.note(|| format!("{} verdicts are owed", owed.len()));
        }
        Ok(owed)
    }

    fn check_resume(&self, partition: u32, from: u64) -> Result<(), ReadError> {
        let mut state = self.state();
        state.reachable("asking where the proposals begin")?;
        let first = state.partitions[partition as usize].first_src;
        if from >= first {
            return Ok(());
        }
        Err(ReadError::Gap(format!("the proposals from offset {from} to {} are gone", first - 1)))
    }

    fn wait(&self, _partition: u32, _idle_max: Duration) {
        std::thread::yield_now(); // time is the simulation's: nothing passes by itself
    }
}

/// A transactional producer: one epoch of `annals.arbiter.<p>`.
struct Producer {
    state: Arc<Mutex<State>>,
    partition: usize,
    number: u64,
}

impl Producer {
    fn check(&self, state: &State) -> Result<(), AppendError> {
        let p = &state.partitions[self.partition];
        if (state.fencing && p.owner != self.number) || p.dead.contains(&self.number) {
            return Err(AppendError::Fenced);
        }
        Ok(())
    }

    fn write(&self, state: &mut State, batch: &Batch, transaction: usize) {
        let p = &mut state.partitions[self.partition];
        for record in &batch.records {
            p.records.push(record.clone(), Some(transaction));
        }
        for verdict in &batch.verdicts {
            p.verdicts.push(verdict.clone(), Some(transaction));
        }
    }
}

impl Claim for Producer {
    fn append(&mut self, mut batch: Batch) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        self.check(&state)?;
        let p = &mut state.partitions[self.partition];
        // the client gives up what it could not end, within the same epoch: that is librdkafka's
        // hazard, and only an arbiter that goes on after an error ever comes here
        if let Some(left) = p.undecided(self.number) {
            p.decide(left, Fate::Aborted);
        }
        let transaction = p.open(self.number);
        let number = self.number;
        let chance = state.faults.half;
        if state.dice.chance(chance) {
            let told = is_told_by_its_records(&batch);
            let (records, verdicts) = (state.dice.below(batch.records.len() + 1), state.dice.below(batch.verdicts.len() + 1));
            // what the records do not say is stored before they are
            batch.records.truncate(if told || verdicts == batch.verdicts.len() { records } else { 0 });
            batch.verdicts.truncate(verdicts);
            self.write(&mut state, &batch, transaction);
            state.partitions[self.partition].decide(transaction, Fate::Committed);
            state.note(|| {
                let written = (batch.records.len(), batch.verdicts.len());
                format!(
                    "claim {number}: a late commit ends transaction {transaction} behind {} records and {} verdicts",
                    written.0, written.1
                )
            });
            return Err(AppendError::Failed("simulated".into()));
        }
        let chance = state.faults.append;
        if state.dice.chance(chance) {
            batch.records.truncate(state.dice.below(batch.records.len() + 1));
            batch.verdicts.truncate(state.dice.below(batch.verdicts.len() + 1));
            self.write(&mut state, &batch, transaction);
            state.note(|| format!("claim {number}: append to transaction {transaction} breaks after {} records", batch.records.len()));
            return Err(AppendError::Failed("simulated".into()));
        }
        self.write(&mut state, &batch, transaction);
        let chance = state.faults.repeat;
        if state.dice.chance(chance) {
            self.write(&mut state, &batch, transaction);
            state.note(|| format!("claim {number}: transaction {transaction} holds its items twice"));
        }
        state.note(|| format!("claim {number}: transaction {transaction} has {} and {:?}", sources(&batch.verdicts), batch.records));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        self.check(&state)?;
        let number = self.number;
        let Some(transaction) = state.partitions[self.partition].undecided(number) else { return Ok(()) };
        let (failed, unknown) = (state.faults.failed, state.faults.unknown);
        if state.dice.chance(failed) {
            state.partitions[self.partition].decide(transaction, Fate::Aborted);
            state.note(|| format!("claim {number}: commit of transaction {transaction} fails"));
            return Err(AppendError::Failed("simulated".into()));
        }
        if state.dice.chance(unknown) {
            let how = state.dice.below(3);
            let p = &mut state.partitions[self.partition];
            match how {
                0 => p.decide(transaction, Fate::Committed),
                1 => p.decide(transaction, Fate::Aborted),
                _ => {
                    p.transactions[transaction].fate = Fate::Pending;
                    p.underway.push(number);
                }
            }
            let now = p.transactions[transaction].fate;
            state.note(|| format!("claim {number}: commit of transaction {transaction} is unknown, and {now:?}"));
            return Err(AppendError::Unknown("simulated".into()));
        }
        state.partitions[self.partition].decide(transaction, Fate::Committed);
        state.note(|| format!("claim {number}: transaction {transaction} is committed"));
        Ok(())
    }
}

fn sources(verdicts: &[Verdict]) -> String {
    format!("src {:?}", verdicts.iter().map(|v| v.src).collect::<Vec<_>>())
}

/// Proposals are dropped because they are old.
fn forget(journal: &Simulated, partition: u32, before: u64) {
    let mut state = journal.state();
    let p = &mut state.partitions[partition as usize];
    p.proposals.retain(|q| q.src >= before);
    p.first_src = before;
}

/// A record that somebody else puts into the journal, past every claim.
fn intrude(journal: &Simulated, partition: u32, record: Record) {
    let mut state = journal.state();
    state.note(|| format!("an intruder writes {record:?}"));
    state.partitions[partition as usize].records.push(record, None);
}
