//! The life of an instance that may act: it leads or waits, dispatches, acts, and stops when it must.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annals_projections::{Error, Ops};
use tokio::sync::{Notify, watch};

use super::book::Book;
use super::dispatch::Dispatcher;
use super::event::{Events, NoEvent};
use super::propose::Proposer;
use super::rule::{Do, Pipeline, Rule};
use super::{Actor, crew};
use crate::arbiter::door::Door;
use crate::git::worker::Worker;
use crate::journal::follow::FollowError;
use crate::metrics::Metrics;

/// How often the leader says that it is still there, and the others ask whether it is.
const LEAD_EVERY: Duration = Duration::from_secs(2);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a shared store may be away before another instance may lead.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Who can do what here; a thing that nobody can do is `None`.
#[derive(Clone, Default)]
pub struct Actors {
    /// Tells subscriptions.
    pub webhook: Option<Arc<dyn Actor>>,
    /// Runs programs.
    pub command: Option<Arc<dyn Actor>>,
    /// Proposes events.
    pub propose: Option<Arc<dyn Actor>>,
    /// Brings versions onto clusters.
    pub kubernetes: Option<Arc<dyn Actor>>,
    /// Puts manifests into repositories.
    pub git: Option<Arc<dyn Actor>>,
    /// Looks commits up.
    pub lookup: Option<Arc<dyn Actor>>,
    /// Says which repositories may be touched, if any may.
    pub repositories: Option<Arc<Worker>>,
    /// The clusters that it knows, by name.
    pub clusters: Vec<String>,
    /// Whether programs may be run: there is a directory of them.
    pub commands: bool,
}

impl Actors {
    /// Who does what a rule says.
    ///
    /// # Errors
    /// Who is missing, and how to get them.
    pub fn of(&self, rule: &Rule) -> Result<Arc<dyn Actor>, String> {
        let (actor, missing) = match &rule.act {
            Do::Webhook(_) | Do::Pipeline(Pipeline::Subscription(_)) => (&self.webhook, "this instance tells no subscriptions".to_owned()),
            Do::Command(command) | Do::Pipeline(Pipeline::Run(command)) => {
                let missing =
                    format!("this instance runs no programs: start it with --commands DIR, with `{}` in the directory", command.run);
                (if self.commands { &self.command } else { &None }, missing)
            }
            Do::Propose(_) => (&self.propose, "this instance proposes nothing".to_owned()),
            Do::Kubernetes(kubernetes) => {
                let name = &kubernetes.cluster;
                let missing = format!("this instance knows no cluster `{name}`: start it with --kubernetes {name}=FILE");
                (if self.clusters.contains(name) { &self.kubernetes } else { &None }, missing)
            }
            Do::Git(git) => (&self.git, self.may_touch(Some(&git.repository))?),
            Do::Lookup(lookup) => (&self.lookup, self.may_touch(lookup.repository.as_deref())?),
        };
        actor.clone().ok_or(missing)
    }

    /// What is missing if nobody acts here all the same.
    fn may_touch(&self, repository: Option<&str>) -> Result<String, String> {
        let none = "this instance may touch no repositories: start it with --git-allow URL-OR-PATH";
        let worker = self.repositories.as_ref().ok_or(none)?;
        repository.map_or(Ok(()), |repository| worker.place(repository).map(|_| ()).map_err(|e| e.to_string()))?;
        Ok(none.into())
    }
}

/// How it stands with acting here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// This instance is the one that acts.
    pub leads: bool,
    /// By partition the last event that was dispatched; known to the leader.
    pub seqs: Vec<Option<u64>>,
    /// Why it does not go on, if it does not.
    pub trouble: Option<String>,
}

/// What acting needs, and what others may ask of it.
pub struct World {
    /// The operational store.
    pub ops: Ops,
    /// Who can do what; of an instance without the role nobody.
    pub actors: Actors,
    /// The events.
    pub events: Events,
    /// How actors propose.
    pub proposer: Proposer,
    pub(super) door: Arc<Door>,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) wake: Notify,
    book: Mutex<Arc<Book>>,
    standing: Mutex<Standing>,
}

