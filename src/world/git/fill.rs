//! A rule's own manifest, filled in: its text stays as it was written, and no value goes beyond its place in it.
//!
//! What is filled in comes from whoever proposes events. So the template is parsed with marks for the values, the text with the
//! values themselves, and where the two differ in more than that, the manifest is none.

use std::cell::RefCell;

use serde_json::Value;

use crate::world::Event;
use crate::world::rule::render;

/// Around a value's number while the template is parsed: no template has use for these characters.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';
/// What would end a text in a manifest that is no YAML.
const QUOTES: [char; 4] = ['"', '\'', '`', '\\'];
/// What some readers take for the end of a line, beside control characters.
const LINES: [char; 2] = ['\u{2028}', '\u{2029}'];

type More<'a> = &'a dyn Fn(&str) -> Option<Result<String, String>>;

/// Fills a manifest in.
///
/// # Errors
/// What the event does not have, and which value does not keep to its place, in words.
pub fn manifest(template: &str, event: &Event, more: More<'_>) -> Result<String, String> {
    if template.contains([OPEN, CLOSE]) {
        return Err("the rule's `manifest` holds characters for private use (U+E000, U+E001): take them out".into());
    }
    let values: RefCell<Vec<(String, String)>> = RefCell::default();
    let marked = render::text_with(template, event, &|name| {
        let value = more(name).unwrap_or_else(|| render::value(name, event));
        Some(value.map(|value| {
            let mut values = values.borrow_mut();
            values.push((name.to_owned(), value));
            format!("{OPEN}{}{CLOSE}", values.len() - 1)
        }))
    })?;
    let values = values.into_inner();
    refuse(&values, "a line's end or another control character", |c| c.is_control() || LINES.contains(&c))?;
    let text = filled(&marked, &values);
    let Some(wanted) = documents(&marked) else {
        refuse(&values, "a quotation mark or a backslash, and the manifest is no YAML in which it could be told from the rest", |c| {
            QUOTES.contains(&c)
        })?;
        return Ok(text);
    };
    let keeps = documents(&text).is_some_and(|found| {
        let mut pairs = wanted.iter().zip(&found);
        wanted.len() == found.len() && pairs.all(|(wanted, found)| is_same(wanted, found, &values))
    });
    if keeps { Ok(text) } else { Err(beyond(&values)) }
}

fn refuse(values: &[(String, String)], what: &str, is_bad: impl Fn(char) -> bool) -> Result<(), String> {
    match values.iter().find(|(_, value)| value.contains(&is_bad)) {
        Some((name, value)) => Err(format!("`{{{name}}}` is {value:?} here and holds {what}: it is not filled in")),
        None => Ok(()),
    }
}

/// What YAML, and so JSON, makes of a text; none if it is none or only text.
fn documents(text: &str) -> Option<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).ok()?;
    documents.iter().all(|document| document.is_object() || document.is_array()).then_some(documents)
}

/// Whether that was found which the marks stand for. What stands alone may have become a number.
fn is_same(wanted: &Value, found: &Value, values: &[(String, String)]) -> bool {
    match (wanted, found) {
        (Value::String(wanted), Value::String(found)) => filled(wanted, values) == *found,
        (Value::String(wanted), Value::Number(_) | Value::Bool(_)) => wanted.contains(OPEN),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| is_same(wanted, found, values))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            let is_there = |name: &String, value| found.get(&filled(name, values)).is_some_and(|found| is_same(value, found, values));
            wanted.len() == found.len() && wanted.iter().all(|(name, value)| is_there(name, value))
        }
        (wanted, found) => wanted == found,
    }
}

/// Says what goes beyond its place: the values that are no plain words.
fn beyond(values: &[(String, String)]) -> String {
    let is_plain = |value: &str| value.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c));
    let odd = values.iter().filter(|(_, value)| !is_plain(value)).map(|(name, value)| format!("`{{{name}}}` is {value:?}"));
    let odd = odd.collect::<Vec<_>>().join(", ");
    format!(
        "a value would change the rule's `manifest` beyond its place ({odd}): \
         write the `{{…}}` between quotation marks there, or give it another value"
    )
}

fn filled(marked: &str, values: &[(String, String)]) -> String {
    let mut out = String::with_capacity(marked.len());
    for part in marked.split(OPEN) {
        match part.split_once(CLOSE).and_then(|(n, rest)| Some((values.get(n.parse::<usize>().ok()?)?, rest))) {
            Some(((_, value), rest)) => out.extend([value.as_str(), rest]),
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::world::rule::tests::event;

    fn with(template: &str, uri: &str) -> Result<String, String> {
        let event = event("promoted", json!({"channel": "production"}), json!({"version": 3, "channel": "production"}));
        manifest(template, &event, &|name| (name == "uri").then(|| Ok(uri.to_owned())))
    }

    #[test]
    fn a_manifest_stays_as_it_was_written() {
        for (template, text) in [
            ("# {model}\nimage: r/{model}:{version}\nn: {version}\nuri: {uri}\n", "# iris\nimage: r/iris:3\nn: 3\nuri: s3://b/m\n"),
            ("{{\"{model}\":{{\"uri\":\"{uri}\"}}}}", "{\"iris\":{\"uri\":\"s3://b/m\"}}"),
            ("a: 1\n---\nb: [\"{uri}\"]\n", "a: 1\n---\nb: [\"s3://b/m\"]\n"),
            ("URI={uri}\nMODEL={model}\n", "URI=s3://b/m\nMODEL=iris\n"),
        ] {
            assert_eq!(with(template, "s3://b/m").as_deref(), Ok(text));
        }
        assert_eq!(with("uri: \"{uri}\"\n", "a: b # c").as_deref(), Ok("uri: \"a: b # c\"\n"));
    }

    #[test]
    fn no_value_goes_beyond_its_place() {
        for (template, uri) in [
            ("uri: {uri}\n", "x\nimage: evil"),
            ("# {uri}\nimage: good\n", "x\nimage: evil"),
            ("# {uri}\nimage: good\n", "x\u{2028}image: evil"),
            ("uri: {uri}\nimage: good\n", "{image: evil}"),
            ("uri: {uri}\n", "x: y"),
            ("uri: {uri}\n", "x # y"),
            ("{{\"uri\":\"{uri}\",\"image\":\"good\"}", "x\",\"image\":\"evil"),
            ("{{\"uri\":\"{uri}\"}", "\\\","),
            ("uri = \"{uri}\"\nimage = \"good\"\n", "x\" image = \"evil"),
        ] {
            let why = with(template, uri).unwrap_err();
            assert!(why.contains("`{uri}` is "), "{template}: {why}");
        }
    }
}
