//! History read again: `GET /v1/events` as CloudEvents, `GET /v1/journal` as the export.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use serde::Deserialize;

use super::extract::Query;
use super::filter::Filter;
use super::follow;
use super::position::{Cursor, Moment, Positions};
use super::problem::Problem;
use super::{App, POSITION, cdevents, cloudevent, lines};
use crate::audit::bundle;
use crate::cdevents::Words;
use crate::journal::follow::{Accepted, Follower, Mark, Until};

/// What to replay.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Replay {
    /// Event types, comma-separated, short or full.
    #[serde(rename = "type")]
    kinds: Option<String>,
    /// Workspace; `*` stands for anything. All unless given.
    workspace: Option<String>,
    /// Model; `*` stands for anything.
    model: Option<String>,
    /// Channel that the event is about.
    channel: Option<String>,
    /// The first moment: an RFC 3339 time, or positions such as `3:17` (inclusive).
    from: Option<String>,
    /// Only what follows these positions, or this cursor of the stream.
    after: Option<String>,
    /// The last moment: an RFC 3339 time, or positions (inclusive; nothing of a partition that is not named).
    until: Option<String>,
    /// Most events to send.
    limit: Option<u64>,
    /// `cloudevents` (the default), or `cdevents`: promotions and deployments alone, as CDEvents in CloudEvents.
    format: Option<String>,
}

/// Where a replay begins to send.
enum Since {
    Beginning,
    From(Moment),
    After(Positions),
}

impl Since {
    fn has(&self, event: &Accepted) -> bool {
        match self {
            Self::Beginning => true,
            Self::From(Moment::Time(time)) => event.recorded >= *time,
            Self::From(Moment::Positions(positions)) => positions.0.get(&event.partition).is_none_or(|seq| event.seq >= *seq),
            Self::After(positions) => positions.0.get(&event.partition).is_none_or(|seq| event.seq > *seq),
        }
    }
}

/// Replays events, oldest first, as lines of CloudEvents (JSON).
///
/// `data` of each is the journal's value: `{"data":…,"decided":…}`. Ends where the journal ended when
/// the request came.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(Replay),
    responses(
        (status = 200, description = "one CloudEvent per line", body = String, content_type = "application/x-ndjson",
            headers(("Annals-Position" = String, description = "where the journal ended when the request came"))),
        (status = 400, description = "a malformed parameter", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "the cursor is of another journal", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "too many replays at once", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn replay(State(app): State<App>, Query(asked): Query<Replay>) -> Result<Response, Problem> {
    let permit = lines::permit(&app)?;
    let partitions = app.door.journal().partitions();
    let words = cdevents::asked(asked.format.as_deref())?;
    let kinds = cdevents::kinds(words, asked.kinds)?;
    let filter = Filter::new(kinds.as_deref(), asked.workspace, asked.model, asked.channel)?;
    let moment = asked.until.as_deref().map(|text| Moment::parse(text, partitions)).transpose()?;
    let cursor = asked.after.as_deref().filter(|text| !text.contains(':')).map(Cursor::decode).transpose()?;
    let since = match (&asked.from, &asked.after) {
        (Some(from), _) => Since::From(Moment::parse(from, partitions)?),
        (None, Some(after)) if cursor.is_none() => Since::After(Positions::parse(after, partitions)?),
        (None, _) => Since::Beginning,
    };
    let limit = asked.limit.unwrap_or(u64::MAX);
    let journal = app.door.journal().clone();
    let mut follower = super::blocking(move || {
        let ends = (0..partitions).map(|p| journal.end(p)).collect::<Result<Vec<_>, _>>()?;
        let marks = cursor.map_or_else(|| Ok(vec![Mark::default(); partitions as usize]), |cursor| follow::resume(&*journal, &cursor))?;
        let (time, positions) = match moment {
            Some(Moment::Time(time)) => (Some(time), None),
            Some(Moment::Positions(positions)) => (None, Some(positions.0)),
            None => (None, None),
        };
        Ok::<_, Problem>(Follower::new(journal, marks, Until { time, positions, ends }))
    })
    .await??;
    let position = super::heads_position(&app.door.heads());
    let asking = tokio::runtime::Handle::current();
    let mut response = lines::ndjson(permit, "a replay", move |sink| {
        let mut sent = 0;
        while sent < limit
            && let Some(event) = follower.next_event().map_err(|e| e.to_string())?
        {
            let view = event.record.view().map_err(|e| e.to_string())?;
            if since.has(&event) && filter.wants(&view) {
                let mut line = Vec::new();
                cloudevent::write(event.partition, &event.record, &mut line).map_err(|e| e.to_string())?;
                if words == Words::CdEvents {
                    let told = asking.block_on(cdevents::tell(&app, &line)).map_err(|problem| problem.detail)?;
                    line = told.json.to_string().into_bytes();
                }
                sink.block().extend_from_slice(&line);
                sink.end_line().map_err(|e| e.to_string())?;
                sent += 1;
            }
        }
        Ok::<_, String>(())
    });
    if let Ok(position) = HeaderValue::from_str(&position) {
        response.headers_mut().insert(POSITION, position);
    }
    Ok(response)
}

/// Exports the journal with its hashes: a head, one line per record, and a last line with the ends.
///
/// `annals audit verify` checks it without the engine. An answer without its last line was cut short.
#[utoipa::path(
    get, path = "/v1/journal", tag = "events",
    responses(
        (status = 200, description = "the export", body = String, content_type = "application/x-ndjson"),
        (status = 503, description = "too many exports at once", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn export(State(app): State<App>) -> Result<Response, Problem> {
    let permit = lines::permit(&app)?;
    let journal = app.door.journal().clone();
    Ok(lines::ndjson(permit, "an export", move |sink| {
        let export = bundle::export(&*journal, &mut |line, _| {
            sink.block().extend_from_slice(line.trim_end_matches('\n').as_bytes());
            sink.end_line()
        });
        export.map(|_| ())
    }))
}
