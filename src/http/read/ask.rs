//! What every read shares: the workspace, the point in the journal that is meant, and the answer's form.

use std::sync::Arc;
use std::time::Duration;

use annals_events::names::{Key, SYSTEM};
use annals_projections::{AsOf, Doc, Error, Listing, Page, Views, page, registry, timeline};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::http::position::{Moment, Positions};
use crate::http::problem::Problem;
use crate::http::{App, POSITION, Viewing};
use crate::runner::Runner;

/// How long a read waits for its view to come so far as was asked.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// Positions that the view must have.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("annals-min-position");

/// The query of a read of one thing.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Single {
    /// Workspace; `default` unless given.
    pub workspace: Option<String>,
    /// The past: an RFC 3339 time, or positions such as `3:17,5:2` (no event counts of a partition that is not named).
    pub as_of: Option<String>,
}

/// The query of a read of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Many {
    /// Workspace; `default` unless given.
    pub workspace: Option<String>,
    /// The past: an RFC 3339 time, or positions such as `3:17,5:2` (no event counts of a partition that is not named).
    pub as_of: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// The query of a timeline.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Lines {
    /// Workspace; `default` unless given. The timeline of all models is of all workspaces.
    pub workspace: Option<String>,
    /// The past: an RFC 3339 time, or positions such as `3:17,5:2` (no event counts of a partition that is not named).
    pub as_of: Option<String>,
    /// Most lines of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// `oldest` (the default) or `newest` first.
    pub order: Option<String>,
}

/// Which point of the journal an answer is about; in answers to questions with `as_of`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Point {
    /// What was asked.
    pub asked: String,
    /// The positions that it means: asked with them, the answer is the same for ever.
    pub position: String,
    /// Whether nothing can be added any more to what was recorded until then.
    pub settled: bool,
}

/// The page to read.
///
/// # Errors
/// 400 for a limit of 0 or over the most.
pub fn page_of(limit: Option<u32>, after: Option<String>) -> Result<Page, Problem> {
    let limit = limit.unwrap_or(page::LIMIT);
    if limit == 0 || limit > page::LIMIT_MAX {
        let detail = format!("`limit={limit}` is not between 1 and {}", page::LIMIT_MAX);
        return Err(Problem::bad_request("bad-query", detail, "ask for smaller pages, and follow `next`"));
    }
    Ok(Page { after, limit })
}

/// One question: where it is asked, and what its answer says about that.
pub struct Ask {
    runner: Arc<Runner>,
    workspace: String,
    /// The point that is meant.
    pub at: AsOf,
    position: String,
    point: Option<Point>,
}

impl Ask {
    /// Waits for the view, and finds the point that is meant.
    ///
    /// # Errors
    /// 400 for a malformed position or time, 503 while the view is not so far.
    pub async fn new(
        app: &App,
        headers: &HeaderMap,
        view: &str,
        workspace: Option<String>,
        as_of: Option<String>,
    ) -> Result<Self, Problem> {
        let runner = viewing(app).await?;
        let partitions = app.door.journal().partitions();
        if let Some(value) = headers.get(MIN_POSITION) {
            let positions = Positions::parse(value.to_str().unwrap_or_default(), partitions)?;
            wait(&runner, view, &positions).await?;
        }
        let workspace = workspace.filter(|w| !w.is_empty()).unwrap_or_else(|| "default".into());
        let Some(asked) = as_of else {
            let seqs = runner.seqs(view).unwrap_or_default();
            let position = Positions((0..).zip(seqs).filter_map(|(p, seq)| Some((p, seq?))).collect()).to_string();
            return Ok(Self { runner, workspace, at: AsOf::Now, position, point: None });
        };
        let asked = asked.replace(' ', "+"); // the `+` of an offset, when nobody encoded it
        let (at, settled) = match Moment::parse(&asked, partitions)? {
            Moment::Positions(positions) => {
                wait(&runner, view, &positions).await?;
                (runner.views().as_of(&asked).await.map_err(problem)?, true)
            }
            Moment::Time(time) => {
                let settled = settle(app, &runner, view, time).await?;
                (runner.views().as_of(&asked).await.map_err(problem)?, settled)
            }
        };
        let position = at.to_string();
        let point = Some(Point { asked, position: position.clone(), settled });
        Ok(Self { runner, workspace, at, position, point })
    }

    /// Asks about now, behind these positions at least.
    ///
    /// # Errors
    /// 503 while the view is not so far.
    pub async fn behind(app: &App, view: &str, positions: &str) -> Result<Self, Problem> {
        let mut headers = HeaderMap::new();
        if let Ok(positions) = HeaderValue::from_str(positions) {
            headers.insert(MIN_POSITION, positions);
        }
        Self::new(app, &headers, view, None, None).await
    }

