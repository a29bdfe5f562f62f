//! What became of a webhook's deliveries: listed, tried out, done again.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::{endpoint, hook};
use crate::http::App;
use crate::http::extract::{Path, Query};
use crate::http::operating::ops;
use crate::http::problem::Problem;
use crate::http::rules::{Again, Asked, Replayed, Tasks, Within, existing, parse, replay as replay_tasks, tasks, unusable};
use crate::world::webhook::Webhooks;

/// Lists a webhook's deliveries, the newest first.
#[utoipa::path(get, operation_id = "webhook_deliveries", path = "/v1/webhooks/{name}/deliveries", tag = "world",
    params(("name" = String, Path, description = "the webhook's name"), Asked), responses(
        (status = 200, description = "a page of them", body = Tasks),
        (status = 400, description = "a malformed query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn list(State(app): State<App>, Path(name): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let row = existing(&ops, &hook(asked.workspace.as_deref().unwrap_or("default"), &name)).await?;
    tasks(&ops, &row, asked).await
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

/// Sends a signed message that tells of no event now, once, and tells what was answered.
#[utoipa::path(post, operation_id = "webhook_test", path = "/v1/webhooks/{name}/test", tag = "world", params(("name" = String, Path, description = "the webhook's name"), Within),
    responses(
        (status = 200, description = "what came of it, whether or not it was delivered", body = Tried),
        (status = 404, description = "there is no such webhook", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "it has no key", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn test(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let endpoint = endpoint(&existing(&ops, &hook(within.workspace(), &name)).await?)?;
    // a caller waits for the endpoint, so these are long answers too
    let permit = app.places.long_reads.clone().try_acquire_owned();
    let _permit = permit.map_err(|_| Problem::unavailable("busy", "there are too many long requests", "try again later"))?;
    let viewing = app.viewing.clone();
    let webhooks = Webhooks::new(app.sender.clone(), ops, app.metrics.clone(), Box::new(move || viewing.borrow().runner()));
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

/// Delivers again: with the same `webhook-id`, so that a receiver which has it can tell.
#[utoipa::path(post, operation_id = "webhook_replay", path = "/v1/webhooks/{name}/replay", tag = "world", params(("name" = String, Path, description = "the webhook's name"), Within),
    request_body(content = Again), responses(
        (status = 200, description = "how many", body = Replayed),
        (status = 400, description = "none or several of `parked`, `waiting`, `since` and `task`", body = Problem, content_type = "application/problem+json"),
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
    replay_tasks(&ops, &existing(&ops, &hook(within.workspace(), &name)).await?, again).await
}
