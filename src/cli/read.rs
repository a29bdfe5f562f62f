//! The commands that ask one thing: get, list, timeline and at.

use annals_events::model::CHANNELS;
use serde_json::{Map, Value, json};

use super::client::{Client, Path};
use super::output::{Output, plain, printable, say};
use super::{Exit, Failure};
use crate::config::Question;
use crate::config::ask::{At, Get, List, Things, Timeline};

/// Items that are asked for at once.
const PAGE: &str = "1000";

/// One column of a table: its title, and the member that it shows.
type Column = (&'static str, &'static str);

/// Runs `get`.
///
/// # Errors
/// [`Failure`].
pub fn get(args: &Get, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.question.remote.url);
    if let Some(id) = &args.proposal {
        let state = client.get(&Path::new(&["v1", "proposals", id]).with("source", &args.source))?;
        return show(&state, args.question.remote.json, out);
    }
    let model = args.model.as_deref().unwrap_or_default();
    let mut segments = vec!["v1", "models", model];
    for (part, name) in
        [("versions", &args.version), ("channels", &args.channel), ("aliases", &args.alias), ("deployments", &args.deployment)]
    {
        if let Some(name) = name {
            segments.extend([part, name]);
        }
    }
    let found = client.get_fresh(&ask(Path::new(&segments), &args.question))?;
    show(&found, args.question.remote.json, out)
}

fn show(value: &Value, as_json: bool, out: &mut Output) -> Result<Exit, Failure> {
    if as_json {
        out.json(value)?;
    } else {
        for line in outline(value, 0) {
            out.line(&line)?;
        }
    }
    Ok(Exit::Done)
}

/// Runs `list`.
///
/// # Errors
/// [`Failure`].
pub fn list(args: &List, out: &mut Output) -> Result<Exit, Failure> {
    args.check().map_err(Failure::Usage)?;
    let client = Client::new(&args.question.remote.url);
    let model = args.model.as_deref().unwrap_or_default();
    let (part, columns) = columns(args.things);
    let path = match args.things {
        Things::Models | Things::Cursors => Path::new(&["v1", part]),
        _ => Path::new(&["v1", "models", model, part]),
    };
    let listing = all_pages(&client, &ask(path, &args.question))?;
    if args.question.remote.json {
        out.json(&listing)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = items(&listing).iter().map(|item| row(item, columns)).collect();
    out.table(&columns.iter().map(|(title, _)| *title).collect::<Vec<_>>(), &rows)?;
    if rows.is_empty() {
        say("nothing yet");
    }
    Ok(Exit::Done)
}

fn columns(things: Things) -> (&'static str, &'static [Column]) {
    match things {
        Things::Models => (
            "models",
            &[
                ("MODEL", "name"),
                ("VERSIONS", "versions"),
                ("LATEST", "latest_version"),
                ("HEALTH", "health"),
                ("CHANNELS", "channels"),
                ("ALIASES", "aliases"),
            ],
        ),
        Things::Versions => (
            "versions",
            &[
                ("VERSION", "version"),
                ("LABEL", "label"),
                ("STATUS", "status"),
                ("CHANNELS", "channels"),
                ("ALIASES", "aliases"),
                ("CREATED", "created"),
                ("BY", "created_by"),
                ("DIGEST", "digest"),
            ],
        ),
        Things::Channels => ("channels", CHANNEL),
        Things::Aliases => {
            ("aliases", &[("ALIAS", "alias"), ("VERSION", "version"), ("LABEL", "label"), ("SINCE", "since"), ("BY", "actor")])
        }
        Things::Deployments => (
            "deployments",
            &[
                ("DEPLOYMENT", "deployment"),
                ("VERSION", "version"),
                ("STATE", "state"),
                ("REQUESTED", "requested"),
                ("ENDED", "ended"),
                ("TARGET", "target"),
                ("ENDPOINT", "endpoint"),
            ],
        ),
        Things::Cursors => ("cursors", &[("NAME", "name"), ("MOVED", "updated"), ("REVISION", "revision"), ("CURSOR", "cursor")]),
        Things::Drifts => (
            "drifts",
            &[
                ("DRIFT", "drift"),
                ("VERSION", "version"),
                ("STATE", "state"),
                ("KIND", "kind"),
                ("METRIC", "metric"),
                ("OBSERVED", "observed"),
                ("DETECTED", "detected"),
                ("RESOLVED", "resolved"),
            ],
        ),
    }
}

const CHANNEL: &[Column] = &[
    ("MODEL", "model"),
    ("CHANNEL", "channel"),
    ("VERSION", "version"),
    ("LABEL", "label"),
    ("SINCE", "since"),
    ("BY", "actor"),
    ("DIGEST", "digest"),
];

fn row(item: &Value, columns: &[Column]) -> Vec<String> {
    let cell = |(_, member): &Column| match (*member, item.get(*member)) {
        ("digest", Some(Value::String(digest))) => digest.chars().take(19).collect(),
        (_, value) => plain(value.unwrap_or(&Value::Null)),
    };
    columns.iter().map(cell).collect()
}

/// Runs `timeline`.
///
/// # Errors
/// [`Failure`].
pub fn timeline(args: &Timeline, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.question.remote.url);
    let path = match &args.model {
        Some(model) => Path::new(&["v1", "models", model, "timeline"]),
        None => Path::new(&["v1", "timeline"]),
    };
    let path = ask(path, &args.question);
    if args.question.remote.json {
        out.json(&all_pages(&client, &path)?)?;
        return Ok(Exit::Done);
    }
    for_each_page(&client, &path, &mut |page| items(page).iter().try_for_each(|item| out.line(&event_line(item, args.model.is_none()))))?;
    Ok(Exit::Done)
}

