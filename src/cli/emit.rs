//! `annals emit`: one proposal, sent until there is a verdict, always with the same id.

use std::io::Read;
use std::time::Duration;

use annals_events::kind::{About, Kind};
use annals_events::names::{Key, VersionRef};
use anyhow::Context;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::client::{Answer, Client, NoAnswer, Path, explain};
use super::output::{Output, complain, plain};
use super::{Exit, Failure};
use crate::config::ask::Emit;

/// How often a proposal is sent at most.
const TRIES_MAX: u32 = 5;
/// The pause behind the first try; each following one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause that the engine may ask for, in seconds.
const RETRY_AFTER_MAX_S: u64 = 5;

/// Runs the command.
///
/// # Errors
/// [`Failure`]; a refusal is an [`Exit`].
pub fn run(args: &Emit, out: &mut Output) -> Result<Exit, Failure> {
    let id = args.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let event = compose(args, &id, &payload(&args.data)?)?;
    let client = Client::new(&args.remote.url);
    match send(&client, args, &event) {
        Ok(answer) => tell(args, &id, &answer, out),
        Err(none @ NoAnswer::Unreachable(_)) => Err(client.unavailable(none)),
        Err(NoAnswer::Lost(why)) => Err(Failure::Unsettled(format!(
            "the proposal was sent, and no answer came back: {why}\nsend it again with `--id {id}`, which is safe, or ask `annals get --proposal {id}`"
        ))),
    }
}

/// Reads the payload: JSON as it is, from a file, or from standard input.
fn payload(data: &str) -> Result<String, Failure> {
    let text = match data.strip_prefix('@') {
        Some(file) => {
            let read = std::fs::read_to_string(file).with_context(|| format!("the data cannot be read from {file}"));
            read.map_err(|e| Failure::Usage(format!("{e:#}")))?
        }
        None if data == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|e| Failure::Usage(format!("the data cannot be read from standard input: {e}")))?;
            text
        }
        None => data.to_owned(),
    };
    Ok(text)
}

/// The CloudEvent in structured mode; the payload goes into it byte for byte.
fn compose(args: &Emit, id: &str, data: &str) -> Result<String, Failure> {
    let usage = Failure::Usage;
    let kind = Kind::from_any(&args.kind).filter(|kind| kind.about() != About::Engine);
    let kind =
        kind.ok_or_else(|| usage(format!("`{}` is not an event type that can be proposed: `annals schemas` lists them", args.kind)))?;
    let key = Key::of(kind, &args.workspace.workspace, &args.model).map_err(|e| usage(e.to_string()))?;
    let version = args.version.as_deref().map(VersionRef::parse).transpose().map_err(|e| usage(e.to_string()))?;
    let raw: &RawValue = serde_json::from_str(data).map_err(|e| usage(format!("the data is not JSON: {e}")))?;
    let mut event = Map::new();
    for (name, value) in &args.attribute {
        event.insert(name.clone(), value.as_str().into());
    }
    let subject = version.map_or_else(|| key.to_string(), |version| format!("{key}/{version}"));
    let mut set = |name: &str, value: &str| event.insert(name.into(), value.into());
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", id),
        ("source", &args.source),
        ("type", kind.name()),
        ("subject", &subject),
        ("datacontenttype", "application/json"),
    ] {
        set(name, value);
    }
    let expected = args.expect.map(|seq| seq.to_string());
    let maybe = [
        ("time", &args.time),
        ("actor", &args.actor),
        ("expectedseq", &expected),
        ("modelexists", &args.must_exist.then(|| "true".to_owned())),
    ];
    for (name, value) in maybe {
        if let Some(value) = value {
            set(name, value);
        }
    }
    let head = Value::Object(event).to_string();
    Ok(format!("{},\"data\":{}}}", head.strip_suffix('}').unwrap_or(&head), raw.get()))
}

/// Sends it until the engine says yes, no, or later. An id is applied once, so sending again is safe.
fn send(client: &Client, args: &Emit, event: &str) -> Result<Answer, NoAnswer> {
    let path = Path::new(&["v1", "events"]);
    let mut headers = vec![("content-type", "application/cloudevents+json")];
    headers.extend(args.no_wait.then_some(("prefer", "respond-async")));
    let mut pause = PAUSE;
    let mut may_have_landed = None;
    for left in (0..TRIES_MAX).rev() {
        let result = client.post(&path, &headers, event);
        let wait = match &result {
            Ok(answer) if answer.status == 503 && left > 0 => {
                answer.retry_after_s.map(|s| Duration::from_secs(s.min(RETRY_AFTER_MAX_S))).unwrap_or_default().max(pause)
            }
            Err(_) if left > 0 => pause,
            Err(NoAnswer::Unreachable(_)) => break,
            _ => return result,
        };
        if let Err(NoAnswer::Lost(why)) = result {
            may_have_landed = Some(why);
        }
        std::thread::sleep(wait);
        pause *= 2;
    }
    Err(may_have_landed.map_or_else(|| NoAnswer::Unreachable("connection refused".into()), NoAnswer::Lost))
}

fn tell(args: &Emit, id: &str, answer: &Answer, out: &mut Output) -> Result<Exit, Failure> {
    let exit = match answer.status {
        200 | 201 => Exit::Done,
        202 if args.no_wait => Exit::Done,
        202 => Exit::Unsettled,
        500.. => return Err(super::client::refused(answer)),
        _ => Exit::No,
    };
    if args.remote.json {
        out.json(&verdict(args, id, answer, exit))?;
        return Ok(exit);
    }
    match exit {
        Exit::Done | Exit::Unsettled => out.line(&line(&answer.body, id))?,
        Exit::No => complain(&format!("refused: {}", explain(answer))),
    }
    if exit == Exit::Unsettled {
        complain(&format!("not settled yet: ask `annals get --proposal {id}`, or send it again with `--id {id}`"));
    }
    Ok(exit)
}

