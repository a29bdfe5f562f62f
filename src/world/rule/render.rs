//! Text with `{…}` in it, filled in from the event: `{model}`, `{version}` and so on; `{{` is a brace.

use serde_json::{Map, Value};

use crate::world::Event;

/// What may stand between braces.
pub const NAMES: [&str; 9] = ["model", "version", "channel", "event", "drift", "run", "workspace", "position", "type"];

/// Fills a text in.
///
/// # Errors
/// What the event does not have, in words.
pub fn text(template: &str, event: &Event) -> Result<String, String> {
    text_with(template, event, &|_| None)
}

/// Fills a text in, in which more may stand than an event has.
///
/// # Errors
/// As [`text`].
pub fn text_with(template: &str, event: &Event, more: &dyn Fn(&str) -> Option<Result<String, String>>) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    pieces(template, |piece| {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Name(name) => out.push_str(&more(name).unwrap_or_else(|| value(name, event))?),
        }
        Ok(())
    })?;
    Ok(out)
}

/// Fills in every string of an object, however deep.
///
/// # Errors
/// As [`text`].
pub fn object(data: &Map<String, Value>, event: &Event) -> Result<Map<String, Value>, String> {
    data.iter().map(|(name, value)| Ok((name.clone(), any(value, event)?))).collect()
}

fn any(value: &Value, event: &Event) -> Result<Value, String> {
    Ok(match value {
        Value::String(template) => Value::String(text(template, event)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| any(item, event)).collect::<Result<_, _>>()?),
        Value::Object(members) => Value::Object(object(members, event)?),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// Looks a template over, without an event.
///
/// # Errors
/// What cannot be meant.
pub fn check(template: &str) -> Result<(), String> {
    check_with(template, &[])
}

/// Looks a template over in which these names may stand, too.
///
/// # Errors
/// As [`check`].
pub fn check_with(template: &str, more: &[&str]) -> Result<(), String> {
    pieces(template, |piece| match piece {
        Piece::Name(name) if !NAMES.contains(&name) && !more.contains(&name) => {
            let known = NAMES.iter().chain(more).map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
            Err(format!("`{{{name}}}` stands for nothing: there are {known}; write `{{{{` for a brace"))
        }
        Piece::Name(_) | Piece::Plain(_) => Ok(()),
    })
}

/// Looks every string of a value over.
///
/// # Errors
/// As [`check`].
pub fn check_value(value: &Value) -> Result<(), String> {
    match value {
        Value::String(template) => check(template),
        Value::Array(items) => items.iter().try_for_each(check_value),
        Value::Object(members) => members.values().try_for_each(check_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

enum Piece<'a> {
    Plain(&'a str),
    Name(&'a str),
}

fn pieces<'a>(template: &'a str, mut each: impl FnMut(Piece<'a>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        each(Piece::Plain(&rest[..at]))?;
        let (brace, behind) = rest[at..].split_at(1);
        if behind.starts_with(brace) {
            each(Piece::Plain(brace))?;
            rest = &behind[1..];
        } else if brace == "{" {
            let (name, after) = behind.split_once('}').ok_or_else(|| format!("`{template}` has a `{{` that nothing closes"))?;
            each(Piece::Name(name))?;
            rest = after;
        } else {
            // JSON in a text may end in braces, and nothing else can be meant
            each(Piece::Plain(brace))?;
            rest = behind;
        }
    }
    each(Piece::Plain(rest))
}

/// What a name stands for.
///
/// # Errors
/// If the event does not have it, in words.
pub fn value(name: &str, event: &Event) -> Result<String, String> {
    let first = |pointers: &[&str]| pointers.iter().find_map(|p| event.pointer(p)?.as_str()).map(str::to_owned);
    let found = match name {
        "model" => Some(event.model.clone()),
        "workspace" => Some(event.workspace.clone()),
        "event" => Some(event.id.clone()),
        "type" => Some(event.kind.short().to_owned()),
        "position" => Some(event.position()),
        "version" => event.version.map(|version| version.to_string()),
        "channel" => event.channel.clone(),
        "drift" => first(&["/decided/drift", "/data/drift", "/data/cause/drift"]),
        "run" => first(&["/decided/run", "/data/run/id", "/data/run"]),
        _ => None,
    };
    found.ok_or_else(|| format!("{} {} has no {name}, which the rule wants as `{{{name}}}`", event.kind, event.position()))
}
