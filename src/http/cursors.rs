//! Named cursors: where a subscriber goes on, kept for it by the engine. Whoever moves one says from
//! which revision, so that a second subscriber of the same name is noticed.

use annals_events::names;
use annals_projections::Error;
use annals_projections::ops::CursorRow;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{Path, Query};
use super::operating::ops;
use super::position::Cursor;
use super::problem::Problem;
use super::read::ask::{page_of, problem};
use super::{App, follow};

/// Longest body, in bytes: a cursor has a few for each partition.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Where a subscriber goes on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Named {
    /// Its name, unique in the workspace.
    pub name: String,
    /// Its workspace.
    pub workspace: String,
    /// The cursor: `after` of the stream.
    pub cursor: String,
    /// Grows with each move; also the `ETag`.
    pub revision: u64,
    /// When it was last moved.
    pub updated: String,
}

/// Named cursors.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AllNamed {
    /// By name.
    pub items: Vec<Named>,
    /// `after` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// Where a cursor is put.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// A cursor: the `id` of the last event that was taken.
    pub cursor: String,
}

/// Which workspace.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Of {
    /// Workspace; `default` unless given.
    workspace: Option<String>,
}

/// The query of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Workspace; `default` unless given.
    workspace: Option<String>,
    /// Most items of the page; 100 unless given, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Lists the workspace's named cursors.
#[utoipa::path(
    get, path = "/v1/cursors", tag = "events", params(Part),
    responses(
        (status = 200, description = "by name", body = AllNamed),
        (status = 503, description = "the operational store is not there now", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, Query(asked): Query<Part>) -> Result<Response, Problem> {
    let page = page_of(asked.limit, asked.after)?;
    let listing = ops(&app).await?.cursors(&workspace(asked.workspace)?, &page).await.map_err(problem)?;
    Ok(super::json(&AllNamed { items: listing.items.into_iter().map(named).collect(), next: listing.next }))
}

/// A named cursor.
#[utoipa::path(
    get, path = "/v1/cursors/{name}", tag = "events",
    params(("name" = String, Path, description = "the cursor's name"), Of),
    responses(
        (status = 200, description = "where it is", body = Named, headers(("ETag" = String, description = "its revision"))),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the operational store is not there now", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn read(State(app): State<App>, Path(name): Path<String>, Query(of): Query<Of>) -> Result<Response, Problem> {
    let found = ops(&app).await?.cursor(&workspace(of.workspace)?, &name).await.map_err(problem)?;
    found.map(|row| answer(StatusCode::OK, row)).ok_or_else(|| unknown(&name))
}

/// Moves or makes a named cursor. It must be a cursor of this journal.
///
/// `If-Match` names the revision that it is moved from, `If-None-Match: *` makes a new one; without
/// either it is moved wherever it is.
#[utoipa::path(
    put, path = "/v1/cursors/{name}", tag = "events", request_body = Place,
    params(
        ("name" = String, Path, description = "the cursor's name"), Of,
        ("If-Match" = Option<String>, Header, description = "the revision that it must be at"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not be there yet"),
    ),
    responses(
        (status = 200, description = "it was moved", body = Named, headers(("ETag" = String, description = "its revision"))),
        (status = 201, description = "it was made", body = Named, headers(("ETag" = String, description = "its revision"))),
        (status = 400, description = "a malformed cursor or name", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "the cursor is of another journal or history", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "somebody else has moved it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the operational store is not there now", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let workspace = workspace(of.workspace)?;
    names::name("cursor", &name).map_err(|e| Problem::bad_request("bad-name", e, "choose another name"))?;
    let expected = expected(&headers)?;
    let place = axum::body::to_bytes(body, BODY_BYTES_MAX).await.ok().and_then(|bytes| serde_json::from_slice::<Place>(&bytes).ok());
    let place = place.ok_or_else(|| {
        Problem::bad_request("bad-body", "the body does not say where the cursor is to be", "send {\"cursor\": \"…\"}, and nothing else")
    })?;
    let cursor = Cursor::decode(&place.cursor)?;
    let store = ops(&app).await?;
    let door = app.door.clone();
    super::blocking(move || follow::resume(&**door.journal(), &cursor)).await??;
    let now = crate::journal::wall_clock();
    let moved = store.set_cursor(&workspace, &name, &place.cursor, expected, now).await;
    let revision = moved.map_err(|e| not_moved(e, &name))?;
    let status = if revision == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, CursorRow { workspace, name, cursor: place.cursor, updated: now, revision }))
}

/// Forgets a named cursor: the next subscriber of this name begins anew.
#[utoipa::path(
    delete, path = "/v1/cursors/{name}", tag = "events",
    params(
        ("name" = String, Path, description = "the cursor's name"), Of,
        ("If-Match" = Option<String>, Header, description = "the revision that it must be at"),
    ),
    responses(
        (status = 204, description = "it is forgotten"),
        (status = 404, description = "there is none", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "somebody else has moved it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the operational store is not there now", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn forget(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let forgotten = ops(&app).await?.forget_cursor(&workspace(of.workspace)?, &name, expected).await;
    if forgotten.map_err(|e| not_moved(e, &name))? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(unknown(&name)) }
}

fn workspace(given: Option<String>) -> Result<String, Problem> {
    let workspace = given.filter(|w| !w.is_empty()).unwrap_or_else(|| "default".into());
    names::name("workspace", &workspace).map_err(|e| Problem::bad_request("bad-name", e, "name a workspace"))?;
    Ok(workspace)
}

/// The revision that the caller expects: 0 for none yet.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let bad = |text: &str| {
        let remedy = "send the ETag that you were given, such as \"17\", as If-Match, or `If-None-Match: *`";
        Problem::bad_request("bad-expectation", format!("`{text}` is not a cursor's revision"), remedy)
    };
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(0)),
        (Some(quoted), None) => {
            let digits = quoted.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(quoted);
            let revision = digits.parse::<u64>().ok().filter(|revision| *revision > 0);
            revision.map(Some).ok_or_else(|| bad(quoted))
        }
        (Some(text), Some(_)) | (None, Some(text)) => Err(bad(text)),
    }
}

