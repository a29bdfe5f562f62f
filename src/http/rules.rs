//! What triggers and webhooks have in common at the door: their changes are proposals, and their tasks can be listed and done again.

use std::collections::BTreeMap;
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::proposal::Proposal;
use annals_events::time::Timestamp;
use annals_events::verdict::{Code, Outcome};
use annals_projections::ops::{Ops, Replay, RuleRow, Task, TaskFilter, TaskState};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::App;
use super::cloudevent::SOURCE;
use super::problem::Problem;
use super::publish::SETTLE_MAX;
use super::read::ask::{page_of, problem};
use crate::journal::wall_clock;
use crate::world::rule::{Family, State as RuleState};

/// How long the dispatcher is waited for, so that who has changed something sees it changed.
const KNOWN_MAX: Duration = Duration::from_secs(5);
/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(10);

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whose rules.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Within {
    /// Workspace; `default` unless given. A list takes `*` for all.
    pub workspace: Option<String>,
}

impl Within {
    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> &str {
        self.workspace.as_deref().unwrap_or("default")
    }
}

/// Who, and why.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Why {
    /// Who wants it.
    #[schema(required = false)]
    pub actor: Option<String>,
    /// Why.
    #[schema(required = false)]
    pub reason: Option<String>,
}

/// Which rule.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// Trigger or subscription.
    pub family: Family,
    /// Its workspace.
    pub workspace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Whether a stored rule is of this family and workspace; `*` stands for all.
#[must_use]
pub fn is_of(row: &RuleRow, family: Family, workspace: &str) -> bool {
    crate::world::book::family(row.kind) == family && (row.workspace == workspace || workspace == "*") && row.state != "removed"
}

/// The rule of this name, unless it was removed.
///
/// # Errors
/// 404, or 503 if the store does not answer.
pub async fn existing(ops: &Ops, which: &Which<'_>) -> Result<RuleRow, Problem> {
    let Which { family, workspace, name } = *which;
    let (code, word, path) = match family {
        Family::Trigger => ("unknown-trigger", "trigger", "/v1/triggers"),
        Family::Subscription => ("unknown-subscription", "webhook", "/v1/webhooks"),
    };
    let rules = ops.dispatched().await.map_err(problem)?.rules;
    rules.into_iter().find(|row| is_of(row, family, workspace) && row.name == name).ok_or_else(|| {
        let what = format!("there is no {word} `{name}` in the workspace `{workspace}`");
        Problem::not_found(code, what, format!("look at GET {path}, or name another workspace with ?workspace="))
    })
}

/// What a stored rule says.
#[must_use]
pub fn spec_of(row: &RuleRow) -> Value {
    serde_json::from_str(&row.spec).unwrap_or_default()
}

/// Changes the state of a rule that is there.
///
/// # Errors
/// The refusal, 404, or that it is not settled yet.
pub async fn set_state(app: &App, ops: &Ops, which: &Which<'_>, state: RuleState, why: Why) -> Result<Changed, Problem> {
    // of one that is not there the event itself would say that it lacks what a new one needs
    existing(ops, which).await?;
    propose(app, ops, which, Map::from_iter([("state".to_owned(), state.as_str().into())]), why).await
}

/// Reads a body.
///
/// # Errors
/// 400 and 413.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "the body is too large",
            format!("send at most {BODY_BYTES_MAX} bytes"),
        ));
    }
    serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request("bad-body", format!("the body cannot be read: {e}"), "send what /openapi.json describes"))
}

/// Reads a body; an empty one says nothing.
///
/// # Errors
/// 400 and 413.
pub fn parse_or_none<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// 422.
pub fn unusable(what: impl std::fmt::Display, remedy: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "schema-violation", what, remedy)
}

/// Whether anything is different now; what is as it was wanted is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed(pub bool);

/// `trigger.changed` or `subscription.changed`, as it is proposed.
///
/// # Errors
/// 400 and 422: it can never be accepted.
pub fn proposal(which: &Which<'_>, mut data: Map<String, Value>, why: Why) -> Result<Proposal, Problem> {
    let Which { family, workspace, name } = *which;
    let Why { actor, reason } = why;
    let kind = match family {
        Family::Trigger => Kind::TriggerChanged,
        Family::Subscription => Kind::SubscriptionChanged,
    };
    data.insert(family.as_str().into(), name.into());
    data.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    let key =
        Key::system(workspace).map_err(|e| Problem::bad_request("bad-name", e, "correct the name; `?workspace=` names the workspace"))?;
    let given = [
        ("specversion", "1.0".to_owned()),
        ("id", uuid::Uuid::now_v7().to_string()),
        ("source", SOURCE.to_owned()),
        ("type", kind.name().to_owned()),
        ("subject", key.to_string()),
    ];
    let mut attributes: BTreeMap<String, String> = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    attributes.extend(actor.map(|actor| ("actor".to_owned(), actor)));
    Ok(Proposal::from_parts(attributes, Value::Object(data).to_string(), Some(key.as_str().as_bytes()))?)
}