/// One object, whatever the outcome: a script looks at `outcome`.
fn verdict(args: &Emit, id: &str, answer: &Answer, exit: Exit) -> Value {
    if exit != Exit::No {
        return answer.body.clone();
    }
    let of = |name: &str| answer.body.get(name).cloned().unwrap_or(Value::Null);
    let mut refusal = Map::new();
    for (name, value) in [
        ("code", of("code")),
        ("message", of("detail")),
        ("remedy", of("remedy")),
        ("state", of("state")),
        ("allowed", of("allowed")),
        ("violations", of("violations")),
    ] {
        if !value.is_null() {
            refusal.insert(name.into(), value);
        }
    }
    json!({"outcome": "refused", "id": id, "source": args.source, "status": answer.status, "refusal": refusal})
}

/// `accepted version.promoted of default/iris/1 at 3:17 (model sequence 9)`.
fn line(body: &Value, id: &str) -> String {
    let of = |name: &str| body.get(name).map(plain);
    let kind =
        body.get("type").and_then(Value::as_str).and_then(Kind::from_name).map_or_else(|| "proposal".to_owned(), |kind| kind.to_string());
    let mut line = format!("{} {kind}", of("outcome").unwrap_or_else(|| "answered".into()));
    if let Some(subject) = of("subject") {
        line += &format!(" of {subject}");
    }
    if let (Some(position), Some(modelseq)) = (of("position"), of("modelseq")) {
        line += &format!(" at {position} (model sequence {modelseq})");
    }
    format!("{line} id {}", of("id").unwrap_or_else(|| id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, Config};
    use annals_events::proposal::Proposal;
    use annals_events::submission::Submission;
    use clap::Parser;

    fn emit(line: &[&str]) -> Emit {
        let line = ["annals", "emit"].iter().chain(line);
        match Config::try_parse_from(line).unwrap().command {
            Command::Emit(emit) => emit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_proposal_is_what_the_engine_reads_and_its_data_is_verbatim() {
        let args = emit(&[
            "promoted",
            "--model",
            "iris",
            "--version",
            "1",
            "--expect",
            "4",
            "--must-exist",
            "--actor",
            "ada \"x\"",
            "--attribute",
            "correlationid=c}",
        ]);
        let data = "{ \"channel\":\"production\",\"reason\":\"0.970 }\" }";
        let event = compose(&args, "id-1", data).unwrap();
        let headers = vec![("content-type".to_owned(), b"application/cloudevents+json".to_vec())];
        let proposal = Proposal::read(&Submission { key: Some(b"default/iris".to_vec()), headers, value: event.into_bytes() }).unwrap();
        assert_eq!((proposal.data.as_str(), proposal.expected, proposal.must_exist), (data, Some(4), true));
        assert_eq!((proposal.subject().as_str(), proposal.actor.as_deref()), ("default/iris/1", Some("ada \"x\"")));
        assert_eq!(proposal.extensions["correlationid"], "c}");
        assert_eq!((proposal.id.as_str(), proposal.source.as_str()), ("id-1", "/cli"));
    }

    #[test]
    fn what_is_wrong_here_is_said_before_anything_is_sent() {
        for (args, data) in [
            (&["nonsense", "--model", "m"][..], "{}"),
            (&["journal-opened", "--model", "m"], "{}"),
            (&["created", "--model", "a/b"], "{}"),
            (&["created", "--model", "m", "--version", "0"], "{}"),
            (&["created", "--model", "m"], "{"),
        ] {
            let failure = compose(&emit(args), "id", data).unwrap_err();
            assert_eq!(failure.code(), 2, "{args:?}: {failure}");
        }
        assert_eq!(payload("@/no/such/file").unwrap_err().code(), 2);
    }

    #[test]
    fn each_answer_has_its_exit_and_a_refusal_is_one_object() {
        let args = emit(&["created", "--model", "m", "--json"]);
        let answer = |status, body| Answer { status, retry_after_s: None, body };
        let mut out = Output::stdout();
        for (status, exit) in [(201, Exit::Done), (200, Exit::Done), (202, Exit::Unsettled), (409, Exit::No), (400, Exit::No)] {
            let verdict = tell(
                &Emit { remote: crate::config::Remote { json: true, ..args.remote.clone() }, ..args.clone() },
                "id",
                &answer(status, json!({})),
                &mut out,
            );
            assert_eq!(verdict.unwrap(), exit, "{status}");
        }
        assert_eq!(tell(&args, "id", &answer(503, json!({})), &mut out).unwrap_err().code(), 69);
        let refused = verdict(&args, "id", &answer(409, json!({"code": "no-change", "detail": "so already", "state": null})), Exit::No);
        assert_eq!(refused["refusal"], json!({"code": "no-change", "message": "so already"}));
        assert_eq!(refused["outcome"], "refused");
    }

    #[test]
    fn an_accepted_proposal_is_one_line() {
        let body = json!({"outcome": "accepted", "type": "dev.annals.version.promoted.v1", "subject": "default/iris/1",
            "position": "3:17", "modelseq": 9, "id": "a"});
        assert_eq!(line(&body, "a"), "accepted version.promoted of default/iris/1 at 3:17 (model sequence 9) id a");
    }
}
