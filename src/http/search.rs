//! Search: by the cluster if there is one that can answer, else by the database, with the same answer.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use annals_events::names;
use annals_projections::search::Query as Words;
use annals_projections::{Listing, search};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::{Router, routing};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::extract::Query;
use super::position::Positions;
use super::problem::Problem;
use super::read::ask::{Ask, Listed, page_of, problem};
use super::{App, POSITION, lines};
use crate::world::search::cluster::Trouble;
use crate::world::search::{Searcher, find};

/// How long the index is waited for, where the caller wants to see what happened before; then the database answers.
const INDEX_WAIT_MAX: Duration = Duration::from_secs(2);

/// The paths of search.
pub fn paths() -> Router<App> {
    Router::new().route("/v1/search", routing::get(search))
}

/// The paths that every instance has.
pub fn state_paths() -> Router<App> {
    Router::new().route("/v1/search/index", routing::get(index)).route("/v1/search/reindex", routing::post(reindex))
}

/// The query of a search.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// What to look for: words that must all be there, `begin*`, `field:word`, `-word`.
    pub q: Option<String>,
    /// Workspace; `default` unless given, `*` asks all of them.
    pub workspace: Option<String>,
    /// Most documents of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// Not for search, which knows what is now.
    #[param(ignore)]
    pub as_of: Option<String>,
}

/// Why the database answered, and not the cluster.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Instead {
    /// Who should have.
    of: String,
    /// Why it did not.
    reason: String,
    /// What to do about that.
    remedy: String,
}

#[derive(Serialize)]
struct Body<'a, T> {
    items: &'a [T],
    next: Option<&'a str>,
    position: &'a str,
    engine: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<Instead>,
}

