//! `/v1/triggers`: rules that act when something happens, what they did, and what they would have done.

use annals_events::time::Timestamp;
use annals_projections::ops::{Counts, Ops, RuleRow};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::App;
use super::extract::{Path, Query};
use super::operating::ops;
use super::problem::Problem;
use super::read::ask::problem;
use super::rules::{
    Again, Asked, Changed, Replayed, Tasks, Which, Why, Within, existing, is_of, parse, parse_or_none, proposal, propose, set_state,
    spec_of, unusable,
};
use crate::world::rehearsal::{Rehearsal, rehearse};
use crate::world::rule::read::Named;
use crate::world::rule::{Family, Rule, State as RuleState};

/// Events that a rehearsal lists unless told otherwise, and at most.
const SCENES: usize = 100;
const SCENES_MAX: usize = 1_000;

/// The paths of triggers.
pub fn paths() -> Router<App> {
    Router::new()
        .route("/v1/triggers", routing::get(list))
        .route("/v1/triggers/dry-run", routing::post(dry_run))
        .route("/v1/triggers/{name}", routing::get(get).put(put).delete(remove))
        .route("/v1/triggers/{name}/pause", routing::post(pause))
        .route("/v1/triggers/{name}/resume", routing::post(resume))
        .route("/v1/triggers/{name}/history", routing::get(history))
        .route("/v1/triggers/{name}/replay", routing::post(replay))
}

/// What a trigger is to be.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Which events: `{"type":["drifted"],"model":"fraud-*"}`.
    #[schema(value_type = Object)]
    when: Map<String, Value>,
    /// What to do: exactly one of `webhook`, `command`, `pipeline`, `propose`, `kubernetes`, `git` and `lookup`.
    #[serde(rename = "do")]
    #[schema(value_type = Object)]
    act: Map<String, Value>,
    /// At most once per model in so many seconds.
    #[schema(required = false)]
    cooldown_s: Option<u64>,
    /// Text with `{model}` and the like: while a task of the same text is under way, another is not begun.
    #[schema(required = false)]
    dedup: Option<String>,
    /// Note events, but do nothing until it is resumed.
    #[schema(required = false)]
    paused: bool,
    /// Who wants it.
    #[schema(required = false)]
    actor: Option<String>,
    /// Why.
    #[schema(required = false)]
    reason: Option<String>,
}

impl Wanted {
    /// What the rule says, as its event has it.
    fn spec(&self) -> Map<String, Value> {
        let mut spec = Map::from_iter([("when".to_owned(), self.when.clone().into()), ("do".to_owned(), self.act.clone().into())]);
        spec.extend(self.cooldown_s.map(|seconds| ("cooldown_s".to_owned(), seconds.into())));
        spec.extend(self.dedup.clone().map(|text| ("dedup".to_owned(), text.into())));
        spec
    }
}

/// A trigger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Trigger {
    /// Its workspace.
    pub workspace: String,
    /// Its name.
    pub name: String,
    /// `active` or `paused`.
    pub state: String,
    /// Counts its changes.
    pub revision: u64,
    /// When it was last changed.
    pub since: String,
    /// Why it cannot be followed, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// `when`, `do`, and maybe `cooldown_s` and `dedup`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub spec: Value,
    /// Tasks that wait, for their turn or for another try.
    pub pending: u64,
    /// Tasks that are under way.
    pub running: u64,
    /// Tasks that failed for good and wait for a person.
    pub parked: u64,
    /// When the event of the oldest one that waits was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<String>,
    /// Whether the request changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
}

/// All of a workspace.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Triggers {
    /// By name.
    pub items: Vec<Trigger>,
}

/// Lists the workspace's triggers, by name.
#[utoipa::path(get, operation_id = "triggers_list", path = "/v1/triggers", tag = "world", params(Within), responses(
    (status = 200, description = "all of them, without those that were removed", body = Triggers),
    (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(app): State<App>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let (rows, counts) = (ops.dispatched().await.map_err(problem)?.rules, ops.counts().await.map_err(problem)?);
    let ours = rows.iter().filter(|row| is_of(row, Family::Trigger, within.workspace()));
    Ok(super::json(&Triggers { items: ours.map(|row| shown(row, &counts, None)).collect() }))
}

