//! A trigger's change as a proposal at our own door, and the wait until the dispatcher has it in force.

use std::collections::BTreeMap;
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::proposal::Proposal;
use annals_events::verdict::{Code, Outcome};
use annals_projections::Ops;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::http::App;
use crate::http::cloudevent::SOURCE;
use crate::http::problem::Problem;
use crate::http::publish::SETTLE_MAX;
use crate::http::read::ask::problem;

/// How long the dispatcher is waited for.
const IN_FORCE_MAX: Duration = Duration::from_secs(5);
/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whether anything is different now.
    pub changed: bool,
    /// `partition:seq` of the event, if there is one.
    pub position: Option<String>,
    /// Whether events from now on meet it.
    pub in_force: bool,
}

/// Proposes `trigger.changed`, and waits until it is in force.
///
/// # Errors
/// The refusal, or that it is not settled yet.
pub async fn propose(
    app: &App,
    ops: &Ops,
    workspace: &str,
    name: &str,
    mut data: Map<String, Value>,
    actor: Option<String>,
) -> Result<Changed, Problem> {
    data.insert("trigger".into(), name.into());
    let key =
        Key::system(workspace).map_err(|e| Problem::bad_request("bad-name", e, "correct the name; `?workspace=` names the workspace"))?;
    let mut attributes = BTreeMap::new();
    for (name, value) in [
        ("specversion", "1.0".to_owned()),
        ("id", uuid::Uuid::now_v7().to_string()),
        ("source", SOURCE.to_owned()),
        ("type", Kind::TriggerChanged.name().to_owned()),
        ("subject", key.to_string()),
    ] {
        attributes.insert(name.to_owned(), value);
    }
    attributes.extend(actor.map(|actor| ("actor".to_owned(), actor)));
    let proposal = Proposal::from_parts(attributes, Value::Object(data).to_string(), Some(key.as_str().as_bytes()))?;
    let answer = app.door.submit(&proposal, SETTLE_MAX).await?;
    let Some(verdict) = answer.verdict else {
        return Err(Problem::unavailable(
            "not-settled",
            "the change has no verdict yet",
            "look at the trigger, and send it again if need be",
        ));
    };
    match verdict.outcome {
        Outcome::Accepted(place) | Outcome::Duplicate(place) => {
            let in_force = in_force(ops, answer.partition, place.seq).await?;
            Ok(Changed { changed: true, position: Some(format!("{}:{}", answer.partition, place.seq)), in_force })
        }
        Outcome::Refused(refusal) if refusal.code == Code::NoChange => Ok(Changed { changed: false, position: None, in_force: true }),
        Outcome::Refused(refusal) | Outcome::Malformed(refusal) => Err(refusal.into()),
    }
}

/// Waits until the dispatcher has passed an event; whether it has.
async fn in_force(ops: &Ops, partition: u32, seq: u64) -> Result<bool, Problem> {
    let until = Instant::now() + IN_FORCE_MAX;
    loop {
        let positions = ops.dispatched().await.map_err(problem)?.positions;
        if positions.iter().any(|position| position.partition == partition && position.seq >= seq) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
