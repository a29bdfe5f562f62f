//! One run: a few arbiters on a simulated journal, stepped one at a time, with everything going wrong.

use std::sync::{Arc, Mutex};

use super::checker::{History, PartitionHistory};
use super::dice::Dice;
use super::ears::{self, Disk, Ears, Heard};
use super::faults::Faults;
use super::script::{self, Sent};
use super::{Simulated, intruder};
use crate::arbiter::snapshot::Snapshot;
use crate::arbiter::{Arbiter, Mutant, Status, Step};
use crate::journal::Journal;

/// Steps within which a healed world must come to rest.
const REST_MAX: usize = 3_000;

/// What kind of world it is.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The seed: everything else follows from it.
    pub seed: u64,
    /// Whether claims fence, as on Kafka.
    pub fenced: bool,
    /// What is broken in the arbiters.
    pub mutant: Mutant,
    /// Whether the fence is broken, although it is counted on.
    pub hole: bool,
    /// Whether somebody else writes into the journal.
    pub intruder: bool,
    /// Whether to write down what happens.
    pub traced: bool,
}

/// One instance's arbiter of one partition.
pub struct Worker {
    name: String,
    pub partition: u32,
    pub arbiter: Option<Arbiter>,
    pub heard: Arc<Mutex<Heard>>,
    pub asleep: u32,
    disk: Arc<Disk>,
    lives: u32,
}

/// See the module.
pub struct World {
    pub setting: Setting,
    pub dice: Dice,
    pub journal: Arc<Simulated>,
    pub workers: Vec<Worker>,
    /// By partition: the index of the worker that shall own it.
    pub assigned: Vec<usize>,
    script: Vec<Sent>,
    lives: Vec<Arc<Mutex<Heard>>>,
    rates: Rates,
    repeats: bool,
    pub intrusion: Option<intruder::Intrusion>,
}

/// Chances in a thousand actions.
struct Rates {
    produce: u32,
    crash: u32,
    pause: u32,
    rebalance: u32,
    transactions: u32,
    snapshot: u32,
}

impl World {
    pub fn new(setting: Setting) -> Self {
        let mut dice = Dice::new(setting.seed);
        let partitions = if dice.chance(300) { 2 } else { 1 };
        let instances = 2 + dice.below(2);
        let faults = Faults::some(&mut dice);
        let mut rate = |most: usize| if dice.chance(600) { u32::try_from(1 + dice.below(most)).unwrap_or(1) } else { 0 };
        let rates =
            Rates { produce: 0, crash: rate(40), pause: rate(60), rebalance: rate(60), transactions: rate(120), snapshot: rate(60) };
        let rates = Rates { produce: 50 + u32::try_from(dice.below(250)).unwrap_or(0), ..rates };
        let repeats = faults.repeat > 0;
        let fences = setting.fenced && !setting.hole;
        let journal = Arc::new(Simulated::seeded("simulated", partitions, dice.roll(), faults, fences));
        if setting.traced {
            journal.state().trace = Some(vec![format!("{partitions} partitions, {instances} instances, {setting:?}")]);
        }
        let script = script::script(&mut dice, partitions);
        let assigned = (0..partitions as usize).collect();
        let (workers, lives) = (Vec::new(), Vec::new());
        let mut world = Self { setting, dice, journal, workers, assigned, script, lives, rates, repeats, intrusion: None };
        for instance in 0..instances {
            let disk = Arc::new(Disk::default());
            for partition in 0..partitions {
                let name = format!("{}{partition}", ["a", "b", "c"][instance]);
                let (_, heard) = Ears::new(&world.journal, name.clone(), partition);
                world.workers.push(Worker { name, partition, arbiter: None, heard, asleep: 0, disk: Arc::clone(&disk), lives: 0 });
                world.start(world.workers.len() - 1);
            }
        }
        world.script.reverse();
        world
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.journal.state().note(what);
    }

    /// A new life: from the worker's snapshots or from nothing.
    fn start(&mut self, index: usize) {
        let clock = i64::try_from(self.dice.below(100_000)).unwrap_or(0);
        let worker = &mut self.workers[index];
        worker.lives += 1;
        let name = format!("{}.{}", worker.name, worker.lives);
        let (ears, heard) = Ears::new(&self.journal, name, worker.partition);
        self.lives.push(Arc::clone(&heard));
        worker.heard = heard;
        let journal = Arc::clone(&self.journal) as Arc<dyn Journal>;
        let mut arbiter = Arbiter::new(journal, worker.partition, ears, Arc::clone(&worker.disk) as _);
        arbiter.mutate(self.setting.mutant, clock);
        worker.arbiter = Some(arbiter);
        worker.asleep = 0;
        self.hear(index);
    }

