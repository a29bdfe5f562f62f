//! From the journal to the views: each follows on its own, and one that fails stops alone.
//!
//! A view's rows and its position commit together, so an event is applied exactly once whatever
//! happens here. The one error policy: what may pass is tried again with a growing pause; what
//! cannot pass stops the view until it is rebuilt. No event is ever skipped.

mod others;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annals_projections::rebuild::{Rebuilt, Source};
use annals_projections::{Entry, Error, NAMES, Position, Views};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::arbiter::door::Door;
use crate::journal::Journal;
use crate::journal::follow::{FollowError, Follower, Mark, Until};

/// Most events of one transaction.
const BATCH_MAX: usize = annals_projections::views::BATCH_MAX;
/// Most bytes of one transaction's events, about.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a view lets events gather before it commits again, unless somebody waits for it: a
/// transaction per event would take the processor from whoever proposes.
const GATHER: Duration = Duration::from_millis(50);
/// How long the views' tasks may take to end.
const END_MAX: Duration = Duration::from_secs(5);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often an engine says, in a database that others share, that it is still there.
const LEAD_EVERY: Duration = Duration::from_secs(5);

/// The views, and what follows the journal for them.
pub struct Runner {
    views: Views,
    door: Arc<Door>,
    lines: Vec<Line>,
    /// Whether it applies events, or only looks where the views are that others write.
    applies: bool,
    stopping: watch::Receiver<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// One view.
struct Line {
    name: &'static str,
    /// By partition the last event that the view has.
    seqs: watch::Sender<Vec<Option<u64>>>,
    /// Somebody waits.
    hurry: Notify,
    /// The view was rebuilt: where it is must be read again.
    again: Notify,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    trouble: Option<String>,
    waits: bool,
    behind_since: Option<Instant>,
}

/// How a view follows the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The view.
    pub name: &'static str,
    /// By partition the last event that it has.
    pub seqs: Vec<Option<u64>>,
    /// How many events the journal has that it does not.
    pub lag_events: u64,
    /// For how long it has been behind.
    pub stale: Duration,
    /// Why it does not go on.
    pub trouble: Option<String>,
    /// Whether the trouble may pass by itself, such as a database that is away.
    pub waits: bool,
}

