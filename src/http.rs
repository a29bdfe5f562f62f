//! The HTTP door: its paths, what they share, and what happens when there is no such path.

pub mod acting;
pub mod cdevents;
pub mod cloudevent;
pub mod clusters;
pub mod commits;
pub mod cursors;
pub mod extract;
pub mod filter;
pub mod follow;
pub mod hooks;
pub mod lines;
pub mod listen;
pub mod openapi;
pub mod operating;
pub mod position;
pub mod problem;
pub mod proposal;
pub mod publish;
pub mod read;
pub mod replay;
pub mod rules;
pub mod state;
pub mod stream;
pub mod triggers;
pub mod uri;
pub mod views;
pub mod webhooks;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::arbiter::door::{Door, Head};
use crate::arbiter::drive::AllCounts;
use crate::git::worker::Worker;
use crate::journal::publishing::Publishing;
use crate::metrics::Metrics;
use crate::runner::Runner;
use crate::world::kubernetes::Deployer;
use crate::world::life::World;
use crate::world::webhook::send::Sender;
pub use operating::Operating;
use problem::Problem;

/// `partition:seq` of an event, or the list of a view.
pub const POSITION: HeaderName = HeaderName::from_static("annals-position");
/// Batches that are read and judged at once; the next ones wait.
const BATCHES_MAX: usize = 8;
/// Replays, exports and rebuilds at once.
const LONG_READS_MAX: usize = 16;
/// Subscribers of the stream at once.
const SUBSCRIBERS_MAX: usize = 2_048;
/// Subscribers that read the journal at once, because they have just come or have fallen behind: each
/// takes a thread and a connection to it.
const CATCHING_UP_MAX: usize = 4;

/// What the handlers share.
pub struct Shared {
    /// Where proposals go.
    pub door: Arc<Door>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells the size of the journal's files, in bytes.
    pub journal_bytes: JournalBytes,
    /// What the arbiters have counted.
    pub counts: AllCounts,
    /// How far the publisher is, if this instance has that role.
    pub publishing: Option<watch::Receiver<Publishing>>,
    /// The views, once they are open.
    pub viewing: watch::Receiver<Viewing>,
    /// The operational store, once it is open.
    pub ops: watch::Receiver<Operating>,
    /// Delivers test messages to webhooks.
    pub sender: Arc<Sender>,
    /// Who deploys, if the engine was told of clusters.
    pub deployer: Option<Arc<Deployer>>,
    /// Who looks up the commits of runs, if those that are not known are refused.
    pub commits: Option<Arc<Worker>>,
    /// What acts on the world, once its store is open.
    pub world: watch::Receiver<Option<Arc<World>>>,
    /// Becomes true when the engine stops: streams end then.
    pub stopping: watch::Receiver<bool>,
    /// Who may do how much at once.
    pub places: Places,
}

/// How many requests of the expensive kinds may run at once.
pub struct Places {
    /// For batches: the next one waits.
    pub batches: Semaphore,
    /// For long answers: the next one is refused.
    pub long_reads: Arc<Semaphore>,
    /// For subscribers: the next one is refused.
    pub subscribers: Arc<Semaphore>,
    /// For subscribers that read the journal: the next one waits for its turn.
    pub catching_up: Arc<Semaphore>,
}

impl Places {
    /// How many long answers and subscribers there are.
    #[must_use]
    pub fn taken(&self) -> (usize, usize) {
        let taken = |all: usize, places: &Semaphore| all.saturating_sub(places.available_permits());
        (taken(LONG_READS_MAX, &self.long_reads), taken(SUBSCRIBERS_MAX, &self.subscribers))
    }
}

impl Default for Places {
    fn default() -> Self {
        Self {
            batches: Semaphore::new(BATCHES_MAX),
            long_reads: Arc::new(Semaphore::new(LONG_READS_MAX)),
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
        }
    }
}

/// Whether there are views to ask.
#[derive(Clone)]
pub enum Viewing {
    /// They are being opened: proposals are taken meanwhile.
    Opening,
    /// Their database does not answer, and is tried again and again.
    Waiting(String),
    /// They follow the journal.
    Open(Arc<Runner>),
    /// They could not be opened; a person must look.
    Failed(String),
}

/// Looks up the size of the journal's files, in bytes; `None` if it is not in files of ours.
pub type JournalBytes = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// [`Shared`], as handlers get it.
pub type App = Arc<Shared>;

