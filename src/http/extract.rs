//! Path and query as axum reads them, with problems instead of plain text when they cannot be read.

use axum::extract::{FromRequestParts, rejection};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The path's parameters, percent-decoded.
pub struct Path<T>(pub T);

/// The query's parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let bad = |e: rejection::PathRejection| {
            Problem::bad_request("bad-path", format!("the path cannot be read: {e}"), "percent-encode names as UTF-8")
        };
        path.map(|axum::extract::Path(path)| Self(path)).map_err(bad)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let bad = |e: rejection::QueryRejection| {
            Problem::bad_request("bad-query", format!("the query cannot be read: {}", e.body_text()), "/openapi.json lists the parameters")
        };
        query.map(|axum::extract::Query(query)| Self(query)).map_err(bad)
    }
}
