//! `POST /v1/triggers/dry-run`: what a rule would have done over history. Nothing is done or recorded.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Within, existing, parse, read};
use crate::http::extract::Query;
use crate::http::operating::ops;
use crate::http::position::Moment;
use crate::http::problem::Problem;
use crate::http::{App, blocking, lines};
use crate::journal::follow::{Accepted, Follower, Mark, Until};
use crate::world::rehearse::{Cut, ITEMS_MAX, Item, Made, Rehearsal};
use crate::world::rule::{Rule, State as RuleState};

/// How long it may take: a client waits for it.
const TIME_MAX: Duration = Duration::from_secs(50);

/// What is to be tried.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriggerRehearsal)]
pub struct Asked {
    /// A trigger that is there; or else `rule`.
    #[serde(default)]
    name: Option<String>,
    /// A rule that need not be there: `when`, `do`, `cooldown_s`, `dedup`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    rule: Option<Map<String, Value>>,
    /// The first moment: an RFC 3339 time, or positions such as `3:17`; the beginning unless given.
    #[serde(default)]
    from: Option<String>,
    /// The last moment, likewise; now unless given.
    #[serde(default)]
    until: Option<String>,
}

/// An event that the rule is about.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Rehearsed {
    /// `partition:seq` of the event.
    pub position: String,
    /// Its id.
    pub id: String,
    /// Its type, in short.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `workspace/model`, with the version if it has one.
    pub subject: String,
    /// When it was recorded.
    pub recorded: String,
    /// `fired`, `cooled`, `deduplicated`, `too-far` or `unfit`.
    pub made: &'static str,
    /// What would have been done, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What the rule would have done.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Answer {
    /// Events that were looked at.
    pub seen: u64,
    /// Events on which it would have acted.
    pub fired: u64,
    /// Events that its cool-down would have held back.
    pub cooled: u64,
    /// Events whose dedup text came before.
    pub deduplicated: u64,
    /// Events at the end of too long a chain of rules.
    pub too_far: u64,
    /// Events that lack something which the rule needs: they would be parked.
    pub unfit: u64,
    /// The first 1,000 of them, the oldest first.
    pub items: Vec<Rehearsed>,
    /// Whether there are more than those.
    pub more: bool,
}

fn shown(item: Item) -> Rehearsed {
    Rehearsed {
        position: item.event.position(),
        id: item.event.id,
        kind: item.event.kind.short(),
        subject: item.event.subject,
        recorded: item.event.recorded.to_string(),
        made: item.made.as_str(),
        note: item.note,
    }
}

/// Tries a rule on history: which events would have made it act, which would have been held back.
#[utoipa::path(post, path = "/v1/triggers/dry-run", tag = "world", params(Within), request_body(content = Asked), responses(
    (status = 200, description = "what would have been done; nothing was", body = Answer),
    (status = 400, description = "a body that cannot be read", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "there is no such trigger", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "a rule that cannot be meant", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "too many long reads at once, or too much history for one answer", body = Problem, content_type = "application/problem+json"),
))]
pub async fn dry_run(State(app): State<App>, Query(within): Query<Within>, body: Bytes) -> Result<Response, Problem> {
    let asked = parse::<Asked>(&body)?;
    let rule = rule_of(&app, within.workspace(), &asked).await?;
    let permit = lines::permit(&app)?;
    let journal = app.door.journal().clone();
    let partitions = journal.partitions();
    let moment = |text: &Option<String>| text.as_deref().map(|text| Moment::parse(text, partitions)).transpose();
    let (from, until) = (moment(&asked.from)?, moment(&asked.until)?);
    let answer = blocking(move || {
        let _permit = permit;
        let ends = (0..partitions).map(|p| journal.end(p)).collect::<Result<Vec<_>, _>>()?;
        let (time, positions) = match until {
            Some(Moment::Time(time)) => (Some(time), None),
            Some(Moment::Positions(positions)) => (None, Some(positions.0)),
            None => (None, None),
        };
        let follower = Follower::new(journal, vec![Mark::default(); partitions as usize], Until { time, positions, ends });
        rehearse(&rule, follower, from.as_ref())
    });
    Ok(super::super::json(&answer.await??))
}

async fn rule_of(app: &App, workspace: &str, asked: &Asked) -> Result<Rule, Problem> {
    match (&asked.name, &asked.rule) {
        (Some(name), None) => {
            let row = existing(&ops(app).await?, workspace, name).await?;
            let spec = serde_json::from_str(&row.spec).unwrap_or_default();
            read(workspace, name, RuleState::Active, &spec)
        }
        (None, Some(rule)) => read(workspace, "rehearsed", RuleState::Active, &Value::Object(rule.clone())),
        _ => Err(Problem::bad_request("bad-body", "it names no rule, or two", "send `name` or `rule`")),
    }
}

fn begins(from: Option<&Moment>, event: &Accepted) -> bool {
    match from {
        None => true,
        Some(Moment::Time(time)) => event.recorded >= *time,
        Some(Moment::Positions(positions)) => positions.0.get(&event.partition).is_none_or(|seq| event.seq >= *seq),
    }
}

fn rehearse(rule: &Rule, mut follower: Follower, from: Option<&Moment>) -> Result<Answer, Problem> {
    let wrong = |e: Cut| Problem::unavailable("unavailable", e, "try again; if it stays so, run `annals doctor`");
    let (began, mut rehearsal) = (Instant::now(), Rehearsal::of(rule));
    while let Some(event) = follower.next_event().map_err(|e| wrong(e.into()))? {
        if began.elapsed() > TIME_MAX {
            let detail = format!("it would take more than {} s: {} events were looked at", TIME_MAX.as_secs(), rehearsal.seen);
            return Err(Problem::unavailable("too-much", detail, "name a nearer `until`"));
        }
        if begins(from, &event) {
            rehearsal.take(&event).map_err(wrong)?;
        }
    }
    let count = |made: Made| rehearsal.counts.iter().find(|(kind, _)| *kind == made).map_or(0, |(_, count)| *count);
    let all: u64 = rehearsal.counts.iter().map(|(_, count)| count).sum();
    Ok(Answer {
        seen: rehearsal.seen,
        fired: count(Made::Fired),
        cooled: count(Made::Cooled),
        deduplicated: count(Made::Deduplicated),
        too_far: count(Made::TooFar),
        unfit: count(Made::Unfit),
        more: all > ITEMS_MAX as u64,
        items: rehearsal.items.into_iter().map(shown).collect(),
    })
}
