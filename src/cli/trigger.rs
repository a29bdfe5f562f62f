//! `annals trigger`: rules that act when something happens.

mod apply;

use serde_json::{Map, Value, json};

use super::client::{Client, Method, Path};
use super::output::{Output, counted, plain, say};
use super::{Exit, Failure};
use crate::config::trigger::{Add, All, Change, DryRun, History, Replay, Trigger, Why};
use crate::config::{Remote, Workspace};

/// Items that are asked for at once.
const PAGE: u64 = 1_000;

/// Runs the command.
///
/// # Errors
/// [`Failure`] in the words of the engine.
pub fn run(args: &Trigger, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Trigger::Add(args) => add(args, out),
        Trigger::List(args) => list(args, out),
        Trigger::Show(args) => {
            let found = Client::new(&args.remote.url).get(&at(&args.workspace, &args.name, &[]))?;
            if args.remote.json {
                out.json(&found)?
            } else {
                outline(&found, out)?
            }
            Ok(Exit::Done)
        }
        Trigger::Pause(args) => change(args, "pause", out),
        Trigger::Resume(args) => change(args, "resume", out),
        Trigger::Remove(args) => remove(args, out),
        Trigger::History(args) => history(args, out),
        Trigger::Replay(args) => replay(args, out),
        Trigger::DryRun(args) => dry_run(args, out),
        Trigger::Apply(args) => apply::run(args, out),
    }
}

fn at(workspace: &Workspace, name: &str, more: &[&str]) -> Path {
    let segments = [&["v1", "triggers", name], more].concat();
    Path::new(&segments).with("workspace", &workspace.workspace)
}

fn told(why: &Why) -> Map<String, Value> {
    let given = [("actor", &why.actor), ("reason", &why.reason)];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect()
}

fn outline(found: &Value, out: &mut Output) -> Result<(), Failure> {
    let empty = Map::new();
    for (name, value) in found.as_object().unwrap_or(&empty) {
        out.line(&format!("{name}: {}", if value.is_object() { value.to_string() } else { plain(value) }))?;
    }
    Ok(())
}

fn add(args: &Add, out: &mut Output) -> Result<Exit, Failure> {
    let mut when = Map::from_iter([("type".to_owned(), json!(args.kinds))]);
    when.extend(args.model.iter().map(|model| ("model".to_owned(), model.clone().into())));
    when.extend(args.channel.iter().map(|channel| ("channel".to_owned(), channel.clone().into())));
    if !args.members.is_empty() {
        when.insert("where".into(), Value::Object(args.members.iter().cloned().collect()));
    }
    let mut body = told(&args.why);
    body.extend([("when".to_owned(), when.into()), ("do".to_owned(), args.act.clone().into())]);
    body.extend(args.cooldown.map(|seconds| ("cooldown_s".to_owned(), seconds.into())));
    body.extend(args.dedup.clone().map(|text| ("dedup".to_owned(), text.into())));
    if args.paused {
        body.insert("state".into(), "paused".into());
    }
    let changed = put(&Client::new(&args.remote.url), &args.workspace, &args.name, &Value::Object(body))?;
    tell(&changed, &args.remote, out)
}

/// Makes a trigger what is wanted; what the engine says of it.
fn put(client: &Client, workspace: &Workspace, name: &str, body: &Value) -> Result<Value, Failure> {
    client.change(Method::Put, &at(workspace, name, &[]), body)
}

/// `unchanged` or how it is now; a rule that no actor knows of is not settled.
fn tell(changed: &Value, remote: &Remote, out: &mut Output) -> Result<Exit, Failure> {
    let in_force = changed["in_force"] == true;
    if remote.json {
        out.json(changed)?;
    } else {
        out.line(&line(changed))?;
    }
    if !in_force {
        say("annals: it is recorded, and no instance with the role `actor` has taken note of it yet: see `annals doctor`");
    }
    Ok(if in_force { Exit::Done } else { Exit::Unsettled })
}

fn line(changed: &Value) -> String {
    let (name, state) = (plain(&changed["name"]), plain(&changed["state"]));
    match changed["position"].as_str() {
        Some(position) => format!("{name}  changed: {state}  {position}"),
        None => format!("{name}  unchanged: {state}"),
    }
}

fn change(args: &Change, verb: &str, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.one.remote.url);
    let path = at(&args.one.workspace, &args.one.name, &[verb]);
    tell(&client.change(Method::Post, &path, &Value::Object(told(&args.why)))?, &args.one.remote, out)
}

fn remove(args: &Change, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.one.remote.url);
    let path = at(&args.one.workspace, &args.one.name, &[]);
    tell(&client.change(Method::Delete, &path, &Value::Object(told(&args.why)))?, &args.one.remote, out)
}

