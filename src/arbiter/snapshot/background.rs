//! Writes snapshots on a thread of its own, so that no arbiter stops for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Snapshot, Snapshots};

/// One snapshot is encoded and written at a time. Of those that wait, each partition's newest
/// counts. Dropping it writes what waits first.
pub struct Background {
    inner: Arc<dyn Snapshots>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u32, Snapshot>,
    closed: bool,
}

impl Background {
    /// Starts the thread that writes into `inner`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(inner: Arc<dyn Snapshots>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (theirs, writer) = (Arc::clone(&shared), Arc::clone(&inner));
        let thread = std::thread::Builder::new().name("annals-snapshots".into()).spawn(move || {
            while let Some(snapshot) = theirs.next() {
                let partition = snapshot.ledger.partition;
                if let Err(e) = writer.save(snapshot) {
                    tracing::warn!(partition, "no snapshot written; the next start takes longer: {e}");
                }
            }
        })?;
        Ok(Self { inner, shared, thread: Some(thread) })
    }
}

impl Shared {
    /// Waits for the next snapshot; `None` when closed and nothing is left.
    fn next(&self) -> Option<Snapshot> {
        let state = self.lock();
        let mut state = self.news.wait_while(state, |s| s.waiting.is_empty() && !s.closed).unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_first().map(|(_, snapshot)| snapshot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots for Background {
    /// Takes it and returns at once; a failure is logged later.
    fn save(&self, snapshot: Snapshot) -> io::Result<()> {
        let older = self.shared.lock().waiting.insert(snapshot.ledger.partition, snapshot);
        self.shared.news.notify_one();
        drop(older); // a large state: not under the lock
        Ok(())
    }

    fn kept(&self, partition: u32) -> Vec<Snapshot> {
        self.inner.kept(partition)
    }

    fn newest_first(&self, partition: u32) -> Box<dyn Iterator<Item = Snapshot> + '_> {
        self.inner.newest_first(partition)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has logged what went wrong
        }
    }
}

#[cfg(test)]
mod tests {
    use annals_events::ledger::Ledger;

    use super::*;

    /// Keeps offsets; the first save waits until it is let go.
    #[derive(Default)]
    struct Slow {
        saved: Mutex<Vec<(u32, Option<u64>)>>,
        gate: Mutex<()>,
    }

    impl Snapshots for Slow {
        fn save(&self, snapshot: Snapshot) -> io::Result<()> {
            self.saved.lock().unwrap().push((snapshot.ledger.partition, snapshot.offset));
            drop(self.gate.lock().unwrap());
            if snapshot.offset == Some(1) { Err(io::Error::other("the first one fails")) } else { Ok(()) }
        }

        fn kept(&self, _: u32) -> Vec<Snapshot> {
            Vec::new()
        }
    }

    #[test]
    fn nobody_waits_for_a_slow_disk_the_newest_wins_and_the_end_writes_what_is_left() {
        let slow = Arc::new(Slow::default());
        let gate = slow.gate.lock().unwrap();
        let background = Background::start(Arc::clone(&slow) as Arc<dyn Snapshots>).unwrap();
        let save = |partition, offset| {
            let snapshot = Snapshot { journal: "j".into(), offset: Some(offset), ledger: Ledger::new(partition) };
            background.save(snapshot).unwrap();
        };
        save(0, 1);
        while slow.saved.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        for offset in 2..10 {
            save(0, offset);
            save(1, offset);
        }
        assert_eq!(*slow.saved.lock().unwrap(), [(0, Some(1))], "one at a time");
        drop(gate);
        drop(background);
        assert_eq!(*slow.saved.lock().unwrap(), [(0, Some(1)), (0, Some(9)), (1, Some(9))]);
    }
}
