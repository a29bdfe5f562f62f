//! A subscription's change as a proposal at our own door, and the wait until the dispatcher knows of it.

use std::collections::BTreeMap;
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::proposal::Proposal;
use annals_events::verdict::{Code, Outcome};
use annals_projections::ops::Ops;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::http::App;
use crate::http::cloudevent::SOURCE;
use crate::http::problem::Problem;
use crate::http::publish::SETTLE_MAX;

/// How long the dispatcher is waited for, so that who has changed something sees it changed.
const KNOWN_MAX: Duration = Duration::from_secs(5);
/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether anything is different now; what is as it was wanted is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed(pub bool);

/// Proposes `subscription.changed`.
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
    reason: Option<String>,
) -> Result<Changed, Problem> {
    data.insert("subscription".into(), name.into());
    data.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    let key =
        Key::system(workspace).map_err(|e| Problem::bad_request("bad-name", e, "correct the name; `?workspace=` names the workspace"))?;
    let given = [
        ("specversion", "1.0".to_owned()),
        ("id", uuid::Uuid::now_v7().to_string()),
        ("source", SOURCE.to_owned()),
        ("type", Kind::SubscriptionChanged.name().to_owned()),
        ("subject", key.to_string()),
    ];
    let mut attributes: BTreeMap<String, String> = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    attributes.extend(actor.map(|actor| ("actor".to_owned(), actor)));
    let proposal = Proposal::from_parts(attributes, Value::Object(data).to_string(), Some(key.as_str().as_bytes()))?;
    let answer = app.door.submit(&proposal, SETTLE_MAX).await?;
    let Some(verdict) = answer.verdict else {
        return Err(Problem::unavailable(
            "not-settled",
            "the change has no verdict yet",
            "ask how the webhook is, and send it again if need be",
        ));
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
        let positions = ops.dispatched().await.map_err(super::problem)?.positions;
        if positions.iter().any(|position| position.partition == partition && position.seq >= seq) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Problem::unavailable(
        "not-dispatched",
        "the change is recorded, and no actor has taken note of it yet",
        "see that an instance with the role `actor` runs; ask how the webhook is after Retry-After",
    ))
}
