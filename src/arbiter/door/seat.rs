//! Where an arbiter without work sits: a caller who is alone steps it, and no thread has to be woken.
//!
//! To wake the arbiter's thread and be woken by it costs a lone caller a third of what the commit
//! does. Callers who come together are better off with the thread, since they share its commits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use crate::arbiter::{Arbiter, Step};
use crate::metrics::Metrics;

/// Steps from a proposal to its answer: judge, commit, read back. What else there is, is the thread's.
const STEPS: usize = 3;
/// Who finds the door empty is only alone if those before did, too: not the first of a crowd.
const CALM: usize = 8;

/// The seat of one partition's arbiter. It is taken only while the arbiter's thread waits.
#[derive(Default)]
pub struct Seat(Mutex<Option<Arbiter>>);

impl Seat {
    /// Leaves an arbiter that has nothing to do.
    pub fn leave(&self, arbiter: Arbiter) {
        *self.lock() = Some(arbiter);
    }

    /// Takes it back, as soon as no caller steps it. `None` if it panicked under a caller.
    pub fn take(&self) -> Option<Arbiter> {
        self.lock().take()
    }

    /// The arbiter, if it sits here and nobody else steps it.
    pub fn find(&self) -> Option<Found<'_>> {
        let seat = match self.0.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::Poisoned(seat)) => seat.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        seat.is_some().then_some(Found(seat))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arbiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An arbiter that nobody else can step meanwhile.
pub struct Found<'a>(MutexGuard<'a, Option<Arbiter>>);

impl Found<'_> {
    /// Lets it judge what waits, commit and answer. If something is in the way, its thread sees to
    /// that when it wakes. A panic is a bug, and the end of this arbiter: its thread begins a new one.
    pub fn step(mut self, metrics: Option<&Metrics>) {
        let Some(arbiter) = self.0.as_mut() else { return };
        let stepped = catch_unwind(AssertUnwindSafe(|| (0..STEPS).all(|_| step(arbiter, metrics) == Step::Worked)));
        if stepped.is_err() {
            *self.0 = None;
        }
    }
}

/// Lets an arbiter do the next thing, and notes how long it took if that was a commit: a step of its own.
pub fn step(arbiter: &mut Arbiter, metrics: Option<&Metrics>) -> Step {
    let (commits, began) = (arbiter.counts().commits, Instant::now());
    let step = arbiter.step();
    if let (true, Some(metrics)) = (arbiter.counts().commits > commits, metrics) {
        metrics.operations.committed(began.elapsed());
    }
    step
}

/// Counts who is at the door.
#[derive(Default)]
pub struct Callers {
    inside: AtomicUsize,
    /// How many in a row found nobody.
    calm: AtomicUsize,
}

impl Callers {
    /// Comes in, until the guard is dropped, and says whether there is calm.
    pub fn enter(&self) -> (Caller<'_>, bool) {
        let alone = self.inside.fetch_add(1, Ordering::Relaxed) == 0;
        let calm = if alone { self.calm.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.calm.store(calm, Ordering::Relaxed);
        (Caller(self), calm > CALM)
    }
}

/// Somebody who waits for an answer.
pub struct Caller<'a>(&'a Callers);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}
