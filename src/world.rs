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

pub mod rule;
pub mod task;
pub mod webhook;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::time::Timestamp;
use serde_json::Value;

use self::rule::{Endpoint, Rule};
pub use self::task::Task;

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

/// An event of the journal, read for rules and actors.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `workspace/model`.
    pub key: Key,
    /// What happened.
    pub kind: Kind,
    /// The CloudEvents id.
    pub id: String,
    /// The CloudEvents source; unique together with the id.
    pub source: String,
    /// `workspace/model` or `workspace/model/version`.
    pub subject: String,
    /// The version that it is about, as the engine decided.
    pub version: Option<u64>,
    /// The channel that it is about.
    pub channel: Option<String>,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition's log.
    pub offset: u64,
    /// Its place in the partition.
    pub seq: u64,
    /// Count of the events of its model, this one included.
    pub modelseq: u64,
    /// Who asked for it.
    pub actor: String,
    /// The event that caused it, if it says so.
    pub causation: Option<String>,
    /// What belongs together, if it says so.
    pub correlation: Option<String>,
    /// How many rules caused it, one after the other.
    pub hops: u32,
    /// The producer's `data`.
    pub data: Value,
    /// What the engine decided.
    pub decided: Value,
    /// The whole event as the stream writes it: a CloudEvent in structured mode, one line of JSON.
    pub cloudevent: Vec<u8>,
}

impl Event {
    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> &str {
        self.key.workspace()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        self.key.model()
    }

    /// `partition:seq`.
    #[must_use]
    pub fn position(&self) -> String {
        format!("{}:{}", self.partition, self.seq)
    }

    /// What its consequences carry as `correlationid`.
    #[must_use]
    pub fn correlation(&self) -> &str {
        self.correlation.as_deref().unwrap_or(&self.id)
    }

    /// A member of `{"data":…,"decided":…}` by JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let rest = |half: &str| pointer.strip_prefix(half).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (rest("/data"), rest("/decided")) {
            (Some(rest), _) => self.data.pointer(rest),
            (_, Some(rest)) => self.decided.pointer(rest),
            _ => None,
        }
    }
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
