//! `/v1/webhooks`: subscriptions whose events are delivered to a URL, and their keys.

pub mod deliveries;

use annals_projections::ops::{Counts, Failing, Ops, Replay, RuleRow};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::App;
use super::extract::{Path, Query};
use super::operating::ops;
use super::problem::Problem;
use super::read::ask::problem;
use super::rules::{Changed, Which, Why, Within, existing, is_of, parse, parse_or_none, propose, set_state, spec_of, unusable};
use crate::cdevents::Words;
use crate::journal::wall_clock;
use crate::world::rule::read::Named;
use crate::world::rule::{Endpoint, Family, Rule, State as RuleState};
use crate::world::webhook::keys::{self, Told};
use crate::world::webhook::sign;

/// The paths of webhooks.
pub fn paths() -> Router<App> {
    Router::new()
        .route("/v1/webhooks", routing::get(list))
        .route("/v1/webhooks/{name}", routing::get(get).put(put).delete(remove))
        .route("/v1/webhooks/{name}/pause", routing::post(pause))
        .route("/v1/webhooks/{name}/resume", routing::post(resume))
        .route("/v1/webhooks/{name}/rotate", routing::post(rotate))
        .route("/v1/webhooks/{name}/test", routing::post(deliveries::test))
        .route("/v1/webhooks/{name}/deliveries", routing::get(deliveries::list))
        .route("/v1/webhooks/{name}/replay", routing::post(deliveries::replay))
}

/// What a webhook is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Where the events go: https, or http where the configuration allows it.
    url: String,
    /// Which events: `{"type":["promoted"],"model":"fraud-*","channel":"production"}`.
    #[schema(value_type = Object)]
    when: Map<String, Value>,
    /// `ed25519` (the default) or `hmac`.
    #[serde(default = "ed25519")]
    #[schema(required = false)]
    signing: String,
    /// `cloudevents` (the default), or `cdevents`: promotions and deployments alone, as CDEvents in CloudEvents.
    #[serde(default)]
    #[schema(required = false, value_type = String)]
    format: Words,
    /// Deliver nothing until it is resumed.
    #[serde(default)]
    paused: bool,
    /// Who wants it.
    #[serde(default)]
    actor: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

fn ed25519() -> String {
    sign::ED25519.into()
}

/// A new key.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long the keys before it sign too, in seconds; a day unless given, 30 days at most.
    #[schema(required = false)]
    overlap_s: Option<u64>,
}

/// A webhook.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Webhook {
    /// Its workspace.
    pub workspace: String,
    /// Its name.
    pub name: String,
    /// `active`, `paused` or `removed`.
    pub state: String,
    /// Counts its changes.
    pub revision: u64,
    /// When it was last changed.
    pub since: String,
    /// Where its events go.
    pub url: String,
    /// Which events.
    #[schema(value_type = Object)]
    pub when: Value,
    /// `ed25519` or `hmac`.
    pub signing: String,
    /// `cloudevents` or `cdevents`.
    pub format: String,
    /// The keys that sign now, the newest first.
    pub keys: Vec<keys::Shown>,
    /// Deliveries that wait, for their turn or for another try.
    pub pending: u64,
    /// Deliveries that failed for good and wait for a person.
    pub parked: u64,
    /// When the event of the oldest one that waits was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<String>,
    /// Models whose next delivery failed, and is tried again.
    pub failing: u64,
    /// What was answered to the one of those that was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_note: Option<String>,
    /// `whsec_…`: of a new HMAC key, told here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether the request changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
}

/// All of a workspace.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Webhooks {
    /// By name.
    pub items: Vec<Webhook>,
}

/// Lists the workspace's webhooks, by name.
#[utoipa::path(get, operation_id = "webhooks_list", path = "/v1/webhooks", tag = "world", params(Within), responses(
    (status = 200, description = "all of them, without those that were removed", body = Webhooks),
    (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(app): State<App>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let rows = ops.dispatched().await.map_err(problem)?.rules;
    let (counts, failing) = (ops.counts().await.map_err(problem)?, ops.failing().await.map_err(problem)?);
    let mut items = Vec::new();
    for row in rows.iter().filter(|row| is_of(row, Family::Subscription, within.workspace())) {
        items.push(shown(&ops, row, &counts, &failing).await?);
    }
    Ok(super::json(&Webhooks { items }))
}

