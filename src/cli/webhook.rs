//! `annals webhook`: events that are delivered to a URL.

use serde_json::{Map, Value, json};

use super::client::{Client, Method, Path};
use super::output::{Output, plain, say};
use super::{Exit, Failure};
use crate::config::webhook::{Add, All, Change, Deliveries, One, Replay, Rotate, Signing, Webhook, When, Why, Words};

/// Items that are asked for at once.
const PAGE: u64 = 1_000;

/// Runs the command.
///
/// # Errors
/// [`Failure`] in the words of the engine.
pub fn run(args: &Webhook, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Webhook::Add(args) => add(args, out),
        Webhook::List(args) => list(args, out),
        Webhook::Show(args) => {
            let webhook = Client::new(&args.remote.url).get(&at(args, &[]))?;
            tell(&webhook, args.remote.json, out)
        }
        Webhook::Pause(args) => change(args, "pause", out),
        Webhook::Resume(args) => change(args, "resume", out),
        Webhook::Remove(args) => remove(args, out),
        Webhook::Rotate(args) => rotate(args, out),
        Webhook::Test(args) => test(args, out),
        Webhook::Deliveries(args) => deliveries(args, out),
        Webhook::Replay(args) => replay(args, out),
    }
}

fn at(one: &One, more: &[&str]) -> Path {
    let segments = [&["v1", "webhooks", &one.name], more].concat();
    Path::new(&segments).with("workspace", &one.workspace.workspace)
}

/// Who and why, as a body has it.
pub(super) fn body_of(why: &Why) -> Map<String, Value> {
    let given = [("actor", &why.actor), ("reason", &why.reason)];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect()
}

/// Which events, as a body has it.
pub(super) fn when_of(asked: &When) -> Value {
    let mut when = Map::from_iter([("type".to_owned(), json!(asked.kinds))]);
    when.extend(asked.model.iter().map(|model| ("model".to_owned(), model.clone().into())));
    when.extend(asked.channel.iter().map(|channel| ("channel".to_owned(), channel.clone().into())));
    if !asked.members.is_empty() {
        when.insert("where".into(), Value::Object(asked.members.iter().cloned().collect()));
    }
    Value::Object(when)
}

fn add(args: &Add, out: &mut Output) -> Result<Exit, Failure> {
    let signing = match args.signing {
        Signing::Ed25519 => "ed25519",
        Signing::Hmac => "hmac",
    };
    let format = match args.format {
        Words::CloudEvents => "cloudevents",
        Words::CdEvents => "cdevents",
    };
    let mut body = body_of(&args.why);
    body.extend(Map::from_iter([
        ("url".to_owned(), args.to.clone().into()),
        ("when".to_owned(), when_of(&args.when)),
        ("signing".to_owned(), signing.into()),
        ("format".to_owned(), format.into()),
        ("paused".to_owned(), args.paused.into()),
    ]));
    let path = Path::new(&["v1", "webhooks", &args.name]).with("workspace", &args.workspace.workspace);
    let webhook = Client::new(&args.remote.url).change(Method::Put, &path, &Value::Object(body))?;
    tell(&webhook, args.remote.json, out)
}

fn list(args: &All, out: &mut Output) -> Result<Exit, Failure> {
    let path = Path::new(&["v1", "webhooks"]).with("workspace", &args.workspace.workspace);
    let listing = Client::new(&args.remote.url).get(&path)?;
    if args.remote.json {
        out.json(&listing)?;
        return Ok(Exit::Done);
    }
    let columns = [
        ("WEBHOOK", "name"),
        ("STATE", "state"),
        ("FORMAT", "format"),
        ("TYPES", "/when/type"),
        ("PENDING", "pending"),
        ("PARKED", "parked"),
        ("URL", "url"),
    ];
    table(&columns, items(&listing), out)
}

fn change(args: &Change, verb: &str, out: &mut Output) -> Result<Exit, Failure> {
    let body = Value::Object(body_of(&args.why));
    let webhook = Client::new(&args.one.remote.url).change(Method::Post, &at(&args.one, &[verb]), &body)?;
    tell(&webhook, args.one.remote.json, out)
}

fn remove(args: &Change, out: &mut Output) -> Result<Exit, Failure> {
    let body = Value::Object(body_of(&args.why));
    Client::new(&args.one.remote.url).change(Method::Delete, &at(&args.one, &[]), &body)?;
    if args.one.remote.json {
        out.json(&json!({"name": args.one.name, "state": "removed"}))?;
    } else {
        out.line(&format!("{}: removed, and its keys are forgotten", args.one.name))?;
    }
    Ok(Exit::Done)
}

fn rotate(args: &Rotate, out: &mut Output) -> Result<Exit, Failure> {
    let body = json!({"overlap_s": args.overlap});
    let webhook = Client::new(&args.one.remote.url).change(Method::Post, &at(&args.one, &["rotate"]), &body)?;
    tell(&webhook, args.one.remote.json, out)
}

