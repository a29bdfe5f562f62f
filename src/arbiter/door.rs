//! The arbiter's door: takes proposals in, and answers when the journal shows what became of them.
//!
//! Any instance can answer: a caller waits for the offset of its proposal to come by in the tail
//! of records and verdicts, whoever judged it.

pub mod seat;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use annals_events::ledger::Ledger;
use annals_events::model::Decided;
use annals_events::names::partition_of;
use annals_events::proposal::Proposal;
use annals_events::record::{Hash, Record, View};
use annals_events::verdict::{Outcome, Verdict};
use seat::{Callers, Seat};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::Instant;

use super::{Listener, Status};
use crate::journal::{Journal, Located, ProposeError, ReadError};
use crate::metrics::Metrics;

/// Outcomes that are kept for callers whose offset is not known yet when the outcome is.
const RECENT_MAX: usize = 4_096;
/// Events that a live subscriber may be behind before it must read the journal itself.
const FEED_MAX: usize = 8_192;

/// What a caller gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The model's partition.
    pub partition: u32,
    /// Offset of the proposal.
    pub src: u64,
    /// The verdict; `None` if it did not come in time.
    pub verdict: Option<Verdict>,
}

/// An accepted event, as it came by.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the log.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// How far a partition is, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The partition.
    pub partition: u32,
    /// Its last accepted place.
    pub seq: Option<u64>,
    /// The hash there.
    pub hash: Hash,
    /// How many models it has.
    pub models: usize,
    /// What its arbiter is doing.
    pub status: Status,
}

impl Head {
    /// Where the partition ends; `None` while that is still being folded: it has one event at least.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.seq.filter(|_| self.status != Status::Folding)
    }
}

/// See the module.
pub struct Door {
    journal: Arc<dyn Journal>,
    desks: Vec<Arc<Mutex<Desk>>>,
    seats: Vec<Arc<Seat>>,
    callers: Callers,
    feed: broadcast::Sender<Arc<Published>>,
    moved: watch::Sender<u64>,
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

/// A verdict, or where it will come.
type Coming = Result<Verdict, oneshot::Receiver<Verdict>>;

struct Desk {
    waiting: HashMap<u64, oneshot::Sender<Verdict>>,
    recent: VecDeque<Verdict>,
    head: Head,
}

impl Door {
    /// A door for all partitions of a journal.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        let desk = |partition| Desk {
            waiting: HashMap::new(),
            recent: VecDeque::new(),
            head: Head { partition, seq: None, hash: Hash::default(), models: 0, status: Status::Standby },
        };
        let desks = (0..journal.partitions()).map(|partition| Arc::new(Mutex::new(desk(partition)))).collect();
        let seats = (0..journal.partitions()).map(|_| Arc::default()).collect();
        Self {
            journal,
            desks,
            seats,
            callers: Callers::default(),
            feed: broadcast::channel(FEED_MAX).0,
            moved: watch::channel(0).0,
            metrics: Arc::default(),
        }
    }

    /// The listener that a partition's arbiter must tell.
    #[must_use]
    pub fn listener(&self, partition: u32) -> Box<dyn Listener> {
        let desk = Arc::clone(&self.desks[partition as usize]);
        Box::new(Bell { partition, desk, feed: self.feed.clone(), moved: self.moved.clone(), metrics: Arc::clone(&self.metrics) })
    }

    /// Counts what is heard from now on there.
    pub fn count_in(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics); // once and for all
    }

    /// Where it is counted what happens here, if anybody wants to know.
    #[must_use]
    pub fn metrics(&self) -> Option<&Metrics> {
        self.metrics.get().map(Arc::as_ref)
    }

    /// Where the partition's arbiter is to be left while it has nothing to do.
    #[must_use]
    pub fn seat(&self, partition: u32) -> Arc<Seat> {
        Arc::clone(&self.seats[partition as usize])
    }

    /// Proposes and waits for the verdict, at most `wait_max`; a caller who is alone waits at least
    /// until the disk has taken its event.
    ///
    /// # Errors
    /// [`ProposeError`]; after `Unknown` the same proposal may be sent again.
    pub async fn submit(&self, proposal: &Proposal, wait_max: Duration) -> Result<Answer, ProposeError> {
        let partition = partition_of(proposal.key.as_str(), self.journal.partitions());
        if let Status::Halted(reason) = &self.desk(partition).head.status {
            return Err(ProposeError::Unavailable(format!("partition {partition} is halted: {reason}")));
        }
        let until = Instant::now() + wait_max;
        let (_caller, calm) = self.callers.enter();
        let here = if calm && !wait_max.is_zero() { self.submit_here(partition, proposal) } else { None };
        let (src, verdict) = match here {
            Some(submitted) => submitted?,
            None => {
                let src = self.journal.propose(partition, proposal.to_submission()).await?;
                (src, self.wait_for(partition, src))
            }
        };
        let verdict = match verdict {
            Ok(verdict) => Some(verdict),
            Err(coming) => tokio::time::timeout_at(until, coming).await.ok().and_then(Result::ok),
        };
        if verdict.is_none() {
            self.desk(partition).waiting.remove(&src);
        }
        Ok(Answer { partition, src, verdict })
    }

    /// Proposes and steps the arbiter, if it has nothing else to do and its journal allows it. Other
    /// requests go on meanwhile: the runtime gives their tasks to another thread.
    fn submit_here(&self, partition: u32, proposal: &Proposal) -> Option<Result<(u64, Coming), ProposeError>> {
        if Handle::try_current().ok()?.runtime_flavor() != RuntimeFlavor::MultiThread {
            return None; // there is no other thread
        }
        let arbiter = self.seats[partition as usize].find()?;
        let src = match self.journal.propose_and_step(partition, &|| proposal.to_submission())? {
            Ok(src) => src,
            Err(error) => return Some(Err(error)),
        };
        let coming = self.wait_for(partition, src);
        tokio::task::block_in_place(|| arbiter.step(self.metrics()));
        Some(Ok((src, coming)))
    }

    fn wait_for(&self, partition: u32, src: u64) -> Coming {
        let mut desk = self.desk(partition);
        if let Some(verdict) = desk.recent.iter().rev().find(|v| v.src == src) {
            return Ok(verdict.clone());
        }
        let (sender, receiver) = oneshot::channel();
        desk.waiting.insert(src, sender);
        Err(receiver)
    }

    /// The verdict on a proposal that was sent before.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        self.journal.verdict(source, id)
    }

    /// The journal behind the door.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Where each partition is.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        (0..self.journal.partitions()).map(|partition| self.desk(partition).head.clone()).collect()
    }

    /// Changes whenever some partition has moved: whoever follows the journal waits on it.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Accepted events as they come by; one that lags must read the journal instead.
    #[must_use]
    pub fn feed(&self) -> broadcast::Receiver<Arc<Published>> {
        self.feed.subscribe()
    }

    fn desk(&self, partition: u32) -> MutexGuard<'_, Desk> {
        lock(&self.desks[partition as usize])
    }
}

