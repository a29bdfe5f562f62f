//! Drives the arbiters: one thread for each partition, until they are told to stop.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annals_events::ledger::Ledger;

use super::door::{Door, seat};
use super::snapshot::{Background, Snapshots};
use super::{Arbiter, Counts, Status, Step};
use crate::journal::Journal;

/// Longest sleep of an arbiter that nobody wakes.
const IDLE_MAX: Duration = Duration::from_millis(250);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a halted arbiter looks whether it may go on.
const HALTED_PACE: Duration = Duration::from_secs(2);
/// A snapshot is written at least so often, if anything has changed.
const SNAPSHOT_PACE: Duration = Duration::from_secs(300);

/// What all partitions' arbiters have counted since the start, by partition.
pub type AllCounts = Arc<Vec<Mutex<Counts>>>;

/// The running arbiters of all partitions. Dropping it stops them, too.
pub struct Arbiters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counts: AllCounts,
    /// Ends after the threads, so that their last snapshots are written.
    snapshots: Option<Arc<Background>>,
}

impl Arbiters {
    /// Starts a thread for each partition. Each loads its own snapshot, claims its partition and
    /// judges; `door` is told everything.
    ///
    /// # Errors
    /// If the system gives no more threads; those that were started are stopped again.
    pub fn start(journal: &Arc<dyn Journal>, door: &Arc<Door>, snapshots: Arc<dyn Snapshots>) -> std::io::Result<Self> {
        let partitions = journal.partitions();
        let background = Arc::new(Background::start(snapshots)?);
        let mut arbiters = Self {
            stop: Arc::default(),
            threads: Vec::new(),
            counts: Arc::new((0..partitions).map(|_| Mutex::default()).collect()),
            snapshots: Some(Arc::clone(&background)),
        };
        for partition in 0..partitions {
            let driver = Driver {
                journal: Arc::clone(journal),
                partition,
                door: Arc::clone(door),
                snapshots: Arc::clone(&background),
                stop: Arc::clone(&arbiters.stop),
                counts: Arc::clone(&arbiters.counts),
            };
            let thread = std::thread::Builder::new().name(format!("arbiter-{partition}")).spawn(move || driver.run())?;
            arbiters.threads.push(thread);
        }
        Ok(arbiters)
    }

    /// What each partition's arbiter has counted.
    #[must_use]
    pub fn counts(&self) -> AllCounts {
        Arc::clone(&self.counts)
    }

    /// Stops them between two steps, and comes back when their snapshots are written. Proposals
    /// that still wait have no verdict then.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in &self.threads {
            thread.thread().unpark();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic was caught and logged in it
        }
        self.snapshots = None;
    }
}

impl Drop for Arbiters {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Driver {
    journal: Arc<dyn Journal>,
    partition: u32,
    door: Arc<Door>,
    snapshots: Arc<Background>,
    stop: Arc<AtomicBool>,
    counts: AllCounts,
}

impl Driver {
    /// A panic is a bug, but it must not leave a partition without an arbiter in silence: the next
    /// one begins from the journal.
    fn run(&self) {
        let mut pause = PAUSE_MIN;
        while !self.stopped() {
            if let Ok(Some(())) = catch_unwind(AssertUnwindSafe(|| self.live())) {
                return;
            }
            let reason = "its arbiter panicked and begins again: this is a bug, see the log";
            tracing::error!(partition = self.partition, "{reason}");
            self.door.listener(self.partition).moved(&Ledger::new(self.partition), &Status::Troubled(reason.into()));
            self.sleep(&mut pause);
        }
    }

    /// One arbiter's life; `None` if it panicked while a caller stepped it.
    fn live(&self) -> Option<()> {
        let seat = self.door.seat(self.partition);
        drop(seat.take()); // of an earlier life
        let listener = self.door.listener(self.partition);
        let snapshots = Arc::clone(&self.snapshots) as Arc<dyn Snapshots>;
        let mut arbiter = Arbiter::new(Arc::clone(&self.journal), self.partition, listener, snapshots);
        let (mut pause, mut snapshot) = (PAUSE_MIN, Instant::now());
        while !self.stopped() {
            arbiter.want(self.journal.wanted(self.partition));
            let step = seat::step(&mut arbiter, self.door.metrics());
            *self.counts[self.partition as usize].lock().unwrap_or_else(PoisonError::into_inner) = arbiter.counts();
            match step {
                Step::Worked => pause = PAUSE_MIN,
                Step::Idle => {
                    seat.leave(arbiter);
                    self.journal.wait(self.partition, IDLE_MAX);
                    arbiter = seat.take()?;
                }
                Step::Troubled => self.sleep(&mut pause),
                // a person's decision comes as a record
                Step::Halted => self.sleep(&mut HALTED_PACE.clone()),
            }
            if snapshot.elapsed() >= SNAPSHOT_PACE {
                snapshot = Instant::now();
                arbiter.snapshot();
            }
        }
        arbiter.snapshot();
        Some(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn sleep(&self, pause: &mut Duration) {
        let until = Instant::now() + *pause;
        *pause = PAUSE_MAX.min(*pause * 2);
        while !self.stopped()
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left); // `stop` ends it early
        }
    }
}