/// One webhook: how it is, and the public keys to verify its messages with.
#[utoipa::path(get, operation_id = "webhook_get", path = "/v1/webhooks/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within), responses(
    (status = 200, description = "the webhook", body = Webhook),
    (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "this instance has no operational store, or not now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let row = existing(&ops, &hook(within.workspace(), &name)).await?;
    Ok(super::json(&one(&ops, &row).await?))
}

/// Makes a webhook, or changes it. Its first key is made with it: the answer tells an HMAC secret once.
#[utoipa::path(put, operation_id = "webhook_put", path = "/v1/webhooks/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Wanted), responses(
        (status = 200, description = "as it is now", body = Webhook),
        (status = 400, description = "a body or a name that cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a URL that may not be reached, or a rule that cannot be meant", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn put(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>, body: Bytes) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let (workspace, wanted) = (within.workspace(), parse::<Wanted>(&body)?);
    let state = if wanted.paused { RuleState::Paused } else { RuleState::Active };
    let mut spec = json!({"url": wanted.url, "when": wanted.when, "signing": wanted.signing});
    if wanted.format != Words::default() {
        spec["format"] = wanted.format.as_str().into();
    }
    let named = Named { family: Family::Subscription, workspace, name: &name, revision: 0, state };
    Rule::read(&named, &spec).map_err(|e| unusable(format!("`{}`: {}", e.field, e.message), e.remedy))?;
    app.sender.allowed().check_url(&wanted.url).map_err(|e| unusable(e, "give another URL, or allow its network"))?;
    // the key first: an event that comes right behind must find one
    let owner = keys::owner(workspace, &name);
    let told = keys::ensure(&ops, &owner, &wanted.signing, wall_clock()).await.map_err(no_key)?;
    let Value::Object(mut data) = spec else { return Err(Problem::internal("a rule is no object")) };
    data.insert("state".into(), state.as_str().into());
    let why = Why { actor: wanted.actor, reason: wanted.reason };
    let changed = match propose(&app, &ops, &hook(workspace, &name), data, why).await {
        Ok(changed) => changed,
        Err(refused) => {
            // a secret that nobody was told is of no use: the next try makes another
            if let Some(told) = told {
                ops.forget_secret(&owner, &told.id).await.map_err(problem)?;
            }
            return Err(refused);
        }
    };
    answer(&ops, workspace, &name, told, Some(changed)).await
}

/// Ends a webhook: what waits is skipped, and its keys are forgotten. History keeps the rule.
#[utoipa::path(delete, operation_id = "webhook_remove", path = "/v1/webhooks/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within),
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
    let why = parse_or_none::<Why>(&body)?;
    let removed = set_state(&app, &ops, &hook(within.workspace(), &name), RuleState::Removed, why).await;
    // also if it is removed already: an earlier request may have ended before it came so far
    if removed.as_ref().map_or_else(|refused| refused.status == StatusCode::NOT_FOUND.as_u16(), |_| true) {
        ops.forget_secrets(&keys::owner(within.workspace(), &name)).await.map_err(problem)?;
    }
    removed.map(|_| StatusCode::NO_CONTENT.into_response())
}

/// Holds deliveries back; events are kept for them.
#[utoipa::path(post, operation_id = "webhook_pause", path = "/v1/webhooks/{name}/pause", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = Webhook),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, &hook(within.workspace(), &name), RuleState::Paused, &body).await
}

/// Lets deliveries go on, with what was kept.
#[utoipa::path(post, operation_id = "webhook_resume", path = "/v1/webhooks/{name}/resume", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = Webhook),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, &hook(within.workspace(), &name), RuleState::Active, &body).await
}

