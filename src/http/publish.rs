//! `POST /v1/events`: proposals come in as CloudEvents, and the verdict goes out.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use annals_events::proposal::Proposal;
use annals_events::verdict::{Code, Outcome, Place, Refusal, Verdict};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::cloudevent::{self, Mode};
use super::problem::Problem;
use super::{App, POSITION, commits, uri};
use crate::arbiter::door::Answer;
use crate::journal::ProposeError;

/// How long a caller waits for the verdict.
pub const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Largest body of a single event: the payload's limit, and room for the attributes of structured mode.
const EVENT_BYTES_MAX: usize = annals_events::submission::VALUE_BYTES_MAX + 64 * 1024;
/// Largest body of a batch.
pub(super) const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most events in a batch.
pub(super) const BATCH_ITEMS_MAX: usize = 500;

/// What became of a proposal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The CloudEvents id; made here if there was none.
    pub id: String,
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents type, in full.
    #[serde(rename = "type")]
    pub kind: String,
    /// The subject; it names the version by its number once that is known.
    pub subject: String,
    /// `accepted`, `duplicate`, or `pending`: not settled yet.
    pub outcome: &'static str,
    /// `partition:seq` of the event; of the first one, for a duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The model's sequence behind the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelseq: Option<u64>,
    /// The version that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// What became of one item of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Item {
    /// The status that it would have had alone.
    pub status: u16,
    /// `accepted`, `duplicate` or `pending`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The answer to a batch: one result per item, in the items' order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Results {
    /// One per item.
    pub results: Vec<Item>,
}