    /// The worker learns what the group wants of it.
    pub fn hear(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let wanted = !self.setting.fenced || self.assigned[worker.partition as usize] == index;
        if let Some(arbiter) = &mut worker.arbiter {
            arbiter.want(wanted);
        }
    }

    /// One step of one arbiter; `None` if there is none.
    pub fn step(&mut self, index: usize) -> Option<Step> {
        let worker = &mut self.workers[index];
        let step = worker.arbiter.as_mut()?.step();
        if self.setting.traced {
            let line = format!("{}.{} {step:?}, {:?}", worker.name, worker.lives, ears::open(&worker.heard).status);
            self.note(|| line);
        }
        Some(step)
    }

    /// Everything that can go wrong, in some order, until the producers have sent what they had to.
    pub fn run(&mut self) {
        let steps = 120 + self.dice.below(160);
        for _ in 0..steps {
            self.act();
        }
        let keep = if self.setting.intruder { self.dice.below(6) } else { 0 };
        while self.script.len() > keep {
            self.act();
        }
    }

    /// How much the producers have left to send.
    pub fn unsent(&self) -> usize {
        self.script.len()
    }

    /// Wakes or restarts a worker, and tells it what is wanted.
    pub fn rouse(&mut self, index: usize) {
        self.workers[index].asleep = 0;
        if self.workers[index].arbiter.is_none() {
            self.start(index);
        }
        self.hear(index);
    }

    fn act(&mut self) {
        let Rates { produce, crash, pause, rebalance, transactions, snapshot } = self.rates;
        let index = self.dice.below(self.workers.len());
        if self.dice.chance(produce) {
            self.produce();
        } else if self.dice.chance(crash) {
            self.workers[index].arbiter = None;
            self.note(|| format!("worker {index} crashes"));
        } else if self.dice.chance(pause) {
            self.workers[index].asleep = u32::try_from(5 + self.dice.below(40)).unwrap_or(5);
            self.note(|| format!("worker {index} sleeps"));
        } else if self.dice.chance(rebalance) {
            self.rebalance(index);
        } else if self.dice.chance(transactions) {
            self.time_passes();
        } else if self.dice.chance(snapshot) {
            self.snapshots(index);
        } else {
            self.work(index);
        }
    }

    /// Sends the next message of the script.
    pub fn produce(&mut self) {
        let Some((partition, submission)) = self.script.pop() else { return };
        if self.journal.propose_now(partition, submission.clone()).is_err() {
            // the producer does not know: it sends the same again, some time
            let at = self.script.len().saturating_sub(self.dice.below(4));
            self.script.insert(at, (partition, submission));
        }
    }

    fn work(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.asleep > 0 {
            worker.asleep -= 1;
        } else if worker.arbiter.is_none() {
            if self.dice.chance(300) {
                self.start(index);
            }
        } else {
            // an arbiter learns late that it is no longer wanted: until then it is a zombie
            if self.dice.chance(300) {
                self.hear(index);
            }
            self.step(index);
        }
    }

    fn rebalance(&mut self, index: usize) {
        if self.setting.fenced {
            self.assigned[self.workers[index].partition as usize] = index;
            self.note(|| format!("worker {index} is assigned"));
            return;
        }
        let wanted = self.dice.chance(700);
        if let Some(arbiter) = &mut self.workers[index].arbiter {
            arbiter.want(wanted);
        }
        self.note(|| format!("worker {index} is wanted: {wanted}"));
    }

    /// A transaction runs out of time, or a late commit arrives.
    fn time_passes(&mut self) {
        let mut state = self.journal.state();
        let fencing = state.fencing;
        let partition = self.dice.below(state.partitions.len());
        let commit = self.dice.chance(500);
        if self.dice.chance(600) {
            if let Some(what) = state.partitions[partition].deliver(fencing) {
                state.note(|| what);
            }
        } else if let Some(number) = state.partitions[partition].all_undecided().first().copied() {
            state.partitions[partition].expire(number, commit);
            let fate = state.partitions[partition].transactions[number].fate;
            state.note(|| format!("transaction {number} runs out of time: {fate:?}"));
        }
    }

