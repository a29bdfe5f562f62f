//! `POST /v1/hooks/alertmanager`: what monitors say comes in as they say it, and takes the way of every proposal.

use std::time::Instant;

use annals_events::proposal::Proposal;
use annals_events::verdict::{Code, Outcome, Refusal, Verdict};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::http::App;
use crate::http::extract::Query;
use crate::http::problem::Problem;
use crate::http::publish::{self, Answered, BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Item};
use crate::http::rules::Within;
use crate::metrics::monitoring::Alert;
use crate::world::alertmanager::{self, Notice, Unread};

/// What became of a notice's alerts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Heard {
    /// One per alert, in the notice's order.
    results: Vec<Item>,
    /// How many alerts Alertmanager left out: they are not known here, and are counted by
    /// `annals_alerts_truncated_total`.
    truncated_alerts: u64,
}

/// Takes a notice of Alertmanager's webhook (payload version 4): what fires becomes `drifted`, and what is resolved
/// `drift-resolved`.
///
/// The same alert is one by its fingerprint and the time at which it began, however often it comes. Alertmanager sends
/// a notice again when it gets 5xx, and gets that only for what may still succeed: an alert that was refused, such
/// as one of an unknown model, is answered within a 200, and its verdict can be asked for.
#[utoipa::path(
    post, path = "/v1/hooks/alertmanager", tag = "events", params(Within),
    request_body(description = "what Alertmanager sends", content((Object = "application/json"))),
    responses(
        (status = 200, description = "every alert is settled: accepted, a duplicate, or refused with the reason", body = Heard),
        (status = 400, description = "not what Alertmanager sends", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "too many alerts, or too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a payload of another version", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "some alerts are not settled: send all of it again", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn alertmanager(State(app): State<App>, Query(within): Query<Within>, request: Request<Body>) -> Result<Response, Problem> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let stopping = |_| Problem::unavailable("stopping", "the engine is stopping", "send it to another, or later");
    let _place = app.places.batches.acquire().await.map_err(stopping)?;
    let body = publish::read(body, &parts.headers, BATCH_BYTES_MAX).await?;
    let notice = alertmanager::read(&body, within.workspace()).map_err(unread).inspect_err(|problem| {
        tracing::warn!("a notice to /v1/hooks/alertmanager was not read: {}; {}", problem.detail, problem.remedy);
    })?;
    let Notice { truncated, mut alerts } = notice;
    let mut results = Vec::with_capacity(alerts.len());
    while !alerts.is_empty() {
        let rest = alerts.split_off(alerts.len().min(BATCH_ITEMS_MAX));
        let answers = publish::propose_all(&app, &alerts).await;
        results.extend(alerts.into_iter().zip(answers).map(|(alert, answer)| heard(&app, alert, answer)));
        alerts = rest;
    }
    app.metrics.settled(started.elapsed());
    if truncated > 0 {
        app.metrics.monitoring.truncated(truncated);
        tracing::warn!("Alertmanager left {truncated} alerts out of a notice: take `max_alerts` out of its configuration");
    }
    let open = results.iter().filter(|item| is_open(item)).count();
    if open > 0 {
        return Err(Problem::unavailable(
            "not-settled",
            format!("{open} of {} alerts are not settled", results.len()),
            "send all of it again: what is an event already stays one",
        ));
    }
    tell_refused(&results);
    Ok(crate::http::json(&Heard { results, truncated_alerts: truncated }))
}

/// What became of one alert. One that comes again may say another value by then, and is the same one all the same.
fn heard(app: &App, alert: Result<Proposal, Refusal>, answer: Answered) -> Item {
    let item = match (&alert, &answer) {
        (Ok(proposal), Some(Ok(answer))) if says_nothing_new(answer.verdict.as_ref()) => publish::known(app, proposal),
        (Err(_), _) => {
            app.metrics.monitoring.alert(Alert::Unreadable);
            return publish::item(app, alert, answer);
        }
        _ => publish::item(app, alert, answer),
    };
    app.metrics.monitoring.alert(match item.receipt.as_ref().map(|receipt| receipt.outcome) {
        Some("accepted") => Alert::Accepted,
        Some("duplicate") => Alert::Duplicate,
        _ if is_open(&item) => Alert::Pending,
        _ => Alert::Refused,
    });
    item
}

/// The id of an alert's event is that alert's alone, and so is its drift's.
fn says_nothing_new(verdict: Option<&Verdict>) -> bool {
    let Some(Verdict { outcome: Outcome::Refused(refusal) | Outcome::Malformed(refusal), .. }) = verdict else { return false };
    matches!(refusal.code, Code::IdConflict | Code::NoChange)
}

/// Whether it may still become an event.
fn is_open(item: &Item) -> bool {
    item.status == StatusCode::ACCEPTED.as_u16() || item.status >= 500
}

/// Alertmanager does not read what it is answered, so the log says what was refused.
fn tell_refused(results: &[Item]) {
    let mut refused = results.iter().filter_map(|item| item.problem.as_ref());
    if let Some(first) = refused.next() {
        let (more, of) = (refused.count(), results.len());
        tracing::warn!("{} of {of} alerts were refused, the first one: {}; {}", more + 1, first.detail, first.remedy);
    }
}

fn unread(unread: Unread) -> Problem {
    let (status, code, remedy) = match &unread {
        Unread::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "name this address as the `url` of a `webhook_configs` entry"),
        Unread::Version(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "unsupported-version",
            "use an Alertmanager that sends version 4, or a newer Annals: Alertmanager sends it again with the group's next notice",
        ),
        Unread::TooMany(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "group by `model`, so that a notice has fewer alerts"),
    };
    Problem::new(status, code, unread, remedy)
}