fn not_moved(error: Error, name: &str) -> Problem {
    let Error::CursorMoved { found } = error else { return problem(error) };
    let at = found.map_or_else(|| "is not there".into(), |revision| format!("is at revision {revision} by now"));
    let mut problem = Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "cursor-moved",
        format!("the cursor `{name}` {at}"),
        "one subscriber uses a name: end the other one, or choose another name",
    );
    if let Some(revision) = found {
        problem.state = serde_json::json!({"revision": revision});
    }
    problem
}

fn unknown(name: &str) -> Problem {
    Problem::not_found("unknown-cursor", format!("there is no cursor `{name}`"), "look at GET /v1/cursors")
}

fn named(row: CursorRow) -> Named {
    let CursorRow { workspace, name, cursor, updated, revision } = row;
    Named { name, workspace, cursor, revision, updated: updated.to_string() }
}

fn answer(status: StatusCode, row: CursorRow) -> Response {
    let revision = row.revision;
    let mut response = super::json(&named(row));
    *response.status_mut() = status;
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Result<Option<u64>, u16> {
        let pair = |(n, v): &(&'static str, &'static str)| (header::HeaderName::from_static(n), HeaderValue::from_static(v));
        expected(&pairs.iter().map(pair).collect()).map_err(|p| p.status)
    }

    #[test]
    fn an_expectation_is_a_revision_or_that_there_is_none() {
        assert_eq!(asked(&[]), Ok(None));
        assert_eq!(asked(&[("if-match", "\"17\"")]), Ok(Some(17)));
        assert_eq!(asked(&[("if-none-match", "*")]), Ok(Some(0)));
        for bad in [
            &[("if-match", "*")][..],
            &[("if-match", "\"0\"")],
            &[("if-none-match", "\"1\"")],
            &[("if-match", "1"), ("if-none-match", "*")],
        ] {
            assert_eq!(asked(bad), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn whoever_lost_the_race_learns_where_the_cursor_is() {
        let response = not_moved(Error::CursorMoved { found: Some(4) }, "mail").into_response();
        assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (412, "\"4\""));
    }
}