/// One trigger.
#[utoipa::path(get, operation_id = "trigger_get", path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within), responses(
    (status = 200, description = "the trigger", body = Trigger),
    (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>) -> Result<Response, Problem> {
    answer(&ops(&app).await?, &trigger(within.workspace(), &name), None).await
}

/// How far a change goes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Only {
    /// Only say whether it could be so; nothing is changed.
    #[serde(default)]
    pub check: bool,
}

/// Makes a trigger, or changes it: recorded as `trigger.changed`, and in force when this is answered.
#[utoipa::path(put, operation_id = "trigger_put", path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within, Only),
    request_body(content = Wanted), responses(
        (status = 200, description = "as it is now", body = Trigger),
        (status = 204, description = "with `check`: it could be so"),
        (status = 400, description = "a body or a name that cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a rule that cannot be meant: the field, and what to do", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    Query(only): Query<Only>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let wanted = parse::<Wanted>(&body)?;
    let which = trigger(within.workspace(), &name);
    let state = if wanted.paused { RuleState::Paused } else { RuleState::Active };
    let mut data = wanted.spec();
    read(&which, state, &data)?;
    data.insert("state".into(), state.as_str().into());
    let why = Why { actor: wanted.actor, reason: wanted.reason };
    if only.check {
        return proposal(&which, data, why).map(|_| StatusCode::NO_CONTENT.into_response());
    }
    let changed = propose(&app, &ops, &which, data, why).await?;
    answer(&ops, &which, Some(changed)).await
}

/// Ends a trigger: what waits is skipped. History keeps the rule.
#[utoipa::path(delete, operation_id = "trigger_remove", path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 204, description = "it is no more"),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    set_state(&app, &ops, &trigger(within.workspace(), &name), RuleState::Removed, parse_or_none::<Why>(&body)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Holds a trigger back; events are kept for it.
#[utoipa::path(post, operation_id = "trigger_pause", path = "/v1/triggers/{name}/pause", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = Trigger),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, &trigger(within.workspace(), &name), RuleState::Paused, &body).await
}

/// Lets a trigger go on, with what was kept.
#[utoipa::path(post, operation_id = "trigger_resume", path = "/v1/triggers/{name}/resume", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = Trigger),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, &trigger(within.workspace(), &name), RuleState::Active, &body).await
}

/// Lists what a trigger did, the newest first: the event that caused it, how it is, and the events that it led to.
#[utoipa::path(get, operation_id = "trigger_history", path = "/v1/triggers/{name}/history", tag = "world",
    params(("name" = String, Path, description = "its name"), Asked), responses(
        (status = 200, description = "a page of its tasks", body = Tasks),
        (status = 400, description = "a malformed query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such trigger", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn history(State(app): State<App>, Path(name): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let row = existing(&ops, &trigger(asked.workspace.as_deref().unwrap_or("default"), &name)).await?;
    super::rules::tasks(&ops, &row, asked).await
}

/// Does tasks of a trigger again.
#[utoipa::path(post, operation_id = "trigger_replay", path = "/v1/triggers/{name}/replay", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Again), responses(
        (status = 200, description = "how many", body = Replayed),
        (status = 400, description = "none or several of `parked`, `since` and `task`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such trigger", body = Problem, content_type = "application/problem+json"),
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
    super::rules::replay(&ops, &existing(&ops, &trigger(within.workspace(), &name)).await?, again).await
}

/// What is to be rehearsed: a rule that is there, or one that is not.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Play {
    /// The name of a trigger that is there.
    #[serde(default)]
    name: Option<String>,
    /// A rule, in place of a name.
    #[serde(default)]
    rule: Option<Wanted>,
    /// Events recorded from this time on (RFC 3339); all unless given.
    #[serde(default)]
    from: Option<String>,
    /// Events recorded until this time; all unless given.
    #[serde(default)]
    until: Option<String>,
    /// Most events that are listed; 100 unless given, 1000 at most.
    #[serde(default)]
    limit: Option<usize>,
}

