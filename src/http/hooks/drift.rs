//! `POST /v1/hooks/drift`: a drift report of another tool comes in as the file that the tool wrote.

use std::collections::BTreeMap;
use std::time::Instant;

use annals_events::kind::Kind;
use annals_events::model::CHANNELS;
use annals_events::names::{Key, VersionRef};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::drift::{self, REPORT_BYTES_MAX, Tool, Unreadable};
use crate::http::extract::Query;
use crate::http::problem::Problem;
use crate::http::publish::{Receipt, submit_alone};
use crate::http::read::ask::{Ask, REGISTRY, problem};
use crate::http::{App, cloudevent, heads_position, publish};

/// Whose report it is, and about what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct About {
    /// The tool that wrote the file: `evidently` or `nannyml`.
    from: String,
    /// The model.
    model: String,
    /// Workspace; `default` unless given.
    workspace: Option<String>,
    /// The version that was watched: its number, its label, or `run:ID`.
    version: Option<String>,
    /// The channel that was watched: the version that it holds now is meant.
    channel: Option<String>,
    /// Who noticed the drift, such as `evidently 0.7.23`: no file names its tool's version.
    detector: Option<String>,
    /// Who reports it.
    actor: Option<String>,
}

/// The answer to a report that found no drift: nothing was recorded.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NoDrift {
    /// `no-drift`.
    pub outcome: &'static str,
    /// The tool.
    pub from: &'static str,
    /// SHA-256 of the file.
    pub digest: String,
    /// How many verdicts are in it.
    pub judged: usize,
}

/// Takes a drift report as the tool wrote it.
///
/// A report that found drift becomes one `drift.detected` event; its id follows from the file and the model, so that
/// the same file may be sent again. A report that found none changes nothing.
#[utoipa::path(
    post, operation_id = "hook_drift", path = "/v1/hooks/drift", tag = "events", params(About),
    request_body(description = "the file, byte for byte; any content type", content((Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, description = "there is drift, and it is an event now", body = Receipt),
        (status = 200, description = "no drift (`no-drift`: nothing was recorded), or a report that is known", body = inline(Reported)),
        (status = 202, description = "not settled yet: ask at Location", body = Receipt, headers(("Location" = String, description = "the proposal's state"))),
        (status = 400, description = "an unknown tool, or a file that is cut off or no report", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "unknown model or version, or a channel that holds none", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "not allowed in this state", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a report in a form that is not read, or one that does not say whether there is drift", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "busy, or not available: send it again", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn drift(State(app): State<App>, Query(about): Query<About>, request: Request<Body>) -> Result<Response, Problem> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let tool = Tool::named(&about.from).ok_or_else(|| unknown_tool(&about.from))?;
    let workspace = about.workspace.as_deref().filter(|w| !w.is_empty()).unwrap_or("default");
    let key = Key::new(workspace, &about.model).map_err(|e| Problem::bad_request("bad-name", e, "name the model"))?;
    let file = publish::read(body, &parts.headers, REPORT_BYTES_MAX).await?;
    let read = crate::http::blocking(move || drift::read(tool, &file).map(|report| (file, report))).await?;
    let (file, report) = read.inspect_err(|_| app.metrics.proposal("malformed")).map_err(refused)?;
    let Some(found) = report.drift else {
        let digest = drift::digest(&file);
        return Ok(crate::http::json(&NoDrift { outcome: "no-drift", from: tool.name(), digest, judged: report.judged }));
    };
    let version = version(&app, &about, &key).await?;
    let proposed = drift::propose(tool, &file, &key, &found, about.detector.as_deref()).map_err(Problem::internal)?;
    let mut attributes: BTreeMap<String, String> = [
        ("specversion", "1.0".to_owned()),
        ("id", proposed.id),
        ("source", proposed.source.to_owned()),
        ("type", Kind::DriftDetected.name().to_owned()),
        ("subject", version.map_or_else(|| key.to_string(), |version| format!("{key}/{version}"))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    attributes.extend(about.actor.map(|actor| ("actor".to_owned(), actor)));
    let proposal = cloudevent::complete(attributes, proposed.data, &parts.headers);
    let proposal = proposal.inspect_err(|_| app.metrics.proposal("malformed"))?;
    submit_alone(&app, &proposal, &parts.headers, started).await
}

/// The two bodies of a 200.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only describes the two answers")]
enum Reported {
    /// Nothing was recorded.
    NoDrift(NoDrift),
    /// It was recorded before.
    Duplicate(Receipt),
}

fn unknown_tool(from: &str) -> Problem {
    let names = Tool::ALL.map(Tool::name).join(" or ");
    let detail = format!("`from={}` is no tool whose reports are read", from.escape_debug());
    Problem::bad_request("unknown-tool", detail, format!("send from={names}, or a CloudEvent of type drifted to /v1/events"))
}

fn refused(unreadable: Unreadable) -> Problem {
    let status = match &unreadable {
        Unreadable::Truncated(_) | Unreadable::Malformed(..) => StatusCode::BAD_REQUEST,
        Unreadable::Unsupported(..) | Unreadable::Undecided(..) => StatusCode::UNPROCESSABLE_ENTITY,
        Unreadable::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    Problem::new(status, unreadable.code(), &unreadable, unreadable.remedy())
}

/// The version that is meant: named, or held by the channel as of every event there is now.
async fn version(app: &App, about: &About, key: &Key) -> Result<Option<VersionRef>, Problem> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let channel = match (given(&about.version), given(&about.channel)) {
        (Some(_), Some(_)) => return Err(Problem::bad_request("bad-query", "both a version and a channel are named", "name one of them")),
        (Some(version), None) => {
            let bad = |e| Problem::bad_request("bad-name", e, "name the version by number, label, or `run:ID`");
            return VersionRef::parse(&version).map(Some).map_err(bad);
        }
        (None, None) => return Ok(None),
        (None, Some(channel)) => channel,
    };
    if !CHANNELS.contains(&channel.as_str()) {
        let remedy = format!("use one of {}", CHANNELS.join(", "));
        return Err(Problem::not_found("unknown-channel", format!("there is no channel `{channel}`"), remedy));
    }
    let ask = Ask::behind(app, REGISTRY, &heads_position(&app.door.heads())).await?;
    let found = ask.views().channel(key.as_str(), &channel, &ask.at).await.map_err(problem)?;
    let held = found.and_then(|doc| serde_json::from_str::<Held>(doc.body.get()).ok());
    let missing = || ask.missing("unknown-channel", format!("the channel `{channel}` of `{key}` holds no version"));
    held.map(|held| Some(VersionRef::Number(held.version))).ok_or_else(missing)
}

#[derive(Deserialize)]
struct Held {
    version: u64,
}