/// Makes a new key; those before it sign too for a while, so that the receiver can change in between.
#[utoipa::path(post, operation_id = "webhook_rotate", path = "/v1/webhooks/{name}/rotate", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Rotation), responses(
        (status = 200, description = "as it is now, with the secret if it is an HMAC key", body = Webhook),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn rotate(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let overlap_s = parse_or_none::<Rotation>(&body)?.overlap_s.unwrap_or(keys::OVERLAP_S);
    if overlap_s > keys::OVERLAP_MAX_S {
        let most = keys::OVERLAP_MAX_S;
        return Err(Problem::bad_request("bad-body", format!("`overlap_s` is {overlap_s}"), format!("send at most {most}")));
    }
    let row = existing(&ops, &hook(within.workspace(), &name)).await?;
    let kind = spec_of(&row).get("signing").and_then(Value::as_str).unwrap_or(sign::ED25519).to_owned();
    let told = keys::rotate(&ops, &keys::owner(within.workspace(), &name), &kind, wall_clock(), overlap_s).await.map_err(no_key)?;
    // what failed for want of a key, or with the old one, need not wait
    ops.replay(&row.rule(), Replay::Waiting, wall_clock()).await.map_err(problem)?;
    answer(&ops, within.workspace(), &name, told, None).await
}

async fn change(app: &App, which: &Which<'_>, state: RuleState, body: &[u8]) -> Result<Response, Problem> {
    let ops = ops(app).await?;
    let changed = set_state(app, &ops, which, state, parse_or_none::<Why>(body)?).await?;
    answer(&ops, which.workspace, which.name, None, Some(changed)).await
}

/// The webhook of this name.
fn hook<'a>(workspace: &'a str, name: &'a str) -> Which<'a> {
    Which { family: Family::Subscription, workspace, name }
}

async fn answer(ops: &Ops, workspace: &str, name: &str, told: Option<Told>, changed: Option<Changed>) -> Result<Response, Problem> {
    let row = existing(ops, &hook(workspace, name)).await?;
    let webhook = Webhook { secret: told.map(|told| told.secret), changed: changed.map(|changed| changed.0), ..one(ops, &row).await? };
    Ok(super::json(&webhook))
}

/// Where the webhook of this row is.
fn endpoint(row: &RuleRow) -> Result<Endpoint, Problem> {
    let state = RuleState::parse(&row.state).unwrap_or(RuleState::Paused);
    let named = Named { family: Family::Subscription, workspace: &row.workspace, name: &row.name, revision: row.revision, state };
    let rule = Rule::read(&named, &spec_of(row)).map_err(|e| unusable(format!("`{}`: {}", e.field, e.message), e.remedy))?;
    rule.endpoint.ok_or_else(|| Problem::internal("a subscription has no endpoint"))
}

async fn one(ops: &Ops, row: &RuleRow) -> Result<Webhook, Problem> {
    let (counts, failing) = (ops.counts().await.map_err(problem)?, ops.failing().await.map_err(problem)?);
    shown(ops, row, &counts, &failing).await
}

async fn shown(ops: &Ops, row: &RuleRow, counts: &[Counts], failing: &[Failing]) -> Result<Webhook, Problem> {
    let spec = spec_of(row);
    let text = |member: &str| spec.get(member).and_then(Value::as_str).map(str::to_owned);
    let counts = counts.iter().find(|counts| counts.rule == row.rule());
    let failing = failing.iter().find(|failing| failing.rule == row.rule());
    Ok(Webhook {
        workspace: row.workspace.clone(),
        name: row.name.clone(),
        state: row.state.clone(),
        revision: row.revision,
        since: row.since.to_string(),
        url: text("url").unwrap_or_default(),
        when: spec.get("when").cloned().unwrap_or_default(),
        signing: text("signing").unwrap_or_else(ed25519),
        format: text("format").unwrap_or_else(|| Words::default().as_str().into()),
        keys: keys::shown(ops, &keys::owner(&row.workspace, &row.name), wall_clock()).await.map_err(problem)?,
        pending: counts.map_or(0, |counts| counts.pending + counts.running),
        parked: counts.map_or(0, |counts| counts.parked),
        oldest_pending: counts.and_then(|counts| counts.oldest_pending).map(|at| at.to_string()),
        failing: failing.map_or(0, |failing| failing.tasks),
        last_note: failing.and_then(|failing| failing.note.clone()),
        secret: None,
        changed: None,
    })
}

fn no_key(error: keys::NoKey) -> Problem {
    match error {
        keys::NoKey::Store(error) => problem(error),
        keys::NoKey::Made(what) => unusable(what, "`signing` is `ed25519` or `hmac`"),
    }
}