/// Why nothing is done for now.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The operational store.
    #[error(transparent)]
    Ops(#[from] Error),
    /// The journal.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// An event.
    #[error(transparent)]
    Event(#[from] NoEvent),
    /// A thread.
    #[error("the thread that read the journal panicked: this is a bug, see the log")]
    Lost,
}

impl World {
    /// Joins what acting needs. Nothing happens before [`World::run`].
    #[must_use]
    pub fn new(ops: Ops, door: Arc<Door>, actors: Actors, metrics: Option<Arc<Metrics>>) -> Arc<Self> {
        let (events, proposer) = (Events::new(door.journal().clone()), Proposer::new(door.clone()));
        let (book, standing) = (Mutex::default(), Mutex::default());
        Arc::new(Self { ops, actors, events, proposer, door, metrics, wake: Notify::new(), book, standing })
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.stand().clone()
    }

    /// How many events the journal has that were not dispatched; `None` where another one dispatches.
    #[must_use]
    pub fn lag_events(&self) -> Option<u64> {
        let standing = self.standing();
        let count = |seq: Option<u64>| seq.map_or(0, |seq| seq + 1);
        let behind = |(head, seq): (&Option<u64>, &Option<u64>)| count(*head).saturating_sub(count(*seq));
        let heads: Vec<_> = self.door.heads().iter().map(|head| head.seq).collect();
        standing.leads.then(|| heads.iter().zip(&standing.seqs).map(behind).sum())
    }

    /// The rules, as the leader has them.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at once for what is due: somebody made it so.
    pub fn hurry(&self) {
        self.wake.notify_one();
    }

    /// Leads or waits, until `stopping` becomes true. What is under way then is left as it is, and
    /// begun again by whoever leads next.
    pub async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        while !*stopping.borrow() {
            let led = tokio::select! {
                led = self.lead() => led,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            let wait = match led {
                Ok(wait) => {
                    pause = PAUSE_MIN;
                    wait
                }
                Err(trouble) => {
                    self.worry(&trouble.to_string());
                    pause = PAUSE_MAX.min(pause * 2);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        *self.stand() = Standing::default();
    }

    /// Leads for as long as it may; how long to wait before it tries again.
    async fn lead(self: &Arc<Self>) -> Result<Duration, Trouble> {
        if !self.ops.lead().await? {
            *self.stand() = Standing::default();
            return Ok(LEAD_EVERY);
        }
        let dispatcher = Dispatcher::begin(Arc::clone(self)).await?;
        tracing::info!("this instance acts: it dispatches events to rules");
        let ended = tokio::select! {
            ended = self.dispatch(dispatcher) => ended,
            ended = crew::run(self) => ended,
            ended = self.stay() => ended,
        };
        self.stand().leads = false;
        match ended {
            // another one leads: nothing is wrong
            Err(Trouble::Ops(Error::Fenced)) | Ok(()) => {
                tracing::info!("another instance acts now");
                *self.stand() = Standing::default();
                Ok(LEAD_EVERY)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Dispatches, and begins again where it was when something was wrong: the jobs beside it go on.
    async fn dispatch(self: &Arc<Self>, mut dispatcher: Dispatcher) -> Result<(), Trouble> {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let mut ended = dispatcher.run().await;
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            dispatcher = loop {
                match ended {
                    Ok(()) | Err(Trouble::Ops(Error::Fenced)) => return ended,
                    Err(trouble) => self.worry(&trouble.to_string()),
                }
                tokio::time::sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
                match Dispatcher::begin(Arc::clone(self)).await {
                    Ok(begun) => break begun,
                    Err(trouble) => ended = Err(trouble),
                }
            };
        }
    }

    /// Says again and again that it leads; ends when it does not, or did not in between. A store that is ours alone is waited
    /// for; of one that others use too, another instance may lead by then.
    async fn stay(&self) -> Result<(), Trouble> {
        let (epoch, mut heard) = (self.ops.epoch(), Instant::now());
        loop {
            tokio::time::sleep(LEAD_EVERY).await;
            match self.ops.lead().await {
                Ok(true) if self.ops.epoch() == epoch => heard = Instant::now(),
                Ok(_) => return Ok(()),
                Err(Error::OpsUnavailable(_)) if !self.ops.shared() || heard.elapsed() < SILENCE_MAX => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// What the store answered; none if it is away for now, which is told until it answers. `away` is what was told.
    pub(super) fn asked<T>(&self, answer: Result<T, Error>, away: &mut Option<String>) -> Result<Option<T>, Trouble> {
        match answer {
            Ok(answer) => {
                if let Some(told) = away.take() {
                    let mut standing = self.stand();
                    standing.trouble = standing.trouble.take().filter(|trouble| *trouble != told);
                }
                Ok(Some(answer))
            }
            Err(e @ Error::OpsUnavailable(_)) => {
                let text = e.to_string();
                self.worry(&text);
                *away = Some(text);
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn told(&self, seqs: Vec<Option<u64>>) {
        let mut standing = self.stand();
        if standing.trouble.take().is_some() {
            tracing::info!("events are dispatched again");
        }
        standing.leads = true;
        standing.seqs = seqs;
    }

    pub(super) fn turn_to(&self, book: Arc<Book>) {
        *self.book.lock().unwrap_or_else(PoisonError::into_inner) = book;
    }

    fn worry(&self, text: &str) {
        let mut standing = self.stand();
        if standing.trouble.as_deref() != Some(text) {
            tracing::warn!("nothing is dispatched for now, it is tried again: {text}");
            standing.trouble = Some(text.to_owned());
        }
    }

    fn stand(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
    }
}
