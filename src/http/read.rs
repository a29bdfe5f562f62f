//! What the registry knows, now or at any point before: models, versions, channels, aliases,
//! deployments, drifts.

pub mod ask;
pub mod history;
pub mod targets;

use annals_events::model::CHANNELS;
use annals_events::names::VersionRef;
use annals_projections::{Doc, Listing};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::App;
use super::extract::{Names, Query};
use super::problem::Problem;
use ask::{Ask, Listed, Many, REGISTRY, Single, page_of, problem};

type Answer = Result<Response, Problem>;

/// Describes a read for OpenAPI, and is the read: path, summary, query, and what it does.
macro_rules! reads {
    ($($(#[doc = $doc:literal])* $name:ident $path:literal ($($part:ident $name_of_part:literal: $part_doc:literal),*) $query:ident -> $body:ident, $ask:ident, $asked:ident => $work:expr;)*) => { $(
        $(#[doc = $doc])*
        #[utoipa::path(
            get, path = $path, tag = "models",
            params($(($name_of_part = String, Path, description = $part_doc),)* $query,
                ("Annals-Min-Position" = Option<String>, Header, description = "wait, up to 5 s, until the view has these positions")),
            responses(
                (status = 200, description = "the answer", body = $body, headers(
                    ("Annals-Position" = String, description = "the positions that the answer is about"),
                    ("ETag" = Option<String>, description = "the model's sequence, if it is about one model, now"),
                )),
                (status = 400, description = "a malformed name, time, position or cursor", body = Problem, content_type = "application/problem+json"),
                (status = 404, description = "there is no such thing, or was none then", body = Problem, content_type = "application/problem+json"),
                (status = 503, description = "the view is not so far yet", body = Problem, content_type = "application/problem+json"),
            ),
        )]
        pub async fn $name(State(app): State<App>, headers: HeaderMap, names: Names, Query($asked): Query<$query>) -> Answer {
            let [$($part),*] = names.each()?;
            let $ask = Ask::new(&app, &headers, REGISTRY, $asked.workspace.clone(), $asked.as_of.clone()).await?;
            $work
        }
    )* };
}

