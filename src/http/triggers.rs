//! `/v1/triggers`: rules that act when something happens. They are recorded as events; what is here reads and proposes them.

pub mod dry_run;
mod propose;
pub mod tasks;

use annals_projections::Ops;
use annals_projections::ops::{Counts, RuleKind, RuleRow};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::propose::{Changed, propose};
use super::extract::{Path, Query};
use super::operating::ops;
use super::problem::Problem;
use super::read::ask::problem;
use super::{App, POSITION};
use crate::world::book::Book;
use crate::world::rule::read::{Invalid, Named};
use crate::world::rule::{Family, Rule, State as RuleState, rule_id};

/// Largest body of a request: the largest payload of an event.
const BODY_BYTES_MAX: usize = annals_events::submission::VALUE_BYTES_MAX;
/// What no trigger can be called, since it is a path of its own.
const RESERVED: &str = "dry-run";

/// The paths of triggers.
pub fn paths() -> Router<App> {
    Router::new()
        .route("/v1/triggers", routing::get(list))
        .route("/v1/triggers/dry-run", routing::post(dry_run::dry_run))
        .route("/v1/triggers/{name}", routing::get(get).put(put).delete(remove))
        .route("/v1/triggers/{name}/pause", routing::post(pause))
        .route("/v1/triggers/{name}/resume", routing::post(resume))
        .route("/v1/triggers/{name}/history", routing::get(tasks::history))
        .route("/v1/triggers/{name}/replay", routing::post(tasks::replay))
}

/// Whose triggers.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Within {
    /// Workspace; `default` unless given. A list takes `*` for all.
    pub workspace: Option<String>,
}

impl Within {
    fn workspace(&self) -> &str {
        self.workspace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }
}

