//! The dispatcher: follows the journal, keeps the book of rules, and makes a task of every event that a rule
//! is about. Tasks, rules and its positions are stored together, so that no event is missed or counted twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals_events::kind::Kind;
use annals_projections::ops::{NewTask, Place, RuleRow, Task, TaskFilter, TaskState};
use annals_projections::{Entry, Error, Page, Position};

use super::Event;
use super::book::Book;
use super::brake::{self, Brakes};
use super::crew::OUTCOMES;
use super::kubernetes;
use super::life::{Trouble, World};
use super::rule::{Do, Rule, State};
use crate::journal::follow::{Follower, Mark, Until};

/// Most events of one round.
const BATCH_MAX: usize = 500;
/// Most bytes of one round's events, about.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long events gather where no rule was about the last ones: to read each by itself would take the processor
/// from whoever proposes.
const GATHER: Duration = Duration::from_millis(20);
/// How long positions may be ahead of what is stored, when nothing was made of the events.
const STORE_EVERY: Duration = Duration::from_secs(1);
/// Open tasks of a rule that are looked through for the same dedup text.
const OPEN_MAX: usize = 1_000;

/// See the module.
pub struct Dispatcher {
    world: Arc<World>,
    follower: Option<Follower>,
    book: Book,
    brakes: Brakes,
    /// Rules and keys whose last action was looked up.
    looked_up: HashSet<(String, String)>,
    made: Made,
    stored: Instant,
}

/// What is to be stored.
#[derive(Default)]
struct Made {
    positions: BTreeMap<u32, Position>,
    rules: Vec<RuleRow>,
    tasks: Vec<NewTask>,
    /// Rule and dedup text of the tasks.
    texts: HashSet<(String, String)>,
}

