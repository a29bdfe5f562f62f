//! The forms of a stream: Server-Sent Events, or lines of JSON.

use annals_events::record::{Corrupt, Record};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};

use crate::cdevents;
use crate::http::cloudevent;
use crate::http::problem::Problem;

/// What a client should wait before it connects again.
const RETRY_MS: u32 = 1_000;

/// How a subscriber wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// WHATWG HTML, "Server-sent events".
    Sse,
    /// A CloudEvent a line, with its cursor as one more attribute.
    Lines,
}

impl Form {
    /// What a request asks for: lines if it names them, else Server-Sent Events.
    pub fn asked(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let mut essences = accepted.map(|item| item.split(';').next().unwrap_or_default().trim());
        if essences.any(|essence| essence.eq_ignore_ascii_case("application/x-ndjson")) { Self::Lines } else { Self::Sse }
    }

    /// The answer's type.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        })
    }

    /// What comes before all events: a reader that got none yet can resume, too.
    pub fn first(self, cursor: &str) -> Bytes {
        match self {
            Self::Sse => format!("retry: {RETRY_MS}\nid: {cursor}\n\n").into(),
            Self::Lines => Bytes::from_static(b"\n"), // the cursor is in the answer's head
        }
    }

    /// One event.
    pub fn event(self, cursor: &str, partition: u32, record: &Record, out: &mut Vec<u8>) -> Result<(), Corrupt> {
        match self {
            Self::Sse => {
                let kind = record.view()?.kind.name();
                for part in ["id: ", cursor, "\nevent: ", kind, "\ndata: "] {
                    out.extend_from_slice(part.as_bytes());
                }
                cloudevent::write(partition, record, out)?;
                out.extend_from_slice(b"\n\n");
            }
            Self::Lines => {
                cloudevent::write(partition, record, out)?;
                out.pop(); // the brace at the end
                out.extend_from_slice(b",\"cursor\":");
                cloudevent::json_string(cursor, out);
                out.extend_from_slice(b"}\n");
            }
        }
        Ok(())
    }

    /// A sign of life. Events that were not wanted have moved the cursor: then it is told.
    pub fn heartbeat(self, moved_to: Option<&str>) -> Bytes {
        match (self, moved_to) {
            (Self::Sse, None) => Bytes::from_static(b": heartbeat\n\n"),
            (Self::Sse, Some(cursor)) => format!(": heartbeat\nid: {cursor}\n\n").into(),
            (Self::Lines, _) => Bytes::from_static(b"\n"),
        }
    }

    /// Why the stream ends.
    pub fn problem(self, problem: &Problem) -> Bytes {
        self.problem_of(&serde_json::to_vec(problem).unwrap_or_default())
    }

    /// As [`Form::problem`], of what is JSON already.
    pub fn problem_of(self, json: &[u8]) -> Bytes {
        let (before, behind): (&[u8], &[u8]) = match self {
            Self::Sse => (b"event: problem\ndata: ", b"\n\n"),
            Self::Lines => (b"{\"problem\":", b"}\n"),
        };
        [before, json, behind].concat().into()
    }

    /// An event in other words than ours.
    pub fn told(self, event: &cdevents::Event, out: &mut Vec<u8>) {
        let cursor = event.cursor.as_deref().unwrap_or_default();
        match self {
            Self::Sse => out.extend_from_slice(format!("id: {cursor}\nevent: {}\ndata: {}\n\n", event.kind, event.json).as_bytes()),
            Self::Lines => {
                let mut json = event.json.clone();
                json["cursor"] = cursor.into();
                out.extend_from_slice(format!("{json}\n").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_those_who_name_them() {
        let asked = |accept: &'static str| Form::asked(&[(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect());
        for lines in ["application/x-ndjson", "text/html, Application/X-NDJSON;q=0.9"] {
            assert_eq!(asked(lines), Form::Lines, "{lines}");
        }
        for sse in ["*/*", "text/event-stream", "application/json"] {
            assert_eq!(asked(sse), Form::Sse, "{sse}");
        }
        assert_eq!(Form::asked(&HeaderMap::new()), Form::Sse);
    }

    #[test]
    fn a_sign_of_life_is_no_event() {
        assert_eq!(Form::Sse.heartbeat(None), ": heartbeat\n\n");
        assert_eq!(Form::Sse.heartbeat(Some("c")), ": heartbeat\nid: c\n\n");
        assert_eq!(Form::Lines.heartbeat(Some("c")), "\n");
        let line = Form::Lines.problem(&Problem::internal("lost"));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["problem"]["detail"], "lost");
    }
}
