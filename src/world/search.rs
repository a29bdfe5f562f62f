//! A search cluster (Elasticsearch or OpenSearch) that has the documents of the view `search`, and answers from them.
//!
//! ```text
//!  view `search` ──what changed since──▶ keeper ──bulk, version = model sequence──▶ models-000001 ◀─alias─ models ◀── questions
//!                                           └──position, into the index's own `_meta`──┘
//! ```
//!
//! Rules of the contract:
//! 1. The keeper acts by state: it sends documents as they are now, so what it sends twice or late does no harm.
//! 2. The position moves behind what the cluster has acknowledged. It lies in the index itself: who loses one loses the other.
//! 3. Nothing that is not ours is written to, and nothing is written where the alias is gone.
//! 4. Nobody is answered from an index that does not have all that there was when it was made.

pub mod bulk;
pub mod cluster;
pub mod find;
pub mod foreign;
pub mod index;
mod keep;
mod pages;
pub mod reindex;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use self::cluster::{Cluster, Trouble};
use self::find::Hit;
use self::index::Index;
use super::RunnerNow;
use crate::arbiter::door::Door;
use crate::metrics::Metrics;

/// How long a cluster that did not answer is not asked again by a question.
const SPARE: Duration = Duration::from_secs(2);
/// How long a question waits until the cluster shows what was sent.
const SHOW_MAX: Duration = Duration::from_secs(2);
/// How long a question may take.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// A cluster that is kept, and asked.
pub struct Searcher {
    cluster: Cluster,
    /// The same one, for questions: their connections live where they are asked.
    asked: Cluster,
    /// The name by which the index is read.
    pub alias: String,
    door: Arc<Door>,
    runner: RunnerNow,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// By partition the last event whose documents are in the index; empty where another instance keeps it.
    indexed: watch::Sender<BTreeMap<u32, u64>>,
    /// How often something was sent or another index was found, and as of which time all of it is shown.
    sent: AtomicU64,
    shown: AtomicU64,
    /// Somebody waits.
    hurry: Notify,
    /// Whoever writes to the index that is read: the keeper, or the end of a reindex.
    gate: tokio::sync::Mutex<Kept>,
    /// One reindex at a time.
    anew: tokio::sync::Mutex<()>,
}

/// The index as the one knows it who writes to it.
#[derive(Default)]
struct Kept {
    index: Option<Index>,
    /// When it was looked at.
    looked: Option<Instant>,
    /// When its position was written down, and whether it has moved since.
    noted: Option<Instant>,
    moved: bool,
    /// Where the journal ended when this index, which is not whole yet, was found.
    wanted: Option<BTreeMap<u32, u64>>,
    /// Whether it was found to be of the journal as it is.
    fits: bool,
    /// Since when it is ahead of the journal.
    ahead: Option<Instant>,
}

/// How the index stands.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What runs there.
    pub engine: Option<String>,
    /// Whether this instance is the one that keeps it.
    pub keeps: bool,
    /// The index behind the alias, if it is ours.
    pub index: Option<Index>,
    /// Why it does not go on.
    pub trouble: Option<Trouble>,
    /// Whether it is being made anew.
    pub reindexing: bool,
    /// When a question was not answered.
    silent: Option<Instant>,
}

