//! `/openapi.json`: what the HTTP door does, described so that machines can read it.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::{acting, clusters, cursors, hooks, proposal, publish, read, replay, search, state, stream, triggers, views, webhooks};

/// The description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Annals",
        description = "An event-sourced lifecycle engine for machine-learning models: proposals in, a trusted journal out.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "events", description = "proposals in, events out"),
        (name = "models", description = "what the views know; every read can ask for the past with `as_of`"),
        (name = "world", description = "what is done outside when something happens"),
        (name = "state", description = "how the engine is"),
    ),
    paths(
        publish::publish, proposal::proposal_state, hooks::alertmanager::alertmanager, hooks::drift::drift, replay::replay, replay::export, stream::stream,
        cursors::cursors, cursors::cursor, cursors::put_cursor, cursors::forget_cursor,
        read::models, read::model, read::versions, read::version, read::history::lineage,
        read::channels, read::channel, read::aliases, read::alias, read::deployments, read::deployment, read::drifts,
        read::history::timeline_of, read::history::timeline, read::holdings, read::targets::targets,
        views::list, views::rebuild, search::search, search::index, search::reindex,
        triggers::list, triggers::get, triggers::put, triggers::remove, triggers::pause, triggers::resume, triggers::history,
        triggers::replay, triggers::dry_run, clusters::list, clusters::adopt,
        webhooks::list, webhooks::get, webhooks::put, webhooks::remove, webhooks::pause, webhooks::resume, webhooks::rotate,
        webhooks::deliveries::test, webhooks::deliveries::list, webhooks::deliveries::replay,
        state::healthz, state::readyz, state::metrics, state::partitions, acting::acting, document,
    ),
)]
pub struct Description;

/// The description of this door (OpenAPI 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "state", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| Description::openapi().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(text.as_str())).into_response()
}