impl Runner {
    /// Starts a task for each view; they end when `stopping` becomes true. An engine that does not
    /// apply events answers from what others write into the same database.
    #[must_use]
    pub fn start(views: Views, door: Arc<Door>, applies: bool, stopping: watch::Receiver<bool>) -> Arc<Self> {
        let partitions = door.journal().partitions() as usize;
        let line = |name: &&'static str| Line {
            name,
            seqs: watch::channel(vec![None; partitions]).0,
            hurry: Notify::new(),
            again: Notify::new(),
            state: Mutex::default(),
        };
        let runner = Arc::new(Self { views, door, lines: NAMES.iter().map(line).collect(), applies, stopping, tasks: Mutex::default() });
        let task = |index: usize| {
            let runner = Arc::clone(&runner);
            tokio::spawn(async move { runner.keep_up(&runner.lines[index]).await })
        };
        *runner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = (0..runner.lines.len()).map(task).collect();
        runner
    }

    /// Waits until the tasks have ended, so that no transaction is cut off; `stopping` must be true.
    pub async fn ended(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        if tokio::time::timeout(END_MAX, futures_util::future::join_all(tasks)).await.is_err() {
            tracing::warn!("the views did not end within {} s; they are whole all the same", END_MAX.as_secs());
        }
    }

    /// The views.
    #[must_use]
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// By partition the last event that a view has; `None` for no such view.
    #[must_use]
    pub fn seqs(&self, view: &str) -> Option<Vec<Option<u64>>> {
        self.line(view).map(|line| line.seqs.borrow().clone())
    }

    /// As [`Runner::seqs`], for whoever wants to hear of each move.
    #[must_use]
    pub fn moves(&self, view: &str) -> Option<watch::Receiver<Vec<Option<u64>>>> {
        self.line(view).map(|line| line.seqs.subscribe())
    }

    /// How every view follows.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        let heads: Vec<_> = self.door.heads().iter().map(|head| head.seq).collect();
        let progress = |line: &Line| {
            let (seqs, state) = (line.seqs.borrow().clone(), line.state().clone());
            let behind = |(head, seq): (&Option<u64>, &Option<u64>)| count(*head).saturating_sub(count(*seq));
            let stale = state.behind_since.map(|since| since.elapsed()).unwrap_or_default();
            let lag_events = heads.iter().zip(&seqs).map(behind).sum();
            Progress { name: line.name, lag_events, seqs, stale, trouble: state.trouble, waits: state.waits }
        };
        self.lines.iter().map(progress).collect()
    }

    /// Waits until a view has these events; `false` if it has not after `wait_max`.
    pub async fn wait_for(&self, view: &str, wanted: &[(u32, u64)], wait_max: Duration) -> bool {
        let Some(line) = self.line(view) else { return false };
        let has =
            |seqs: &Vec<Option<u64>>| wanted.iter().all(|(p, seq)| seqs.get(*p as usize).copied().flatten().is_some_and(|s| s >= *seq));
        let mut seqs = line.seqs.subscribe();
        let waiting = async {
            loop {
                if !has(&seqs.borrow_and_update()) {
                    line.hurry.notify_one();
                } else {
                    match self.holds(line, has).await {
                        Ok(true) => return true,
                        Ok(false) => line.again.notify_one(),
                        Err(_) => return false, // whoever asks on is told so
                    }
                }
                // again and again, since a round that had begun may have missed the hurry
                if let Ok(Err(_)) = tokio::time::timeout(GATHER, seqs.changed()).await {
                    return false;
                }
            }
        };
        tokio::time::timeout(wait_max, waiting).await.unwrap_or(false)
    }

    /// Whether the database says so itself, where it is a server's: one that was killed, or whose copy has taken over, may
    /// have forgotten the newest of what it had.
    async fn holds(&self, line: &Line, has: impl Fn(&Vec<Option<u64>>) -> bool) -> Result<bool, Error> {
        Ok(!self.views.shared() || has(&self.seqs_at(&self.views.positions(line.name).await?)))
    }

    /// By partition the last event behind which these positions are.
    fn seqs_at(&self, positions: &[Position]) -> Vec<Option<u64>> {
        let mut seqs = vec![None; self.door.journal().partitions() as usize];
        for position in positions {
            if let Some(seq) = seqs.get_mut(position.partition as usize) {
                *seq = Some(position.seq);
            }
        }
        seqs
    }

    /// Makes a view again from the journal; `progress` is told how many events are done.
    ///
    /// # Errors
    /// Those of [`Views::rebuild`]; the old view is as it was.
    pub async fn rebuild(&self, view: &str, progress: impl FnMut(u64) + Send) -> Result<Rebuilt, Error> {
        let rebuilt = self.views.rebuild(view, JournalSource::new(self.door.journal().clone()), progress).await;
        if let Some(line) = self.line(view) {
            line.again.notify_one();
        }
        rebuilt
    }

    fn line(&self, view: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == view)
    }

    fn stopped(&self) -> bool {
        *self.stopping.borrow()
    }

    /// A view's life: follow until something is wrong, deal with that, begin anew where the view is.
    async fn keep_up(&self, line: &Line) {
        let (mut stopping, mut pause) = (self.stopping.clone(), PAUSE_MIN);
        while !self.stopped() {
            let Err(trouble) = self.lead_or_watch(line, &mut pause).await else { continue };
            let text = trouble.to_string();
            let known = line.state().trouble.replace(text.clone()).is_some_and(|before| before == text);
            line.state().waits = false;
            let wait = match &trouble {
                Trouble::View(e) if e.stops() || matches!(e, Error::Stopped { .. } | Error::Damaged { .. }) => {
                    if !known {
                        tracing::error!(view = line.name, "view stopped: {text}");
                    }
                    // another engine may rebuild a view that is shared
                    if self.views.shared() { PAUSE_MAX } else { Duration::MAX }
                }
                Trouble::Follow(FollowError::Halt { .. }) => {
                    tracing::error!(view = line.name, "view stopped: {text}");
                    Duration::MAX
                }
                Trouble::View(_) | Trouble::Follow(FollowError::Read(_)) | Trouble::Lost => {
                    if !known {
                        tracing::warn!(view = line.name, "view waits and tries again: {text}");
                    }
                    line.state().waits = true;
                    pause
                }
            };
            pause = PAUSE_MAX.min(pause * 2);
            tokio::select! {
                () = sleep(wait) => {}
                () = line.again.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Where several engines share the views, one of them follows the journal, and the others watch.
    async fn lead_or_watch(&self, line: &Line, pause: &mut Duration) -> Result<(), Trouble> {
        if self.applies && self.views.lead(line.name).await? { self.follow(line, pause).await } else { self.watch(line, pause).await }
    }

    /// Follows from where the view is, until it is told to look again or something is wrong.
    async fn follow(&self, line: &Line, pause: &mut Duration) -> Result<(), Trouble> {
        let (mut moved, mut stopping) = (self.door.moved(), self.stopping.clone());
        let positions = self.views.positions(line.name).await?;
        let mut marks = vec![Mark::default(); self.door.journal().partitions() as usize];
        for position in &positions {
            if let Some(mark) = marks.get_mut(position.partition as usize) {
                *mark = Mark { next: position.offset + 1, seq: position.seq + 1, hash: position.hash };
            }
        }
        line.tell(&marks);
        let mut follower = Follower::new(self.door.journal().clone(), marks, Until::default());
        let mut led = Instant::now();
        loop {
            if self.views.shared() && led.elapsed() >= LEAD_EVERY {
                if !self.views.lead(line.name).await? {
                    return Ok(());
                }
                led = Instant::now();
            }
            // in this order: what moves behind the look at the heads wakes us below, and what moved
            // before it, also while the last entries were applied, is read now
            moved.mark_unchanged();
            follower.rewind_to(self.door.heads().into_iter().map(|head| head.seq));
            let (returned, entries) = read(follower).await?;
            follower = returned;
            if entries.is_empty() {
                line.caught_up();
                *pause = PAUSE_MIN;
                tokio::select! {
                    () = tokio::time::sleep(LEAD_EVERY), if self.views.shared() => continue,
                    changed = moved.changed() => if changed.is_err() { return Ok(()) },
                    () = line.again.notified() => return Ok(()),
                    _ = stopping.wait_for(|stop| *stop) => return Ok(()),
                }
            } else {
                let full = entries.len() == BATCH_MAX;
                line.behind();
                self.views.apply(line.name, &entries).await?;
                line.tell(follower.marks());
                line.goes_on(); // it may be long until it has caught up with whoever proposes all the time
                if full {
                    continue;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = line.hurry.notified() => {}
                () = line.again.notified() => return Ok(()),
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
    }

    fn tell(&self, marks: &[Mark]) {
        self.seqs.send_replace(marks.iter().map(|mark| mark.seq.checked_sub(1)).collect());
    }

    fn behind(&self) {
        self.state().behind_since.get_or_insert_with(Instant::now);
    }

    fn goes_on(&self) {
        let mut state = self.state();
        (state.trouble, state.waits) = (None, false);
    }

    fn caught_up(&self) {
        *self.state() = State::default();
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    View(#[from] Error),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("the thread that read the journal panicked: this is a bug, see the log")]
    Lost,
}

async fn sleep(wait: Duration) {
    if wait == Duration::MAX { std::future::pending().await } else { tokio::time::sleep(wait).await }
}

/// Reads the next events on a thread that may block.
async fn read(mut follower: Follower) -> Result<(Follower, Vec<Entry>), Trouble> {
    let read = tokio::task::spawn_blocking(move || {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Some(event) = follower.next_event()? else { break };
            bytes += event.record.frame().len();
            entries.push(Entry { partition: event.partition, offset: event.offset, record: event.record });
        }
        Ok::<_, FollowError>((follower, entries))
    });
    Ok(read.await.map_err(|_| Trouble::Lost)??)
}

fn count(seq: Option<u64>) -> u64 {
    seq.map_or(0, |seq| seq + 1)
}

/// The journal as a rebuild reads it, under rule R.
pub struct JournalSource {
    journal: Arc<dyn Journal>,
    /// The reader of the partition that was read last, and the offset behind what it gave.
    reading: Option<(u32, u64, Follower)>,
}

impl JournalSource {
    /// Reads this journal.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal, reading: None }
    }
}

impl Source for JournalSource {
    fn partitions(&self) -> u32 {
        self.journal.partitions()
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        let mut follower = match self.reading.take() {
            Some((p, next, mut follower)) if (p, next) == (partition, from) => {
                follower.rewind_at_end();
                follower
            }
            _ => Follower::behind(self.journal.clone(), partition, from).map_err(|e| e.to_string())?,
        };
        let mut entries = Vec::new();
        while entries.len() < max
            && let Some(event) = follower.next_event().map_err(|e| e.to_string())?
        {
            entries.push(Entry { partition, offset: event.offset, record: event.record });
        }
        let next = entries.last().map_or(from, |entry| entry.offset + 1);
        self.reading = Some((partition, next, follower));
        Ok(entries)
    }
}

/// The positions of a view as `partition:seq` pairs.
#[must_use]
pub fn pairs(positions: &[Position]) -> Vec<(u32, u64)> {
    positions.iter().map(|p| (p.partition, p.seq)).collect()
}