/// Finds models and versions by words: the newest first.
///
/// The documents hold name, version, label, description, data, algorithm, performance and the rest of the record. `engine` says
/// who answered; if that is not the search cluster that the engine was told of, `instead` says why: the answer is the same.
#[utoipa::path(
    get, path = "/v1/search", tag = "models",
    params(Search, ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until these positions can be found")),
    responses(
        (status = 200, description = "the documents, with `engine`, and `instead` if another one was to answer", body = Listed, headers(("Annals-Position" = String, description = "the positions that the answer is about"))),
        (status = 400, description = "a malformed query, position or cursor", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn search(State(app): State<App>, headers: HeaderMap, Query(asked): Query<Search>) -> Result<Response, Problem> {
    if asked.as_of.is_some() {
        let remedy = "leave `as_of` out; GET /v1/models and its parts answer about the past";
        return Err(Problem::bad_request("no-past", "search knows what is now, and no past", remedy));
    }
    let remedy = "send `q=` with words; `annals search --help` tells what can be asked";
    let query = Words::parse(asked.q.as_deref().unwrap_or_default()).map_err(|e| Problem::bad_request("bad-query", e, remedy))?;
    let page = page_of(asked.limit, asked.after)?;
    let ask = Ask::new(&app, &headers, search::NAME, asked.workspace, None).await?;
    let workspace = Some(ask.workspace()).filter(|workspace| *workspace != "*");
    if let Some(workspace) = workspace {
        names::name("workspace", workspace).map_err(|e| Problem::bad_request("bad-name", e, "name one workspace, or `*` for all"))?;
    }
    let mut instead = None;
    if let Some(searcher) = &app.searcher {
        let (question, limit) = find::question(workspace, &query, &page).map_err(problem)?;
        match by_cluster(searcher, &app, &headers, &question, limit).await? {
            Ok((found, position)) => return Ok(answer(&found, &position, &engine_of(searcher), None)),
            Err(trouble) => {
                app.metrics.search.fell_back();
                let of = format!("{} at {}", engine_of(searcher), searcher.shown());
                instead = Some(Instead { of, reason: trouble.to_string(), remedy: trouble.remedy().into() });
            }
        }
    }
    let found = ask.views().found(workspace, &query, &page).await.map_err(problem)?;
    Ok(answer(&found, ask.position(), if ask.views().shared() { "postgresql" } else { "sqlite" }, instead))
}

fn engine_of(searcher: &Searcher) -> String {
    searcher.state().engine.unwrap_or_else(|| "search cluster".into())
}

/// What the cluster found, and where it was.
type Answered = Result<(Listing<find::Hit>, String), Trouble>;

async fn by_cluster(searcher: &Searcher, app: &App, headers: &HeaderMap, question: &str, limit: usize) -> Result<Answered, Problem> {
    if let Some(wanted) = headers.get(super::read::ask::MIN_POSITION) {
        let wanted = Positions::parse(wanted.to_str().unwrap_or_default(), app.door.journal().partitions())?;
        if !searcher.has(&wanted.0, INDEX_WAIT_MAX).await {
            let behind = || Trouble::Behind("it has not come so far, or another instance keeps it");
            return Ok(Err(searcher.usable().err().unwrap_or_else(behind)));
        }
    }
    let position = Positions(searcher.positions()).to_string();
    let mut found = searcher.find(question, limit).await;
    if let Err(Trouble::Refused(..) | Trouble::Red(_)) = found {
        // the index was made anew, and the old one went away under the question
        found = searcher.find(question, limit).await;
    }
    Ok(found.map(|found| (found, position)))
}

fn answer<T: Serialize>(found: &Listing<T>, position: &str, engine: &str, instead: Option<Instead>) -> Response {
    let body = Body { items: &found.items, next: found.next.as_deref(), position, engine, instead };
    let mut response = super::json(&body);
    if let Ok(position) = HeaderValue::from_str(position) {
        response.headers_mut().insert(POSITION, position);
    }
    response
}

/// How the index of the search cluster stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct IndexState {
    /// `indexing`, `standby` (another instance keeps it), `reindexing`, `filling`, or what is wrong: `away`, `busy`, `red`,
    /// `denied`, `foreign`, `changed`, `ahead`, `refused`, `waiting`; `none` without a cluster.
    state: &'static str,
    /// The cluster, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// What runs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    /// The index behind the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// How far the index is.
    position: String,
    /// How many events the journal has whose documents are not in the index yet.
    lag_events: u64,
    /// Documents that the cluster did not take, and why; of many, some.
    refused: BTreeMap<String, String>,
}

/// How the index stands.
pub fn standing(searcher: &Searcher) -> IndexState {
    let state = searcher.state();
    let whole = state.index.as_ref().is_some_and(|index| index.meta.complete);
    let word = match (&state.trouble, state.reindexing, state.keeps) {
        (_, true, _) => "reindexing",
        (Some(trouble), _, _) => trouble.word(),
        (None, _, false) => "standby",
        (None, _, true) if !whole => "filling",
        (None, _, true) => "indexing",
    };
    let index = state.index;
    IndexState {
        state: word,
        cluster: Some(searcher.shown().to_owned()),
        engine: state.engine,
        reason: state.trouble.as_ref().map(ToString::to_string),
        remedy: state.trouble.as_ref().map(|trouble| trouble.remedy().to_owned()),
        position: Positions(searcher.positions()).to_string(),
        lag_events: searcher.lag_events(),
        refused: index.as_ref().map(|index| index.meta.refused.clone()).unwrap_or_default(),
        index: index.map(|index| index.name),
    }
}

/// Writes into the metrics how the index stands.
pub fn measure(app: &App) {
    if let Some(searcher) = &app.searcher {
        let standing = standing(searcher);
        app.metrics.search.standing(standing.state, standing.lag_events, standing.refused.len());
    }
}

/// Tells how the index of the search cluster stands.
#[utoipa::path(get, operation_id = "search_index", path = "/v1/search/index", tag = "state", responses((status = 200, description = "how it stands", body = IndexState)))]
pub async fn index(State(app): State<App>) -> Response {
    let none = || IndexState {
        state: "none",
        cluster: None,
        engine: None,
        index: None,
        reason: None,
        remedy: None,
        position: String::new(),
        lag_events: 0,
        refused: BTreeMap::new(),
    };
    super::json(&app.searcher.as_deref().map_or_else(none, standing))
}

/// A line of a reindex's answer.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ReindexLine {
    /// It is under way.
    Reindexing {
        /// Documents that are done.
        documents: u64,
        /// Documents that there are.
        of: u64,
    },
    /// It is done, and readers see the new index; the last line.
    Done {
        /// Documents that were sent.
        documents: u64,
        /// The new index.
        index: String,
        /// Where it is.
        position: String,
    },
    /// It failed, and the old index is as it was; the last line.
    Failed {
        /// What was wrong.
        #[serde(flatten)]
        problem: Problem,
    },
}

/// Makes the index of the search cluster anew, beside the old one, and switches to it at the end.
///
/// The answer is a line per step; the last one has the state `done` or `failed`. It goes on when the caller goes away.
#[utoipa::path(
    post, operation_id = "search_reindex", path = "/v1/search/reindex", tag = "state",
    responses(
        (status = 200, description = "a line of JSON per step", body = ReindexLine, content_type = "application/x-ndjson"),
        (status = 404, description = "the engine was told of no search cluster", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it is being made already, or another instance keeps it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn reindex(State(app): State<App>) -> Result<Response, Problem> {
    let none = || Problem::not_found("no-search-cluster", "this engine was told of no search cluster", "start it with --search URL");
    let searcher: Arc<Searcher> = app.searcher.clone().ok_or_else(none)?;
    let state = searcher.state();
    if state.reindexing || !state.keeps {
        return Err(trouble(&if state.reindexing { Trouble::Reindexing } else { Trouble::Elsewhere }));
    }
    let permit = lines::permit(&app)?;
    let (tell, told) = watch::channel(ReindexLine::Reindexing { documents: 0, of: 0 });
    tokio::spawn(async move {
        let progress = |documents, of| drop(tell.send_replace(ReindexLine::Reindexing { documents, of }));
        let made = AssertUnwindSafe(searcher.reindex(progress)).catch_unwind().await;
        let last = match made {
            Ok(Ok(made)) => {
                let position = Positions(made.index.meta.positions).to_string();
                ReindexLine::Done { documents: made.documents, index: made.index.name, position }
            }
            Ok(Err(e)) => ReindexLine::Failed { problem: trouble(&e) },
            Err(_) => ReindexLine::Failed { problem: Problem::internal("the reindex met a mistake in the engine, which is in the log") },
        };
        tell.send_replace(last);
    });
    Ok(lines::told(permit, "a reindex", told, |line| !matches!(line, ReindexLine::Reindexing { .. })))
}

fn trouble(trouble: &Trouble) -> Problem {
    let status = match trouble {
        Trouble::Away(..) | Trouble::Busy(_) | Trouble::Red(_) | Trouble::Refused(..) | Trouble::Behind(_) | Trouble::Views(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Trouble::Denied(_)
        | Trouble::Lacks
        | Trouble::Foreign(_)
        | Trouble::Changed(_)
        | Trouble::Ahead { .. }
        | Trouble::Elsewhere
        | Trouble::Reindexing => StatusCode::CONFLICT,
    };
    Problem::new(status, &format!("search-{}", trouble.word()), trouble, trouble.remedy())
}