    /// Takes a snapshot, or lets something happen to those that are there.
    fn snapshots(&mut self, index: usize) {
        let (dice, worker) = (&mut self.dice, &mut self.workers[index]);
        match dice.below(8) {
            0..=4 => {
                if let Some(arbiter) = &mut worker.arbiter {
                    arbiter.snapshot();
                }
            }
            5 => worker.disk.tamper(worker.partition, |kept| {
                kept.pop(); // what is left is stale
            }),
            6 => worker.disk.tamper(worker.partition, |kept| {
                let Some(newest) = kept.last_mut() else { return };
                let at = dice.below(newest.len());
                newest[at] ^= 1 << dice.below(8);
            }),
            _ => worker.disk.tamper(worker.partition, |kept| {
                let Some(newest) = kept.last_mut() else { return };
                let Some(snapshot) = Snapshot::decode(newest) else { return };
                let other = match dice.below(2) {
                    0 => Snapshot { journal: "another".into(), ..snapshot },
                    // of a topic that was made anew with more partitions
                    _ => {
                        let mut other = snapshot;
                        other.ledger.partitions += 1;
                        other
                    }
                };
                *newest = other.encode().expect("a snapshot can be encoded");
            }),
        }
        self.note(|| format!("something about the snapshots of worker {index}"));
    }

    /// Nothing goes wrong any more: what hangs is decided, who crashed or sleeps comes back.
    pub fn heal(&mut self) {
        {
            let mut state = self.journal.state();
            state.faults = Faults::default();
            state.note(|| "all is healed".into());
            let commit = self.dice.chance(500);
            for partition in &mut state.partitions {
                for number in partition.all_undecided() {
                    partition.expire(number, commit);
                }
            }
        }
        for index in 0..self.workers.len() {
            self.rouse(index);
        }
    }

    /// Steps everybody until nobody has anything to do. Returns what is wrong if that never comes.
    pub fn rest(&mut self) -> Option<String> {
        let mut idle_rounds = 0;
        for _ in 0..REST_MAX {
            let steps: Vec<_> = (0..self.workers.len()).filter_map(|index| self.step(index)).collect();
            let resting = steps.iter().all(|s| matches!(s, Step::Idle | Step::Halted));
            idle_rounds = if resting { idle_rounds + 1 } else { 0 };
            if idle_rounds == 2 {
                return None;
            }
        }
        let doing = |w: &Worker| format!("{} {:?}", w.name, ears::open(&w.heard).status);
        Some(format!("no rest after {REST_MAX} rounds: {:?}", self.workers.iter().map(doing).collect::<Vec<_>>()))
    }

    /// Whether the worker says that it owns its partition.
    pub fn owns(&self, index: usize) -> bool {
        ears::open(&self.workers[index].heard).status == Status::Owner
    }

    /// Runs the whole seed and hands over what it left.
    pub fn history(mut self) -> (History, Option<intruder::Intrusion>, Vec<String>) {
        self.run();
        if self.setting.intruder {
            intruder::visit(&mut self);
        }
        self.heal();
        let stuck = self.rest().or_else(|| intruder::stay(&mut self));
        for worker in &self.workers {
            ears::open(&worker.heard).ledger = worker.arbiter.as_ref().map(|arbiter| arbiter.ledger().clone());
        }
        let lives = self.lives.iter().map(|heard| ears::open(heard).clone()).collect();
        let mut state = self.journal.state();
        let trace = state.trace.take().unwrap_or_default();
        let partitions = state.partitions.iter().map(|p| PartitionHistory {
            proposals: p.proposals.clone(),
            disputed: None,
            records: p.records.visible(&p.transactions).into_iter().map(|(_, record)| record).collect(),
            verdicts: p.verdicts.visible(&p.transactions).into_iter().map(|(_, verdict)| verdict).collect(),
            late: p.late.clone(),
            misled: p.misled,
        });
        let mut partitions: Vec<_> = partitions.collect();
        if let (Some(intrusion), Some(partition)) = (&self.intrusion, partitions.first_mut()) {
            partition.disputed = intrusion.disputed();
        }
        let (fenced, intruded) = (self.setting.fenced, self.intrusion.is_some());
        let repeats = self.repeats || intruded;
        let history = History { partitions, lives, fenced, repeats, intruded, stuck };
        (history, self.intrusion, trace)
    }
}