reads! {
    /// Lists the workspace's models, by name.
    models "/v1/models" () Many -> Listed, ask, asked => {
        let page = page_of(asked.limit, asked.after)?;
        Ok(ask.many(&ask.views().models(ask.workspace(), &ask.at, &page).await.map_err(problem)?))
    };
    /// One model.
    model "/v1/models/{model}" (model "model": "the model's name") Single -> Object, ask, asked => {
        let key = ask.key(&model)?;
        let found = ask.views().model(key.as_str(), &ask.at).await.map_err(problem)?;
        Ok(ask.one(&found.ok_or_else(|| ask.no_model(&key))?))
    };
    /// Lists a model's versions, by number.
    versions "/v1/models/{model}/versions" (model "model": "the model's name") Many -> Listed, ask, asked => {
        let (key, page) = (ask.key(&model)?, page_of(asked.limit, asked.after)?);
        ask.must_exist(&key).await?;
        Ok(ask.many(&ask.views().versions(key.as_str(), &ask.at, &page).await.map_err(problem)?))
    };
    /// One version.
    version "/v1/models/{model}/versions/{version}" (model "model": "the model's name", version "version": "its number, label, or `run:ID`") Single -> Object, ask, asked => {
        let key = ask.key(&model)?;
        let found = ask.views().version(key.as_str(), &version_ref(&version)?, &ask.at).await.map_err(problem)?;
        let missing = || ask.missing("unknown-version", format!("`{key}` has no version `{version}`"));
        Ok(ask.one(&found.ok_or_else(missing)?))
    };
    /// Lists which version each channel of a model holds.
    channels "/v1/models/{model}/channels" (model "model": "the model's name") Single -> Listed, ask, asked => {
        let key = ask.key(&model)?;
        ask.must_exist(&key).await?;
        Ok(all(&ask, ask.views().channels(key.as_str(), &ask.at).await.map_err(problem)?))
    };
    /// Which version a channel of a model holds.
    channel "/v1/models/{model}/channels/{channel}" (model "model": "the model's name", channel "channel": "`dev`, `staging` or `production`") Single -> Object, ask, asked => {
        let key = ask.key(&model)?;
        known(&channel)?;
        let found = ask.views().channel(key.as_str(), &channel, &ask.at).await.map_err(problem)?;
        let missing = || ask.missing("unknown-channel", format!("the channel `{channel}` of `{key}` holds no version"));
        Ok(ask.one(&found.ok_or_else(missing)?))
    };
    /// Lists a model's aliases.
    aliases "/v1/models/{model}/aliases" (model "model": "the model's name") Single -> Listed, ask, asked => {
        let key = ask.key(&model)?;
        ask.must_exist(&key).await?;
        Ok(all(&ask, ask.views().aliases(key.as_str(), &ask.at).await.map_err(problem)?))
    };
    /// Which version an alias names.
    alias "/v1/models/{model}/aliases/{alias}" (model "model": "the model's name", alias "alias": "the alias") Single -> Object, ask, asked => {
        let key = ask.key(&model)?;
        let found = ask.views().alias(key.as_str(), &alias, &ask.at).await.map_err(problem)?;
        Ok(ask.one(&found.ok_or_else(|| ask.missing("unknown-alias", format!("`{key}` has no alias `{alias}`")))?))
    };
    /// Lists a model's deployments, also those that have ended.
    deployments "/v1/models/{model}/deployments" (model "model": "the model's name") Many -> Listed, ask, asked => {
        let (key, page) = (ask.key(&model)?, page_of(asked.limit, asked.after)?);
        ask.must_exist(&key).await?;
        Ok(ask.many(&ask.views().deployments(key.as_str(), &ask.at, &page).await.map_err(problem)?))
    };
    /// One deployment.
    deployment "/v1/models/{model}/deployments/{id}" (model "model": "the model's name", id "id": "the deployment's id") Single -> Object, ask, asked => {
        let key = ask.key(&model)?;
        let found = ask.views().deployment(key.as_str(), &id, &ask.at).await.map_err(problem)?;
        Ok(ask.one(&found.ok_or_else(|| ask.missing("unknown-deployment", format!("`{key}` has no deployment `{id}`")))?))
    };
    /// Lists a model's drifts, also those that are resolved.
    drifts "/v1/models/{model}/drifts" (model "model": "the model's name") Many -> Listed, ask, asked => {
        let (key, page) = (ask.key(&model)?, page_of(asked.limit, asked.after)?);
        ask.must_exist(&key).await?;
        Ok(ask.many(&ask.views().drifts(key.as_str(), &ask.at, &page).await.map_err(problem)?))
    };
    /// Which version of every model of the workspace a channel holds.
    ///
    /// With `as_of` it answers "what was in production on date X" at once. `workspace=*` asks all workspaces.
    holdings "/v1/channels/{channel}" (channel "channel": "`dev`, `staging` or `production`") Many -> Listed, ask, asked => {
        let page = page_of(asked.limit, asked.after)?;
        known(&channel)?;
        let workspace = Some(ask.workspace()).filter(|w| *w != "*");
        Ok(ask.many(&ask.views().channel_across_models(workspace, &channel, &ask.at, &page).await.map_err(problem)?))
    };
}

/// A list that is never long.
fn all(ask: &Ask, items: Vec<Doc>) -> Response {
    ask.many(&Listing { items, next: None })
}

/// Refuses a channel that there is not: an empty answer would read as "it held nothing".
fn known(channel: &str) -> Result<(), Problem> {
    if CHANNELS.contains(&channel) {
        return Ok(());
    }
    let remedy = format!("use one of {}", CHANNELS.join(", "));
    Err(Problem::not_found("unknown-channel", format!("there is no channel `{channel}`"), remedy))
}

/// Reads how somebody named a version.
fn version_ref(text: &str) -> Result<VersionRef, Problem> {
    VersionRef::parse(text).map_err(|e| Problem::bad_request("bad-name", e, "name the version by number, label, or `run:ID`"))
}