/// Proposes [`proposal`], and waits until the dispatcher knows of it.
///
/// # Errors
/// The refusal, or that it is not settled yet.
pub async fn propose(app: &App, ops: &Ops, which: &Which<'_>, data: Map<String, Value>, why: Why) -> Result<Changed, Problem> {
    let proposal = proposal(which, data, why)?;
    let answer = app.door.submit(&proposal, SETTLE_MAX).await?;
    let Some(verdict) = answer.verdict else {
        return Err(Problem::unavailable("not-settled", "the change has no verdict yet", "ask how it is, and send it again if need be"));
    };
    match verdict.outcome {
        Outcome::Accepted(place) | Outcome::Duplicate(place) => {
            known(ops, answer.partition, place.seq).await?;
            Ok(Changed(true))
        }
        Outcome::Refused(refusal) if refusal.code == Code::NoChange => Ok(Changed(false)),
        Outcome::Refused(refusal) | Outcome::Malformed(refusal) => Err(refusal.into()),
    }
}

/// Waits until the dispatcher has passed an event.
async fn known(ops: &Ops, partition: u32, seq: u64) -> Result<(), Problem> {
    let until = Instant::now() + KNOWN_MAX;
    while Instant::now() < until {
        let positions = ops.dispatched().await.map_err(problem)?.positions;
        if positions.iter().any(|position| position.partition == partition && position.seq >= seq) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Problem::unavailable(
        "not-dispatched",
        "the change is recorded, and no actor has taken note of it yet",
        "see that an instance with the role `actor` runs; ask how it is after Retry-After",
    ))
}

/// Which tasks.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Workspace; `default` unless given.
    pub workspace: Option<String>,
    /// `pending`, `running`, `done`, `parked` or `skipped`.
    pub state: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// What a rule does, or did, for one event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Done {
    /// Its number.
    pub id: u64,
    /// `pending`, `running`, `done`, `parked` or `skipped`.
    pub state: &'static str,
    /// Tries that failed.
    pub attempts: u32,
    /// What was said of it last.
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
    /// What came of it: `{"events":[{"id","source","position"}]}`, if it led to events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub outcome: Option<Value>,
}

impl From<&Task> for Done {
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
            outcome: task.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

/// A page of tasks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Tasks {
    /// The newest first.
    pub items: Vec<Done>,
    /// `after` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// Which tasks to do again: exactly one member.
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
    task: Option<u64>,
}

/// How many are done again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Tasks that wait again.
    pub replayed: u64,
}

/// A page of a rule's tasks, the newest first.
///
/// # Errors
/// 400 for a query that cannot be meant, 503 if the store does not answer.
pub async fn tasks(ops: &Ops, row: &RuleRow, asked: Asked) -> Result<Response, Problem> {
    let state = asked.state.as_deref().filter(|text| !text.is_empty());
    let state = state.map(|text| TaskState::parse(text).ok_or_else(|| bad_state(text))).transpose()?;
    let key = asked.model.filter(|text| !text.is_empty()).map(|model| Key::new(&row.workspace, &model)).transpose();
    let key = key.map_err(|e| Problem::bad_request("bad-name", e, "correct the name"))?.map(|key| key.to_string());
    let filter = TaskFilter { rule: Some(row.rule()), state, key };
    let found = ops.tasks(&filter, &page_of(asked.limit, asked.after)?).await.map_err(problem)?;
    Ok(super::json(&Tasks { items: found.items.iter().map(Done::from).collect(), next: found.next }))
}

fn bad_state(text: &str) -> Problem {
    let states = TaskState::ALL.map(TaskState::as_str).join(", ");
    Problem::bad_request("bad-query", format!("`state={text}` is not known"), format!("send one of {states}"))
}

/// Does tasks of a rule again.
///
/// # Errors
/// 400 for none or several of the members, 503 if the store does not answer.
pub async fn replay(ops: &Ops, row: &RuleRow, again: Again) -> Result<Response, Problem> {
    let which = match (again.parked, again.waiting, again.since, again.task) {
        (true, false, None, None) => Replay::Parked,
        (false, true, None, None) => Replay::Waiting,
        (false, false, Some(time), None) => {
            let bad = |e| Problem::bad_request("bad-time", e, "send a time such as 2026-03-01T12:00:00Z");
            Replay::Since(Timestamp::parse(&time).map_err(bad)?)
        }
        (false, false, None, Some(id)) => Replay::Task(id),
        _ => {
            let what = "the body must say one of `parked`, `waiting`, `since` and `task`";
            return Err(Problem::bad_request("bad-body", what, "send {\"parked\":true}, {\"since\":TIME} or {\"task\":NUMBER}"));
        }
    };
    let replayed = ops.replay(&row.rule(), which, wall_clock()).await.map_err(problem)?;
    Ok(super::json(&Replayed { replayed }))
}
