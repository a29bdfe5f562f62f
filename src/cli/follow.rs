//! `annals subscribe`: the events as they happen, over Server-Sent Events, resumed where they broke off.

mod place;
mod program;

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;

use self::place::Place;
use self::program::Program;
use super::client::{Client, Path};
use super::output::{Output, plain, printable, say};
use super::{Exit, Failure};
use crate::config::ask::{From, Subscribe};

/// Longest pause between two tries to connect again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest line of a stream, in bytes: an event of 256 KiB with room to spare.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Lines that are written before the kept place is moved, if more are there already.
const LINES_MAX: u32 = 100;

/// Runs the command; it ends with `--max`, with Ctrl-C, or when nobody reads any more.
///
/// # Errors
/// [`Failure`] if the first connection fails, the engine says that the place is lost, or another
/// subscriber moved it.
pub fn run(args: &Subscribe, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.remote.url);
    let place = args.name.as_deref().map(|name| Place::find(&client, args.workspace.as_deref(), name, args.forget)).transpose()?;
    let path = Path::new(&["v1", "events", "stream"])
        .maybe("type", args.kind.as_deref())
        .maybe("model", args.model.as_deref())
        .maybe("channel", args.channel.as_deref())
        .maybe("workspace", args.workspace.as_deref())
        .with("from", if args.from == From::Beginning { "beginning" } else { "now" });
    let last_id = place.as_ref().and_then(Place::cursor).map(ToOwned::to_owned);
    let mut state = State { last_id, pause: Duration::from_secs(1), left: args.max.unwrap_or(u64::MAX) };
    let to = match &args.exec {
        Some(program) => To::Program(Program::new(program, &args.arguments, &args.remote.url)),
        None => To::Output { out, as_json: args.remote.json },
    };
    let mut taker = Taker { to, place, unmoved: 0 };
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
                state.read(stream, &mut taker)?;
            }
            Err(Failure::Unavailable(_)) if connected_once => {}
            Err(Failure::Refused(words)) if taker.place.is_some() => {
                return Err(Failure::Refused(format!("{words}\n`--forget` drops the place that is kept, and begins where --from says")));
            }
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

/// Who gets the events, and where that is remembered.
struct Taker<'a> {
    to: To<'a>,
    place: Option<Place<'a>>,
    /// Events that were handed over since the place was moved.
    unmoved: u32,
}

enum To<'a> {
    Output { out: &'a mut Output, as_json: bool },
    Program(Program<'a>),
}

impl Taker<'_> {
    /// Hands an event over; it is taken when this returns.
    fn take(&mut self, message: &Message) -> Result<(), Failure> {
        let event: Value = serde_json::from_str(&message.data).unwrap_or(Value::Null);
        if message.kind == "problem" {
            let detail = event.get("detail").map_or_else(|| message.data.clone(), plain);
            return Err(Failure::Unavailable(format!("the engine ended the stream: {}", printable(&detail))));
        }
        self.unmoved += 1;
        match &mut self.to {
            To::Output { out, as_json: true } => out.line(&message.data)?,
            To::Output { out, as_json: false } => out.line(&line(&event))?,
            To::Program(program) => {
                program.run(&message.data, &event);
                return Ok(());
            }
        }
        if let To::Output { out, .. } = &mut self.to { out.flush() } else { Ok(()) }
    }

    /// Remembers that all up to this cursor is taken. While `more` is there a printer may be late with it.
    fn taken(&mut self, cursor: &str, more: bool) -> Result<(), Failure> {
        let late = more && self.unmoved < LINES_MAX && matches!(self.to, To::Output { .. });
        match &mut self.place {
            Some(place) if !late => {
                self.unmoved = 0;
                place.move_to(cursor)
            }
            _ => Ok(()),
        }
    }
}

struct State {
    /// Behind the last message that was taken.
    last_id: Option<String>,
    pause: Duration,
    left: u64,
}

/// A message as it comes in (WHATWG HTML, "Server-sent events").
#[derive(Default)]
struct Message {
    id: Option<String>,
    kind: String,
    data: String,
}

impl State {
    /// Reads until the stream breaks off, which is no failure, or enough was read.
    fn read(&mut self, stream: impl Read, taker: &mut Taker<'_>) -> Result<(), Failure> {
        let mut lines = BufReader::new(stream);
        let mut message = Message::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) if !bytes.ends_with(b"\n") => break,
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
                taker.take(&whole)?;
                self.left -= 1;
            }
            // not before: a message that was cut off comes again
            if let Some(id) = whole.id {
                taker.taken(&id, self.left > 0 && !lines.buffer().is_empty())?;
                self.last_id = Some(id);
            }
            if self.left == 0 {
                return Ok(());
            }
        }
        self.last_id.as_deref().map_or(Ok(()), |id| taker.taken(id, false))
    }

    fn field(&mut self, line: &str, message: &mut Message) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" if !value.contains('\0') => message.id = Some(value.to_owned()),
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

    fn printer(out: &mut Output) -> Taker<'_> {
        Taker { to: To::Output { out, as_json: true }, place: None, unmoved: 0 }
    }

    #[test]
    fn a_stream_is_read_message_by_message_and_its_place_is_kept() {
        let stream =
            "retry: 250\nid: a\n\n: heartbeat\n\nid: b\nevent: x\ndata: {\"type\":\ndata: \"t\"}\n\nid: c\ndata: {}\n\nid: d\ndata: cut";
        let mut state = state(9);
        state.read(stream.as_bytes(), &mut printer(&mut Output::stdout())).unwrap();
        // what was cut off was not taken, and must come again
        assert_eq!((state.left, state.last_id.as_deref(), state.pause), (7, Some("c"), Duration::from_millis(250)));
    }

    #[test]
    fn enough_is_enough_and_a_problem_ends_it() {
        let (mut enough, mut out) = (state(1), Output::stdout());
        enough.read("id: a\ndata: {}\n\nid: b\ndata: {}\n\n".as_bytes(), &mut printer(&mut out)).unwrap();
        assert_eq!((enough.left, enough.last_id.as_deref()), (0, Some("a")));
        let ended = state(1).read("event: problem\ndata: {\"detail\":\"lost\"}\n\n".as_bytes(), &mut printer(&mut out));
        assert!(ended.unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn a_heartbeat_with_an_id_moves_the_place() {
        let mut state = state(9);
        state.read("id: a\ndata: {}\n\n: heartbeat\nid: b\n\n".as_bytes(), &mut printer(&mut Output::stdout())).unwrap();
        assert_eq!((state.left, state.last_id.as_deref()), (8, Some("b")));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = serde_json::json!({"type": "dev.annals.version.promoted.v1", "recordedtime": "T", "position": "3:17",
            "subject": "default/iris/1", "actor": "ada", "data": {"decided": {"channel": "production", "version": 1}}});
        assert_eq!(line(&event), "T  3:17     version.promoted  default/iris/1  by ada  channel=production");
    }
}
