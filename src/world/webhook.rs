//! Webhooks: tells a subscription's endpoint what happened, by the Standard Webhooks spec.
//!
//! The loop keeps the order per model, the schedule and what became of each delivery; here is one
//! try. An endpoint gets `{"type","timestamp","data"}`, in which `data` is the CloudEvent as the
//! stream writes it, so that whoever reads both needs one parser; or, if it wants CDEvents, one of
//! those in a CloudEvent, also as the stream writes it.

pub mod address;
pub mod answer;
pub mod keys;
pub mod send;
pub mod sign;

use std::sync::Arc;
use std::time::Duration;

use annals_events::time::Timestamp;
use annals_projections::ops::Ops;
use serde_json::json;

use self::answer::{Attempt, Outcome};
use self::send::{Message, Sender};
use self::sign::{Key, signatures, webhook_id};
use super::rule::Endpoint;
use super::{Acting, Actor, Done, Event, Job, Retry, RunnerNow};
use crate::cdevents::{self, NotTold, Words};
use crate::journal::wall_clock;
use crate::metrics::Metrics;
use crate::metrics::webhooks::Tried;

/// The type of a delivery that tells of no event.
pub const TEST: &str = "annals.test";
/// The type of CloudEvents in structured mode (HTTP protocol binding).
const CLOUDEVENT: &str = "application/cloudevents+json";
/// Pause after which the keys, or the registry, are asked again, if they did not answer.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Delivers to subscriptions.
pub struct Webhooks {
    sender: Arc<Sender>,
    ops: Ops,
    metrics: Arc<Metrics>,
    runner: RunnerNow,
}

/// What is sent, and as what.
struct Body {
    content_type: &'static str,
    bytes: Vec<u8>,
}

impl Webhooks {
    /// Delivers with the keys that are in this store.
    #[must_use]
    pub fn new(sender: Arc<Sender>, ops: Ops, metrics: Arc<Metrics>, runner: RunnerNow) -> Self {
        Self { sender, ops, metrics, runner }
    }

    /// Sends a message that tells of no event, now and once, and returns its id and what came of it.
    ///
    /// # Errors
    /// What is missing, for a person.
    pub async fn test(&self, endpoint: &Endpoint) -> Result<(String, Attempt), String> {
        let id = format!("test_{}", uuid::Uuid::now_v7().simple());
        let keys = self.keys(endpoint).await?;
        let body = test_body(endpoint, &id, wall_clock());
        let attempt = self.send(endpoint, &keys, id.clone(), body).await;
        Ok((id, attempt))
    }

    async fn keys(&self, endpoint: &Endpoint) -> Result<Vec<Key>, String> {
        let Endpoint { workspace, name, .. } = endpoint;
        let keys = keys::valid(&self.ops, &keys::owner(workspace, name), wall_clock()).await?;
        if keys.is_empty() {
            // an unsigned message, or one that is signed with a key that the receiver cannot know, is of no use
            return Err(format!("the subscription has no key in this store: `annals webhook rotate {name}` makes one"));
        }
        Ok(keys)
    }

    /// The event in the words that the endpoint wants, or what becomes of the job instead.
    async fn body(&self, words: Words, job: &Job) -> Result<Body, Done> {
        let event = &job.event;
        if words == Words::CloudEvents {
            return Ok(Body { content_type: "application/json", bytes: payload(event) });
        }
        if !words.has(event.kind) {
            return Err(Done::Skipped { note: format!("CDEvents has no word for {}", event.kind) });
        }
        // it is not the endpoint that failed
        let later = |note: String| Done::Again {
            after: STORE_PAUSE,
            progress: job.task.progress.clone().unwrap_or_else(|| "{}".into()),
            note: Some(note),
        };
        let runner = (self.runner)().ok_or_else(|| later("the views are not open yet".into()))?;
        match cdevents::tell(&runner, &event.cloudevent).await {
            Ok(told) => Ok(Body { content_type: CLOUDEVENT, bytes: told.json.to_string().into_bytes() }),
            Err(NotTold::Broken(note)) => Err(Done::Failed { note, retry: Retry::Schedule }),
            Err(error) => Err(later(error.to_string())),
        }
    }

