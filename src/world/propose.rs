//! Proposals by actors: with an id that follows from rule and cause, so that a second try is a duplicate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::proposal::Proposal;
use annals_events::record::Hash;
use annals_events::verdict::{Code, Outcome, Refusal};
use serde_json::{Map, Value, json};

use super::rule::{Do, Propose, VersionOf, render};
use super::{Acting, Actor, Done, HOPS, Job, Retry, SOURCE};
use crate::arbiter::door::Door;

/// How long a verdict is waited for.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Proposes what actors want known or done.
#[derive(Clone)]
pub struct Proposer {
    door: Arc<Door>,
}

/// What is to be proposed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is said to have happened.
    pub kind: Kind,
    /// `workspace/model` or `workspace/model/version`.
    pub subject: String,
    /// The data.
    pub data: Map<String, Value>,
    /// Tells several proposals for the same job apart; the same one must have the same tag each time.
    pub tag: String,
}

/// An event that the journal has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its id; its source is [`SOURCE`].
    pub id: String,
    /// `partition:seq`, unless the same id said something else before.
    pub position: Option<String>,
}

impl Proposed {
    /// As [`Done::Succeeded`] has it.
    #[must_use]
    pub fn outcome(&self) -> String {
        outcome(std::slice::from_ref(self))
    }
}

/// Events as [`Done::Succeeded`] has them.
#[must_use]
pub fn outcome(events: &[Proposed]) -> String {
    let event = |event: &Proposed| json!({"id": event.id, "source": SOURCE, "position": event.position});
    json!({"events": events.iter().map(event).collect::<Vec<_>>()}).to_string()
}

/// Why there is no such event.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotProposed {
    /// The engine said no; asked again it says the same, until something changes.
    #[error("{}: {}; {}", .0.code.as_str(), .0.message, .0.remedy)]
    Refused(Box<Refusal>),
    /// Nobody knows yet, or nobody could be asked: the same proposal may be sent again.
    #[error("{0}")]
    Unsettled(String),
}

impl NotProposed {
    /// As an actor says it.
    #[must_use]
    pub fn done(&self) -> Done {
        match self {
            Self::Refused(refusal) if refusal.code == Code::NoChange => Done::Skipped { note: self.to_string() },
            Self::Refused(_) => Done::Failed { note: format!("refused: {self}"), retry: Retry::Never },
            Self::Unsettled(why) => Done::Failed { note: why.clone(), retry: Retry::Schedule },
        }
    }
}

impl Proposer {
    /// Proposes at this door.
    #[must_use]
    pub fn new(door: Arc<Door>) -> Self {
        Self { door }
    }

    /// Proposes what a job leads to, and waits for the verdict.
    ///
    /// # Errors
    /// [`NotProposed`].
    pub async fn propose(&self, job: &Job, wanted: &Wanted) -> Result<Proposed, NotProposed> {
        let event = &job.event;
        let cause = [&job.task.rule, &event.source, &event.id, &wanted.tag].map(String::as_str).join("\n");
        let hash = Hash::of(cause.as_bytes()).to_string();
        let extensions = [
            ("causationid", event.id.clone()),
            ("correlationid", event.correlation().to_owned()),
            (HOPS, event.hops.saturating_add(1).to_string()),
        ];
        let actor = format!("{}:{}", job.rule.family.as_str(), job.rule.name);
        self.submit(hash[..32].to_owned(), actor, &extensions, wanted).await
    }

    /// Proposes that a rule be paused, because nobody listens there any more.
    ///
    /// # Errors
    /// [`NotProposed`].
    pub async fn pause(&self, job: &Job, reason: &str) -> Result<Proposed, NotProposed> {
        let (kind, member, name) = match job.rule.tells() {
            Some(subscription) => (Kind::SubscriptionChanged, "subscription", subscription),
            None => (Kind::TriggerChanged, "trigger", job.rule.name.as_str()),
        };
        let data = json!({member: name, "state": "paused", "reason": reason});
        let data = data.as_object().cloned().unwrap_or_default();
        let subject = format!("{}/_system", job.rule.workspace);
        self.propose(job, &Wanted { kind, subject, data, tag: format!("pause {}", job.task.turn) }).await
    }

    /// Proposes what was found outside, or what a person wants there; the tag alone makes the id.
    ///
    /// # Errors
    /// [`NotProposed`].
    pub async fn outside(&self, actor: &str, wanted: &Wanted) -> Result<Proposed, NotProposed> {
        let hash = Hash::of(["outside", &wanted.subject, &wanted.tag].join("\n").as_bytes()).to_string();
        self.submit(hash[..32].to_owned(), actor.to_owned(), &[], wanted).await
    }

    async fn submit(&self, id: String, actor: String, extensions: &[(&str, String)], wanted: &Wanted) -> Result<Proposed, NotProposed> {
        let mut attributes: BTreeMap<String, String> = extensions.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", &id),
            ("source", SOURCE),
            ("type", wanted.kind.name()),
            ("subject", &wanted.subject),
            ("actor", &actor),
        ] {
            attributes.insert(name.into(), value.into());
        }
        let mut parts = wanted.subject.splitn(3, '/');
        let key = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let refused = |refusal| NotProposed::Refused(Box::new(refusal));
        let data = Value::Object(wanted.data.clone()).to_string();
        let proposal = Proposal::from_parts(attributes, data, Some(key.as_bytes())).map_err(refused)?;
        let answer = self.door.submit(&proposal, SETTLE_MAX).await.map_err(|e| NotProposed::Unsettled(e.to_string()))?;
        let Some(verdict) = answer.verdict else {
            let text = format!("the proposal {id} has no verdict after {} s; it is sent again", SETTLE_MAX.as_secs());
            return Err(NotProposed::Unsettled(text));
        };
        match verdict.outcome {
            Outcome::Accepted(place) | Outcome::Duplicate(place) => {
                Ok(Proposed { id, position: Some(format!("{}:{}", answer.partition, place.seq)) })
            }
            // the id follows from rule and cause: it was accepted, and the rule has changed since
            Outcome::Refused(refusal) | Outcome::Malformed(refusal) if refusal.code == Code::IdConflict => {
                Ok(Proposed { id, position: None })
            }
            Outcome::Refused(refusal) | Outcome::Malformed(refusal) => Err(refused(refusal)),
        }
    }
}

/// Rules that propose.
pub struct Proposing(pub Proposer);

impl Actor for Proposing {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            let Do::Propose(propose) = &job.rule.act else {
                return Done::Failed { note: "the rule proposes nothing any more".into(), retry: Retry::Never };
            };
            let wanted = match wanted(propose, job) {
                Ok(wanted) => wanted,
                Err(note) => return Done::Failed { note, retry: Retry::Never },
            };
            match self.0.propose(job, &wanted).await {
                Ok(proposed) => {
                    let place = proposed.position.as_ref().map(|position| format!(" at {position}")).unwrap_or_default();
                    Done::Succeeded { note: Some(format!("proposed {}{place}", wanted.kind.short())), outcome: Some(proposed.outcome()) }
                }
                Err(not) => not.done(),
            }
        })
    }
}

fn wanted(propose: &Propose, job: &Job) -> Result<Wanted, String> {
    let event = &job.event;
    let version = match &propose.version {
        None => None,
        Some(VersionOf::Event) => Some(render::text("{version}", event)?),
        Some(VersionOf::Text(template)) => Some(render::text(template, event)?),
    };
    let subject = version.map_or_else(|| event.key.clone(), |version| format!("{}/{version}", event.key));
    Ok(Wanted { kind: propose.kind, subject, data: render::object(&propose.data, event)?, tag: String::new() })
}