/// Proposes one event, or a batch of them, and waits for the verdict.
///
/// `type` may be short (`promoted`). A missing `id` or `source` is filled in. The same id, source and
/// content may be sent again at any time: it is never applied twice.
#[utoipa::path(
    post, path = "/v1/events", tag = "events",
    params(
        ("If-Match" = Option<String>, Header, description = "the model's sequence that you have seen, such as `\"17\"`; `*` refuses to create a model"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the verdict of a single event (RFC 7240)"),
    ),
    request_body(
        description = "a CloudEvent in structured or binary mode, or a batch",
        content((Object = "application/cloudevents+json"), (Vec<Object> = "application/cloudevents-batch+json"), (Object = "application/json")),
    ),
    responses(
        (status = 201, description = "accepted: it is an event now", body = Receipt, headers(
            ("ETag" = String, description = "the model's sequence"),
            ("Annals-Position" = String, description = "`partition:seq` of the event"),
            ("Location" = String, description = "the proposal's state"),
        )),
        (status = 200, description = "a duplicate, with the first position; or the results of a batch", body = inline(Published)),
        (status = 202, description = "not settled yet: ask at Location", body = Receipt, headers(("Location" = String, description = "the proposal's state"))),
        (status = 400, description = "not JSON, or not a CloudEvent", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "unknown model, version, channel or alias", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "not allowed in this state", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "the model has moved on", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "no content type of CloudEvents", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "unknown type, schema violation, or the id was used for other content", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "busy, or not available: send it again with the same id", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn publish(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mode = cloudevent::mode(&parts.headers)?;
    if mode == Mode::Batch {
        return publish_batch(&app, &parts.headers, body, started).await;
    }
    let body = read(body, &parts.headers, EVENT_BYTES_MAX).await?;
    let proposal = match mode {
        Mode::Binary => cloudevent::binary(&parts.headers, &body),
        Mode::Structured | Mode::Batch => cloudevent::structured(&parts.headers, &body),
    };
    let proposal = proposal.inspect_err(|_| app.metrics.proposal("malformed"))?;
    let proposal = commits::let_in(&app, proposal).await.inspect_err(|_| app.metrics.proposal("refused"))?;
    submit_alone(&app, &proposal, &parts.headers, started).await
}

/// Proposes one event, and answers with what became of it: the way in of every door of HTTP.
///
/// # Errors
/// As [`publish`].
pub async fn submit_alone(app: &App, proposal: &Proposal, headers: &HeaderMap, started: Instant) -> Result<Response, Problem> {
    let result = app.door.submit(proposal, wait_max(headers)).await;
    app.metrics.settled(started.elapsed());
    Ok(settled(app, proposal, result)?.into_response())
}

/// `Prefer: respond-async` (RFC 7240, section 4.1): who sends it asks for the verdict later.
fn wait_max(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split([',', ';']));
    if preferences.into_iter().any(|p| p.trim().eq_ignore_ascii_case("respond-async")) { Duration::ZERO } else { SETTLE_MAX }
}

/// The two bodies of a 200.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only describes the two answers")]
enum Published {
    /// Of a single event.
    Duplicate(Receipt),
    /// Of a batch.
    Batch(Results),
}

/// A receipt with its status and headers.
struct Settled {
    status: StatusCode,
    receipt: Receipt,
}

impl IntoResponse for Settled {
    fn into_response(self) -> Response {
        let Self { status, receipt } = self;
        let body = serde_json::to_vec(&receipt).unwrap_or_default();
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut insert = |name, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        insert(header::LOCATION, format!("/v1/proposals/{}?source={}", uri::encode(&receipt.id), uri::encode(&receipt.source)));
        if let (Some(position), Some(modelseq)) = (&receipt.position, receipt.modelseq) {
            insert(header::ETAG, format!("\"{modelseq}\""));
            insert(POSITION, position.clone());
        }
        response
    }
}

/// Turns the door's answer into a receipt or a problem.
fn settled(app: &App, proposal: &Proposal, result: Result<Answer, ProposeError>) -> Result<Settled, Problem> {
    let answer = match result {
        Ok(answer) => answer,
        Err(ProposeError::Unknown(_)) => {
            app.metrics.proposal("unknown");
            return Ok(receipt(proposal, StatusCode::ACCEPTED, "pending", None));
        }
        Err(error) => {
            app.metrics.proposal("unavailable");
            return Err(error.into());
        }
    };
    let outcome = answer.verdict.map(|Verdict { outcome, .. }| outcome);
    app.metrics.proposal(outcome.as_ref().map_or("pending", outcome_name));
    match outcome {
        None => Ok(receipt(proposal, StatusCode::ACCEPTED, "pending", None)),
        Some(Outcome::Accepted(place)) => Ok(receipt(proposal, StatusCode::CREATED, "accepted", Some((answer.partition, place)))),
        Some(Outcome::Duplicate(place)) => Ok(receipt(proposal, StatusCode::OK, "duplicate", Some((answer.partition, place)))),
        Some(Outcome::Refused(refusal) | Outcome::Malformed(refusal)) => Err(refusal.into()),
    }
}

fn receipt(proposal: &Proposal, status: StatusCode, outcome: &'static str, at: Option<(u32, Place)>) -> Settled {
    let version = at.as_ref().and_then(|(_, place)| place.version);
    let receipt = Receipt {
        id: proposal.id.clone(),
        source: proposal.source.clone(),
        kind: proposal.kind.name().to_owned(),
        subject: version.map_or_else(|| proposal.subject(), |version| format!("{}/{version}", proposal.key)),
        outcome,
        position: at.as_ref().map(|(partition, place)| format!("{partition}:{}", place.seq)),
        modelseq: at.as_ref().map(|(_, place)| place.modelseq),
        version,
    };
    Settled { status, receipt }
}

/// The word of an outcome, as metrics and answers have it.
pub fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted(_) => "accepted",
        Outcome::Duplicate(_) => "duplicate",
        Outcome::Refused(_) => "refused",
        Outcome::Malformed(_) => "malformed",
    }
}

/// Reads a body up to a limit, in bytes.
///
/// # Errors
/// 413 if it is larger, 400 if it breaks off.
pub async fn read(body: Body, headers: &HeaderMap, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body is larger than {bytes_max} bytes"),
            "put the large part behind a URI and send its digest, or send smaller batches",
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let body = axum::body::to_bytes(body, bytes_max).await;
    body.map_err(|e| {
        let limit = std::error::Error::source(&e).is_some_and(|source| source.to_string().contains("length limit"));
        if limit {
            too_large()
        } else {
            Problem::bad_request("bad-body", format!("the body could not be read: {e}"), "send the request again")
        }
    })
}

