//! `GET /v1/proposals/{id}`: what became of a proposal, also for a caller that got no answer.

use annals_events::verdict::{Outcome, Verdict};
use annals_projections::timeline;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::App;
use super::cloudevent;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::publish::outcome_name;
use super::read::ask;

/// Which proposal is asked about.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Asked {
    /// The proposal's CloudEvents source; `/http` unless given.
    source: Option<String>,
}

/// What is known of a proposal.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct ProposalState {
    /// The CloudEvents id.
    pub id: String,
    /// The CloudEvents source.
    pub source: String,
    /// `accepted`, `duplicate`, `refused` or `malformed`.
    pub state: &'static str,
    /// `partition:seq`, if it is an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The model's sequence behind the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelseq: Option<u64>,
    /// The version that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Tells what became of a proposal. An accepted one is in the journal, and so in the timeline, for
/// ever; other verdicts are kept for 30 days.
#[utoipa::path(
    get, path = "/v1/proposals/{id}", tag = "events",
    params(("id" = String, Path, description = "the CloudEvents id"), Asked),
    responses(
        (status = 200, description = "what became of it", body = ProposalState),
        (status = 404, description = "never seen, not judged yet, or its verdict is no longer kept: these cannot be told apart", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the timeline is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn proposal_state(State(app): State<App>, Path(id): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let source = asked.source.unwrap_or_else(|| cloudevent::SOURCE.to_owned());
    let runner = ask::caught_up(&app, timeline::NAME).await?;
    if let Some(line) = runner.views().timeline_event(&source, &id).await.map_err(ask::problem)? {
        let position = Some(format!("{}:{}", line.partition, line.seq));
        let (modelseq, version) = (Some(line.modelseq), line.version);
        return Ok(super::json(&ProposalState { id, source, state: "accepted", position, modelseq, version, problem: None }));
    }
    let door = app.door.clone();
    let (id, source, found) = super::blocking(move || {
        let found = door.verdict(&source, &id);
        (id, source, found)
    })
    .await?;
    let Some((partition, verdict)) = found? else {
        return Err(Problem::not_found(
            "unknown-proposal",
            format!("no verdict is known on the proposal `{id}` of source `{source}`: it was never seen, is still pending, or is too old"),
            "name its source with ?source=, wait a moment and ask again, or send it again with the same id",
        ));
    };
    Ok(super::json(&told(id, source, partition, verdict)))
}

fn told(id: String, source: String, partition: u32, verdict: Verdict) -> ProposalState {
    let state = outcome_name(&verdict.outcome);
    let (place, problem) = match verdict.outcome {
        Outcome::Accepted(place) | Outcome::Duplicate(place) => (Some(place), None),
        Outcome::Refused(refusal) | Outcome::Malformed(refusal) => (None, Some(Problem::from(refusal))),
    };
    let position = place.as_ref().map(|place| format!("{partition}:{}", place.seq));
    let (modelseq, version) = (place.as_ref().map(|p| p.modelseq), place.as_ref().and_then(|p| p.version));
    ProposalState { id, source, state, position, modelseq, version, problem }
}
