//! The views: where they are, and making one again.

use axum::extract::State;
use axum::response::Response;
use futures_util::FutureExt;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;

use super::extract::Path;
use super::position::Positions;
use super::problem::Problem;
use super::read::ask::{problem, viewing};
use super::{App, lines};

/// A view.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// `following`, `waiting` (for what passes by itself), `stopped` or `rebuilding`.
    pub state: &'static str,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is.
    pub position: String,
    /// How many events the journal has that it does not.
    pub lag_events: u64,
    /// For how long it has been behind, in seconds.
    pub stale_s: f64,
}

/// All views.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AllViews {
    /// One each.
    pub views: Vec<View>,
}

/// Lists the views: where they are, and whether they follow the journal.
#[utoipa::path(
    get, path = "/v1/views", tag = "state",
    responses(
        (status = 200, description = "one each", body = AllViews),
        (status = 503, description = "they are not open yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let runner = viewing(&app).await?;
    let view = |progress: crate::runner::Progress| {
        // not a word from the database: it may be away, and that is to be seen here
        let (stopped, rebuilding) = (runner.views().stopped(progress.name), runner.views().rebuilding(progress.name));
        let waits = progress.waits && stopped.is_none();
        let reason = stopped.or(progress.trouble);
        View {
            name: progress.name,
            state: match (&reason, rebuilding) {
                (_, true) => "rebuilding",
                (Some(_), false) if waits => "waiting",
                (Some(_), false) => "stopped",
                (None, false) => "following",
            },
            reason,
            position: Positions((0..).zip(progress.seqs).filter_map(|(p, seq)| Some((p, seq?))).collect()).to_string(),
            lag_events: progress.lag_events,
            stale_s: progress.stale.as_secs_f64(),
        }
    };
    Ok(super::json(&AllViews { views: runner.progress().into_iter().map(view).collect() }))
}

/// A line of a rebuild's answer.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RebuildLine {
    /// It is under way.
    Rebuilding {
        /// Events that are done.
        entries: u64,
        /// Events that the journal had at the beginning.
        of: u64,
    },
    /// It is done, and readers see the new view; the last line.
    Done {
        /// Events that it was made of.
        entries: u64,
        /// Where the view is.
        position: String,
    },
    /// It failed, and the old view is as it was; the last line.
    Failed {
        /// What was wrong.
        #[serde(flatten)]
        problem: Problem,
    },
}

/// Makes a view again from the journal, beside the old one, and switches to it at the end.
///
/// The answer is a line per step; the last one has the state `done` or `failed`. The rebuild goes on
/// when the caller goes away.
#[utoipa::path(
    post, path = "/v1/views/{name}/rebuild", tag = "state",
    params(("name" = String, Path, description = "the view's name")),
    responses(
        (status = 200, description = "a line of JSON per step", body = RebuildLine, content_type = "application/x-ndjson"),
        (status = 404, description = "there is no such view", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it is being rebuilt already", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the views are not open yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn rebuild(State(app): State<App>, Path(name): Path<String>) -> Result<Response, Problem> {
    let runner = viewing(&app).await?;
    let known = annals_projections::NAMES.iter().find(|known| **known == name);
    let known = known.ok_or_else(|| problem(annals_projections::Error::UnknownView { name: name.clone() }))?;
    if runner.views().rebuilding(known) {
        return Err(problem(annals_projections::Error::Rebuilding(known)));
    }
    let permit = lines::permit(&app)?;
    let of = app.door.heads().iter().map(|head| head.seq.map_or(0, |seq| seq + 1)).sum();
    let (tell, told) = watch::channel(RebuildLine::Rebuilding { entries: 0, of });
    tokio::spawn(async move {
        let progress = |entries| drop(tell.send_replace(RebuildLine::Rebuilding { entries, of }));
        let rebuilt = AssertUnwindSafe(runner.rebuild(&name, progress)).catch_unwind().await;
        let last = match rebuilt {
            Ok(Ok(rebuilt)) => {
                let position = Positions(crate::runner::pairs(&rebuilt.positions).into_iter().collect()).to_string();
                RebuildLine::Done { entries: rebuilt.entries, position }
            }
            Ok(Err(e)) => RebuildLine::Failed { problem: problem(e) },
            Err(_) => RebuildLine::Failed { problem: Problem::internal("the rebuild met a mistake in the engine, which is in the log") },
        };
        tell.send_replace(last);
    });
    Ok(lines::told(permit, "a rebuild", told, |line| !matches!(line, RebuildLine::Rebuilding { .. })))
}