fn list(args: &All, out: &mut Output) -> Result<Exit, Failure> {
    let path = Path::new(&["v1", "triggers"]).with("workspace", &args.workspace.workspace);
    let found = Client::new(&args.remote.url).get(&path)?;
    if args.remote.json {
        out.json(&found)?;
        return Ok(Exit::Done);
    }
    let items = found["items"].as_array().cloned().unwrap_or_default();
    let row = |item: &Value| {
        let act = item["do"].as_object().and_then(|act| act.keys().next().cloned()).unwrap_or_default();
        let mut row: Vec<String> = ["name", "state", "revision"].iter().map(|member| plain(&item[*member])).collect();
        row.extend([plain(&item["when"]), act]);
        row.extend(["pending", "running", "parked", "problem"].iter().map(|member| plain(&item[*member])));
        row
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    out.table(&["TRIGGER", "STATE", "REVISION", "WHEN", "DO", "PENDING", "RUNNING", "PARKED", "PROBLEM"], &rows)?;
    if rows.is_empty() {
        say("nothing yet");
    }
    Ok(Exit::Done)
}

fn history(args: &History, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.one.remote.url);
    let path =
        at(&args.one.workspace, &args.one.name, &["history"]).maybe("state", args.state.as_deref()).maybe("model", args.model.as_deref());
    let (mut items, mut after): (Vec<Value>, Option<String>) = (Vec::new(), None);
    while (items.len() as u64) < args.limit {
        let left = (args.limit - items.len() as u64).min(PAGE);
        let page = client.get(&path.clone().with("limit", &left.to_string()).maybe("after", after.as_deref()))?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if args.one.remote.json {
        out.json(&json!({"items": items, "next": after}))?;
        return Ok(Exit::Done);
    }
    let row = |item: &Value| {
        let event = &item["event"];
        let came = item["outcome"].as_array().map(|events| events.iter().map(|e| plain(&e["position"])).collect::<Vec<_>>().join(","));
        vec![
            plain(&item["task"]),
            plain(&item["state"]),
            plain(&event["recorded"]),
            format!("{} {} {}", plain(&event["position"]), plain(&event["type"]), plain(&event["key"])),
            came.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into()),
            plain(&item["attempts"]),
            plain(&item["note"]),
        ]
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    out.table(&["TASK", "STATE", "RECORDED", "EVENT", "OUTCOME", "FAILED", "NOTE"], &rows)?;
    if rows.is_empty() {
        say("nothing yet");
    }
    Ok(Exit::Done)
}

fn replay(args: &Replay, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.one.remote.url);
    let which = match (&args.since, args.task) {
        (Some(since), _) => json!({"since": since}),
        (None, Some(task)) => json!({"task": task}),
        (None, None) => json!({"parked": true}),
    };
    let path = at(&args.one.workspace, &args.one.name, &["replay"]);
    let body = client.change(Method::Post, &path, &which)?;
    if args.one.remote.json {
        out.json(&body)?;
    } else {
        out.line(&format!("{} to be done again", counted(body["replayed"].as_u64().unwrap_or(0), "task")))?;
    }
    Ok(Exit::Done)
}

fn dry_run(args: &DryRun, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.remote.url);
    let mut body = match (&args.name, &args.file) {
        (Some(name), _) => json!({"name": name}),
        (None, Some(file)) => json!({"rule": apply::one(file)?}),
        (None, None) => return Err(Failure::Usage("name a trigger, or a file".into())),
    };
    for (member, value) in [("from", &args.from), ("until", &args.until)] {
        if let Some(value) = value {
            body[member] = value.as_str().into();
        }
    }
    let path = Path::new(&["v1", "triggers", "dry-run"]).with("workspace", &args.workspace.workspace);
    let found = client.change(Method::Post, &path, &body)?;
    if args.remote.json {
        out.json(&found)?;
        return Ok(Exit::Done);
    }
    let items = found["items"].as_array().cloned().unwrap_or_default();
    let row =
        |item: &Value| ["recorded", "position", "type", "subject", "made", "note"].iter().map(|member| plain(&item[*member])).collect();
    out.table(&["RECORDED", "POSITION", "TYPE", "SUBJECT", "WOULD HAVE", "NOTE"], &items.iter().map(row).collect::<Vec<Vec<String>>>())?;
    let count = |member: &str| found[member].as_u64().unwrap_or(0);
    let held = ["cooled", "deduplicated", "too_far", "unfit"].map(|member| format!("{} {}", count(member), member.replace('_', " ")));
    say(&format!("{} looked at, {} fired, {}; nothing was done", counted(count("seen"), "event"), count("fired"), held.join(", ")));
    Ok(Exit::Done)
}
