//! What was published stays: no property of a schema is removed, renamed or retyped, and none becomes required.
//!
//! `events/golden/shapes.json` holds what every schema says of its properties, a line for each:
//! `path: type (words), required or optional`. New lines are added to it with the schemas that they
//! come from; a line that is there is never changed. Types are frozen at the first release.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

type Shape = BTreeMap<String, String>;

/// What a schema says of its properties, and of those within them, by their paths.
fn shape(schema: &Value) -> Shape {
    let mut shape = Shape::new();
    collect(schema, "", true, &mut shape);
    shape
}

fn collect(schema: &Value, path: &str, is_required: bool, shape: &mut Shape) {
    let mut line = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|"),
        _ => "any".into(),
    };
    if let Some(words) = schema["enum"].as_array() {
        line += &format!(" ({})", words.iter().map(Value::to_string).collect::<Vec<_>>().join(" "));
    }
    line += if is_required { ", required" } else { ", optional" };
    shape.insert(if path.is_empty() { "/" } else { path }.to_owned(), line);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        collect(property, &format!("{path}/{name}"), is_required, shape);
    }
    for (word, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[word].is_object() {
            collect(&schema[word], &format!("{path}/{mark}"), false, shape);
        }
    }
}

/// What a reader or a producer of the old shape would stumble over.
fn breaks(old: &Shape, new: &Shape) -> Vec<String> {
    let lost = old.iter().filter_map(|(path, was)| match new.get(path) {
        None => Some(format!("{path} is gone")),
        Some(is) => (!is_kept(was, is)).then(|| format!("{path} was `{was}` and is `{is}`")),
    });
    let demanded = new.iter().filter(|(path, is)| !old.contains_key(*path) && is.ends_with(", required") && is_old_parent(old, path));
    lost.chain(demanded.map(|(path, _)| format!("{path} is new and required"))).collect()
}

/// Members of an object that is itself new may be required: nobody has written one.
fn is_old_parent(old: &Shape, path: &str) -> bool {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    old.contains_key(if parent.is_empty() { "/" } else { parent })
}

/// What was required may become optional, and an enumeration may get more words.
fn is_kept(was: &str, is: &str) -> bool {
    let parts = |line: &str| {
        let (kind, need) = line.rsplit_once(", ").unwrap();
        let (name, words) = kind.split_once(" (").map_or((kind, ""), |(name, words)| (name, words.trim_end_matches(')')));
        (name.to_owned(), words.split(' ').map(str::to_owned).collect::<Vec<_>>(), need == "required")
    };
    let ((old_type, old_words, was_required), (new_type, new_words, is_required)) = (parts(was), parts(is));
    old_type == new_type && old_words.iter().all(|word| new_words.contains(word)) && (was_required || !is_required)
}

fn published() -> BTreeMap<String, Shape> {
    serde_json::from_str(include_str!("../../golden/shapes.json")).unwrap()
}

fn current() -> BTreeMap<String, Shape> {
    let halves = [(Half::Data, "data"), (Half::Decided, "decided")];
    let all = Kind::ALL.iter().flat_map(|kind| halves.map(|(half, word)| (kind, half, word)));
    all.map(|(kind, half, word)| (format!("{kind}.v1.{word}"), shape(&serde_json::from_str(text(*kind, half)).unwrap()))).collect()
}

#[test]
fn no_published_schema_has_changed_in_a_breaking_way() {
    let (published, current) = (published(), current());
    for (name, old) in &published {
        let new = current.get(name).unwrap_or_else(|| panic!("the schema {name} was published and is gone"));
        assert_eq!(breaks(old, new), Vec::<String>::new(), "{name}: what breaks needs a new type (`.v2`)");
    }
    if published != current {
        let text = serde_json::to_string_pretty(&current).unwrap();
        panic!("the schemas have something new: it is frozen once events/golden/shapes.json is\n{text}");
    }
}

#[test]
fn each_breaking_change_is_seen() {
    let old = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": {"type": "string"}, "b": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "integer"}}}},
            "e": {"enum": ["x", "y"]},
        },
    });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        breaks(&shape(&old), &shape(&new))
    };
    assert_eq!(with(&|_| {}), Vec::<String>::new());
    let object = |schema: &mut Value, name: &str| schema["properties"].as_object_mut().unwrap().remove(name).unwrap();
    assert_eq!(with(&|s| drop(object(s, "a"))), ["/a is gone"]);
    assert_eq!(with(&|s| (object(s, "e"), s["properties"]["f"] = json!({"enum": ["x", "y"]})).1), ["/e is gone"]);
    assert_eq!(with(&|s| s["properties"]["a"]["type"] = "integer".into()), ["/a was `string, required` and is `integer, required`"]);
    assert_eq!(with(&|s| s["required"] = json!(["a", "b"])), ["/b was `array, optional` and is `array, required`"]);
    assert_eq!(
        with(&|s| s["properties"]["b"]["items"]["properties"]["c"]["type"] = "number".into()),
        ["/b/[]/c was `integer, optional` and is `number, optional`"]
    );
    assert_eq!(with(&|s| s["properties"]["e"]["enum"] = json!(["x"])).len(), 1);
    let added =
        |s: &mut Value| s["properties"]["n"] = json!({"type": "object", "required": ["m"], "properties": {"m": {"type": "string"}}});
    assert_eq!(with(&|s| (added(s), s["required"] = json!(["a", "n"])).1), ["/n is new and required"]);
    // what may be: something new that nobody must send, one word more, less that is required
    assert_eq!(with(&|s| (added(s), s["required"] = json!([])).1), Vec::<String>::new());
    assert_eq!(with(&|s| s["properties"]["e"]["enum"] = json!(["x", "y", "z"])), Vec::<String>::new());
}