impl Dispatcher {
    /// Goes on where the store says.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn begin(world: Arc<World>) -> Result<Self, Trouble> {
        let dispatched = world.ops.dispatched().await?;
        let journal = world.door.journal().clone();
        let mut marks = vec![Mark::default(); journal.partitions() as usize];
        for position in &dispatched.positions {
            if let Some(mark) = marks.get_mut(position.partition as usize) {
                *mark = Mark { next: position.offset + 1, seq: position.seq + 1, hash: position.hash };
            }
        }
        let follower = Some(Follower::new(journal, marks, Until::default()));
        let book = Book::of(dispatched.rules);
        world.turn_to(Arc::new(book.clone()));
        let (brakes, looked_up, made) = (Brakes::default(), HashSet::new(), Made::default());
        let this = Self { world, follower, book, brakes, looked_up, made, stored: Instant::now() };
        this.tell();
        Ok(this)
    }

    /// Dispatches what comes, for ever.
    ///
    /// # Errors
    /// [`Trouble`]; what was not stored is dispatched again.
    pub async fn run(&mut self) -> Result<(), Trouble> {
        let mut moved = self.world.door.moved();
        loop {
            // in this order: what moves behind the look at the heads wakes us below
            moved.mark_unchanged();
            let entries = self.read().await?;
            for entry in &entries {
                self.take(entry).await?;
            }
            let idle = self.made.tasks.is_empty();
            if !idle || self.stored.elapsed() >= STORE_EVERY {
                self.store().await?;
            }
            self.tell();
            if entries.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(STORE_EVERY), if !self.made.positions.is_empty() => {}
                    changed = moved.changed() => if changed.is_err() { return Ok(()) },
                }
            } else if idle && entries.len() < BATCH_MAX {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Entry>, Trouble> {
        let heads: Vec<_> = self.world.door.heads().into_iter().map(|head| head.seq).collect();
        let Some(mut follower) = self.follower.take() else { return Err(Trouble::Lost) };
        let read = tokio::task::spawn_blocking(move || {
            follower.rewind_to(heads);
            let (mut entries, mut bytes) = (Vec::new(), 0);
            while entries.len() < BATCH_MAX && bytes < BATCH_BYTES {
                let Some(event) = follower.next_event()? else { break };
                bytes += event.record.frame().len();
                entries.push(Entry { partition: event.partition, offset: event.offset, record: event.record });
            }
            Ok::<_, Trouble>((follower, entries))
        });
        let (follower, entries) = read.await.map_err(|_| Trouble::Lost)??;
        self.follower = Some(follower);
        Ok(entries)
    }

    /// One event: what is known of the rules by now, and what they make of it.
    async fn take(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let view = entry.record.view().map_err(super::event::NoEvent::Corrupt)?;
        let position = Position {
            partition: entry.partition,
            seq: view.seq,
            hash: entry.record.hash(),
            offset: entry.offset,
            recorded: view.recorded,
        };
        let about_rules = matches!(view.kind, Kind::TriggerChanged | Kind::SubscriptionChanged);
        if about_rules || self.book.listening(view.kind).next().is_some() {
            let event = Arc::new(Event::read(entry.partition, entry.offset, &entry.record).map_err(super::event::NoEvent::Corrupt)?);
            if about_rules {
                // what was made of the events before must be there when a rule is removed
                self.store().await?;
                self.learn(&event);
                self.world.turn_to(Arc::new(self.book.clone()));
            }
            let fitting: Vec<_> = self.book.listening(view.kind).filter(|rule| rule.fits(&event)).cloned().collect();
            for rule in &fitting {
                let task = self.task(rule, &event).await?;
                self.made.tasks.push(task);
            }
            if !fitting.is_empty() {
                self.world.events.keep(event);
            }
        }
        self.made.positions.insert(entry.partition, position);
        if about_rules { self.store().await } else { Ok(()) }
    }

    fn learn(&mut self, event: &Event) {
        let Some(row) = self.book.learn(event) else { return };
        if let Some(metrics) = self.world.metrics.as_ref().filter(|_| row.state == State::Removed.as_str()) {
            metrics.acting.forget(&row.rule(), &OUTCOMES);
        }
        self.made.rules.push(row);
    }

    async fn task(&mut self, rule: &Rule, event: &Event) -> Result<NewTask, Trouble> {
        let note = self.held_back(rule, event).await?;
        let id = rule.id();
        let state = if note.is_some() { TaskState::Skipped } else { TaskState::Pending };
        if note.is_none() {
            self.brakes.fired(&id, &event.key, event.recorded);
            self.made.texts.extend(brake::dedup_text(rule, event).map(|text| (id.clone(), text)));
        }
        Ok(NewTask {
            rule: id,
            lane: match (&rule.act, &event.channel) {
                (Do::Kubernetes(to), Some(channel)) => kubernetes::lane(to, &event.model, channel),
                // one that is looked for again and again keeps no other waiting
                (Do::Lookup(_), _) => format!("{} {}", event.key, event.id),
                _ => event.key.clone(),
            },
            event: Place { partition: event.partition, offset: event.offset, seq: event.seq },
            event_id: event.id.clone(),
            event_source: event.source.clone(),
            kind: event.kind.short().to_owned(),
            key: event.key.clone(),
            recorded: event.recorded,
            state,
            note,
        })
    }

    /// Why a rule does not act on an event that fits.
    async fn held_back(&mut self, rule: &Rule, event: &Event) -> Result<Option<String>, Trouble> {
        let born = self.world.ops.born();
        if brake::only_once(rule) && event.recorded < born {
            return Ok(Some(format!(
                "recorded before this operational store was made ({born}), so nobody knows whether it was done: replay the task if it was not"
            )));
        }
        if rule.cooldown.is_some() {
            self.look_up(rule, event).await?;
        }
        if let Some(note) = self.brakes.cooling(rule, event) {
            return Ok(Some(note));
        }
        let Some(text) = brake::dedup_text(rule, event) else { return Ok(None) };
        let open = self.made.texts.contains(&(rule.id(), text.clone())) || self.is_open(rule, &text).await?;
        Ok(open.then(|| format!("one is under way already with the dedup text `{text}`")))
    }

    /// What an earlier leader did last with a rule and a key.
    async fn look_up(&mut self, rule: &Rule, event: &Event) -> Result<(), Error> {
        let pair = (rule.id(), event.key.clone());
        if !self.looked_up.insert(pair.clone()) {
            return Ok(());
        }
        for state in [TaskState::Done, TaskState::Running, TaskState::Pending, TaskState::Parked] {
            let filter = TaskFilter { rule: Some(pair.0.clone()), state: Some(state), key: Some(pair.1.clone()) };
            let newest = self.world.ops.tasks(&filter, &Page { after: None, limit: 1 }).await?;
            for task in newest.items {
                self.brakes.fired(&pair.0, &pair.1, task.recorded);
            }
        }
        Ok(())
    }

    /// Whether a stored task of the rule is open whose event has the same text.
    async fn is_open(&self, rule: &Rule, text: &str) -> Result<bool, Trouble> {
        for state in [TaskState::Running, TaskState::Pending] {
            let filter = TaskFilter { rule: Some(rule.id()), state: Some(state), key: None };
            let (mut page, mut seen) = (Page::default(), 0);
            loop {
                let tasks = self.world.ops.tasks(&filter, &page).await?;
                seen += tasks.items.len();
                for task in &tasks.items {
                    if self.text_of(rule, task).await?.as_deref() == Some(text) {
                        return Ok(true);
                    }
                }
                if tasks.next.is_none() || seen >= OPEN_MAX {
                    break;
                }
                page.after = tasks.next;
            }
        }
        Ok(false)
    }

    async fn text_of(&self, rule: &Rule, task: &Task) -> Result<Option<String>, Trouble> {
        let event = self.world.events.get(task.event.partition, task.event.offset, &task.event_id).await?;
        Ok(brake::dedup_text(rule, &event))
    }

    async fn store(&mut self) -> Result<(), Trouble> {
        self.stored = Instant::now();
        if self.made.positions.is_empty() && self.made.tasks.is_empty() && self.made.rules.is_empty() {
            return Ok(());
        }
        let made = std::mem::take(&mut self.made);
        let positions: Vec<_> = made.positions.into_values().collect();
        self.world.ops.dispatch(&positions, &made.rules, &made.tasks).await?;
        if !made.tasks.is_empty() || !made.rules.is_empty() {
            self.world.hurry();
        }
        Ok(())
    }

    fn tell(&self) {
        let Some(follower) = &self.follower else { return };
        self.world.told(follower.marks().iter().map(|mark| mark.seq.checked_sub(1)).collect());
    }
}