    async fn send(&self, endpoint: &Endpoint, keys: &[Key], id: String, body: Body) -> Attempt {
        let timestamp_s = wall_clock().0.div_euclid(1000);
        let Body { content_type, bytes: body } = body;
        let message = Message { signature: signatures(keys, &id, timestamp_s, &body), id, timestamp_s, content_type, body };
        let attempt = self.sender.send(&endpoint.url, message).await;
        self.metrics.webhooks.tried(tried(&attempt), attempt.took);
        attempt
    }
}

impl Actor for Webhooks {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            let Some(endpoint) = &job.endpoint else {
                return Done::Failed { note: "the subscription that the rule tells is not there".into(), retry: Retry::Schedule };
            };
            let event = &job.event;
            let keys = match self.keys(endpoint).await {
                Ok(keys) => keys,
                Err(note) => return Done::Failed { note, retry: Retry::After(STORE_PAUSE) },
            };
            match self.body(endpoint.words, job).await {
                Ok(body) => done(&self.send(endpoint, &keys, webhook_id(&event.source, &event.id), body).await),
                Err(done) => done,
            }
        })
    }
}

fn tried(attempt: &Attempt) -> Tried {
    match (attempt.outcome(), &attempt.result) {
        (Outcome::Delivered, _) => Tried::Delivered,
        (Outcome::Gone, _) => Tried::Gone,
        (Outcome::Failed(_), Ok(_)) => Tried::Refused,
        (Outcome::Failed(_), Err(_)) => Tried::Unanswered,
    }
}

/// What a try means to the loop.
fn done(attempt: &Attempt) -> Done {
    let note = attempt.note();
    match attempt.outcome() {
        Outcome::Delivered => Done::Succeeded { note: Some(note), outcome: None },
        Outcome::Gone => Done::Gone { note },
        Outcome::Failed(None) => Done::Failed { note, retry: Retry::Schedule },
        Outcome::Failed(Some(wait)) => Done::Failed { note, retry: Retry::After(wait) },
    }
}

/// The body: type, the time at which the event was recorded, and the event.
fn payload(event: &Event) -> Vec<u8> {
    let mut body = format!(r#"{{"type":"{}","timestamp":"{}","data":"#, event.kind.dotted(), event.recorded).into_bytes();
    body.extend_from_slice(&event.cloudevent);
    body.push(b'}');
    body
}

fn test_body(endpoint: &Endpoint, id: &str, now: Timestamp) -> Body {
    let Endpoint { workspace, name, words, .. } = endpoint;
    let (content_type, body) = match words {
        Words::CloudEvents => {
            let data = json!({"workspace": workspace, "subscription": name});
            ("application/json", json!({"type": TEST, "timestamp": now.to_string(), "data": data}))
        }
        Words::CdEvents => (CLOUDEVENT, cdevents::test(id, workspace, name, now)),
    };
    Body { content_type, bytes: body.to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use answer::Answer;

    #[test]
    fn what_is_answered_becomes_what_the_loop_does() {
        let of = |status, retry_after| {
            let answer = Answer { status, retry_after, ..Answer::default() };
            done(&Attempt { took: Duration::ZERO, result: Ok(answer) })
        };
        let day = Duration::from_secs(24 * 3600);
        assert!(matches!(of(204, None), Done::Succeeded { .. }));
        assert!(matches!(of(410, None), Done::Gone { .. }));
        assert!(matches!(of(500, None), Done::Failed { retry: Retry::Schedule, .. }));
        assert!(matches!(of(429, Some(day)), Done::Failed { retry: Retry::After(wait), .. } if wait == day));
        let reset = Attempt { took: Duration::ZERO, result: Err("reset".into()) };
        assert!(matches!(done(&reset), Done::Failed { retry: Retry::Schedule, .. }));
    }
}