/// What a trigger is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WantedTrigger)]
pub struct Wanted {
    /// Which events: `{"type":["drifted"],"model":"fraud-*","channel":"production","where":{"/data/severity":"high"}}`.
    #[schema(value_type = Object)]
    when: Map<String, Value>,
    /// What is done, exactly one of `propose`, `command`, `pipeline`, `webhook`, `kubernetes`.
    #[schema(value_type = Object)]
    r#do: Map<String, Value>,
    /// At most one action per model in this many seconds.
    #[serde(default)]
    cooldown_s: Option<u64>,
    /// While an action of the same text is under way, another is not begun; `{model}` and others are filled in.
    #[serde(default)]
    dedup: Option<String>,
    /// `active` (the default) or `paused`.
    #[serde(default)]
    state: Option<String>,
    /// Who wants it.
    #[serde(default)]
    actor: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl Wanted {
    /// What the rule says, as it is recorded: always in the same order, so that the same rule is the same bytes.
    fn spec(&self) -> Map<String, Value> {
        let mut spec = Map::from_iter([("when".to_owned(), self.when.clone().into()), ("do".to_owned(), self.r#do.clone().into())]);
        spec.extend(self.cooldown_s.map(|seconds| ("cooldown_s".to_owned(), seconds.into())));
        spec.extend(self.dedup.clone().map(|text| ("dedup".to_owned(), text.into())));
        spec
    }
}

/// Who, and why.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = WhyTrigger)]
pub struct Why {
    /// Who wants it.
    #[schema(required = false)]
    actor: Option<String>,
    /// Why.
    #[schema(required = false)]
    reason: Option<String>,
}

/// A trigger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Trigger {
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
    /// What it says: `when`, `do`, `cooldown_s`, `dedup`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub spec: Map<String, Value>,
    /// Tasks that wait, for their turn or for another try.
    pub pending: u64,
    /// Tasks that are under way.
    pub running: u64,
    /// Tasks that failed for good and wait for a person.
    pub parked: u64,
    /// When the event of the oldest one that waits was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<String>,
    /// Why it can do nothing, if it cannot: it cannot be meant, or nobody here does what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// All of a workspace.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Triggers {
    /// By workspace and name.
    pub items: Vec<Trigger>,
}

/// What became of a change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ChangedTrigger {
    /// The trigger.
    pub name: String,
    /// Whether anything is different now.
    pub changed: bool,
    /// How it is: `active`, `paused` or `removed`.
    pub state: String,
    /// `partition:seq` of the event that changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Whether every event from now on meets it. If not, it is recorded, and no actor has taken note of it yet.
    pub in_force: bool,
}

/// Lists the workspace's triggers, by name, without those that were removed.
#[utoipa::path(get, path = "/v1/triggers", tag = "world", params(Within), responses(
    (status = 200, description = "all of them", body = Triggers),
    (status = 503, description = "there is no operational store now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(app): State<App>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let (rows, counts) = (ops.dispatched().await.map_err(problem)?.rules, ops.counts().await.map_err(problem)?);
    let rows = rows.into_iter().filter(|row| is_of(row, within.workspace()) && row.state != RuleState::Removed.as_str());
    Ok(super::json(&Triggers { items: rows.map(|row| shown(&app, row, &counts)).collect() }))
}

/// One trigger, and how its tasks are.
#[utoipa::path(get, path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within), responses(
    (status = 200, description = "the trigger", body = Trigger),
    (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "there is no operational store now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let row = existing(&ops, within.workspace(), &name).await?;
    Ok(super::json(&shown(&app, row, &ops.counts().await.map_err(problem)?)))
}

/// Makes a trigger, or changes it. Answers when it is recorded and, if an actor runs, in force.
#[utoipa::path(put, path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Wanted), responses(
        (status = 200, description = "recorded and in force, or so already", body = ChangedTrigger, headers(("Annals-Position" = String, description = "`partition:seq` of the event"))),
        (status = 202, description = "recorded, and no actor has taken note of it yet", body = ChangedTrigger),
        (status = 400, description = "a body or a name that cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a rule that cannot be meant: the violation names the field", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn put(State(app): State<App>, Path(name): Path<String>, Query(within): Query<Within>, body: Bytes) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let wanted = parse::<Wanted>(&body)?;
    let state = wanted.state.as_deref().unwrap_or(RuleState::Active.as_str());
    let state = RuleState::parse(state)
        .filter(|state| *state != RuleState::Removed)
        .ok_or_else(|| unusable(&invalid("state", format!("is `{state}`"), "say active or paused; DELETE removes a trigger")))?;
    if name == RESERVED {
        return Err(unusable(&invalid("name", format!("`{RESERVED}` is a path of its own"), "choose another name")));
    }
    read(within.workspace(), &name, state, &Value::Object(wanted.spec()))?;
    let mut data = wanted.spec();
    data.insert("state".into(), state.as_str().into());
    data.extend(wanted.reason.map(|reason| ("reason".to_owned(), reason.into())));
    let changed = propose(&app, &ops, within.workspace(), &name, data, wanted.actor).await?;
    Ok(answer(&name, state, changed))
}

/// Ends a trigger: what waits is skipped. History keeps it.
#[utoipa::path(delete, path = "/v1/triggers/{name}", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "it is no more", body = ChangedTrigger),
        (status = 202, description = "recorded, and no actor has taken note of it yet", body = ChangedTrigger),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, within.workspace(), &name, RuleState::Removed, &body).await
}

/// Holds a trigger back: events are taken down for it, and what they cause waits.
#[utoipa::path(post, path = "/v1/triggers/{name}/pause", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = ChangedTrigger),
        (status = 202, description = "recorded, and no actor has taken note of it yet", body = ChangedTrigger),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, within.workspace(), &name, RuleState::Paused, &body).await
}

/// Lets a trigger go on, with all that was taken down for it meanwhile.
#[utoipa::path(post, path = "/v1/triggers/{name}/resume", tag = "world", params(("name" = String, Path, description = "its name"), Within),
    request_body(content = Why), responses(
        (status = 200, description = "as it is now", body = ChangedTrigger),
        (status = 202, description = "recorded, and no actor has taken note of it yet", body = ChangedTrigger),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now: send it again", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Response, Problem> {
    change(&app, within.workspace(), &name, RuleState::Active, &body).await
}

