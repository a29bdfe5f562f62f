//! `annals trigger`: rules that act when something happens.

use std::io::Read;
use std::path::Path as FilePath;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::client::{Client, Method, Path};
use super::output::{Output, plain, say};
use super::webhook::{body_of, items, pages, replayed, table, when_of};
use super::{Exit, Failure};
use crate::config::trigger::{Add, Apply, DryRun, Replay, Trigger};
use crate::config::webhook::{All, Change, Deliveries, One};

/// Runs the command.
///
/// # Errors
/// [`Failure`] in the words of the engine.
pub fn run(args: &Trigger, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Trigger::Add(args) => add(args, out),
        Trigger::Apply(args) => apply(args, out),
        Trigger::List(args) => list(args, out),
        Trigger::Show(args) => tell(&Client::new(&args.remote.url).get(&at(args, &[]))?, args.remote.json, out),
        Trigger::Pause(args) => change(args, "pause", out),
        Trigger::Resume(args) => change(args, "resume", out),
        Trigger::Remove(args) => remove(args, out),
        Trigger::History(args) => history(args, out),
        Trigger::Replay(args) => replay(args, out),
        Trigger::DryRun(args) => dry_run(args, out),
    }
}

fn at(one: &One, more: &[&str]) -> Path {
    Path::new(&[&["v1", "triggers", &one.name], more].concat()).with("workspace", &one.workspace.workspace)
}

fn named(name: &str, workspace: &str) -> Path {
    Path::new(&["v1", "triggers", name]).with("workspace", workspace)
}

fn add(args: &Add, out: &mut Output) -> Result<Exit, Failure> {
    let mut body = body_of(&args.why);
    body.extend([("when".to_owned(), when_of(&args.when)), ("do".to_owned(), args.act.clone()), ("paused".to_owned(), args.paused.into())]);
    body.extend(args.cooldown.map(|seconds| ("cooldown_s".to_owned(), seconds.into())));
    body.extend(args.dedup.clone().map(|text| ("dedup".to_owned(), text.into())));
    let path = named(&args.name, &args.workspace.workspace);
    let trigger = Client::new(&args.remote.url).change(Method::Put, &path, &Value::Object(body))?;
    tell(&trigger, args.remote.json, out)
}

/// Reads one trigger or a list of them; YAML, of which JSON is a part.
fn read(file: &FilePath) -> Result<Vec<Map<String, Value>>, Failure> {
    let shown = file.display();
    let text = if file == FilePath::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("{shown} cannot be read"))?;
    let found: Value = serde_saphyr::from_str(&text).map_err(|e| Failure::Usage(format!("{shown} is neither YAML nor JSON: {e}")))?;
    let list = match found {
        Value::Array(list) => list,
        one => vec![one],
    };
    let object = |(nth, value): (usize, Value)| match value {
        Value::Object(object) if object.get("trigger").is_some_and(Value::is_string) => Ok(object),
        _ => {
            Err(Failure::Usage(format!("number {} in {shown} is no trigger: it must have `trigger` (its name), `when` and `do`", nth + 1)))
        }
    };
    list.into_iter().enumerate().map(object).collect()
}

/// All of a file or, where one of its rules could never be, nothing.
fn apply(args: &Apply, out: &mut Output) -> Result<Exit, Failure> {
    let (client, mut rules, mut all) = (Client::new(&args.remote.url), Vec::new(), Vec::new());
    for mut rule in read(&args.file)? {
        let name = rule.remove("trigger").as_ref().map(plain).unwrap_or_default();
        let state = rule.remove("state");
        let is_removed = state.as_ref().is_some_and(|state| state == "removed");
        if let Some(state) = state {
            rule.insert("paused".into(), (state == "paused").into());
        }
        rule.extend(body_of(&args.why));
        rules.push((name, is_removed, Value::Object(rule)));
    }
    let path = |name: &str| named(name, &args.workspace.workspace);
    let put = |name: &str, path: Path, rule: &Value| {
        let told = client.change(Method::Put, &path, rule);
        told.map_err(|e| if let Failure::Refused(why) = e { Failure::Refused(format!("{name}: {why}")) } else { e })
    };
    for (name, _, rule) in rules.iter().filter(|(_, is_removed, _)| !is_removed) {
        put(name, path(name).with("check", "true"), rule)?;
    }
    for (name, is_removed, rule) in &rules {
        let was = client.try_get(&path(name), &[])?.status == 200;
        let word = if *is_removed {
            if was {
                client.change(Method::Delete, &path(name), &Value::Object(body_of(&args.why)))?;
            }
            if was { "removed" } else { "unchanged" }
        } else {
            match put(name, path(name), rule)?.get("changed") {
                Some(Value::Bool(false)) => "unchanged",
                _ if was => "changed",
                _ => "added",
            }
        };
        if !args.remote.json {
            out.line(&format!("{name}: {word}"))?;
        }
        all.push(json!({"name": name, "result": word}));
    }
    if args.remote.json {
        out.json(&json!({"items": all}))?;
    }
    Ok(Exit::Done)
}

fn list(args: &All, out: &mut Output) -> Result<Exit, Failure> {
    let path = Path::new(&["v1", "triggers"]).with("workspace", &args.workspace.workspace);
    let listing = Client::new(&args.remote.url).get(&path)?;
    if args.remote.json {
        out.json(&listing)?;
        return Ok(Exit::Done);
    }
    let mut rows = items(&listing).to_vec();
    for row in &mut rows {
        let what = row.get("do").and_then(Value::as_object).and_then(|act| act.keys().next().cloned());
        row["what"] = what.unwrap_or_default().into();
    }
    let columns = [
        ("TRIGGER", "name"),
        ("STATE", "state"),
        ("TYPES", "/when/type"),
        ("DOES", "what"),
        ("PENDING", "pending"),
        ("RUNNING", "running"),
        ("PARKED", "parked"),
    ];
    table(&columns, &rows, out)
}