async fn publish_batch(app: &App, headers: &HeaderMap, body: Body, started: Instant) -> Result<Response, Problem> {
    if headers.contains_key(header::IF_MATCH) {
        return Err(Problem::bad_request(
            "malformed",
            "If-Match does not say which event of a batch it is about",
            "set `expectedseq` in the events",
        ));
    }
    let _place = app
        .places
        .batches
        .acquire()
        .await
        .map_err(|_| Problem::unavailable("stopping", "the engine is stopping", "send it to another, or later"))?;
    let body = read(body, headers, BATCH_BYTES_MAX).await?;
    let bad = |detail: String| Problem::bad_request("malformed", detail, "send a JSON array of CloudEvents");
    let text = std::str::from_utf8(&body).map_err(|_| bad("the batch is not UTF-8".into()))?;
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| bad(format!("the batch is not a JSON array: {e}")))?;
    if items.len() > BATCH_ITEMS_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the batch has {} events, and {BATCH_ITEMS_MAX} are allowed", items.len()),
            "send smaller batches",
        ));
    }
    let proposals: Vec<_> = items.iter().map(|item| cloudevent::structured(headers, item.get().as_bytes())).collect();
    let proposals = futures_util::future::join_all(proposals.into_iter().map(async |read| commits::let_in(app, read?).await)).await;
    let results = propose_all(app, &proposals).await;
    app.metrics.settled(started.elapsed());
    let items = proposals.into_iter().zip(results).map(|(proposal, result)| item(app, proposal, result));
    Ok(super::json(&Results { results: items.collect() }))
}

/// What became of one of several proposals.
pub(super) fn item(app: &App, proposal: Result<Proposal, Refusal>, result: Answered) -> Item {
    let settled = match (proposal, result) {
        (Ok(proposal), Some(result)) => settled(app, &proposal, result),
        (Ok(_), None) => Err(held_back()),
        (Err(refusal), _) => {
            let by_the_door = matches!(refusal.code, Code::CommitDirty | Code::CommitMissing | Code::CommitUnknown);
            app.metrics.proposal(if by_the_door { "refused" } else { "malformed" });
            Err(refusal.into())
        }
    };
    match settled {
        Ok(settled) => Item { status: settled.status.as_u16(), receipt: Some(settled.receipt), problem: None },
        Err(problem) => Item { status: problem.status, receipt: None, problem: Some(problem) },
    }
}

/// What says again what an event said before, although it was refused as another proposal: its id follows from what
/// it is about, and only how it is told has changed.
pub(super) fn known(app: &App, proposal: &Proposal) -> Item {
    app.metrics.proposal("duplicate");
    let Settled { status, receipt } = receipt(proposal, StatusCode::OK, "duplicate", None);
    Item { status: status.as_u16(), receipt: Some(receipt), problem: None }
}

fn held_back() -> Problem {
    Problem::unavailable(
        "held-back",
        "not proposed, because an earlier event of the same model in this batch could not be",
        "send it again with the same id, behind the earlier one",
    )
}

/// What the door said of a proposal; `None` if it was held back.
pub(super) type Answered = Option<Result<Answer, ProposeError>>;
type Submitted<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// Proposes the readable items in their order, and waits for all of them at once, so that they
/// share a commit. Once an item could not be proposed, later ones of its model are held back.
pub(super) async fn propose_all(app: &App, proposals: &[Result<Proposal, Refusal>]) -> Vec<Answered> {
    let failed = Mutex::new(HashSet::new());
    let all = async {
        let mut waiting: Vec<Submitted<'_>> = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            let Ok(proposal) = proposal else {
                waiting.push(Box::pin(std::future::ready(None)));
                continue;
            };
            let mut submitted: Submitted<'_> = Box::pin(submit(app, proposal, &failed));
            // the first poll puts the proposal into the journal's queue: in the items' order
            match std::future::poll_fn(|cx| Poll::Ready(submitted.as_mut().poll(cx))).await {
                Poll::Ready(answered) => waiting.push(Box::pin(std::future::ready(answered))),
                Poll::Pending => waiting.push(submitted),
            }
        }
        futures_util::future::join_all(waiting).await
    };
    // tokio would otherwise make a long batch yield between two first polls
    tokio::task::coop::unconstrained(all).await
}

async fn submit<'a>(app: &App, proposal: &'a Proposal, failed: &Mutex<HashSet<&'a str>>) -> Answered {
    let key = proposal.key.as_str();
    if failed.lock().unwrap_or_else(PoisonError::into_inner).contains(key) {
        return None;
    }
    let result = app.door.submit(proposal, SETTLE_MAX).await;
    if result.is_err() {
        failed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }
    Some(result)
}
