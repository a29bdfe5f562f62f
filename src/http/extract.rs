//! Path and query as axum reads them, with problems instead of plain text when they cannot be read.

use axum::extract::{FromRequestParts, RawPathParams, rejection};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The path's parameters, percent-decoded.
pub struct Path<T>(pub T);

/// The path's parameters in their order, percent-decoded, however many there are.
pub struct Names(Vec<String>);

impl Names {
    /// As many as the path's template has.
    ///
    /// # Errors
    /// 500 if it has another number: then template and handler do not fit.
    pub fn each<const N: usize>(self) -> Result<[String; N], Problem> {
        self.0.try_into().map_err(|_| Problem::internal("the path has another number of parts than its handler"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        match params {
            Ok(params) => Ok(Self(params.iter().map(|(_, value)| value.to_owned()).collect())),
            Err(rejection::RawPathParamsRejection::MissingPathParams(_)) => Ok(Self(Vec::new())),
            Err(e) => Err(bad_path(e.body_text())),
        }
    }
}

fn bad_path(what: impl std::fmt::Display) -> Problem {
    Problem::bad_request("bad-path", format!("the path cannot be read: {what}"), "percent-encode names as UTF-8")
}

/// The query's parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|e: rejection::PathRejection| bad_path(e.body_text()))
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
