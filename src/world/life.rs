//! The life of the acting part: become the leader, dispatch, start jobs, write down what became of them.
//!
//! One instance acts at a time. Whoever loses the lead, or its store, drops everything that it had
//! begun: tasks are started again by whoever leads next, and what the old one still wants to write is
//! refused by the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annals_events::time::Timestamp;
use annals_projections::ops::{Ops, Settled, Task};
use annals_projections::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::crew::Crew;
use super::dispatch::{Dispatcher, Rules, Trouble};
use super::event::{Events, NoEvent};
use super::propose::Proposer;
use super::rule::State;
use super::{Done, Job, Retry, brake, settle};
use crate::arbiter::door::Door;

/// Most jobs at once.
const JOBS_MAX: usize = 256;
/// How often the leader says that it is still there, and the others look whether it is.
const LEAD_EVERY: Duration = Duration::from_secs(3);
/// Longest time between two looks for what is due: somebody else may have replayed it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Pause of what waits for a subscription to be resumed.
const POSTPONED: Duration = Duration::from_secs(10);
/// Pause after the journal did not give an event.
const UNREAD: Duration = Duration::from_secs(2);

/// How the acting part is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether this instance acts.
    pub leads: bool,
    /// Events that the dispatcher has still to read, while it leads.
    pub lag_events: u64,
    /// Jobs under way.
    pub jobs: usize,
    /// What keeps it from acting.
    pub trouble: Option<String>,
}

/// See the module.
pub struct Life {
    ops: Ops,
    door: Arc<Door>,
    crew: Crew,
    events: Arc<Events>,
    status: watch::Sender<Status>,
    /// Something may be due.
    news: Notify,
}

/// A job under way.
type Busy = HashMap<u64, (String, String)>;

impl Life {
    /// Acts by these actors, with what is in this store.
    #[must_use]
    pub fn new(ops: Ops, door: Arc<Door>, crew: Crew, status: watch::Sender<Status>) -> Self {
        let events = Arc::new(Events::new(door.journal().clone()));
        Self { ops, door, crew, events, status, news: Notify::new() }
    }