async fn change(app: &App, workspace: &str, name: &str, state: RuleState, body: &[u8]) -> Result<Response, Problem> {
    let ops = ops(app).await?;
    let why = if body.is_empty() { Why::default() } else { parse::<Why>(body)? };
    // the event of one that is not there would be refused for what it does not say
    existing(&ops, workspace, name).await?;
    let mut data = Map::from_iter([("state".to_owned(), Value::from(state.as_str()))]);
    data.extend(why.reason.map(|reason| ("reason".to_owned(), reason.into())));
    let changed = propose(app, &ops, workspace, name, data, why.actor).await?;
    Ok(answer(name, state, changed))
}

fn answer(name: &str, state: RuleState, changed: Changed) -> Response {
    let Changed { changed, position, in_force } = changed;
    let header = position.as_deref().and_then(|position| HeaderValue::from_str(position).ok());
    let body = ChangedTrigger { name: name.to_owned(), changed, state: state.as_str().to_owned(), position, in_force };
    let mut response = super::json(&body);
    if !in_force {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response.headers_mut().extend(header.map(|value| (POSITION, value)));
    response.into_response()
}

fn is_of(row: &RuleRow, workspace: &str) -> bool {
    row.kind == RuleKind::Trigger && (row.workspace == workspace || workspace == "*")
}

async fn existing(ops: &Ops, workspace: &str, name: &str) -> Result<RuleRow, Problem> {
    let rules = ops.dispatched().await.map_err(problem)?.rules;
    let found = rules.into_iter().find(|row| is_of(row, workspace) && row.name == name && row.state != RuleState::Removed.as_str());
    found.ok_or_else(|| {
        Problem::not_found(
            "unknown-trigger",
            format!("there is no trigger `{name}` in the workspace `{workspace}`"),
            "`annals trigger list` names those that are there; ?workspace= (--workspace) names another workspace",
        )
    })
}

fn shown(app: &App, row: RuleRow, counts: &[Counts]) -> Trigger {
    let id = row.rule();
    let counts = counts.iter().find(|counts| counts.rule == id);
    let spec = serde_json::from_str::<Value>(&row.spec).ok().and_then(|spec| spec.as_object().cloned()).unwrap_or_default();
    let book = Book::of(vec![row.clone()]);
    let world = app.world.borrow().clone().filter(|world| world.standing().leads);
    let wrong = book.get(&id).and_then(|page| match (&page.rule, world) {
        (Err(why), _) => Some(format!("it cannot be meant: {why}")),
        (Ok(rule), Some(world)) => world.actors.of(rule).err(),
        (Ok(_), None) => None,
    });
    Trigger {
        workspace: row.workspace,
        name: row.name,
        state: row.state,
        revision: row.revision,
        since: row.since.to_string(),
        spec,
        pending: counts.map_or(0, |counts| counts.pending),
        running: counts.map_or(0, |counts| counts.running),
        parked: counts.map_or(0, |counts| counts.parked),
        oldest_pending: counts.and_then(|counts| counts.oldest_pending).map(|at| at.to_string()),
        problem: wrong,
    }
}

/// Reads a rule that somebody sent.
fn read(workspace: &str, name: &str, state: RuleState, spec: &Value) -> Result<Rule, Problem> {
    let named = Named { family: Family::Trigger, workspace, name, revision: 0, state };
    Rule::read(&named, spec).map_err(|e| unusable(&e))
}

fn invalid(field: &str, message: String, remedy: &str) -> Invalid {
    Invalid { field: field.into(), message, remedy: remedy.into() }
}

fn unusable(invalid: &Invalid) -> Problem {
    let detail = format!("`{}`: {}", invalid.field, invalid.message);
    let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-rule", detail, &invalid.remedy);
    problem.state = json!({"field": invalid.field});
    problem
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.len() > BODY_BYTES_MAX {
        let remedy = format!("send at most {BODY_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large", remedy));
    }
    serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request("bad-body", format!("the body cannot be read: {e}"), "send what /openapi.json describes"))
}

/// How the operational store calls a trigger.
fn id_of(workspace: &str, name: &str) -> String {
    rule_id(Family::Trigger, workspace, name)
}
