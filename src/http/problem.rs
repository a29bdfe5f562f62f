//! What went wrong, as `application/problem+json` (RFC 9457): each with a stable code and a remedy.

use std::fmt::Display;

use annals_events::verdict::{Code, Refusal, Violation};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::journal::{ProposeError, ReadError};

/// What every problem's type URI begins with; its code follows.
pub const TYPE_BASE: &str = "https://annals.dev/problems/";
/// Seconds that a caller should wait before the next try.
const RETRY_AFTER_S: u32 = 1;

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `https://annals.dev/problems/<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind of problem, in words; the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// What to do.
    pub remedy: String,
    /// The stable word that a program may match on.
    pub code: String,
    /// The model's state that a proposal was judged on.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub state: Value,
    /// What would be accepted instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub allowed: Vec<String>,
    /// The fields that do not fit the schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Field>, required = false)]
    pub violations: Vec<Violation>,
    /// Seconds after which to try again; also sent as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none", rename = "retry_after_s")]
    pub retry_after_s: Option<u32>,
}

/// One field that does not fit.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes `Violation`, which knows nothing of HTTP")]
pub struct Field {
    /// JSON Pointer (RFC 6901) into the data; empty for the whole.
    field: String,
    /// What is wrong with it.
    message: String,
}

impl Problem {
    /// A problem without state.
    pub fn new(status: StatusCode, code: &str, detail: impl Display, remedy: impl Display) -> Self {
        Self {
            type_uri: format!("{TYPE_BASE}{code}"),
            title: title(code),
            status: status.as_u16(),
            detail: detail.to_string(),
            remedy: remedy.to_string(),
            code: code.to_owned(),
            state: Value::Null,
            allowed: Vec::new(),
            violations: Vec::new(),
            retry_after_s: None,
        }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(code: &str, detail: impl Display, remedy: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail, remedy)
    }

    /// 404: there is no such thing.
    pub fn not_found(code: &str, detail: impl Display, remedy: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail, remedy)
    }

    /// 503: not now; try again.
    pub fn unavailable(code: &str, detail: impl Display, remedy: impl Display) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, remedy);
        problem.retry_after_s = Some(RETRY_AFTER_S);
        problem
    }

    /// 500: a mistake of ours.
    pub fn internal(detail: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, "send the request again; if it fails again, look at the log")
    }

    /// The status as a number that axum knows.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// `label-taken` → `Label taken`.
fn title(code: &str) -> String {
    let words = code.replace('-', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The status of a refusal.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Malformed => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnknownType | Code::SchemaViolation | Code::IdConflict => StatusCode::UNPROCESSABLE_ENTITY,
        Code::StaleExpectation => StatusCode::PRECONDITION_FAILED,
        Code::UnknownModel
        | Code::UnknownVersion
        | Code::UnknownChannel
        | Code::UnknownAlias
        | Code::UnknownTrigger
        | Code::UnknownSubscription => StatusCode::NOT_FOUND,
        Code::WrongPartition
        | Code::ModelExists
        | Code::LabelTaken
        | Code::RunKnown
        | Code::SubjectMismatch
        | Code::DigestMismatch
        | Code::NoChange
        | Code::IllegalTransition
        | Code::VersionHeld
        | Code::SelfApproval
        | Code::CommitDirty
        | Code::CommitMissing
        | Code::CommitUnknown => StatusCode::CONFLICT,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(status_of(refusal.code), refusal.code.as_str(), refusal.message, refusal.remedy);
        problem.state = refusal.state;
        problem.allowed = refusal.allowed;
        problem.violations = refusal.violations;
        problem
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        match &error {
            ProposeError::Busy => Self::unavailable("busy", &error, "send it again with the same id after Retry-After"),
            ProposeError::Unavailable(_) => {
                Self::unavailable("unavailable", &error, "nothing was stored: look at /readyz, and send it again with the same id")
            }
            // not a plain failure: it may become an event, and the same id finds out
            ProposeError::Unknown(_) => {
                Self::unavailable("unknown-outcome", &error, "send it again with the same id: it is never applied twice")
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Unavailable(_) => Self::unavailable("unavailable", &error, "try again after Retry-After"),
            ReadError::Corrupt(_) | ReadError::Gap(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", &error, "run `annals audit verify`, and restore a backup")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // RFC 9110, section 13.1: whoever lost the race learns where the model or the cursor is now
        if self.status == 412
            && let Some(now) = self.state.get("modelseq").or_else(|| self.state.get("revision"))
            && let Ok(etag) = HeaderValue::from_str(&format!("\"{now}\""))
        {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_state_and_remedy() {
        let refusal =
            Refusal::new(Code::IllegalTransition, "it is retired", "restore it").on(serde_json::json!({"modelseq": 4})).allow(["retired"]);
        let problem = Problem::from(refusal);
        assert_eq!(problem.status, 409);
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "https://annals.dev/problems/illegal-transition");
        assert_eq!(json["title"], "Illegal transition");
        assert_eq!(json["state"]["modelseq"], 4);
        assert_eq!(json["allowed"][0], "retired");
        assert_eq!(json["remedy"], "restore it");
        assert!(json.get("violations").is_none());
    }

    #[test]
    fn what_may_succeed_later_says_when_to_try_again() {
        let response = Problem::from(ProposeError::Busy).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn a_stale_expectation_tells_the_sequence_of_now() {
        let refusal = Refusal::new(Code::StaleExpectation, "moved on", "read again").on(serde_json::json!({"modelseq": 7}));
        let response = Problem::from(refusal).into_response();
        assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (412, "\"7\""));
    }
}
