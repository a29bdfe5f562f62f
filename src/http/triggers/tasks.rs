//! What a trigger did: each event with what came of it; and having it done again.

use annals_events::time::Timestamp;
use annals_projections::ops::{Replay, Task, TaskFilter, TaskState};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Within, existing, id_of, parse};
use crate::http::App;
use crate::http::extract::{Path, Query};
use crate::http::operating::ops;
use crate::http::problem::Problem;
use crate::http::read::ask::{page_of, problem};
use crate::world::life::now;

/// Which part of a history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Workspace; `default` unless given.
    pub workspace: Option<String>,
    /// Only in this state: `pending`, `running`, `done`, `parked` or `skipped`.
    pub state: Option<String>,
    /// Only about this model.
    pub model: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// The event that caused something.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Cause {
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type, in short.
    #[serde(rename = "type")]
    pub kind: String,
    /// `workspace/model`.
    pub key: String,
    /// `partition:seq`.
    pub position: String,
    /// When it was recorded.
    pub recorded: String,
}

/// What was done, or is to be done, because of one event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TriggerTask)]
pub struct Done {
    /// The task's number, for `replay`.
    pub task: u64,
    /// `pending`, `running`, `done`, `parked` or `skipped`.
    pub state: String,
    /// Tries that failed.
    pub attempts: u32,
    /// When it is tried next, if it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    /// What was last said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The event that caused it.
    pub event: Cause,
    /// The events that it led to: `id`, `source` and `position` of each.
    #[schema(value_type = Vec<Object>)]
    pub outcome: Vec<Value>,
    /// When it was last written.
    pub updated: String,
}

/// A page of a trigger's history, the newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct History {
    /// The items.
    pub items: Vec<Done>,
    /// Where the next page begins; `null` at the end.
    pub next: Option<String>,
}

fn shown(task: Task) -> Done {
    let outcome = task.outcome.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    Done {
        task: task.id,
        next_at: task.state.is_open().then(|| task.next_at.to_string()),
        state: task.state.as_str().to_owned(),
        attempts: task.attempts,
        note: task.note,
        event: Cause {
            id: task.event_id,
            source: task.event_source,
            kind: task.kind,
            key: task.key,
            position: format!("{}:{}", task.event.partition, task.event.seq),
            recorded: task.recorded.to_string(),
        },
        outcome: outcome.and_then(|outcome| outcome.get("events")?.as_array().cloned()).unwrap_or_default(),
        updated: task.updated.to_string(),
    }
}

/// What a trigger did: the events that it acted on, or did not and why, with the events that came of it.
#[utoipa::path(get, path = "/v1/triggers/{name}/history", tag = "world", params(("name" = String, Path, description = "its name"), Asked), responses(
    (status = 200, description = "the newest first; also of a trigger that was removed", body = History),
    (status = 400, description = "a malformed parameter", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "there is no operational store now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn history(State(app): State<App>, Path(name): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let page = page_of(asked.limit, asked.after)?;
    let workspace = asked.workspace.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
    let state = asked.state.filter(|state| !state.is_empty()).map(|text| {
        let names = TaskState::ALL.map(TaskState::as_str).join(", ");
        TaskState::parse(&text)
            .ok_or_else(|| Problem::bad_request("bad-query", format!("`{text}` is no state of a task"), format!("use one of {names}")))
    });
    let key = asked.model.filter(|model| !model.is_empty()).map(|model| format!("{workspace}/{model}"));
    let filter = TaskFilter { rule: Some(id_of(&workspace, &name)), state: state.transpose()?, key };
    let listing = ops.tasks(&filter, &page).await.map_err(problem)?;
    Ok(super::super::json(&History { items: listing.items.into_iter().map(shown).collect(), next: listing.next }))
}

/// What is to be done again: exactly one of the members.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriggerReplay)]
pub struct Again {
    /// This task, whatever became of it.
    #[serde(default)]
    task: Option<u64>,
    /// All that are parked.
    #[serde(default)]
    #[schema(required = false)]
    parked: bool,
    /// All done and parked ones whose event was recorded at or after this time (RFC 3339).
    #[serde(default)]
    since: Option<String>,
}

/// How many tasks are to be done again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TriggerReplayed)]
pub struct Replayed {
    /// That many.
    pub replayed: u64,
}

/// Has tasks done again, from the first try on. What a rule proposed before stays one event.
#[utoipa::path(post, path = "/v1/triggers/{name}/replay", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Again), responses(
        (status = 200, description = "how many", body = Replayed),
        (status = 400, description = "a body that cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such trigger", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "there is no operational store now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn replay(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let bad =
        |detail: String| Problem::bad_request("bad-body", detail, "send exactly one of {\"task\":7}, {\"parked\":true}, {\"since\":TIME}");
    let which = match parse::<Again>(&body)? {
        Again { task: Some(task), parked: false, since: None } => Replay::Task(task),
        Again { task: None, parked: true, since: None } => Replay::Parked,
        Again { task: None, parked: false, since: Some(time) } => Replay::Since(Timestamp::parse(&time).map_err(bad)?),
        _ => return Err(bad("it does not say which tasks, or in two ways".into())),
    };
    let row = existing(&ops, within.workspace(), &name).await?;
    let replayed = ops.replay(&row.rule(), which, now()).await.map_err(problem)?;
    if let Some(world) = &*app.world.borrow() {
        world.hurry();
    }
    Ok(super::super::json(&Replayed { replayed }))
}