/// All paths; those of the door only if this instance has that role.
pub fn router(app: App, has_door: bool) -> Router {
    let router = if has_door { state_paths().merge(door_paths()).fallback(unknown_path) } else { state_paths().fallback(no_door) };
    router.method_not_allowed_fallback(wrong_method).layer(middleware::from_fn_with_state(app.clone(), watch_over)).with_state(app)
}

/// How the instance is, whatever its roles.
fn state_paths() -> Router<App> {
    Router::new()
        .route("/v1/partitions", get(state::partitions))
        .route("/v1/views", get(views::list))
        .route("/v1/acting", get(acting::acting))
        .route("/v1/views/{name}/rebuild", post(views::rebuild))
        .route("/healthz", get(state::healthz))
        .route("/readyz", get(state::readyz))
        .route("/metrics", get(state::metrics))
        .route("/openapi.json", get(openapi::document))
}

/// Proposals and questions.
fn door_paths() -> Router<App> {
    Router::new()
        .route("/v1/events", post(publish::publish).get(replay::replay))
        .route("/v1/events/stream", get(stream::stream))
        .route("/v1/hooks/alertmanager", post(hooks::alertmanager::alertmanager))
        .route("/v1/hooks/drift", post(hooks::drift::drift))
        .route("/v1/cursors", get(cursors::cursors))
        .route("/v1/cursors/{name}", get(cursors::cursor).put(cursors::put_cursor).delete(cursors::forget_cursor))
        .route("/v1/proposals/{id}", get(proposal::proposal_state))
        .route("/v1/journal", get(replay::export))
        .route("/v1/models", get(read::models))
        .route("/v1/models/{model}", get(read::model))
        .route("/v1/models/{model}/versions", get(read::versions))
        .route("/v1/models/{model}/versions/{version}", get(read::version))
        .route("/v1/models/{model}/versions/{version}/lineage", get(read::history::lineage))
        .route("/v1/models/{model}/channels", get(read::channels))
        .route("/v1/models/{model}/channels/{channel}", get(read::channel))
        .route("/v1/models/{model}/aliases", get(read::aliases))
        .route("/v1/models/{model}/aliases/{alias}", get(read::alias))
        .route("/v1/models/{model}/deployments", get(read::deployments))
        .route("/v1/models/{model}/deployments/{id}", get(read::deployment))
        .route("/v1/models/{model}/drifts", get(read::drifts))
        .route("/v1/models/{model}/timeline", get(read::history::timeline_of))
        .route("/v1/timeline", get(read::history::timeline))
        .route("/v1/deployments", get(read::targets::targets))
        .route("/v1/channels/{channel}", get(read::holdings))
        .merge(triggers::paths())
        .merge(webhooks::paths())
        .merge(clusters::paths())
}

async fn no_door(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "no-door",
        format!("this instance was started without the role `door`, and answers nothing at {}", uri.path()),
        "ask an instance that has it",
    )
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found("unknown-path", format!("there is nothing at {}", uri.path()), "/openapi.json lists the paths")
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        format!("{method} is not something that {} does", uri.path()),
        "use a method that the header `Allow` names",
    )
}

/// Measures a request, and lets no panic out.
async fn watch_over(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
        tracing::error!("a request panicked: {}", text.unwrap_or_default());
        Problem::internal("the request met a mistake in the engine, which is in the log").into_response()
    });
    let method = if is_common(&method) { method.as_str() } else { "other" };
    app.metrics.request(method, path.as_ref().map_or("unmatched", MatchedPath::as_str), response.status().as_u16(), started.elapsed());
    response
}

/// A client may invent methods; metrics must not grow with them.
fn is_common(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS].contains(method)
}

/// 200 with a body of JSON.
pub fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(bytes)).into_response(),
        Err(e) => Problem::internal(format!("the answer cannot be written: {e}")).into_response(),
    }
}

/// Runs what blocks on a thread that may.
///
/// # Errors
/// 500 if it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        tracing::error!("a read panicked: {e}");
        Problem::internal("the request met a mistake in the engine, which is in the log")
    })
}

/// The position list of where the partitions are.
#[must_use]
pub fn heads_position(heads: &[Head]) -> String {
    position::Positions(heads.iter().filter_map(|head| Some((head.partition, head.seq?))).collect()).to_string()
}
