//! What became of a webhook's deliveries: listed, tried out, done again.

use annals_events::names::Key;
use annals_events::time::Timestamp;
use annals_projections::ops::{Replay, Task, TaskFilter, TaskState};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Within, endpoint, existing, parse, unusable};
use crate::http::App;
use crate::http::extract::{Path, Query};
use crate::http::operating::ops;
use crate::http::problem::Problem;
use crate::http::read::ask::{page_of, problem};
use crate::world::webhook::{Webhooks, now};

/// Which deliveries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Workspace; `default` unless given.
    workspace: Option<String>,
    /// `pending`, `running`, `done`, `parked` or `skipped`.
    state: Option<String>,
    /// The model.
    model: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// One event on its way to one endpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Delivery {
    /// Its number.
    pub id: u64,
    /// `pending`, `running`, `done`, `parked` or `skipped`.
    pub state: &'static str,
    /// Tries that failed.
    pub attempts: u32,
    /// What was answered last, or why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it is tried next, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When it was last looked at.
    pub updated: String,
    /// The event's id.
    pub event: String,
    /// Its source.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `workspace/model`.
    pub key: String,
    /// `partition:seq`.
    pub position: String,
    /// When it was recorded.
    pub recorded: String,
}

impl From<&Task> for Delivery {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id,
            state: task.state.as_str(),
            attempts: task.attempts,
            note: task.note.clone(),
            next: task.state.is_open().then(|| task.next_at.to_string()),
            updated: task.updated.to_string(),
            event: task.event_id.clone(),
            source: task.event_source.clone(),
            kind: task.kind.clone(),
            key: task.key.clone(),
            position: format!("{}:{}", task.event.partition, task.event.seq),
            recorded: task.recorded.to_string(),
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Deliveries {
    /// The newest first.
    pub items: Vec<Delivery>,
    /// `after` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// Lists a webhook's deliveries, the newest first.
#[utoipa::path(get, path = "/v1/webhooks/{name}/deliveries", tag = "world",
    params(("name" = String, Path, description = "the webhook's name"), Asked), responses(
        (status = 200, description = "a page of them", body = Deliveries),
        (status = 400, description = "a malformed query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn list(State(app): State<App>, Path(name): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let workspace = asked.workspace.as_deref().unwrap_or("default");
    let row = existing(&ops, workspace, &name).await?;
    let state = asked.state.as_deref().filter(|text| !text.is_empty());
    let state = state.map(|text| TaskState::parse(text).ok_or_else(|| bad_state(text))).transpose()?;
    let model = asked.model.filter(|text| !text.is_empty());
    let key = model.map(|model| Key::new(workspace, &model)).transpose();
    let key = key.map_err(|e| Problem::bad_request("bad-name", e, "correct the name"))?.map(|key| key.to_string());
    let filter = TaskFilter { rule: Some(row.rule()), state, key };
    let found = ops.tasks(&filter, &page_of(asked.limit, asked.after)?).await.map_err(problem)?;
    Ok(crate::http::json(&Deliveries { items: found.items.iter().map(Delivery::from).collect(), next: found.next }))
}

fn bad_state(text: &str) -> Problem {
    let states = TaskState::ALL.map(TaskState::as_str).join(", ");
    Problem::bad_request("bad-query", format!("`state={text}` is not known"), format!("send one of {states}"))
}

/// What came of a message that tells of no event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Tried {
    /// Its `webhook-id`.
    pub id: String,
    /// Whether the endpoint took it.
    pub delivered: bool,
    /// The status that it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds to the end of the answer.
    pub took_ms: u64,
    /// The beginning of the answer's body.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub excerpt: String,
    /// What that means.
    pub note: String,
}

/// Sends a signed message of the type `annals.test` now, once, and tells what was answered.
#[utoipa::path(post, path = "/v1/webhooks/{name}/test", tag = "world", params(("name" = String, Path, description = "the webhook's name"), Within),
    responses(
        (status = 200, description = "what came of it, whether or not it was delivered", body = Tried),
        (status = 404, description = "there is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "it has no key", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn test(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let endpoint = endpoint(&existing(&ops, within.workspace(), &name).await?)?;
    // a caller waits for the endpoint, so these are long answers too
    let permit = app.places.long_reads.clone().try_acquire_owned();
    let _permit = permit.map_err(|_| Problem::unavailable("busy", "there are too many long requests", "try again later"))?;
    let webhooks = Webhooks::new(app.sender.clone(), ops, app.metrics.clone());
    let (id, attempt) = webhooks.test(&endpoint).await.map_err(|e| unusable(e, "make a key: POST /v1/webhooks/{name}/rotate"))?;
    let tried = Tried {
        id,
        delivered: attempt.status().is_some_and(|status| (200..300).contains(&status)),
        status: attempt.status(),
        took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        note: attempt.note(),
        excerpt: attempt.result.map(|answer| answer.excerpt).unwrap_or_default(),
    };
    Ok(crate::http::json(&tried))
}

/// Which deliveries to do again: exactly one member.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// All that are parked.
    #[serde(default)]
    parked: bool,
    /// All that failed and wait for another try: now.
    #[serde(default)]
    waiting: bool,
    /// All done and parked ones whose event was recorded at or after this time (RFC 3339).
    #[serde(default)]
    since: Option<String>,
    /// The one of this number.
    #[serde(default)]
    delivery: Option<u64>,
}

/// How many are done again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Deliveries that wait again.
    pub replayed: u64,
}

/// Delivers again: with the same `webhook-id`, so that a receiver which has it can tell.
#[utoipa::path(post, path = "/v1/webhooks/{name}/replay", tag = "world", params(("name" = String, Path, description = "the webhook's name"), Within),
    request_body(content = Again), responses(
        (status = 200, description = "how many", body = Replayed),
        (status = 400, description = "none or several of `parked`, `waiting`, `since` and `delivery`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn replay(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let again = parse::<Again>(&body)?;
    let row = existing(&ops, within.workspace(), &name).await?;
    let which = match (again.parked, again.waiting, again.since, again.delivery) {
        (true, false, None, None) => Replay::Parked,
        (false, true, None, None) => Replay::Waiting,
        (false, false, Some(time), None) => {
            let time =
                Timestamp::parse(&time).map_err(|e| Problem::bad_request("bad-time", e, "send a time such as 2026-03-01T12:00:00Z"))?;
            Replay::Since(time)
        }
        (false, false, None, Some(id)) => Replay::Task(id),
        _ => {
            let what = "the body must say one of `parked`, `waiting`, `since` and `delivery`";
            return Err(Problem::bad_request("bad-body", what, "send {\"parked\":true}, {\"since\":TIME} or {\"delivery\":NUMBER}"));
        }
    };
    let replayed = ops.replay(&row.rule(), which, now()).await.map_err(problem)?;
    Ok(crate::http::json(&Replayed { replayed }))
}
