//! `GET /v1/events/stream`: events as they are accepted, as Server-Sent Events or lines of JSON.
//!
//! What was missed is read from the journal, then the door's feed goes on; whoever falls behind the
//! feed reads the journal again. A reader is never buffered for: bytes are made when the socket
//! takes them, and one that takes none for a while is disconnected by the listener.

mod form;
mod told;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::Instant;

use self::form::Form;
use super::extract::Query;
use super::filter::Filter;
use super::follow;
use super::position::Cursor;
use super::problem::Problem;
use super::{App, cdevents};
use crate::arbiter::door::Published;
use crate::cdevents::Words;
use crate::journal::follow::{FollowError, Follower, Mark, Until};

/// How often a silent stream shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes that are handed to the socket at once, about.
const BLOCK_BYTES: usize = 32 * 1024;
/// Events that are looked at between two looks at the socket.
const SCAN_MAX: usize = 5_000;
/// Where a stream begins: `after` of one that is to begin at the same place.
const CURSOR: HeaderName = HeaderName::from_static("annals-cursor");

/// What to stream.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Subscription {
    /// Event types, comma-separated, short or full.
    #[serde(rename = "type")]
    kinds: Option<String>,
    /// Workspace; `*` stands for anything. All unless given.
    workspace: Option<String>,
    /// Model; `*` stands for anything.
    model: Option<String>,
    /// Channel that the event is about.
    channel: Option<String>,
    /// Where to begin without a cursor: `now` (the default) or `beginning`.
    from: Option<String>,
    /// A cursor: the `id` of the last event that was taken. `Last-Event-ID` goes before it.
    after: Option<String>,
    /// `cloudevents` (the default), or `cdevents`: promotions and deployments alone, as CDEvents in CloudEvents.
    format: Option<String>,
}

