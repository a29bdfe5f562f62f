//! Long answers as lines of JSON: made by a thread of their own, no faster than the reader takes them.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::App;
use super::problem::Problem;

/// Bytes that are collected before they are sent.
const BLOCK_BYTES: usize = 32 * 1024;
/// Blocks that may wait for the reader.
const BLOCKS_MAX: usize = 4;

/// Where the lines go.
pub struct Sink {
    block: Vec<u8>,
    out: mpsc::Sender<io::Result<Bytes>>,
}

impl Sink {
    /// A place to append bytes to; [`Sink::end_line`] follows.
    pub fn block(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Ends a line. Blocks while the reader is behind.
    ///
    /// # Errors
    /// If the reader has gone away.
    pub fn end_line(&mut self) -> io::Result<()> {
        self.block.push(b'\n');
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what was collected, so that the reader sees it now.
    ///
    /// # Errors
    /// If the reader has gone away.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = Bytes::from(std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES + 4096)));
        self.out.blocking_send(Ok(block)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The right to hold one of the few threads for long answers.
///
/// # Errors
/// 503 when all are taken.
pub fn permit(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    app.places
        .long_reads
        .clone()
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("busy", "too many long answers are being sent already", "try again when one of them has ended"))
}

/// Answers with a line for each step that long work tells of, up to the last one.
pub fn told<T: Serialize + Clone + Send + Sync + 'static>(
    permit: OwnedSemaphorePermit,
    what: &'static str,
    mut steps: watch::Receiver<T>,
    is_last: fn(&T) -> bool,
) -> Response {
    let handle = tokio::runtime::Handle::current();
    ndjson(permit, what, move |sink| {
        loop {
            let line = steps.borrow_and_update().clone();
            serde_json::to_writer(sink.block(), &line)?;
            sink.end_line()?;
            sink.flush()?;
            if is_last(&line) || handle.block_on(steps.changed()).is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    })
}

/// Answers with what `write` writes. If it fails, the connection is cut in the middle of the body:
/// a reader must not take half an answer for a whole one.
pub fn ndjson<E: std::fmt::Display>(
    permit: OwnedSemaphorePermit,
    what: &'static str,
    write: impl FnOnce(&mut Sink) -> Result<(), E> + Send + 'static,
) -> Response {
    let (out, blocks) = mpsc::channel(BLOCKS_MAX);
    tokio::task::spawn_blocking(move || {
        let _held_until_the_end = permit;
        let mut sink = Sink { block: Vec::with_capacity(BLOCK_BYTES + 4096), out };
        let failed = match write(&mut sink) {
            Ok(()) => sink.flush().err().map(|e| e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        if let Some(reason) = failed
            && !sink.out.is_closed()
        {
            tracing::warn!("{what} was cut short: {reason}");
            let _ = sink.out.blocking_send(Err(io::Error::other(reason))); // the reader may be gone by now
        }
    });
    let body = futures_util::stream::unfold(blocks, async |mut blocks| blocks.recv().await.map(|block| (block, blocks)));
    let mut response = Body::from_stream(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