/// Prints a webhook; a secret that is told once goes to standard output like the rest.
fn tell(webhook: &Value, as_json: bool, out: &mut Output) -> Result<Exit, Failure> {
    if as_json {
        out.json(webhook)?;
        return Ok(Exit::Done);
    }
    let of = |member: &str| webhook.get(member).filter(|value| !value.is_null()).map(plain);
    for member in ["name", "state", "url", "when", "signing", "format", "pending", "parked", "oldest_pending"] {
        if let Some(text) = of(member) {
            out.line(&format!("{member:<14}  {text}"))?;
        }
    }
    for key in webhook.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let of = |member: &str| key.get(member).map(plain);
        let until = of("expires").map(|at| format!(", signs until {at}")).unwrap_or_default();
        let public = of("public").unwrap_or_else(|| "a secret that was told once".into());
        out.line(&format!("{:<14}  {public} (since {}{until})", "key", of("created").unwrap_or_default()))?;
    }
    if let Some(secret) = of("secret") {
        out.line(&format!("{:<14}  {secret}", "secret"))?;
        say("the secret is shown this once: give it to the receiver, and keep it from everybody else");
    }
    if webhook.get("changed") == Some(&Value::Bool(false)) {
        say("it was so already: nothing was changed");
    }
    Ok(Exit::Done)
}

fn test(args: &One, out: &mut Output) -> Result<Exit, Failure> {
    let tried = Client::new(&args.remote.url).change(Method::Post, &at(args, &["test"]), &Value::Null)?;
    let delivered = tried.get("delivered") == Some(&Value::Bool(true));
    if args.remote.json {
        out.json(&tried)?;
    } else {
        let note = tried.get("note").map(plain).unwrap_or_default();
        out.line(&format!("{}: {note}", if delivered { "delivered" } else { "not delivered" }))?;
    }
    Ok(if delivered { Exit::Done } else { Exit::No })
}

fn deliveries(args: &Deliveries, out: &mut Output) -> Result<Exit, Failure> {
    let all = pages(args, &at(&args.one, &["deliveries"]))?;
    if args.one.remote.json {
        out.json(&json!({"items": all}))?;
        return Ok(Exit::Done);
    }
    let columns = [
        ("DELIVERY", "id"),
        ("STATE", "state"),
        ("FAILED", "attempts"),
        ("NEXT", "next"),
        ("TYPE", "type"),
        ("MODEL", "key"),
        ("POSITION", "position"),
        ("EVENT", "event"),
        ("LAST ANSWER", "note"),
    ];
    table(&columns, &all, out)
}

/// A rule's tasks, as many as are wanted.
pub(super) fn pages(args: &Deliveries, at: &Path) -> Result<Vec<Value>, Failure> {
    let client = Client::new(&args.one.remote.url);
    let path = at.clone().maybe("state", args.state.as_deref()).maybe("model", args.model.as_deref());
    let path = path.with("limit", &args.max.clamp(1, PAGE).to_string());
    let (mut all, mut after) = (Vec::new(), None);
    while (all.len() as u64) < args.max {
        let page = client.get(&path.clone().maybe("after", after.as_deref()))?;
        all.extend(items(&page).iter().cloned());
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    all.truncate(usize::try_from(args.max).unwrap_or(usize::MAX));
    Ok(all)
}

fn replay(args: &Replay, out: &mut Output) -> Result<Exit, Failure> {
    let body = match (&args.since, args.delivery) {
        (Some(since), _) => json!({"since": since}),
        (None, Some(number)) => json!({"task": number}),
        (None, None) if args.waiting => json!({"waiting": true}),
        (None, None) => json!({"parked": true}),
    };
    let answer = Client::new(&args.one.remote.url).change(Method::Post, &at(&args.one, &["replay"]), &body)?;
    replayed(&answer, ("delivery", "deliveries"), args.one.remote.json, out)
}

/// Says how many tasks are done again.
pub(super) fn replayed(answer: &Value, words: (&str, &str), as_json: bool, out: &mut Output) -> Result<Exit, Failure> {
    if as_json {
        out.json(answer)?;
    } else {
        let count = answer.get("replayed").and_then(Value::as_u64).unwrap_or_default();
        out.line(&format!("{count} {} again", if count == 1 { words.0 } else { words.1 }))?;
    }
    Ok(Exit::Done)
}

/// The items of a listing.
pub(super) fn items(listing: &Value) -> &[Value] {
    listing.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Prints a table.
pub(super) fn table(columns: &[(&str, &str)], items: &[Value], out: &mut Output) -> Result<Exit, Failure> {
    let cell = |item: &Value, member: &str| {
        let found = if member.starts_with('/') { item.pointer(member) } else { item.get(member) };
        plain(found.unwrap_or(&Value::Null))
    };
    let rows: Vec<Vec<String>> = items.iter().map(|item| columns.iter().map(|(_, member)| cell(item, member)).collect()).collect();
    out.table(&columns.iter().map(|(title, _)| *title).collect::<Vec<_>>(), &rows)?;
    if rows.is_empty() {
        say("nothing yet");
    }
    Ok(Exit::Done)
}