    /// The views.
    pub fn views(&self) -> &Views {
        self.runner.views()
    }

    /// Means now, but as the positions that the view has: several questions then have one answer.
    ///
    /// # Errors
    /// 503 if the view does not answer.
    pub async fn pin(&mut self, view: &str) -> Result<(), Problem> {
        self.at = self.views().pinned(view).await.map_err(problem)?;
        self.position = self.at.to_string();
        Ok(())
    }

    /// The positions that the answer is about.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// The workspace that is asked about.
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// The key of a model in the workspace.
    ///
    /// # Errors
    /// 400 if it cannot be a name.
    pub fn key(&self, model: &str) -> Result<Key, Problem> {
        Key::new(&self.workspace, model)
            .map_err(|e| Problem::bad_request("bad-name", e, "correct the name; `?workspace=` names the workspace"))
    }

    /// As [`Ask::key`], or the key of what is about the workspace and no model of it.
    ///
    /// # Errors
    /// 400 if it cannot be a name.
    pub fn key_of_timeline(&self, model: &str) -> Result<Key, Problem> {
        let system = (model == SYSTEM).then(|| Key::system(&self.workspace).ok()).flatten();
        system.map_or_else(|| self.key(model), Ok)
    }

    /// 404, with the time if one was asked for.
    pub fn missing(&self, code: &str, what: impl std::fmt::Display) -> Problem {
        let when = self.point.as_ref().map(|point| format!(" at {}", point.asked)).unwrap_or_default();
        Problem::not_found(code, format!("{what}{when}"), "look at GET /v1/models, or name another workspace with ?workspace=")
    }

    /// Refuses to answer about a model that there is not.
    ///
    /// # Errors
    /// 404.
    pub async fn must_exist(&self, key: &Key) -> Result<(), Problem> {
        let found = self.views().model(key.as_str(), &self.at).await.map_err(problem)?;
        found.map(|_| ()).ok_or_else(|| self.no_model(key))
    }

    /// 404 for a model.
    pub fn no_model(&self, key: &Key) -> Problem {
        self.missing("unknown-model", format!("there is no model `{key}`"))
    }

    /// An answer with one document.
    pub fn one(&self, doc: &Doc) -> Response {
        let mut response = self.body_of(&*doc.body);
        if self.point.is_none()
            && let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", doc.modelseq))
        {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }

    /// An answer with one object of any kind.
    pub fn body_of(&self, body: &(impl Serialize + ?Sized)) -> Response {
        let Ok(mut bytes) = serde_json::to_vec(body) else { return Problem::internal("the answer cannot be written").into_response() };
        if let Some(point) = &self.point
            && bytes.last() == Some(&b'}')
        {
            bytes.pop();
            bytes.extend_from_slice(if bytes.len() > 1 { b",\"as_of\":" } else { b"\"as_of\":" });
            if serde_json::to_writer(&mut bytes, point).is_err() {
                return Problem::internal("the answer cannot be written").into_response();
            }
            bytes.push(b'}');
        }
        self.send(bytes)
    }

    /// An answer with a page of things.
    pub fn many<T: Serialize>(&self, listing: &Listing<T>) -> Response {
        #[derive(Serialize)]
        struct Body<'a, T> {
            items: &'a [T],
            next: Option<&'a str>,
            position: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            as_of: Option<&'a Point>,
        }
        let body = Body { items: &listing.items, next: listing.next.as_deref(), position: &self.position, as_of: self.point.as_ref() };
        match serde_json::to_vec(&body) {
            Ok(bytes) => self.send(bytes),
            Err(e) => Problem::internal(format!("the answer cannot be written: {e}")).into_response(),
        }
    }

    fn send(&self, bytes: Vec<u8>) -> Response {
        let mut response = Body::from(bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(position) = HeaderValue::from_str(&self.position) {
            headers.insert(POSITION, position);
        }
        response
    }
}

/// The views, once they are open.
///
/// # Errors
/// 503 while they are not, 500 if they cannot be opened.
pub async fn viewing(app: &App) -> Result<Arc<Runner>, Problem> {
    let mut viewing = app.viewing.clone();
    let opened = tokio::time::timeout(BEHIND_MAX, viewing.wait_for(|v| !matches!(v, Viewing::Opening))).await;
    match opened.as_ref().map(|opened| opened.as_deref()) {
        Ok(Ok(Viewing::Open(runner))) => Ok(runner.clone()),
        Ok(Ok(Viewing::Waiting(reason))) => {
            Err(Problem::unavailable("view-unavailable", format!("the views wait: {reason}"), "try again after Retry-After"))
        }
        Ok(Ok(Viewing::Failed(reason))) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no-views",
            format!("the views cannot be opened: {reason}"),
            "proposals are still taken; do what the detail says, and start the engine again",
        )),
        _ => Err(Problem::unavailable("starting", "the views are not open yet", "try again after Retry-After")),
    }
}

