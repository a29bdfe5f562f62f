//! The dispatcher: follows the journal, takes down what it says of rules, and makes a task of each event that a rule is about.
//!
//! Tasks, rules and positions are stored in one transaction, so each rule gets each event once. What
//! nobody's rule is about is not worth a transaction: its position is stored with what comes next, or
//! after a while.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use annals_events::kind::Kind;
use annals_projections::ops::{NewTask, Ops, Place, RuleRow, TaskFilter, TaskState};
use annals_projections::{Error, Page, Position};

use super::book::Book;
use super::brake::{self, Brakes};
use super::event::{Event, Events, NoEvent};
use super::rule::{Do, Rule, render};
use crate::arbiter::door::Door;
use crate::journal::follow::{Accepted, FollowError, Follower, Mark, Until};

/// Most events of one transaction.
const BATCH_MAX: usize = 500;
/// How long events gather where no rule was about the last ones.
const GATHER: Duration = Duration::from_millis(20);
/// Positions are stored at least so often while events come.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// A store is taken for as much older than it says: the journal's clock is another one.
const BORN_MARGIN_MS: i64 = 60_000;
/// Tasks that are looked at for what a rule did last, or has open.
const LOOK_BACK: u32 = 200;

/// Why there is no dispatching.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The operational store.
    #[error(transparent)]
    Store(#[from] Error),
    /// The journal.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// An event of a task.
    #[error(transparent)]
    Event(#[from] NoEvent),
    /// An event is not one of ours.
    #[error("an event cannot be read: {0}; run `annals audit verify`")]
    Corrupt(#[from] annals_events::record::Corrupt),
    /// A bug.
    #[error("the thread that read the journal panicked: this is a bug, see the log")]
    Lost,
}

/// The rules as they are known now, for all who act.
pub type Rules = Arc<RwLock<Book>>;

/// See the module.
pub struct Dispatcher {
    ops: Ops,
    door: Arc<Door>,
    events: Arc<Events>,
    rules: Rules,
    brakes: Brakes,
    follower: Option<Follower>,
    /// What was read and is not stored yet.
    unnoted: BTreeMap<u32, Position>,
    noted: Instant,
}

/// What comes of some events.
#[derive(Default)]
struct Found {
    rules: Vec<RuleRow>,
    tasks: Vec<NewTask>,
    /// Rules and texts of this batch's tasks.
    texts: HashSet<(String, String)>,
}

impl Dispatcher {
    /// Goes on where the store says, with the rules that it knows.
    ///
    /// # Errors
    /// [`Trouble`] if the store does not answer.
    pub async fn begin(ops: Ops, door: Arc<Door>, events: Arc<Events>) -> Result<Self, Trouble> {
        let known = ops.dispatched().await?;
        let mut marks = vec![Mark::default(); door.journal().partitions() as usize];
        for position in &known.positions {
            if let Some(mark) = marks.get_mut(position.partition as usize) {
                *mark = Mark { next: position.offset + 1, seq: position.seq + 1, hash: position.hash };
            }
        }
        let follower = Some(Follower::new(door.journal().clone(), marks, Until::default()));
        let rules = Arc::new(RwLock::new(Book::of(known.rules)));
        Ok(Self { ops, door, events, rules, brakes: Brakes::default(), follower, unnoted: BTreeMap::new(), noted: Instant::now() })
    }

    /// The rules, for who acts by them.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Arc::clone(&self.rules)
    }

    /// Dispatches until something is wrong; `told` is called when there are new tasks or other rules,
    /// and gets how many events are still to be read.
    ///
    /// # Errors
    /// [`Trouble`]; what was not stored is read again.
    pub async fn run(&mut self, told: impl Fn(bool, u64)) -> Result<(), Trouble> {
        let mut moved = self.door.moved();
        loop {
            moved.mark_unchanged();
            let read = self.read().await?;
            if read.is_empty() {
                self.note().await?;
                told(false, 0);
                tokio::select! {
                    changed = moved.changed() => if changed.is_err() { return Ok(()) },
                    () = tokio::time::sleep(NOTE_EVERY) => {}
                }
                continue;
            }
            let full = read.len() == BATCH_MAX;
            let news = self.take(&read).await?;
            told(news, self.lag());
            if !news && !full {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// How many events the journal has that were not read yet.
    fn lag(&self) -> u64 {
        let Some(follower) = &self.follower else { return 0 };
        let count = |seq: Option<u64>| seq.map_or(0, |seq| seq + 1);
        self.door.heads().iter().map(|head| count(head.seq).saturating_sub(follower.mark(head.partition).seq)).sum()
    }

    /// Reads the next events on a thread that may block.
    async fn read(&mut self) -> Result<Vec<Accepted>, Trouble> {
        let mut follower = self.follower.take().ok_or(Trouble::Lost)?;
        follower.rewind_to(self.door.heads().into_iter().map(|head| head.seq));
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            while read.len() < BATCH_MAX
                && let Some(event) = follower.next_event()?
            {
                read.push(event);
            }
            Ok::<_, FollowError>((follower, read))
        });
        let (follower, read) = reading.await.map_err(|_| Trouble::Lost)??;
        self.follower = Some(follower);
        Ok(read)
    }

    /// Makes rules and tasks of some events and stores them, if there are any; `true` if there were.
    async fn take(&mut self, read: &[Accepted]) -> Result<bool, Trouble> {
        let mut found = Found::default();
        for accepted in read {
            let Accepted { partition, offset, seq, recorded, ref record } = *accepted;
            let hash = record.hash();
            self.unnoted.insert(partition, Position { partition, seq, hash, offset, recorded });
            if self.concerns(record.view()?.kind) {
                let event = Arc::new(Event::read(partition, offset, record)?);
                self.consider(&event, &mut found).await?;
            }
        }
        let news = !found.tasks.is_empty() || !found.rules.is_empty();
        if news {
            self.store(&found.rules, &found.tasks).await?;
        } else if self.noted.elapsed() >= NOTE_EVERY {
            self.note().await?;
        }
        Ok(news)
    }

    fn concerns(&self, kind: Kind) -> bool {
        matches!(kind, Kind::TriggerChanged | Kind::SubscriptionChanged) || self.book(|book| book.listening(kind).next().is_some())
    }

    /// What an event means to the rules.
    async fn consider(&mut self, event: &Arc<Event>, found: &mut Found) -> Result<(), Trouble> {
        let learnt = self.rules.write().unwrap_or_else(PoisonError::into_inner).learn(event);
        if let Some(row) = learnt {
            // the last word on a rule, should there be several at once
            found.rules.retain(|known| known.rule() != row.rule());
            found.rules.push(row);
        }
        let rules: Vec<Arc<Rule>> = self.book(|book| book.listening(event.kind).filter(|rule| rule.fits(event)).cloned().collect());
        for rule in rules {
            let skipped = self.why_not(&rule, event, found).await?;
            if skipped.is_none() {
                self.brakes.fired(&rule.id(), &event.key, event.recorded);
                self.events.keep(Arc::clone(event));
            }
            found.tasks.push(task(&rule, event, skipped));
        }
        Ok(())
    }

    /// Why a rule does not act on an event that it is about.
    async fn why_not(&mut self, rule: &Rule, event: &Event, found: &mut Found) -> Result<Option<String>, Trouble> {
        let born = self.ops.born();
        if brake::only_once(rule) && event.recorded.0 < born.0 - BORN_MARGIN_MS {
            let note = "recorded before this operational store was made: an earlier one may have seen to it; replay it if not";
            return Ok(Some(note.into()));
        }
        if rule.cooldown.is_some() {
            self.remember(rule, event).await?;
            if let Some(note) = self.brakes.cooling(rule, event) {
                return Ok(Some(note));
            }
        }
        let Some(text) = brake::dedup_text(rule, event) else { return Ok(None) };
        if self.is_open(rule, &text).await? || !found.texts.insert((rule.id(), text.clone())) {
            return Ok(Some(format!("`{text}` is under way already (dedup)")));
        }
        Ok(None)
    }

    /// Looks up when a rule acted last on a model, where that is not known here: after a restart.
    async fn remember(&mut self, rule: &Rule, event: &Event) -> Result<(), Trouble> {
        if self.brakes.last(&rule.id(), &event.key).is_some() {
            return Ok(());
        }
        let filter = TaskFilter { rule: Some(rule.id()), state: None, key: Some(event.key.clone()) };
        let tasks = self.ops.tasks(&filter, &Page { after: None, limit: LOOK_BACK }).await?.items;
        if let Some(last) = tasks.iter().find(|task| task.state != TaskState::Skipped) {
            self.brakes.fired(&rule.id(), &event.key, last.recorded);
        }
        Ok(())
    }

    /// Whether a task with this text is open.
    async fn is_open(&self, rule: &Rule, text: &str) -> Result<bool, Trouble> {
        for state in [TaskState::Pending, TaskState::Running] {
            let filter = TaskFilter { rule: Some(rule.id()), state: Some(state), key: None };
            for task in self.ops.tasks(&filter, &Page { after: None, limit: LOOK_BACK }).await?.items {
                let event = self.events.get(task.event.partition, task.event.offset, &task.event_id).await?;
                if brake::dedup_text(rule, &event).as_deref() == Some(text) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn note(&mut self) -> Result<(), Trouble> {
        if self.unnoted.is_empty() { Ok(()) } else { self.store(&[], &[]).await }
    }

    async fn store(&mut self, rules: &[RuleRow], tasks: &[NewTask]) -> Result<(), Trouble> {
        let positions: Vec<_> = self.unnoted.values().cloned().collect();
        self.ops.dispatch(&positions, rules, tasks).await?;
        self.unnoted.clear();
        self.noted = Instant::now();
        Ok(())
    }

    fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task of a rule for an event; skipped, if there is a reason.
pub(super) fn task(rule: &Rule, event: &Event, skipped: Option<String>) -> NewTask {
    NewTask {
        rule: rule.id(),
        lane: lane(rule, event),
        event: Place { partition: event.partition, offset: event.offset, seq: event.seq },
        event_id: event.id.clone(),
        event_source: event.source.clone(),
        kind: event.kind.dotted().to_owned(),
        key: event.key.clone(),
        recorded: event.recorded,
        state: if skipped.is_some() { TaskState::Skipped } else { TaskState::Pending },
        note: skipped,
    }
}

/// What is done in order: what is about one model, or goes to one target.
fn lane(rule: &Rule, event: &Event) -> String {
    let Do::Kubernetes(kubernetes) = &rule.act else { return event.key.clone() };
    let name = kubernetes.name.as_deref().unwrap_or(super::rule::KUBERNETES_NAME);
    let (cluster, namespace) = (&kubernetes.cluster, kubernetes.namespace.as_deref().unwrap_or_default());
    render::text(name, event).map_or_else(|_| event.key.clone(), |name| format!("{cluster}/{namespace}/{name}"))
}
