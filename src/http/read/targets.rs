//! What is wanted on each target, beside what was found there.

use annals_projections::deployments::{self, STATES};
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;

use super::ask::{Ask, Listed, page_of, problem};
use super::{Answer, known};
use crate::http::App;
use crate::http::extract::Query;
use crate::http::problem::Problem;

/// The query of the targets.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Targets {
    /// Workspace; `default` unless given, `*` for all.
    pub workspace: Option<String>,
    /// Only targets that serve this channel.
    pub channel: Option<String>,
    /// Only these targets (`platform/cluster/namespace/name`); `*` stands for any characters.
    pub target: Option<String>,
    /// Only those that are `in-sync`, `progressing`, `failed`, `rolled-back`, `foreign`, `missing` or `changed`.
    pub state: Option<String>,
    /// The past: an RFC 3339 time, or positions such as `3:17,5:2` (no event counts of a partition that is not named).
    pub as_of: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// Lists what is wanted on each target beside what was found there, with the event that caused each.
///
/// A target is listed while something is wanted or found there. What nobody asked for is `foreign`, and has no `model`.
#[utoipa::path(
    get, path = "/v1/deployments", tag = "models",
    params(Targets, ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until the view has these positions")),
    responses(
        (status = 200, description = "the targets, by their names", body = Listed, headers(("Annals-Position" = String, description = "the positions that the answer is about"))),
        (status = 400, description = "a malformed time, position or cursor, or a state that is none", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such channel", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn targets(State(app): State<App>, headers: HeaderMap, Query(asked): Query<Targets>) -> Answer {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (page, channel, state) = (page_of(asked.limit, asked.after)?, given(asked.channel), given(asked.state));
    channel.as_deref().map_or(Ok(()), known)?;
    if let Some(state) = state.as_deref().filter(|state| !STATES.contains(state)) {
        return Err(Problem::bad_request("bad-query", format!("no target is ever `{state}`"), format!("use one of {}", STATES.join(", "))));
    }
    let ask = Ask::new(&app, &headers, deployments::NAME, asked.workspace, asked.as_of).await?;
    let workspace = Some(ask.workspace()).filter(|workspace| *workspace != "*").map(Into::into);
    let filter = deployments::Filter { workspace, channel, state, target: given(asked.target) };
    Ok(ask.many(&ask.views().targets(&filter, &ask.at, &page).await.map_err(problem)?))
}
