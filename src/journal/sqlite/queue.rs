//! The proposals of one partition that still wait for a verdict, in memory and bounded.
//!
//! A proposal leaves only when a commit has stored its verdict, so that whoever claims the
//! partition next judges it again. A crash loses those that nobody had an answer to.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use annals_events::submission::Submission;
use annals_events::time::Timestamp;

use crate::journal::{ProposeError, Queued, wall_clock};

/// Most proposals that wait in one partition.
pub const WAITING_MAX: usize = 10_000;
/// Most bytes that they may hold together.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module.
pub struct Queue {
    inner: Mutex<Inner>,
    news: Condvar,
}

struct Inner {
    items: VecDeque<Queued>,
    bytes: usize,
    next: u64,
    /// No proposal gets an earlier time than this.
    last_at: Timestamp,
    /// Something came since the arbiter last returned from its wait: it is kept, so none is missed.
    news: bool,
}

impl Queue {
    /// An empty queue behind offset `next` and time `last_at`.
    pub fn new(next: u64, last_at: Timestamp) -> Self {
        Self { inner: Mutex::new(Inner { items: VecDeque::new(), bytes: 0, next, last_at, news: false }), news: Condvar::new() }
    }

    /// Appends a proposal and wakes the arbiter.
    pub fn push(&self, submission: Submission) -> Result<u64, ProposeError> {
        let src = {
            let mut inner = self.lock();
            let src = inner.push(submission)?;
            inner.news = true;
            src
        };
        self.news.notify_all();
        Ok(src)
    }

    /// Appends a proposal whose sender steps the arbiter itself.
    pub fn push_quietly(&self, submission: Submission) -> Result<u64, ProposeError> {
        self.lock().push(submission)
    }

    /// Waiting proposals from offset `from` on.
    pub fn from(&self, from: u64, max: usize) -> Vec<Queued> {
        let inner = self.lock();
        let start = inner.items.partition_point(|q| q.src < from);
        inner.items.range(start..).take(max).cloned().collect()
    }

    /// Looks at one waiting proposal.
    pub fn peek<T>(&self, src: u64, look: impl FnOnce(&Queued) -> T) -> Option<T> {
        let inner = self.lock();
        let at = inner.items.binary_search_by_key(&src, |q| q.src).ok()?;
        inner.items.get(at).map(look)
    }

    /// Drops the proposals whose verdicts are stored. `srcs` grow.
    pub fn settle(&self, srcs: &[u64]) {
        let mut inner = self.lock();
        let mut rest = srcs;
        while let (Some(first), Some((src, behind))) = (inner.items.front(), rest.split_first())
            && first.src == *src
        {
            inner.drop_first();
            rest = behind;
        }
        if !rest.is_empty() {
            inner.items.retain(|q| rest.binary_search(&q.src).is_err());
            inner.bytes = inner.items.iter().map(|q| size_of(&q.submission)).sum();
        }
    }

    /// Drops everything before offset `next`: the journal holds verdicts up to there.
    pub fn settle_before(&self, next: u64) {
        let mut inner = self.lock();
        while inner.items.front().is_some_and(|q| q.src < next) {
            inner.drop_first();
        }
    }

    /// Every proposal with an earlier time has its verdict, and none will come.
    pub fn settled_until(&self) -> Timestamp {
        let mut inner = self.lock();
        match inner.items.front() {
            Some(first) => first.at,
            None => inner.now(),
        }
    }

    /// Blocks until a proposal has come since the last return, or `idle_max` has passed.
    pub fn wait(&self, idle_max: Duration) {
        let inner = self.lock();
        let (mut inner, _) = self.news.wait_timeout_while(inner, idle_max, |inner| !inner.news).unwrap_or_else(PoisonError::into_inner);
        inner.news = false;
    }

    /// Nothing here is ever left half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, submission: Submission) -> Result<u64, ProposeError> {
        let size = size_of(&submission);
        if self.items.len() >= WAITING_MAX || self.bytes + size > WAITING_BYTES_MAX {
            return Err(ProposeError::Busy);
        }
        let (src, at) = (self.next, self.now());
        self.items.push_back(Queued { src, at, submission });
        self.next += 1;
        self.bytes += size;
        Ok(src)
    }

    /// The wall clock, but never earlier than before.
    fn now(&mut self) -> Timestamp {
        self.last_at = self.last_at.max(wall_clock());
        self.last_at
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.items.pop_front() {
            self.bytes -= size_of(&first.submission);
        }
    }
}

/// Bytes that a waiting submission holds, roughly.
fn size_of(submission: &Submission) -> usize {
    let headers: usize = submission.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    headers + submission.value.len() + submission.key.as_ref().map_or(0, Vec::len) + 128
}
