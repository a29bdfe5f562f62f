//! How the engine is: alive, ready, its partitions, its metrics.

mod cluster;

use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use self::cluster::{Cluster, Remote};
use super::problem::Problem;
use super::{App, Viewing};
use crate::arbiter::Status;
use crate::arbiter::door::Head;
use crate::metrics::{CONTENT_TYPE, state_name};

/// How long a scrape waits for the views.
const MEASURED_MAX: Duration = Duration::from_secs(2);

/// A partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Partition {
    /// Its number, from 0.
    pub partition: u32,
    /// `standby`, `folding`, `owner`, `troubled` or `halted`.
    pub state: &'static str,
    /// Why it is troubled or halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Place of the last accepted event; `null` before the journal is folded.
    pub seq: Option<u64>,
    /// The hash there: note it elsewhere, and a rewritten journal will be found out.
    pub hash: String,
    /// Models in it.
    pub models: usize,
    /// Every proposal that came before this time has its verdict.
    pub settled_until: String,
    /// What the cluster says of it; only on Kafka.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
}

/// The journal's partitions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Partitions {
    /// The journal's name.
    pub journal: String,
    /// How the cluster is that the journal lies on; only on Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// One per partition.
    pub partitions: Vec<Partition>,
}

/// Whether the engine can work, and what keeps it from it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// What is not as it should be.
    pub reasons: Vec<String>,
    /// What is amiss and keeps nobody from proposing, such as a schema registry that is away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Tells that the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "state", responses((status = 200, description = "alive", body = String, content_type = "text/plain")))]
pub async fn healthz() -> &'static str {
    "alive\n"
}

/// Tells whether every arbiter has folded its partition and every view follows the journal.
#[utoipa::path(
    get, path = "/readyz", tag = "state",
    responses((status = 200, description = "ready", body = Readiness), (status = 503, description = "not ready; the reasons say why", body = Readiness)),
)]
pub async fn readyz(State(app): State<App>) -> Response {
    let mut reasons: Vec<_> = app.door.heads().iter().filter_map(not_ready).collect();
    match &*app.viewing.borrow() {
        Viewing::Opening => reasons.push("the views are not open yet".into()),
        Viewing::Waiting(reason) => reasons.push(format!("the views wait: {reason}")),
        Viewing::Failed(reason) => reasons.push(format!("the views cannot be opened: {reason}")),
        Viewing::Open(runner) => {
            reasons.extend(runner.progress().into_iter().filter_map(|view| Some(format!("the view `{}`: {}", view.name, view.trouble?))))
        }
    }
    let mut notes: Vec<_> = app.door.journal().schemas().and_then(|status| status.trouble()).into_iter().collect();
    notes.extend(app.publishing.iter().flat_map(|publishing| publishing.borrow().notes()));
    notes.extend(app.ops.borrow().note());
    notes.extend(
        app.world.borrow().as_ref().and_then(|world| world.standing().trouble).map(|why| format!("events are not dispatched: {why}")),
    );
    let ready = reasons.is_empty();
    let mut response = super::json(&Readiness { ready, reasons, notes });
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn not_ready(head: &Head) -> Option<String> {
    let partition = head.partition;
    match &head.status {
        Status::Owner | Status::Standby if head.seq.is_some() => None,
        Status::Owner | Status::Standby | Status::Folding => Some(format!("partition {partition} is still being folded")),
        Status::Troubled(reason) => Some(format!("partition {partition} is in trouble, and tries again: {reason}")),
        Status::Halted(reason) => Some(format!("partition {partition} is halted: {reason}")),
    }
}

/// Lists the partitions: what their arbiters do, and where they are.
#[utoipa::path(get, path = "/v1/partitions", tag = "state", responses((status = 200, description = "one per partition", body = Partitions)))]
pub async fn partitions(State(app): State<App>) -> Response {
    let journal = app.door.journal();
    let facts = journal.facts();
    let partition = |head: Head| Partition {
        partition: head.partition,
        state: state_name(&head.status),
        reason: match &head.status {
            Status::Troubled(reason) | Status::Halted(reason) => Some(reason.clone()),
            Status::Standby | Status::Folding | Status::Owner => None,
        },
        seq: head.seq,
        hash: head.hash.to_string(),
        models: head.models,
        settled_until: journal.settled_until(head.partition).to_string(),
        remote: facts.as_ref().and_then(|facts| facts.partitions.get(head.partition as usize)).map(Remote::from),
    };
    let cluster = facts.as_ref().map(Cluster::from);
    super::json(&Partitions {
        journal: journal.id().to_owned(),
        cluster,
        partitions: app.door.heads().into_iter().map(partition).collect(),
    })
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "state", responses((status = 200, description = "text exposition format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    for head in app.door.heads() {
        app.metrics.partition(head.partition, &head.status, head.seq.unwrap_or(0), head.models);
    }
    for (partition, counts) in (0..).zip(app.counts.iter()) {
        app.metrics.counts(partition, *counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
    if let Some(facts) = app.door.journal().facts() {
        app.metrics.operations.facts(&facts);
    }
    app.metrics.operations.places(app.places.taken());
    app.metrics.operations.views_open(matches!(&*app.viewing.borrow(), Viewing::Open(_)));
    if let Viewing::Open(runner) = &*app.viewing.borrow() {
        for view in runner.progress() {
            let seqs: Vec<_> = (0..).zip(&view.seqs).filter_map(|(p, seq)| Some((p, (*seq)?))).collect();
            app.metrics.view(view.name, view.trouble.is_none(), &seqs, view.lag_events, view.stale);
        }
    }
    if let Some(publishing) = app.publishing.as_ref().map(|publishing| publishing.borrow()) {
        app.metrics.publisher(&publishing, publishing.lag_events(app.door.heads().iter().map(|head| head.seq)));
    }
    if let Some(bytes) = (app.journal_bytes)() {
        app.metrics.operations.journal_bytes(bytes);
    }
    super::acting::measure(&app).await;
    super::search::measure(&app);
    measured(&app).await?;
    let text = app.metrics.render().map_err(|e| Problem::internal(format!("the metrics cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], text).into_response())
}

/// Takes over what was measured of versions in use. If the views do not answer, the last values stay: a gap would
/// tell a monitor that all is well again.
async fn measured(app: &App) -> Result<(), Problem> {
    let Viewing::Open(runner) = app.viewing.borrow().clone() else { return Ok(()) };
    let Ok(Ok(all)) = tokio::time::timeout(MEASURED_MAX, runner.views().measured()).await else { return Ok(()) };
    app.metrics.monitoring.measured(&all).map_err(|e| Problem::internal(format!("the measured values cannot be written: {e}")))
}