/// `2026-03-01T12:00:00.000Z  3:17  ada  version 1 promoted to production  (because …)`.
fn event_line(item: &Value, with_key: bool) -> String {
    let of = |name: &str| item.get(name).filter(|value| !value.is_null()).map(plain);
    let place = format!("{}:{}", of("partition").unwrap_or_default(), of("seq").unwrap_or_default());
    let mut line = format!("{}  {place:<7}", of("recorded").unwrap_or_default());
    if with_key {
        line += &format!("  {}", of("key").unwrap_or_default());
    }
    line += &format!("  {}: {}", of("actor").unwrap_or_default(), of("summary").or_else(|| of("kind")).unwrap_or_default());
    if let Some(reason) = of("reason") {
        line += &format!("  ({reason})");
    }
    line
}

/// Runs `at`.
///
/// # Errors
/// [`Failure`].
pub fn at(args: &At, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.remote.url);
    let when = |path: Path| path.with("as_of", &args.time).with("workspace", &args.workspace.workspace);
    let answer = match (&args.model, &args.channel) {
        (Some(model), Some(channel)) => client.get_fresh(&when(Path::new(&["v1", "models", model, "channels", channel])))?,
        (Some(model), None) => all_pages(&client, &when(Path::new(&["v1", "models", model, "channels"])))?,
        (None, Some(channel)) => all_pages(&client, &when(Path::new(&["v1", "channels", channel])))?,
        (None, None) => every_channel(&client, &when)?,
    };
    if args.remote.json {
        out.json(&answer)?;
    } else {
        let single = [answer.clone()];
        let found = if answer.get("items").is_some() { items(&answer) } else { &single };
        out.table(
            &CHANNEL.iter().map(|(title, _)| *title).collect::<Vec<_>>(),
            &found.iter().map(|item| row(item, CHANNEL)).collect::<Vec<_>>(),
        )?;
        if found.is_empty() {
            out.line("the channels held nothing then")?;
        }
        if let Some(words) = settled_words(&answer) {
            out.line(words)?;
        }
    }
    Ok(Exit::Done)
}

/// Says whether later events can still change the answer: without that it is not one.
fn settled_words(answer: &Value) -> Option<&'static str> {
    Some(match is_settled(answer)? {
        true => "settled: nothing that is recorded later can change this answer",
        false => "not settled yet: what was proposed until then may still be judged; ask again",
    })
}

fn is_settled(answer: &Value) -> Option<bool> {
    answer.pointer("/as_of/settled").and_then(Value::as_bool)
}

fn every_channel(client: &Client, when: &impl Fn(Path) -> Path) -> Result<Value, Failure> {
    let mut found = Vec::new();
    let mut rest = Map::new();
    let mut settled = true;
    for channel in CHANNELS {
        let answer = all_pages(client, &when(Path::new(&["v1", "channels", channel])))?;
        settled &= is_settled(&answer).unwrap_or(true);
        found.extend(items(&answer).iter().cloned());
        if let Value::Object(members) = answer {
            rest = members;
        }
    }
    rest.insert("items".into(), found.into());
    if let Some(as_of) = rest.get_mut("as_of").and_then(Value::as_object_mut) {
        as_of.insert("settled".into(), settled.into());
    }
    Ok(rest.into())
}

