//! What is registered says what is published, and says it to every reader.

use std::collections::BTreeSet;

use super::*;

/// Words that mean the same in 2020-12 and in draft 7.
const WORDS: [&str; 22] = [
    "$id",
    "$schema",
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "pattern",
    "properties",
    "propertyNames",
    "required",
    "title",
    "type",
];

fn words(schema: &Value, found: &mut BTreeSet<String>) {
    for (word, inner) in schema.as_object().into_iter().flatten() {
        found.insert(word.clone());
        match word.as_str() {
            "properties" => inner.as_object().unwrap().values().for_each(|s| words(s, found)),
            "anyOf" => inner.as_array().unwrap().iter().for_each(|s| words(s, found)),
            "items" | "additionalProperties" | "propertyNames" => words(inner, found),
            _ => {}
        }
    }
}

fn all() -> impl Iterator<Item = (Kind, Form, Value)> {
    let all = Kind::ALL.iter().flat_map(|kind| Form::ALL.map(|form| (*kind, form)));
    all.map(|(kind, form)| (kind, form, serde_json::from_str(&registered(kind, form)).unwrap()))
}

#[test]
fn the_schemas_use_only_words_that_mean_the_same_in_both_drafts() {
    let mut found = BTreeSet::new();
    all().for_each(|(_, _, schema)| words(&schema, &mut found));
    let unknown: Vec<_> = found.iter().filter(|word| !WORDS.contains(&word.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}: is it the same in draft 7? then list it here, else say it otherwise");
}

#[test]
fn a_value_is_described_by_its_two_halves_and_nothing_is_referred_to() {
    for (kind, form, schema) in all() {
        let name = form.name(kind);
        assert_eq!((&schema["$schema"], &schema["title"]), (&json!(DRAFT), &json!(name)));
        assert_eq!(schema["$id"], format!("https://annals.dev/schemas/draft-07/{name}.json"));
        let text = registered(kind, form);
        assert_eq!((text.matches("\"$id\"").count(), text.matches("\"$schema\"").count(), text.matches("$ref").count()), (1, 1, 0));
        if form == Form::Value {
            assert_eq!(schema["properties"]["data"], half(kind, Half::Data));
            assert_eq!(schema["properties"]["decided"], half(kind, Half::Decided));
            assert_eq!(schema["required"], json!(["data", "decided"]));
        } else {
            assert_eq!(schema["properties"], half(kind, Half::Data)["properties"]);
        }
    }
}

#[test]
fn the_text_has_its_members_in_the_order_of_their_names() {
    assert_eq!(sorted(&json!({"b": [{"d": 1, "c": "\"\n"}], "a": null})), r#"{"a":null,"b":[{"c":"\"\n","d":1}]}"#);
}
