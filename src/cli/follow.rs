//! `annals subscribe`: the events as they happen, over Server-Sent Events, resumed where they broke off.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Path};
use super::output::{Output, plain, printable, say};
use super::{Exit, Failure};
use crate::config::ask::{From, Subscribe};

/// Longest pause between two tries to connect again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest line of a stream, in bytes: an event of 256 KiB with room to spare.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Runs the command; it ends with `--max`, with Ctrl-C, or when nobody reads any more.
///
/// # Errors
/// [`Failure`] if the first connection fails, or the engine says that the place is lost.
pub fn run(args: &Subscribe, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.remote.url);
    let path = Path::new(&["v1", "events", "stream"])
        .maybe("type", args.kind.as_deref())
        .maybe("model", args.model.as_deref())
        .maybe("channel", args.channel.as_deref())
        .maybe("workspace", args.workspace.as_deref())
        .with("from", if args.from == From::Beginning { "beginning" } else { "now" });
    let mut state = State { last_id: None, pause: Duration::from_secs(1), left: args.max.unwrap_or(u64::MAX) };
    let mut connected_once = false;
    let mut pause = state.pause;
    while state.left > 0 {
        let mut headers = vec![("accept", "text/event-stream")];
        let last_id = state.last_id.clone();
        headers.extend(last_id.as_deref().map(|id| ("last-event-id", id)));
        match client.stream(&path, &headers) {
            Ok(stream) => {
                if connected_once {
                    say("connected again");
                }
                (connected_once, pause) = (true, state.pause);
                state.read(stream, args.remote.json, out)?;
            }
            Err(Failure::Unavailable(_)) if connected_once => {}
            Err(failure) => return Err(failure),
        }
        if state.left > 0 {
            say(&format!("the stream broke off: connecting again in {} s", pause.as_secs().max(1)));
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    Ok(Exit::Done)
}

struct State {
    last_id: Option<String>,
    pause: Duration,
    left: u64,
}

/// A message as it comes in (WHATWG HTML, "Server-sent events").
#[derive(Default)]
struct Message {
    kind: String,
    data: String,
}

impl State {
    /// Reads until the stream breaks off, which is no failure, or enough was read.
    fn read(&mut self, stream: impl Read, as_json: bool, out: &mut Output) -> Result<(), Failure> {
        let mut lines = BufReader::new(stream);
        let mut message = Message::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) if !bytes.ends_with(b"\n") => return Ok(()),
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.field(line, &mut message);
                continue;
            }
            let whole = std::mem::take(&mut message);
            if !whole.data.is_empty() {
                self.take(&whole, as_json, out)?;
            }
            if self.left == 0 {
                return Ok(());
            }
        }
    }

    fn field(&mut self, line: &str, message: &mut Message) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "event" => value.clone_into(&mut message.kind),
            "retry" => self.pause = value.parse().map_or(self.pause, Duration::from_millis).min(PAUSE_MAX),
            "data" => {
                if !message.data.is_empty() {
                    message.data.push('\n');
                }
                message.data.push_str(value);
            }
            _ => {} // a comment, such as a heartbeat
        }
    }

    fn take(&mut self, message: &Message, as_json: bool, out: &mut Output) -> Result<(), Failure> {
        let event: Value = serde_json::from_str(&message.data).unwrap_or(Value::Null);
        if message.kind == "problem" {
            let detail = event.get("detail").map_or_else(|| message.data.clone(), plain);
            return Err(Failure::Unavailable(format!("the engine ended the stream: {}", printable(&detail))));
        }
        if as_json {
            out.line(&message.data)?;
        } else {
            out.line(&line(&event))?;
        }
        self.left -= 1;
        out.flush()
    }
}

/// `2026-03-01T12:00:00.000Z  3:17  version.promoted  default/iris/1  by ada`.
fn line(event: &Value) -> String {
    let of = |name: &str| event.get(name).map(plain).unwrap_or_default();
    let kind = of("type");
    let kind = kind.strip_prefix("dev.annals.").unwrap_or(&kind);
    let kind = kind.strip_suffix(".v1").unwrap_or(kind);
    let decided = event.pointer("/data/decided").and_then(Value::as_object);
    let about = ["channel", "alias", "deployment", "drift", "metric", "run", "code"];
    let said: Vec<String> =
        decided.into_iter().flatten().filter(|(n, _)| about.contains(&n.as_str())).map(|(n, v)| format!("{n}={}", plain(v))).collect();
    format!("{}  {:<7}  {kind}  {}  by {}  {}", of("recordedtime"), of("position"), of("subject"), of("actor"), said.join(" "))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(left: u64) -> State {
        State { last_id: None, pause: Duration::from_secs(1), left }
    }

    #[test]
    fn a_stream_is_read_message_by_message_and_its_place_is_kept() {
        let stream =
            "retry: 250\nid: a\n\n: heartbeat\n\nid: b\nevent: x\ndata: {\"type\":\ndata: \"t\"}\n\nid: c\ndata: {}\n\nid: d\ndata: cut";
        let mut state = state(9);
        state.read(stream.as_bytes(), true, &mut Output::stdout()).unwrap();
        assert_eq!((state.left, state.last_id.as_deref(), state.pause), (7, Some("d"), Duration::from_millis(250)));
    }

    #[test]
    fn enough_is_enough_and_a_problem_ends_it() {
        let mut enough = state(1);
        enough.read("id: a\ndata: {}\n\nid: b\ndata: {}\n\n".as_bytes(), false, &mut Output::stdout()).unwrap();
        assert_eq!((enough.left, enough.last_id.as_deref()), (0, Some("a")));
        let ended = state(1).read("event: problem\ndata: {\"detail\":\"lost\"}\n\n".as_bytes(), false, &mut Output::stdout());
        assert!(ended.unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = serde_json::json!({"type": "dev.annals.version.promoted.v1", "recordedtime": "T", "position": "3:17",
            "subject": "default/iris/1", "actor": "ada", "data": {"decided": {"channel": "production", "version": 1}}});
        assert_eq!(line(&event), "T  3:17     version.promoted  default/iris/1  by ada  channel=production");
    }
}
