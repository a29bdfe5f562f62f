//! Acting on the world: rules that are data choose events, and actors do what the rules say.
//!
//! ```text
//!  journal ──follow──▶ dispatcher ──tasks──▶ [ops store] ──due──▶ loop ──job──▶ actor ──▶ the world
//!                                                 ▲                 │
//!                                                 └──── settled ◀───┴── done, again, failed
//! ```
//!
//! Rules of the contract:
//! 1. A task that was dispatched is started at least once, whatever dies in between; an actor must
//!    bear that it did the same job before.
//! 2. Tasks of one lane (a rule and a model) are done in the journal's order, one at a time; the next
//!    one starts when the one before it is done, skipped or parked.
//! 3. An actor that is dropped while it acts leaves nothing running: the task is done again.
//! 4. What an actor learns goes back through the door as a proposal, never into the journal or a view.

pub mod alertmanager;
pub mod book;
pub mod brake;
pub mod command;
pub mod crew;
pub mod dispatch;
pub mod event;
pub mod git;
pub mod kubernetes;
pub mod life;
pub mod propose;
pub mod rehearsal;
pub mod rule;
pub mod settle;
pub mod webhook;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use annals_projections::ops::Task;

pub use self::event::Event;
use self::rule::{Endpoint, Rule};

/// Hops from an event that nobody's rule caused: the chain may not be longer.
pub const HOPS_MAX: u32 = 8;
/// The attribute with the number of rules that a chain of events has gone through.
pub const HOPS: &str = "annalshops";
/// The source of what actors propose.
pub const SOURCE: &str = "/annals/actor";

/// What is being done.
pub type Acting<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// Somebody who can do one kind of thing.
pub trait Actor: Send + Sync + 'static {
    /// Does the job, or as much of it as can be done now. It may have been done before, wholly or in
    /// part. It is cancelled by dropping it.
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a>;
}

/// One task, with all that an actor needs to know.
#[derive(Clone, Debug)]
pub struct Job {
    /// The task; `progress` is what the actor itself said last.
    pub task: Task,
    /// The rule as it is now.
    pub rule: Arc<Rule>,
    /// For rules that tell a subscription: where that is.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The event that caused it.
    pub event: Arc<Event>,
}

/// What became of a job, for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Succeeded {
        /// What a person may want to know, in short.
        note: Option<String>,
        /// What came of it, as JSON: `{"events":[{"id","source","position"}]}`, if it led to events.
        outcome: Option<String>,
    },
    /// It goes on: nothing failed, and there is more to do.
    Again {
        /// When to call the actor again.
        after: Duration,
        /// What the actor wants to find in [`Task::progress`] then, as JSON.
        progress: String,
        /// How it stands.
        note: Option<String>,
    },
    /// It failed.
    Failed {
        /// Why, for a person who may do something about it.
        note: String,
        /// When to try again.
        retry: Retry,
    },
    /// There was nothing to do.
    Skipped {
        /// Why.
        note: String,
    },
    /// Nobody is there any more (410): the rule, or the subscription it tells, is paused.
    Gone {
        /// What was answered.
        note: String,
    },
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// By the actor's schedule.
    Schedule,
    /// After this time, or by the schedule if that is longer (`Retry-After`).
    After(Duration),
    /// Never: a person must look.
    Never,
}
