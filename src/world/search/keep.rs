//! The keeper's life: it looks at what is in its place, makes the index if there is none, and sends what changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::bulk::Outcome;
use super::cluster::Trouble;
use super::index::{Index, Meta, Place, filling, next};
use super::pages::Pages;
use super::{Kept, Searcher, has};
use crate::arbiter::door::Head;
use crate::runner::Runner;

/// How often it is looked whether the index is still what it was.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often at most the position is written down: it is the cluster's state that changes with it.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// How long documents gather, unless somebody waits.
const GATHER: Duration = Duration::from_millis(100);
/// How often an instance that does not act looks whether it does now.
const LEAD_EVERY: Duration = Duration::from_secs(1);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The index is ahead if it is so for this long: an event is committed a moment before the heads tell of it.
const AHEAD_MIN: Duration = Duration::from_secs(5);

impl Searcher {
    /// Keeps the index while this instance is the one that acts, and otherwise only looks at it, until `stopping`.
    pub async fn run(self: Arc<Self>, acts: impl Fn() -> bool + Send, mut stopping: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        while !*stopping.borrow() {
            let round = tokio::select! {
                round = self.round(acts()) => round,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            let wait = match round {
                Ok(wait) => {
                    pause = PAUSE_MIN;
                    if self.stand().trouble.take().is_some() {
                        tracing::info!("the search index goes on");
                    }
                    wait
                }
                Err(trouble) => {
                    self.worry(&trouble);
                    let mut kept = self.gate.lock().await;
                    kept.looked = None; // whatever it was, it is looked at anew
                    pause = PAUSE_MAX.min(pause * 2);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.hurry.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        let mut kept = self.gate.lock().await;
        if kept.moved {
            let _ = self.note(&mut kept).await; // what is not noted is sent again
        }
    }

    /// One look and what follows from it; how long to wait until the next.
    async fn round(&self, acts: bool) -> Result<Duration, Trouble> {
        let Some(runner) = (self.runner)() else { return Ok(LEAD_EVERY) };
        let mut kept = self.gate.lock().await;
        if !acts && self.stand().keeps {
            *kept = Kept::default();
            self.tell(BTreeMap::new());
        }
        self.stand().keeps = acts;
        if kept.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.look(&mut kept, acts).await?;
        }
        if !acts {
            return Ok(LEAD_EVERY);
        }
        self.check(&mut kept)?;
        if self.fits(&mut kept).await? && self.send(&mut kept, &runner).await? {
            self.settle(&mut kept).await?;
        }
        drop(kept);
        self.moved(&runner).await;
        Ok(GATHER)
    }

    /// Waits until there may be something new: the view has moved, somebody waits, or it is time to look.
    async fn moved(&self, runner: &Runner) {
        let indexed = self.indexed.borrow().clone();
        let behind = |seqs: &Vec<Option<u64>>| (0..).zip(seqs).any(|(p, seq): (u32, _)| *seq > indexed.get(&p).copied());
        if let Some(mut view) = runner.moves(annals_projections::search::NAME) {
            tokio::select! {
                _ = view.wait_for(behind) => {}
                () = self.hurry.notified() => self.hurry.notify_one(),
                () = tokio::time::sleep(LEAD_EVERY) => {}
            }
        }
    }

    /// Looks at what is in our place. Whoever acts makes the index where there is none, and takes its position from it.
    async fn look(&self, kept: &mut Kept, acts: bool) -> Result<(), Trouble> {
        if self.stand().engine.is_none() {
            let engine = self.cluster.engine().await?;
            self.stand().engine = Some(engine);
        }
        let journal = self.door.journal().id();
        let mut place = self.cluster.look(&self.alias, journal).await;
        // a reindex brings one along
        if matches!(place, Ok(Place::Free)) && acts && !self.stand().reindexing {
            place = self.make_first(journal).await;
        }
        let found = match place {
            Ok(Place::Ours(index)) => Some(index),
            Ok(Place::Free) => None,
            Err(trouble) => {
                self.stand().index = None;
                kept.index = None;
                return Err(trouble);
            }
        };
        kept.looked = Some(Instant::now());
        let is_same = kept.index.as_ref().map(|index| &index.uuid) == found.as_ref().map(|index| &index.uuid);
        if !acts || !is_same || found.is_none() {
            // another index, or the first look: it says itself how far it is
            self.stand().index.clone_from(&found);
            if acts {
                self.tell(found.as_ref().map(|index| index.meta.positions.clone()).unwrap_or_default());
                *kept = Kept { index: found, looked: kept.looked, ..Kept::default() };
                self.sweep().await;
            }
        }
        Ok(())
    }

    /// Two instances may do this at once: one of them finds that it is there.
    async fn make_first(&self, journal: &str) -> Result<Place, Trouble> {
        let unread = self.cluster.unread(&self.alias, journal).await?;
        let name = next(&self.alias, unread.iter().max().map(String::as_str));
        match self.cluster.make(&name, &self.alias, &Meta::empty(journal), "1s").await {
            Ok(()) => tracing::info!("the search index `{name}` was made at {}", self.shown()),
            Err(Trouble::Refused(400, why)) if why.contains("already exists") => {}
            Err(trouble) => return Err(trouble),
        }
        match self.cluster.look(&self.alias, journal).await? {
            Place::Free => Err(Trouble::Foreign(format!("`{name}` at {} is not ours, and in the way of `{}`", self.shown(), self.alias))),
            ours => Ok(ours),
        }
    }

    /// Removes what a reindex left behind that was broken off; it is tried, and does not matter.
    async fn sweep(&self) {
        if self.stand().reindexing {
            return;
        }
        let unread = self.cluster.unread(&self.alias, self.door.journal().id()).await.unwrap_or_default();
        for name in unread {
            if self.cluster.remove(&name).await.is_ok() {
                tracing::info!("the search index `{name}`, which nobody read, was removed");
            }
        }
    }

    /// An index that has more than the journal is of a journal that was put back.
    fn check(&self, kept: &mut Kept) -> Result<(), Trouble> {
        let Some(index) = &kept.index else { return Ok(()) };
        let ahead = self.door.heads().into_iter().find_map(|head| {
            let (indexed, end) = (*index.meta.positions.get(&head.partition)?, head.seq?);
            (indexed > end).then_some(Trouble::Ahead { partition: head.partition, indexed, head: end })
        });
        kept.ahead = ahead.as_ref().map(|_| kept.ahead.unwrap_or_else(Instant::now));
        let is_so = kept.ahead.is_some_and(|since| since.elapsed() >= AHEAD_MIN);
        ahead.filter(|_| is_so).map_or(Ok(()), Err)
    }

    /// Whether an index that was found is of this journal as it is now, not only of its name: one that was put back and written on
    /// has other events in the same places, and so it stays until the index is made anew.
    async fn fits(&self, kept: &mut Kept) -> Result<bool, Trouble> {
        let Some(index) = kept.index.as_ref().filter(|_| !kept.fits) else { return Ok(true) };
        let Some(ends) = self.ends().filter(|ends| has(ends, &index.meta.positions)) else { return Ok(false) };
        for (&partition, seal) in &index.meta.seals {
            let (journal, offset) = (Arc::clone(self.door.journal()), seal.offset);
            let read = tokio::task::spawn_blocking(move || journal.records(partition, offset, 1)).await;
            let found = read.map_err(|e| Trouble::Views(e.to_string()))?.map_err(|e| Trouble::Views(e.to_string()))?;
            if !found.items.first().is_some_and(|located| located.offset == offset && located.record.hash().to_string() == seal.hash) {
                let head = ends.get(&partition).copied().unwrap_or_default();
                return Err(Trouble::Ahead { partition, indexed: seal.seq, head });
            }
        }
        kept.fits = true;
        Ok(true)
    }

    /// Sends what the index lacks, the next request being made while one is under way; whether it then had all that there was.
    async fn send(&self, kept: &mut Kept, runner: &Runner) -> Result<bool, Trouble> {
        let Some(index) = kept.index.as_mut() else { return Ok(false) };
        let mut pages = Pages::begin(runner.views(), &index.meta.positions).await?;
        let mut batch = pages.next().await?;
        let is_new = batch.is_some();
        while let Some(now) = batch {
            let (sent, next) = tokio::join!(self.cluster.send(&self.alias, &now.bulk), pages.next());
            self.took(&mut index.meta, sent?);
            index.meta.positions.extend(now.reached);
            index.meta.seals.extend(now.sealed);
            if index.meta.lacks() {
                self.stand().index = Some(index.clone()); // before anybody hears that it is so far
            }
            self.tell(index.meta.positions.clone());
            kept.moved = true;
            batch = next?;
            if batch.is_some() && kept.noted.is_none_or(|noted| noted.elapsed() >= NOTE_EVERY) {
                self.cluster.note(index).await?;
                self.stand().index = Some(index.clone());
                kept.noted = Some(Instant::now());
            }
        }
        Ok(is_new || !index.meta.complete || kept.moved)
    }

    /// Writes down how far the index is, now and then; and at once that it is whole for the first time.
    async fn settle(&self, kept: &mut Kept) -> Result<(), Trouble> {
        let Some(index) = kept.index.as_mut() else { return Ok(()) };
        if !index.meta.complete && kept.wanted.is_none() {
            kept.wanted = self.ends();
        }
        // the view itself may be filled yet: what it has is not all that there is
        let is_whole = kept.wanted.as_ref().is_some_and(|wanted| has(&index.meta.positions, wanted));
        let is_first = !index.meta.complete && is_whole;
        if is_first {
            self.cluster.show(&self.alias).await?;
            index.meta.complete = true;
        }
        if is_first || kept.noted.is_none_or(|noted| noted.elapsed() >= NOTE_EVERY) {
            self.note(kept).await?;
        } else {
            let index = kept.index.clone();
            self.stand().index = index;
        }
        Ok(())
    }

    /// Where the journal ends, by partition; `None` while that is still being read.
    pub(super) fn ends(&self) -> Option<BTreeMap<u32, u64>> {
        let end = |head: Head| Some((head.partition, head.end()?));
        self.door.heads().into_iter().map(end).collect()
    }

    async fn note(&self, kept: &mut Kept) -> Result<(), Trouble> {
        let Some(index) = &kept.index else { return Ok(()) };
        self.cluster.note(index).await?;
        self.stand().index = Some(index.clone());
        kept.noted = Some(Instant::now());
        kept.moved = false;
        Ok(())
    }

    /// Counts what became of documents, and remembers those that were refused.
    pub(super) fn took(&self, meta: &mut Meta, outcome: Outcome) {
        self.metrics.search.indexed(outcome.indexed, outcome.known, outcome.refused.len() as u64);
        outcome.taken.iter().for_each(|subject| drop(meta.refused.remove(subject)));
        for (subject, why) in outcome.refused {
            tracing::warn!("the search cluster does not take {subject}: {why}");
            meta.refuse(&subject, why);
        }
    }

    /// The index that takes the place of this one, empty, under an alias that nobody reads.
    pub(super) async fn make_next(&self, last: Option<&str>) -> Result<Index, Trouble> {
        let journal = self.door.journal().id();
        let meta = Meta::empty(journal);
        let name = next(&self.alias, last);
        self.cluster.make(&name, &filling(&self.alias), &meta, "-1").await?;
        Ok(Index { name, uuid: String::new(), meta })
    }
}
