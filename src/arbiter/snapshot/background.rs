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