impl Searcher {
    /// A cluster, before it was asked anything: one to keep, and the same one to ask.
    #[must_use]
    pub fn new([cluster, asked]: [Cluster; 2], alias: String, door: Arc<Door>, runner: RunnerNow, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            asked,
            alias,
            door,
            runner,
            metrics,
            state: Mutex::default(),
            indexed: watch::channel(BTreeMap::new()).0,
            sent: AtomicU64::new(1),
            shown: AtomicU64::new(0),
            hurry: Notify::new(),
            gate: tokio::sync::Mutex::default(),
            anew: tokio::sync::Mutex::default(),
        })
    }

    /// The cluster's address, without secrets.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.cluster.shown()
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.stand().clone()
    }

    /// By partition the last event whose documents are in the index, as far as this instance knows.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<u32, u64> {
        let kept = self.indexed.borrow().clone();
        if kept.is_empty() { self.state().index.map(|index| index.meta.positions).unwrap_or_default() } else { kept }
    }

    /// How many events the journal has whose documents are not in the index yet.
    #[must_use]
    pub fn lag_events(&self) -> u64 {
        let positions = self.positions();
        let behind = |head: crate::arbiter::door::Head| {
            let indexed = positions.get(&head.partition).map_or(0, |seq| seq + 1);
            head.seq.map_or(0, |seq| seq + 1).saturating_sub(indexed)
        };
        self.door.heads().into_iter().map(behind).sum()
    }

    /// Asks the cluster, unless it is known that it cannot answer now, or not whole.
    ///
    /// # Errors
    /// [`Trouble`]: the database's own search has the same answer.
    pub async fn find(&self, question: &str, limit: usize) -> Result<annals_projections::Listing<Hit>, Trouble> {
        self.usable()?;
        let asking = self.asked.find(&self.alias, question, limit);
        let late = || Trouble::Away(self.shown().into(), format!("no answer within {} s", QUESTION_MAX.as_secs()));
        let found = tokio::time::timeout(QUESTION_MAX, asking).await.unwrap_or_else(|_| Err(late()));
        if matches!(found, Err(Trouble::Away(..))) {
            self.stand().silent = Some(Instant::now());
        }
        found
    }

    /// Waits until the index has these events and shows them; `false` if it does not in time, or another instance keeps it.
    pub async fn has(&self, wanted: &BTreeMap<u32, u64>, wait_max: Duration) -> bool {
        if self.usable().is_err() || !self.state().keeps {
            return false;
        }
        let there = |now: &BTreeMap<u32, u64>| has(now, wanted);
        let mut indexed = self.indexed.subscribe();
        self.hurry.notify_one();
        let has = matches!(tokio::time::timeout(wait_max, indexed.wait_for(there)).await, Ok(Ok(_)));
        has && self.shows().await
    }

    /// Has the cluster show what was sent, if it does not yet; one that is not done in time is not asked again at once.
    async fn shows(&self) -> bool {
        let sent = self.sent.load(Ordering::Acquire);
        if self.shown.load(Ordering::Acquire) == sent {
            return true;
        }
        let shown = tokio::time::timeout(SHOW_MAX, self.asked.show(&self.alias)).await;
        match shown {
            Ok(Ok(())) => drop(self.shown.fetch_max(sent, Ordering::AcqRel)),
            Ok(Err(Trouble::Away(..))) | Err(_) => self.stand().silent = Some(Instant::now()),
            Ok(Err(_)) => {}
        }
        matches!(shown, Ok(Ok(())))
    }

    /// Tells how far the index is: something was sent, or it is another one.
    fn tell(&self, positions: BTreeMap<u32, u64>) {
        self.sent.fetch_add(1, Ordering::AcqRel);
        self.indexed.send_replace(positions);
    }

    /// Whether the cluster is asked now.
    ///
    /// # Errors
    /// [`Trouble`]: why it is not.
    pub fn usable(&self) -> Result<(), Trouble> {
        let state = self.state();
        if let Some(trouble) = &state.trouble {
            // what the documents are read from is no matter of the cluster; all else has it stand still
            if !matches!(trouble, Trouble::Views(_)) {
                return Err(trouble.clone());
            }
        }
        if state.silent.is_some_and(|silent| silent.elapsed() < SPARE) {
            return Err(Trouble::Away(self.shown().into(), "it did not a moment ago".into()));
        }
        match &state.index {
            Some(index) if index.meta.lacks() => Err(Trouble::Lacks),
            Some(index) if index.meta.complete => Ok(()),
            _ => Err(Trouble::Behind("it is being filled")),
        }
    }

    fn stand(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
    }

    fn worry(&self, trouble: &Trouble) {
        let mut state = self.stand();
        if state.trouble.as_ref().map(Trouble::word) != Some(trouble.word()) {
            tracing::warn!("the search index waits and is tried again: {trouble}; {}", trouble.remedy());
        }
        state.trouble = Some(trouble.clone());
    }
}

/// Whether positions have come as far as wanted.
fn has(now: &BTreeMap<u32, u64>, wanted: &BTreeMap<u32, u64>) -> bool {
    wanted.iter().all(|(partition, seq)| now.get(partition).is_some_and(|there| there >= seq))
}
