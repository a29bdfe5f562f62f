//! The operational store as the door has it: whether it is there, and what an answer says if not.

use std::time::Duration;

use annals_projections::Ops;
use axum::http::StatusCode;

use super::App;
use super::problem::Problem;

/// How long a request waits for a store that is just being opened.
const OPENING_MAX: Duration = Duration::from_secs(5);

/// Whether there is an operational store to ask.
#[derive(Clone)]
pub enum Operating {
    /// It is being opened.
    Opening,
    /// Its database does not answer, and is tried again and again.
    Waiting(String),
    /// It is there.
    Open(Ops),
    /// It could not be opened; a person must look.
    Failed(String),
}

impl Operating {
    /// What is amiss with it.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Opening => Some("the operational store is not open yet".into()),
            Self::Waiting(reason) => Some(format!("the operational store waits for its database: {reason}")),
            Self::Open(_) => None,
            Self::Failed(reason) => Some(format!("the operational store cannot be opened: {reason}")),
        }
    }
}

/// The store.
///
/// # Errors
/// 503 while it is not open, 500 if it cannot be.
pub async fn ops(app: &App) -> Result<Ops, Problem> {
    let mut operating = app.ops.clone();
    let opened = operating.wait_for(|now| !matches!(now, Operating::Opening));
    let now = match tokio::time::timeout(OPENING_MAX, opened).await {
        Ok(Ok(now)) => now.clone(),
        _ => Operating::Opening,
    };
    match now {
        Operating::Open(ops) => Ok(ops),
        Operating::Failed(reason) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no-store",
            format!("the operational store cannot be opened: {reason}"),
            "do what the detail says; the journal is not touched by it",
        )),
        other => Err(Problem::unavailable("store-unavailable", other.note().unwrap_or_default(), "try again after Retry-After")),
    }
}