    /// Acts until `stopping` becomes true. Jobs under way are dropped then, and started again by
    /// whoever leads next.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        while !*stopping.borrow() {
            let ended = tokio::select! {
                ended = self.lead() => ended,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let wait = match ended {
                Ok(()) => {
                    pause = PAUSE_MIN;
                    LEAD_EVERY
                }
                Err(trouble) => {
                    let text = trouble.to_string();
                    if self.status.borrow().trouble.as_ref() != Some(&text) {
                        tracing::warn!("nothing is acted on for now: {text}");
                    }
                    self.status.send_replace(Status { trouble: Some(text), ..Status::default() });
                    let wait = pause;
                    pause = PAUSE_MAX.min(pause * 2);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Acts as long as this instance leads; comes back at once if another one does.
    async fn lead(&self) -> Result<(), Trouble> {
        if !self.ops.lead().await? {
            self.status.send_replace(Status::default());
            return Ok(());
        }
        let mut dispatcher = Dispatcher::begin(self.ops.clone(), self.door.clone(), self.events.clone()).await?;
        let rules = dispatcher.rules();
        self.status.send_replace(Status { leads: true, ..Status::default() });
        let told = |news, lag_events| {
            self.status.send_if_modified(|status| std::mem::replace(&mut status.lag_events, lag_events) != lag_events);
            if news {
                self.news.notify_one();
            }
        };
        tokio::select! {
            ended = dispatcher.run(told) => ended,
            ended = self.work(&rules) => ended,
            ended = self.stay() => ended,
        }
    }

    /// Comes back when another instance leads.
    async fn stay(&self) -> Result<(), Trouble> {
        loop {
            tokio::time::sleep(LEAD_EVERY).await;
            if !self.ops.lead().await? {
                tracing::info!("another instance acts from now on");
                self.status.send_replace(Status::default());
                return Ok(());
            }
        }
    }

    /// Starts what is due and writes down what became of it.
    async fn work(&self, rules: &Rules) -> Result<(), Trouble> {
        let mut busy = Busy::new();
        let mut jobs = JoinSet::new();
        loop {
            let free = JOBS_MAX - busy.len();
            if free > 0 {
                let taken: Vec<_> = busy.values().cloned().collect();
                for task in self.ops.due(now(), free, &taken).await? {
                    let (id, lane) = (task.id, (task.rule.clone(), task.lane.clone()));
                    match self.job(task, rules).await? {
                        Ok(job) => {
                            busy.insert(id, lane);
                            let crew = self.crew.clone();
                            jobs.spawn(async move {
                                let done = crew.actor(&job.rule.act).act(&job).await;
                                (job, done)
                            });
                        }
                        Err(settled) => self.settle(id, settled).await?,
                    }
                }
            }
            self.status.send_if_modified(|status| std::mem::replace(&mut status.jobs, busy.len()) != busy.len());
            tokio::select! {
                Some(ended) = jobs.join_next() => {
                    let Ok((job, done)) = ended else {
                        // which one it was is not known any more: all are begun again
                        return Err(Trouble::Lost);
                    };
                    busy.remove(&job.task.id);
                    self.ended(&job, done).await?;
                }
                () = self.news.notified() => {}
                () = tokio::time::sleep(self.idle().await?) => {}
            }
        }
    }

    /// How long nothing becomes due by itself.
    async fn idle(&self) -> Result<Duration, Trouble> {
        let (now, next) = (now(), self.ops.next_due(now()).await?);
        let wait = next.map(|next| Duration::from_millis(u64::try_from(next.0 - now.0).unwrap_or(0)));
        Ok(wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY))
    }

    /// A task with all that its actor needs, or what becomes of it without one.
    async fn job(&self, task: Task, rules: &Rules) -> Result<Result<Job, Settled>, Trouble> {
        let event = match self.events.get(task.event.partition, task.event.offset, &task.event_id).await {
            Ok(event) => event,
            Err(e @ (NoEvent::Read(_) | NoEvent::Lost)) => return Ok(Err(settle::postponed(&task, e.to_string(), UNREAD, now()))),
            Err(e) => return Ok(Err(settle::parked(&task, e.to_string(), now()))),
        };
        let book = rules.read().unwrap_or_else(PoisonError::into_inner);
        let rule = match book.get(&task.rule).map(|page| page.rule.clone()) {
            Some(Ok(rule)) => rule,
            Some(Err(why)) => return Ok(Err(settle::parked(&task, format!("the rule cannot be followed: {why}"), now()))),
            None => return Ok(Err(settle::parked(&task, "the rule is not known".into(), now()))),
        };
        if let Some(note) = brake::too_far(&rule, &event) {
            return Ok(Err(settle::parked(&task, note, now())));
        }
        let endpoint = match rule.tells() {
            None => None,
            Some(name) => match book.endpoint(&rule.workspace, name) {
                None => {
                    let note = format!("there is no subscription `{name}`: `annals webhook add {name} …`, then replay this");
                    return Ok(Err(settle::parked(&task, note, now())));
                }
                Some(endpoint) if endpoint.state != State::Active => {
                    let note = format!("the subscription `{name}` is {}", endpoint.state.as_str());
                    return Ok(Err(settle::postponed(&task, note, POSTPONED, now())));
                }
                Some(endpoint) => Some(endpoint),
            },
        };
        Ok(Ok(Job { task, rule, endpoint, event }))
    }

    async fn ended(&self, job: &Job, done: Done) -> Result<(), Trouble> {
        if let Done::Gone { note } = &done
            && let Err(not) = Proposer::new(self.door.clone()).pause(job, note).await
        {
            let done = Done::Failed { note: format!("{note}; and it could not be paused: {not}"), retry: Retry::Schedule };
            return self.settle(job.task.id, settle::settled(&job.task, &job.rule, done, now(), dice())).await;
        }
        self.settle(job.task.id, settle::settled(&job.task, &job.rule, done, now(), dice())).await
    }

    async fn settle(&self, id: u64, settled: Settled) -> Result<(), Trouble> {
        match self.ops.settle(id, settled).await {
            // somebody replayed it meanwhile, or its rule was removed: that goes before
            Ok(_) | Err(Error::TaskChanged(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// A number from 0 to 1 that nobody foresees: many who fail together are not to come back together.
fn dice() -> f64 {
    let (_, low) = uuid::Uuid::now_v7().as_u64_pair();
    f64::from(u32::try_from(low & 0xffff_ffff).unwrap_or(0)) / f64::from(u32::MAX)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

