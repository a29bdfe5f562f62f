//! A stream told in the words of CDEvents: our own lines are read as they come, and each is told anew.

use std::convert::Infallible;

use axum::body::Bytes;
use futures_util::Stream;

use super::Live;
use super::form::Form;
use crate::http::problem::Problem;
use crate::http::{App, cdevents};

/// A subscriber whose lines are told anew.
struct Told {
    app: App,
    /// Whose events are lines, whatever form is wanted.
    live: Live,
    /// The form that is wanted.
    form: Form,
    first: Option<Bytes>,
    ended: bool,
}

/// The events of a subscriber as CDEvents, in the form that it asked for.
pub(super) fn stream(app: App, mut live: Live) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let (form, first) = (live.form, live.first.take());
    live.form = Form::Lines;
    let told = Told { app, live, form, first, ended: false };
    futures_util::stream::unfold(told, async |mut told| told.next().await.map(|bytes| (Ok(bytes), told)))
}

impl Told {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended {
            return None;
        }
        let block = self.live.next().await?;
        let mut bytes = Vec::new();
        for line in block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Some(problem) = line.strip_prefix(b"{\"problem\":").and_then(|rest| rest.strip_suffix(b"}")) {
                bytes.extend_from_slice(&self.form.problem_of(problem));
                continue;
            }
            match cdevents::tell(&self.app, line).await {
                Ok(event) => self.form.told(&event, &mut bytes),
                Err(problem) => {
                    self.end(&problem, &mut bytes);
                    break;
                }
            }
        }
        Some(if bytes.is_empty() { self.form.heartbeat(None) } else { bytes.into() })
    }

    /// The reader comes back with its last cursor, and gets what could not be told now.
    fn end(&mut self, problem: &Problem, bytes: &mut Vec<u8>) {
        tracing::warn!("a subscriber's stream ends: {}", problem.detail);
        self.ended = true;
        bytes.extend_from_slice(&self.form.problem(problem));
    }
}