/// Plays a rule over history: which events it would have acted on. Nothing is done, and nothing recorded.
#[utoipa::path(post, operation_id = "trigger_dry_run", path = "/v1/triggers/dry-run", tag = "world", params(Within), request_body(content = Play), responses(
    (status = 200, description = "what it would have done", body = Rehearsal),
    (status = 400, description = "neither or both of `name` and `rule`, or a time that is none", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "there is no such trigger", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "a rule that cannot be meant", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "too many long requests, or no operational store", body = Problem, content_type = "application/problem+json"),
))]
pub async fn dry_run(State(app): State<App>, Query(within): Query<Within>, body: Bytes) -> Result<Response, Problem> {
    let play = parse::<Play>(&body)?;
    let rule = match (&play.name, &play.rule) {
        (Some(name), None) => {
            let which = trigger(within.workspace(), name);
            let row = existing(&ops(&app).await?, &which).await?;
            read(&which, RuleState::Active, spec_of(&row).as_object().unwrap_or(&Map::new()))?
        }
        (None, Some(wanted)) => read(&trigger(within.workspace(), "dry-run"), RuleState::Active, &wanted.spec())?,
        _ => {
            let what = "the body must say either `name` or `rule`";
            return Err(Problem::bad_request("bad-body", what, "send {\"name\":NAME} or {\"rule\":{\"when\":…,\"do\":…}}"));
        }
    };
    let time = |text: &Option<String>| text.as_deref().map(Timestamp::parse).transpose();
    let bad = |e| Problem::bad_request("bad-time", e, "send a time such as 2026-03-01T12:00:00Z");
    let (from, until) = (time(&play.from).map_err(bad)?, time(&play.until).map_err(bad)?);
    let permit = app.places.long_reads.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("busy", "there are too many long requests", "try again later"))?;
    let (journal, limit) = (app.door.journal().clone(), play.limit.unwrap_or(SCENES).min(SCENES_MAX));
    let played = super::blocking(move || {
        let _permit = permit;
        rehearse(journal, &rule, from, until, limit)
    });
    Ok(super::json(&played.await??))
}

fn trigger<'a>(workspace: &'a str, name: &'a str) -> Which<'a> {
    Which { family: Family::Trigger, workspace, name }
}

fn read(which: &Which<'_>, state: RuleState, spec: &Map<String, Value>) -> Result<Rule, Problem> {
    let named = Named { family: which.family, workspace: which.workspace, name: which.name, revision: 0, state };
    Rule::read(&named, &Value::Object(spec.clone())).map_err(|e| unusable(format!("`{}`: {}", e.field, e.message), e.remedy))
}

async fn change(app: &App, which: &Which<'_>, state: RuleState, body: &[u8]) -> Result<Response, Problem> {
    let ops = ops(app).await?;
    let changed = set_state(app, &ops, which, state, parse_or_none::<Why>(body)?).await?;
    answer(&ops, which, Some(changed)).await
}

async fn answer(ops: &Ops, which: &Which<'_>, changed: Option<Changed>) -> Result<Response, Problem> {
    let row = existing(ops, which).await?;
    Ok(super::json(&shown(&row, &ops.counts().await.map_err(problem)?, changed)))
}

fn shown(row: &RuleRow, counts: &[Counts], changed: Option<Changed>) -> Trigger {
    let counts = counts.iter().find(|counts| counts.rule == row.rule());
    let which = trigger(&row.workspace, &row.name);
    let spec = spec_of(row);
    let trouble = read(&which, RuleState::Active, spec.as_object().unwrap_or(&Map::new())).err().map(|problem| problem.detail);
    Trigger {
        workspace: row.workspace.clone(),
        name: row.name.clone(),
        state: row.state.clone(),
        revision: row.revision,
        since: row.since.to_string(),
        trouble,
        spec,
        pending: counts.map_or(0, |counts| counts.pending),
        running: counts.map_or(0, |counts| counts.running),
        parked: counts.map_or(0, |counts| counts.parked),
        oldest_pending: counts.and_then(|counts| counts.oldest_pending).map(|at| at.to_string()),
        changed: changed.map(|changed| changed.0),
    }
}