async fn wait(runner: &Runner, view: &str, positions: &Positions) -> Result<(), Problem> {
    let wanted: Vec<_> = positions.0.iter().map(|(p, seq)| (*p, *seq)).collect();
    if runner.wait_for(view, &wanted, BEHIND_MAX).await {
        return Ok(());
    }
    runner.views().positions(view).await.map_err(problem)?; // the database may be what is in the way
    let seqs = runner.seqs(view).unwrap_or_default();
    let has = Positions((0..).zip(seqs).filter_map(|(p, seq)| Some((p, seq?))).collect());
    Err(Problem::unavailable(
        "view-behind",
        format!("the view `{view}` is at {has}, and {positions} was asked for"),
        "try again after Retry-After; if it stays so, look at /v1/views and at the position that you ask for",
    ))
}

/// Waits until a view has what the journal has now.
///
/// # Errors
/// 503 while the view is not so far.
pub async fn caught_up(app: &App, view: &str) -> Result<Arc<Runner>, Problem> {
    let runner = viewing(app).await?;
    let heads = Positions(app.door.heads().into_iter().filter_map(|head| Some((head.partition, head.seq?))).collect());
    wait(&runner, view, &heads).await?;
    Ok(runner)
}

/// Waits until the views have what the journal has, and tells whether nothing more can be recorded
/// at or before a time.
async fn settle(app: &App, runner: &Runner, view: &str, time: annals_events::time::Timestamp) -> Result<bool, Problem> {
    let journal = app.door.journal().clone();
    let judged = (0..journal.partitions()).all(|p| journal.settled_until(p) > time);
    let heads: Vec<_> = app.door.heads().iter().filter_map(|head| Some((head.partition, head.seq?))).collect();
    let both = runner.wait_for(timeline::NAME, &heads, BEHIND_MAX).await && runner.wait_for(view, &heads, BEHIND_MAX).await;
    if !judged || !both {
        return Ok(false);
    }
    // an event may be committed and not have come by the door yet
    let positions = runner.views().positions(timeline::NAME).await.map_err(problem)?;
    let complete = crate::http::blocking(move || {
        let ends = positions.iter().map(|p| Ok(journal.records(p.partition, p.offset + 1, 1)?.items.is_empty()));
        ends.collect::<Result<Vec<_>, crate::journal::ReadError>>()
            .map(|ends| ends.len() == journal.partitions() as usize && ends.into_iter().all(|end| end))
    })
    .await??;
    Ok(complete)
}

/// What a view's error means to the caller.
pub fn problem(error: Error) -> Problem {
    match &error {
        Error::AsOf(_) => {
            Problem::bad_request("bad-time", &error, "send a time such as 2026-03-01T12:00:00Z, or positions such as 3:17,5:2")
        }
        Error::Cursor(_) => Problem::bad_request("bad-cursor", &error, "follow `next` of the page before"),
        Error::UnknownView { .. } => Problem::not_found("unknown-view", &error, "look at GET /v1/views"),
        Error::Rebuilding(_) => Problem::new(StatusCode::CONFLICT, "rebuilding", &error, "wait until it is done: GET /v1/views shows it"),
        Error::OpsUnavailable(_) => Problem::unavailable("store-unavailable", &error, "try again after Retry-After"),
        Error::CursorMoved { .. } | Error::TaskChanged(_) | Error::Fenced => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "moved", &error, "read it again, and decide anew")
        }
        Error::Unavailable(_) | Error::Source(_) => Problem::unavailable("view-unavailable", &error, "try again after Retry-After"),
        Error::Foreign { .. }
        | Error::Url(_)
        | Error::Encoding { .. }
        | Error::Schema { .. }
        | Error::OtherJournal { .. }
        | Error::Newer { .. }
        | Error::Damaged { .. }
        | Error::Gap { .. }
        | Error::Broken { .. }
        | Error::Corrupt { .. }
        | Error::Stopped { .. } => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "view-damaged",
            &error,
            "do what the detail says; the journal is not touched by it",
        ),
    }
}

/// The view that most reads ask.
pub const REGISTRY: &str = registry::NAME;

/// A page as the description of the door has it.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes what `Ask::many` writes")]
pub struct Listed {
    /// The things, in their order.
    #[schema(value_type = Vec<Object>)]
    items: (),
    /// `after` of the next page; `null` at the end.
    next: Option<String>,
    /// The point that the answer is about: ask the next page with it as `as_of`, and nothing moves.
    position: String,
    /// Only in answers to questions with `as_of`.
    #[schema(required = false)]
    as_of: Option<Point>,
}