/// Prints a trigger.
fn tell(trigger: &Value, as_json: bool, out: &mut Output) -> Result<Exit, Failure> {
    if as_json {
        out.json(trigger)?;
        return Ok(Exit::Done);
    }
    let members = [
        "name",
        "state",
        "trouble",
        "when",
        "do",
        "cooldown_s",
        "dedup",
        "revision",
        "since",
        "pending",
        "running",
        "parked",
        "oldest_pending",
    ];
    for member in members {
        if let Some(value) = trigger.get(member).filter(|value| !value.is_null()) {
            out.line(&format!("{member:<14}  {}", plain(value)))?;
        }
    }
    if trigger.get("changed") == Some(&Value::Bool(false)) {
        say("it was so already: nothing was changed");
    }
    Ok(Exit::Done)
}

fn change(args: &Change, verb: &str, out: &mut Output) -> Result<Exit, Failure> {
    let body = Value::Object(body_of(&args.why));
    let trigger = Client::new(&args.one.remote.url).change(Method::Post, &at(&args.one, &[verb]), &body)?;
    tell(&trigger, args.one.remote.json, out)
}

fn remove(args: &Change, out: &mut Output) -> Result<Exit, Failure> {
    let body = Value::Object(body_of(&args.why));
    Client::new(&args.one.remote.url).change(Method::Delete, &at(&args.one, &[]), &body)?;
    if args.one.remote.json {
        out.json(&json!({"name": args.one.name, "state": "removed"}))?;
    } else {
        out.line(&format!("{}: removed", args.one.name))?;
    }
    Ok(Exit::Done)
}

fn history(args: &Deliveries, out: &mut Output) -> Result<Exit, Failure> {
    let mut all = pages(args, &at(&args.one, &["history"]))?;
    if args.one.remote.json {
        out.json(&json!({"items": all}))?;
        return Ok(Exit::Done);
    }
    for task in &mut all {
        let led = task.pointer("/outcome/events").and_then(Value::as_array).cloned().unwrap_or_default();
        let led: Vec<String> = led.iter().filter_map(|event| event.get("position").map(plain)).collect();
        task["led"] = led.join(" ").into();
    }
    let columns = [
        ("TASK", "id"),
        ("STATE", "state"),
        ("FAILED", "attempts"),
        ("TYPE", "type"),
        ("MODEL", "key"),
        ("POSITION", "position"),
        ("EVENT", "event"),
        ("LED TO", "led"),
        ("NOTE", "note"),
    ];
    table(&columns, &all, out)
}

fn replay(args: &Replay, out: &mut Output) -> Result<Exit, Failure> {
    let body = match (&args.since, args.task) {
        (Some(since), _) => json!({"since": since}),
        (None, Some(number)) => json!({"task": number}),
        (None, None) if args.waiting => json!({"waiting": true}),
        (None, None) => json!({"parked": true}),
    };
    let answer = Client::new(&args.one.remote.url).change(Method::Post, &at(&args.one, &["replay"]), &body)?;
    replayed(&answer, ("task", "tasks"), args.one.remote.json, out)
}

fn dry_run(args: &DryRun, out: &mut Output) -> Result<Exit, Failure> {
    let mut play = Map::new();
    match (&args.name, &args.file) {
        (Some(name), _) => play.insert("name".into(), name.clone().into()),
        (None, file) => {
            let mut rules = read(file.as_deref().unwrap_or(FilePath::new("-")))?;
            let (Some(mut rule), true) = (rules.pop(), rules.is_empty()) else {
                return Err(Failure::Usage("a dry run is of one trigger: name a file with one".into()));
            };
            rule.retain(|member, _| !["trigger", "state"].contains(&member.as_str()));
            play.insert("rule".into(), Value::Object(rule))
        }
    };
    for (member, given) in [("from", &args.from), ("until", &args.until)] {
        play.extend(given.clone().map(|time| (member.to_owned(), time.into())));
    }
    play.insert("limit".into(), args.max.into());
    let path = Path::new(&["v1", "triggers", "dry-run"]).with("workspace", &args.workspace.workspace);
    let played = Client::new(&args.remote.url).change(Method::Post, &path, &Value::Object(play))?;
    if args.remote.json {
        out.json(&played)?;
        return Ok(Exit::Done);
    }
    let mut rows = items(&played).to_vec();
    for row in &mut rows {
        row["would"] = if row["fires"] == true { "act" } else { "not act" }.into();
    }
    let columns = [
        ("WOULD", "would"),
        ("TYPE", "type"),
        ("SUBJECT", "subject"),
        ("POSITION", "position"),
        ("RECORDED", "recorded"),
        ("NOTE", "note"),
    ];
    table(&columns, &rows, out)?;
    let count = |member: &str| played.get(member).and_then(Value::as_u64).unwrap_or_default();
    say(&format!("of {} events it would have acted on {}, and not on {}", count("events"), count("fired"), count("skipped")));
    if played.get("truncated") == Some(&Value::Bool(true)) {
        say("not all are listed: --max lists more");
    }
    Ok(Exit::Done)
}
