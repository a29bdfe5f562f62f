//! How acting on the world stands on this instance: who leads, what waits, and what needs a person.

use std::collections::HashMap;

use annals_events::time::Timestamp;
use annals_projections::ops::{Counts, Failing, TaskFilter, TaskState};
use annals_projections::{Ops, Page};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::App;
use super::operating::ops;
use super::problem::Problem;
use super::read::ask::problem;
use crate::journal::wall_clock;
use crate::metrics::acting::RuleTasks;
use crate::world::book::Book;
use crate::world::rule::State as RuleState;

/// Most rules that are told of with their trouble.
const RULES_MAX: usize = 200;

/// How acting stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Acting {
    /// Whether this instance is the one that acts.
    pub leads: bool,
    /// Why nothing is dispatched, if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Events that were not dispatched yet; known to the one that acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_events: Option<u64>,
    /// When the operational store was made.
    pub born: String,
    /// The rules that have open or parked tasks, or something the matter.
    pub rules: Vec<RuleStanding>,
    /// The repositories that could not be worked on the last time.
    pub repositories: Vec<RepositoryStanding>,
}

/// A repository with which something is the matter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RepositoryStanding {
    /// Its URL or path.
    pub repository: String,
    /// What.
    pub trouble: String,
}

/// A rule that somebody may want to look at.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RuleStanding {
    /// `trigger/<workspace>/<name>` or `subscription/<workspace>/<name>`.
    pub rule: String,
    /// `active`, `paused` or `removed`.
    pub state: String,
    /// Tasks that wait.
    pub pending: u64,
    /// Tasks that are under way.
    pub running: u64,
    /// Tasks that wait for a person.
    pub parked: u64,
    /// How long ago the event of the oldest one that waits was recorded, in seconds.
    pub oldest_pending_s: f64,
    /// What is the matter with the rule: it cannot be meant, or nobody here can do what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Models whose next task failed, and is tried again.
    pub failing: u64,
    /// Why the one of those that was tried last failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<String>,
    /// Why the newest parked task is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_parked: Option<String>,
}

/// Tells how acting on the world stands on this instance.
#[utoipa::path(get, path = "/v1/acting", tag = "state", responses(
    (status = 200, description = "who acts, and what needs a person", body = Acting),
    (status = 503, description = "there is no operational store now", body = Problem, content_type = "application/problem+json"),
))]
pub async fn acting(State(app): State<App>) -> Result<Response, Problem> {
    let ops = ops(&app).await?;
    let world = app.world.borrow().clone();
    let standing = world.as_ref().map(|world| world.standing()).unwrap_or_default();
    let book = Book::of(ops.dispatched().await.map_err(problem)?.rules);
    let counts: HashMap<_, _> = ops.counts().await.map_err(problem)?.into_iter().map(|counts| (counts.rule.clone(), counts)).collect();
    let failing: HashMap<_, _> = ops.failing().await.map_err(problem)?.into_iter().map(|failing| (failing.rule.clone(), failing)).collect();
    let mut rules = Vec::new();
    for (id, page) in book.pages().filter(|(_, page)| page.row.state != RuleState::Removed.as_str()) {
        let counts = counts.get(id);
        let wrong = match (&page.rule, &world) {
            (Err(why), _) => Some(format!("it cannot be meant: {why}")),
            // only the one that acts has the actors
            (Ok(rule), Some(world)) if standing.leads => world.actors.of(rule).err(),
            _ => None,
        };
        let told = counts.is_some_and(|counts| counts.pending + counts.running + counts.parked > 0) || wrong.is_some();
        if told && rules.len() < RULES_MAX {
            rules.push(rule_standing(&ops, id, &page.row.state, (counts, failing.get(id)), wrong).await?);
        }
    }
    let worker = world.as_ref().and_then(|world| world.actors.repositories.clone());
    let troubles = worker.map(|worker| worker.troubles()).unwrap_or_default();
    Ok(super::json(&Acting {
        repositories: troubles.into_iter().map(|(repository, trouble)| RepositoryStanding { repository, trouble }).collect(),
        leads: standing.leads,
        lag_events: world.and_then(|world| world.lag_events()),
        trouble: standing.trouble,
        born: ops.born().to_string(),
        rules,
    }))
}

async fn rule_standing(
    ops: &Ops,
    id: &str,
    state: &str,
    (counts, failing): (Option<&Counts>, Option<&Failing>),
    wrong: Option<String>,
) -> Result<RuleStanding, Problem> {
    let parked = counts.map_or(0, |counts| counts.parked);
    let last_parked = if parked == 0 {
        None
    } else {
        let filter = TaskFilter { rule: Some(id.to_owned()), state: Some(TaskState::Parked), key: None };
        let newest = ops.tasks(&filter, &Page { after: None, limit: 1 }).await.map_err(problem)?;
        newest.items.into_iter().next().and_then(|task| task.note)
    };
    Ok(RuleStanding {
        rule: id.to_owned(),
        state: state.to_owned(),
        pending: counts.map_or(0, |counts| counts.pending),
        running: counts.map_or(0, |counts| counts.running),
        parked,
        oldest_pending_s: oldest_s(counts, wall_clock()),
        problem: wrong,
        failing: failing.map_or(0, |failing| failing.tasks),
        last_failed: failing.and_then(|failing| failing.note.clone()),
        last_parked,
    })
}

fn oldest_s(counts: Option<&Counts>, now: Timestamp) -> f64 {
    let oldest = counts.and_then(|counts| counts.oldest_pending);
    #[expect(clippy::cast_precision_loss, reason = "a duration in seconds, to look at")]
    oldest.map_or(0.0, |oldest| (now.0 - oldest.0).max(0) as f64 / 1_000.0)
}

/// Writes into the metrics how acting stands; a store that does not answer is told by other metrics.
pub async fn measure(app: &App) {
    let world = app.world.borrow().clone();
    let standing = world.as_ref().map(|world| world.standing()).unwrap_or_default();
    let lag = world.as_ref().and_then(|world| world.lag_events());
    app.metrics.acting.standing(standing.leads, standing.trouble.is_some(), lag);
    let Some(world) = world.filter(|_| standing.leads) else { return app.metrics.acting.tasks(&[]) };
    let Ok(counts) = world.ops.counts().await else { return };
    let (now, book) = (wall_clock(), world.book());
    let there = |counts: &Counts| book.get(&counts.rule).is_some_and(|page| page.row.state != RuleState::Removed.as_str());
    let of = |counts: &Counts| RuleTasks {
        rule: counts.rule.clone(),
        states: [("pending", counts.pending), ("running", counts.running), ("parked", counts.parked)],
        oldest_s: oldest_s(Some(counts), now),
    };
    let rules: Vec<_> = counts.iter().filter(|counts| there(counts)).map(of).collect();
    app.metrics.acting.tasks(&rules);
}