/// Streams events as Server-Sent Events, at least once, each with a cursor as its `id`.
///
/// `data` is the CloudEvent (JSON) whose own `data` is the journal's value, `event` its type. The
/// first message has an `id` only, so that a client which got no event yet can resume, too. With
/// `Accept: application/x-ndjson` each line is a CloudEvent with the extension attribute `cursor`;
/// empty lines are signs of life, and a line with the one member `problem` says why the stream ends.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(Subscription, ("Last-Event-ID" = Option<String>, Header, description = "a cursor: the stream goes on behind it")),
    responses(
        (status = 200, description = "the stream", headers(("Annals-Cursor" = String, description = "where it begins")), content(
            (String = "text/event-stream"), (Object = "application/x-ndjson"),
        )),
        (status = 400, description = "a malformed cursor or filter", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "the cursor is of another journal or history", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "too many subscribers, or the engine has just been started", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn stream(State(app): State<App>, headers: HeaderMap, Query(asked): Query<Subscription>) -> Result<Response, Problem> {
    let permit = app.places.subscribers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("busy", "there are too many subscribers", "try again later"))?;
    let words = cdevents::asked(asked.format.as_deref())?;
    let kinds = cdevents::kinds(words, asked.kinds)?;
    let filter = Filter::new(kinds.as_deref(), asked.workspace, asked.model, asked.channel)?;
    let last = match headers.get("last-event-id") {
        Some(id) => Some(id.to_str().unwrap_or("?").to_owned()),
        None => asked.after,
    };
    let cursor = last.filter(|text| !text.is_empty()).map(|text| Cursor::decode(&text)).transpose()?;
    let from_beginning = match asked.from.as_deref() {
        None | Some("now" | "") => false,
        Some("beginning") => true,
        Some(other) => {
            return Err(Problem::bad_request(
                "bad-query",
                format!("`from={other}` is not known"),
                "send `beginning` or `now`, or a cursor as `after`",
            ));
        }
    };
    // before the journal is read: what comes by in between is then seen twice rather than never
    let feed = app.door.feed();
    let door = app.door.clone();
    let follower = super::blocking(move || {
        let journal = door.journal().clone();
        let marks = match cursor {
            Some(cursor) => follow::resume(&*journal, &cursor)?,
            None if from_beginning => vec![Mark::default(); journal.partitions() as usize],
            None => follow::now(&*journal, &door.heads())?,
        };
        Ok::<_, Problem>(Follower::new(journal, marks, Until::default()))
    })
    .await??;
    let (form, begin) = (Form::asked(&headers), cursor_of(&follower));
    let live = Live {
        form,
        reads: app.places.catching_up.clone(),
        follower: Some(follower),
        feed,
        filter,
        behind: true,
        stopping: app.stopping.clone(),
        heartbeat: Instant::now() + HEARTBEAT,
        moved: false,
        first: Some(form.first(&begin)),
        ended: false,
        _permit: permit,
    };
    let body = match words {
        Words::CloudEvents => {
            let next = async |mut live: Live| live.next().await.map(|bytes| (Ok::<_, Infallible>(bytes), live));
            Body::from_stream(futures_util::stream::unfold(live, next))
        }
        Words::CdEvents => Body::from_stream(told::stream(app, live)),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, form.content_type());
    if let Ok(begin) = HeaderValue::from_str(&begin) {
        headers.insert(CURSOR, begin);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no")); // nginx would hold events back
    Ok(response)
}

/// One subscriber.
struct Live {
    form: Form,
    /// Who may read the journal now: a crowd that connects at once takes turns.
    reads: Arc<Semaphore>,
    /// `None` only while a thread reads with it.
    follower: Option<Follower>,
    feed: broadcast::Receiver<Arc<Published>>,
    filter: Filter,
    /// Reads the journal, because the feed alone would leave a gap.
    behind: bool,
    stopping: watch::Receiver<bool>,
    heartbeat: Instant,
    /// Events that were not wanted came behind the last cursor that was told.
    moved: bool,
    first: Option<Bytes>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// The next bytes for the socket; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if self.ended || *self.stopping.borrow() {
                return None;
            }
            let step = if self.behind { self.catch_up().await } else { self.follow_feed().await };
            let bytes = match step {
                Ok(bytes) => bytes,
                Err(problem) => {
                    tracing::warn!("a subscriber's stream ends: {}", problem.detail);
                    self.ended = true;
                    return Some(self.form.problem(&problem));
                }
            };
            if !bytes.is_empty() {
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Some(bytes.into());
            }
            if Instant::now() >= self.heartbeat {
                self.heartbeat = Instant::now() + HEARTBEAT;
                let moved_to = self.follower.as_ref().filter(|_| std::mem::take(&mut self.moved)).map(cursor_of);
                return Some(self.form.heartbeat(moved_to.as_deref()));
            }
        }
    }

    /// Reads a block from the journal; at its end the feed takes over.
    async fn catch_up(&mut self) -> Result<Vec<u8>, Problem> {
        let stopping = |_| Problem::unavailable("stopping", "the engine is stopping", "connect to another, or later");
        let _turn = self.reads.acquire().await.map_err(stopping)?;
        let Some(mut follower) = self.follower.take() else { return Err(Problem::internal("the stream has lost its place")) };
        let (filter, form, crowd) = (self.filter.clone(), self.form, Arc::clone(&self.reads));
        let (follower, read) = super::blocking(move || {
            let read = read_block(&mut follower, &filter, form);
            // what it has read ahead of each partition is not needed by the feed, and a crowd's would fill the memory
            if crowd.available_permits() == 0 || read.as_ref().is_ok_and(|block| block.drained) {
                follower.rewind();
            }
            (follower, read)
        })
        .await?;
        let block = read?;
        self.follower = Some(follower);
        self.behind = !block.drained;
        self.moved = block.moved || self.moved && block.bytes.is_empty();
        Ok(block.bytes)
    }

    /// Waits for the feed, and takes what else is there.
    async fn follow_feed(&mut self) -> Result<Vec<u8>, Problem> {
        let received = tokio::select! {
            received = self.feed.recv() => received,
            _ = self.stopping.changed() => return Ok(Vec::new()),
            () = tokio::time::sleep_until(self.heartbeat) => return Ok(Vec::new()),
        };
        let mut bytes = Vec::new();
        let mut next = received;
        loop {
            match next {
                Ok(published) => self.take(&published, &mut bytes)?,
                Err(RecvError::Lagged(_)) => self.fall_behind(),
                Err(RecvError::Closed) => self.ended = true,
            }
            if self.behind || self.ended || bytes.len() >= BLOCK_BYTES {
                return Ok(bytes);
            }
            next = match self.feed.try_recv() {
                Ok(published) => Ok(published),
                Err(TryRecvError::Empty) => return Ok(bytes),
                Err(TryRecvError::Lagged(n)) => Err(RecvError::Lagged(n)),
                Err(TryRecvError::Closed) => Err(RecvError::Closed),
            };
        }
    }

    fn take(&mut self, published: &Published, bytes: &mut Vec<u8>) -> Result<(), Problem> {
        let corrupt = |e| Problem::internal(format!("an event that came by is not one of ours: {e}"));
        let Some(follower) = &mut self.follower else { return Err(Problem::internal("the stream has lost its place")) };
        let view = published.record.view().map_err(corrupt)?;
        if view.seq < follower.mark(published.partition).seq {
            return Ok(()); // it was read from the journal already
        }
        if !follower.took(published.partition, published.offset, view.seq, view.prevhash, published.record.hash()) {
            self.fall_behind();
        } else if self.filter.wants(&view) {
            self.form.event(&cursor_of(follower), published.partition, &published.record, bytes).map_err(corrupt)?;
            self.moved = false;
        } else {
            self.moved = true;
        }
        Ok(())
    }

    fn fall_behind(&mut self) {
        self.behind = true;
        if let Some(follower) = &mut self.follower {
            follower.rewind();
        }
    }
}

/// What was read from the journal at once.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// The journal's end was reached.
    drained: bool,
    /// The last events were not wanted.
    moved: bool,
}

fn read_block(follower: &mut Follower, filter: &Filter, form: Form) -> Result<Block, FollowError> {
    let mut block = Block::default();
    for _ in 0..SCAN_MAX {
        let Some(event) = follower.next_event()? else {
            block.drained = true;
            return Ok(block);
        };
        let corrupt = |e: annals_events::record::Corrupt| FollowError::Halt { partition: event.partition, reason: e.to_string() };
        block.moved = !filter.wants(&event.record.view().map_err(corrupt)?);
        if !block.moved {
            form.event(&cursor_of(follower), event.partition, &event.record, &mut block.bytes).map_err(corrupt)?;
        }
        if block.bytes.len() >= BLOCK_BYTES {
            break;
        }
    }
    Ok(block)
}

fn cursor_of(follower: &Follower) -> String {
    Cursor::at(follower.journal().id(), follower.marks()).encode()
}