/// A desk is never left half changed, so a panic elsewhere does not spoil it.
fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    fn answer(&mut self, verdict: Verdict) {
        if let Some(waiting) = self.waiting.remove(&verdict.src) {
            let _ = waiting.send(verdict); // the caller may have gone away
            return;
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(verdict);
    }
}

struct Bell {
    partition: u32,
    desk: Arc<Mutex<Desk>>,
    feed: broadcast::Sender<Arc<Published>>,
    moved: watch::Sender<u64>,
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

impl Bell {
    /// Answers whoever waits, and counts the verdict where it was judged: every instance hears it.
    fn answer(&self, verdict: Verdict) {
        let mut desk = lock(&self.desk);
        if let (Status::Owner, Some(metrics)) = (&desk.head.status, self.metrics.get()) {
            metrics.operations.verdict(&verdict.outcome);
        }
        desk.answer(verdict);
    }
}

impl Listener for Bell {
    fn accepted(&mut self, located: &Located, view: &View<'_>, decided: &Decided) {
        if self.feed.receiver_count() > 0 {
            let _ =
                self.feed.send(Arc::new(Published { partition: self.partition, offset: located.offset, record: located.record.clone() }));
        }
        // whoever waits for the offset of another record waits for the verdict
        if let Some(verdict) = Verdict::of_event(view, decided.version()) {
            self.answer(verdict);
        }
    }

    fn told(&mut self, verdict: &Verdict) {
        if !matches!(verdict.outcome, Outcome::Accepted(_)) {
            self.answer(verdict.clone());
        }
    }

    fn moved(&mut self, ledger: &Ledger, status: &Status) {
        let head = Head {
            partition: self.partition,
            seq: ledger.last_seq(),
            hash: ledger.last_hash(),
            models: ledger.models(),
            status: status.clone(),
        };
        let changed = {
            let mut desk = lock(&self.desk);
            std::mem::replace(&mut desk.head, head.clone()) != head
        };
        if changed {
            self.moved.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}
