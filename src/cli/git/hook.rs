//! `annals git hook run`: tells the engine what commits and merges did to a model's file. It never fails a commit: what could not
//! be told is said, with the command that makes up for it. Ids follow from the commits, so that telling twice is telling once.

use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::record::Hash;
use serde_json::{Map, Value, json};

use crate::cli::client::{Answer, Client, NoAnswer, Path, explain};
use crate::cli::output::{Output, say};
use crate::cli::{Exit, Failure};
use crate::config::URL;
use crate::config::git::{HookEvent, Run};
use crate::git::checkout::{Change, Checkout, Span, Tracked};

/// Whom events come from.
const SOURCE: &str = "/git";
/// Who says so, unless somebody does.
const ACTOR: &str = "git";

/// How long a commit may wait for the engine to answer; what comes later is told later.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// [`Failure`], if a person asked; of a hook only what is wrong with how it was called.
pub fn run(args: &Run, out: &mut Output) -> Result<Exit, Failure> {
    let by_hook = args.event.is_some();
    match tell(args, out) {
        Err(failure) if by_hook => {
            say(&format!("annals: {failure}"));
            Ok(Exit::Done)
        }
        Ok(_) if by_hook => Ok(Exit::Done),
        ended => ended,
    }
}

fn tell(args: &Run, out: &mut Output) -> Result<Exit, Failure> {
    let work = Checkout::open(args.repository.as_deref()).map_err(Failure::Usage)?;
    let all = work.tracked().map_err(Failure::Refused)?;
    if all.is_empty() && args.event.is_some() {
        return Ok(Exit::Done); // hooks can be shared by many repositories (core.hooksPath)
    }
    if all.is_empty() {
        return Err(Failure::Refused("nothing is told of this repository: run `annals git hook install`".into()));
    }
    let mut exit = Exit::Done;
    for tracked in &all {
        let span = match (args.event, &args.since) {
            (Some(HookEvent::PostCommit), _) => Span::Commit,
            (Some(HookEvent::PostMerge), _) => Span::Merge,
            (None, Some(since)) => Span::Since(since.clone()),
            (None, None) => Span::All,
        };
        let changes = work.changes(tracked, &span).map_err(Failure::Refused)?;
        let teller = Teller::new(args, tracked, &work);
        for change in &changes {
            match teller.tell(change) {
                Ok(line) => out.line(&line)?,
                Err(NotTold::Refused(why)) => {
                    say(&format!("annals: {}: {why}", tracked.path));
                    exit = Exit::No;
                }
                Err(NotTold::Later { why, first }) => {
                    let later = work.before(&change.commit).map_or_else(|| "--all".to_owned(), |parent| format!("--since {parent}"));
                    let text = format!(
                        "{} was not told of what {} did to {}: {why}\nnothing is lost; {first}: annals git hook run {later}",
                        teller.url,
                        &change.commit[..12],
                        tracked.path
                    );
                    return Err(Failure::Unavailable(text));
                }
            }
        }
    }
    Ok(exit)
}

/// What comes before the next try.
const ANSWERS: &str = "once it answers";
const PUSHED: &str = "push the commit, then run";

enum NotTold {
    /// Nobody was there, it is not known what came of it, or the commit must be pushed before.
    Later {
        /// Why.
        why: String,
        /// What comes before the next try.
        first: &'static str,
    },
    /// The engine said no.
    Refused(String),
}

struct Teller<'a> {
    client: Client,
    url: String,
    actor: String,
    tracked: &'a Tracked,
    repository: String,
}

impl<'a> Teller<'a> {
    fn new(args: &Run, tracked: &'a Tracked, work: &Checkout) -> Self {
        let url = args.url.clone().or_else(|| tracked.url.clone()).unwrap_or_else(|| URL.into());
        let actor = args.actor.clone().or_else(|| tracked.actor.clone()).unwrap_or_else(|| ACTOR.into());
        let client = Client::within(&url, args.event.map(|_| WAIT_MAX));
        Self { client, url, actor, tracked, repository: work.name() }
    }

    /// The run, and the version if it has come onto the main branch.
    fn tell(&self, change: &Change) -> Result<String, NotTold> {
        let Change { commit, artifact, .. } = change;
        let uri = format!("git+{}@{commit}#{}", self.repository, self.tracked.path);
        let made = json!({"uri": uri, "digest": artifact.digest, "size": artifact.size});
        let mut code = json!({"repository": self.repository, "commit": commit});
        if let Some(dirty) = change.dirty {
            code["dirty"] = dirty.into();
        }
        let run = json!({"run": {"id": commit, "system": "git"}, "code": code, "artifact": made.clone()});
        let trained = self.propose(Kind::RunTrained, commit, run)?;
        if !change.on_main {
            return Ok(format!("{trained} run.trained of {} in {}", self.tracked.model, &commit[..12]));
        }
        let registered = self.propose(Kind::VersionRegistered, commit, json!({"run": commit, "artifact": made}))?;
        Ok(format!("{registered} version.registered of {} from {}", self.tracked.model, &commit[..12]))
    }

    fn propose(&self, kind: Kind, commit: &str, data: Value) -> Result<String, NotTold> {
        let Tracked { workspace, model, path, .. } = self.tracked;
        let of = Hash::of([workspace.as_str(), model, path].join("\n").as_bytes()).to_string();
        let mut event = Map::new();
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", &format!("{}-{commit}-{}", kind.short(), &of[..12])),
            ("source", SOURCE),
            ("type", kind.name()),
            ("subject", &format!("{workspace}/{model}")),
            ("actor", &self.actor),
        ] {
            event.insert(name.into(), value.into());
        }
        event.insert("data".into(), data);
        let headers = [("content-type", "application/cloudevents+json")];
        let answer = self.client.post(&Path::new(&["v1", "events"]), &headers, &Value::Object(event).to_string());
        match answer {
            Ok(answer) => outcome(&answer),
            Err(NoAnswer::Unreachable(why) | NoAnswer::Lost(why)) => Err(NotTold::Later { why, first: ANSWERS }),
        }
    }
}

fn outcome(answer: &Answer) -> Result<String, NotTold> {
    let code = answer.body.get("code").and_then(Value::as_str).unwrap_or_default();
    match answer.status {
        201 => Ok("accepted".into()),
        // somebody else told of it, perhaps from a clone with another name
        200 => Ok("known already:".into()),
        422 if code == "id-conflict" => Ok("known already:".into()),
        409 if code == "run-known" => Ok("known already:".into()),
        // a hook runs before anybody can push
        409 if matches!(code, "commit-missing" | "commit-unknown") => Err(NotTold::Later { why: explain(answer), first: PUSHED }),
        202 => Err(NotTold::Later { why: "it is not settled yet".into(), first: ANSWERS }),
        500.. => Err(NotTold::Later { why: explain(answer), first: ANSWERS }),
        _ => Err(NotTold::Refused(format!("refused: {}", explain(answer)))),
    }
}
