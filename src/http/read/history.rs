//! How things came about: timelines and lineage.

use annals_projections::timeline::{self, Order};
use annals_projections::{AsOf, lineage};
use axum::extract::State;
use axum::http::HeaderMap;

use super::ask::{Ask, Lines, Listed, Single, page_of, problem};
use super::{Answer, version_ref};
use crate::http::App;
use crate::http::extract::{Path, Query};
use crate::http::problem::Problem;

fn order(asked: Option<&str>) -> Result<Order, Problem> {
    match asked {
        None | Some("" | "oldest") => Ok(Order::Oldest),
        Some("newest") => Ok(Order::Newest),
        Some(other) => Err(Problem::bad_request("bad-query", format!("`order={other}` is not known"), "send `oldest` or `newest`")),
    }
}

/// A model's events as an auditor reads them, one line each.
#[utoipa::path(
    get, path = "/v1/models/{model}/timeline", tag = "models",
    params(("model" = String, Path, description = "the model's name, or `_system`: what is about the workspace and no model of it"), Lines,
        ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until the view has these positions")),
    responses(
        (status = 200, description = "the lines", body = Listed, headers(("Annals-Position" = String, description = "the positions that the answer is about"))),
        (status = 400, description = "a malformed name, time, position or cursor", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such model, or was none then", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn timeline_of(State(app): State<App>, headers: HeaderMap, Path(model): Path<String>, Query(asked): Query<Lines>) -> Answer {
    let (order, page) = (order(asked.order.as_deref())?, page_of(asked.limit, asked.after)?);
    let ask = Ask::new(&app, &headers, timeline::NAME, asked.workspace, asked.as_of).await?;
    let key = ask.key_of_timeline(&model)?;
    let lines = ask.views().timeline_of(key.as_str(), order, &ask.at, &page).await.map_err(problem)?;
    if lines.items.is_empty() && page.after.is_none() {
        return Err(ask.no_model(&key));
    }
    Ok(ask.many(&lines))
}

/// The events of all models, by the time they were recorded, one line each.
#[utoipa::path(
    get, path = "/v1/timeline", tag = "models",
    params(Lines, ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until the view has these positions")),
    responses(
        (status = 200, description = "the lines", body = Listed, headers(("Annals-Position" = String, description = "the positions that the answer is about"))),
        (status = 400, description = "a malformed time, position or cursor", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn timeline(State(app): State<App>, headers: HeaderMap, Query(asked): Query<Lines>) -> Answer {
    let (order, page) = (order(asked.order.as_deref())?, page_of(asked.limit, asked.after)?);
    let mut ask = Ask::new(&app, &headers, timeline::NAME, asked.workspace, asked.as_of).await?;
    if ask.at == AsOf::Now {
        ask.pin(timeline::NAME).await?; // partitions write side by side: the next page must see no more than this one
    }
    let lines = ask.views().timeline(order, &ask.at, &page).await.map_err(problem)?;
    Ok(ask.many(&lines))
}

/// All that a version came from, and all that came of it.
#[utoipa::path(
    get, path = "/v1/models/{model}/versions/{version}/lineage", tag = "models",
    params(("model" = String, Path, description = "the model's name"), ("version" = String, Path, description = "its number, label, or `run:ID`"), Single,
        ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until the view has these positions")),
    responses(
        (status = 200, description = "nodes and edges", body = Object, headers(("Annals-Position" = String, description = "the positions that the answer is about"))),
        (status = 400, description = "a malformed name, time or position", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such version, or was none then", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn lineage(
    State(app): State<App>,
    headers: HeaderMap,
    Path((model, version)): Path<(String, String)>,
    Query(asked): Query<Single>,
) -> Answer {
    let named = version_ref(&version)?;
    let ask = Ask::new(&app, &headers, lineage::NAME, asked.workspace, asked.as_of).await?;
    let key = ask.key(&model)?;
    let missing = || ask.missing("unknown-version", format!("`{key}` has no version `{version}`"));
    let number = match named {
        annals_events::names::VersionRef::Number(number) => number,
        named => ask
            .views()
            .version(key.as_str(), &named, &ask.at)
            .await
            .map_err(problem)?
            .and_then(|doc| number_of(&doc))
            .ok_or_else(missing)?,
    };
    let found = ask.views().lineage(key.as_str(), number, &ask.at).await.map_err(problem)?;
    Ok(ask.body_of(&found.ok_or_else(missing)?))
}

fn number_of(doc: &annals_projections::Doc) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u64,
    }
    serde_json::from_str::<Version>(doc.body.get()).ok().map(|v| v.version)
}