/// Adds what every question has.
pub fn ask(path: Path, question: &Question) -> Path {
    path.with("workspace", &question.workspace.workspace).maybe("as_of", question.as_of.as_deref())
}

pub fn items(listing: &Value) -> &[Value] {
    listing.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Asks page by page.
fn for_each_page(client: &Client, path: &Path, take: &mut dyn FnMut(&Value) -> Result<(), Failure>) -> Result<(), Failure> {
    let path = path.clone().with("limit", PAGE);
    let mut page = client.get_fresh(&path)?;
    loop {
        take(&page)?;
        let Some(next) = page.get("next").and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
        // the next pages are asked as of the first one's positions, so that nothing moves between them
        let position = page.get("position").and_then(Value::as_str).filter(|p| !p.is_empty() && !path.has("as_of"));
        page = client.get(&path.clone().maybe("as_of", position).with("after", &next))?;
    }
}

/// Every page as one listing; what else an answer says is that of the first page.
pub fn all_pages(client: &Client, path: &Path) -> Result<Value, Failure> {
    let mut all: Option<Map<String, Value>> = None;
    let mut found = Vec::new();
    for_each_page(client, path, &mut |page| {
        found.extend(items(page).iter().cloned());
        if all.is_none() {
            all = page.as_object().cloned();
        }
        Ok(())
    })?;
    let mut all = all.unwrap_or_default();
    all.insert("items".into(), found.into());
    all.remove("next");
    Ok(json!(all))
}

/// An object as indented lines, for people.
fn outline(value: &Value, depth: usize) -> Vec<String> {
    let indent = "  ".repeat(depth);
    let Value::Object(members) = value else { return vec![format!("{indent}{}", plain(value))] };
    let mut lines = Vec::new();
    for (name, value) in members {
        let name = printable(name);
        match value {
            Value::Object(inner) if inner.values().any(|v| v.is_object() || v.is_array()) => {
                lines.push(format!("{indent}{name}:"));
                lines.extend(outline(value, depth + 1));
            }
            Value::Array(inner) if inner.iter().any(Value::is_object) => {
                lines.push(format!("{indent}{name}:"));
                lines.extend(inner.iter().map(|item| format!("{indent}  - {}", plain(item))));
            }
            _ => lines.push(format!("{indent}{name}: {}", plain(value))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_an_outline() {
        let value = json!({"name": "iris", "channels": {"production": 2}, "open": [], "results": [{"metric": "a", "value": 1}], "x": {"y": {"z": 1}}});
        let lines = outline(&value, 0);
        assert_eq!(lines, ["channels: production=2", "name: iris", "open: -", "results:", "  - metric=a, value=1", "x:", "  y: z=1"],);
    }

    #[test]
    fn a_timeline_line_says_when_where_who_what_and_why() {
        let item = json!({"partition": 3, "seq": 17, "key": "default/iris", "recorded": "T", "actor": "ada",
            "summary": "promoted to production", "reason": "better", "refused": null});
        assert_eq!(event_line(&item, false), "T  3:17     ada: promoted to production  (better)");
        assert!(event_line(&item, true).contains("default/iris"));
        let other = json!({"partition": 3, "seq": 17, "recorded": "T", "actor": "ada", "kind": "version.promoted"});
        assert_eq!(event_line(&other, false), "T  3:17     ada: version.promoted");
    }

    #[test]
    fn an_answer_about_the_past_says_whether_it_can_still_change() {
        let words = |settled: Value| settled_words(&json!({"as_of": {"settled": settled}}));
        assert!(words(true.into()).unwrap().starts_with("settled"));
        assert!(words(false.into()).unwrap().starts_with("not settled"));
        assert_eq!(settled_words(&json!({})), None);
    }

    #[test]
    fn every_list_has_its_columns_and_a_missing_member_is_a_dash() {
        for things in
            [Things::Models, Things::Versions, Things::Channels, Things::Aliases, Things::Deployments, Things::Drifts, Things::Cursors]
        {
            let (_, columns) = columns(things);
            assert_eq!(row(&json!({}), columns), vec!["-"; columns.len()]);
        }
        let cells = row(&json!({"digest": format!("sha256:{}", "ab".repeat(32))}), &[("DIGEST", "digest")]);
        assert_eq!(cells, ["sha256:abababababab"]);
    }
}
