//! The schemas in the form in which a schema registry gets them: whole, in one draft that all of its readers know.
//!
//! Two for each kind: `value`, of a journal record's whole value, under the record's name
//! (`ce_type`); and `data`, of the half that a producer sends, under that name with `.data`, so
//! that a producer's own serializer finds what it has to write.
//!
//! They are published as JSON Schema 2020-12 and registered as draft 7. The words they use mean
//! the same in both (a test allows no others), but servers and deserializers differ: some compare
//! draft 7 only, and answer a second version in another draft with an error.

use std::collections::BTreeMap;

use annals_events::kind::Kind;
use annals_events::schema::{Half, text};
use serde_json::{Value, json};

/// What all subjects begin with, as the CloudEvents types do.
pub const PREFIX: &str = "dev.annals.";
/// How many forms there are.
pub const FORMS: usize = Form::ALL.len();

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// What a registered schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A journal record's value: `{"data":…,"decided":…}`.
    Value,
    /// What a producer sends.
    Data,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Value, Self::Data];

    /// The record's name of this form, by which it is registered. It is the schema's title too:
    /// there Confluent's serializers look for the name.
    #[must_use]
    pub fn name(self, kind: Kind) -> String {
        match self {
            Self::Value => kind.name().to_owned(),
            Self::Data => format!("{}.data", kind.name()),
        }
    }
}

/// The schema's text. It never depends on the build: another text would be another version.
#[must_use]
pub fn registered(kind: Kind, form: Form) -> String {
    let mut schema = match form {
        Form::Data => half(kind, Half::Data),
        Form::Value => json!({
            "type": "object",
            "required": ["data", "decided"],
            "properties": { "data": half(kind, Half::Data), "decided": half(kind, Half::Decided) },
            "additionalProperties": false,
        }),
    };
    let name = form.name(kind);
    schema["$schema"] = DRAFT.into();
    schema["$id"] = format!("https://annals.dev/schemas/draft-07/{name}.json").into();
    schema["title"] = name.into();
    sorted(&schema)
}

/// A published schema without what may stand only at the top.
fn half(kind: Kind, half: Half) -> Value {
    let mut schema: Value = serde_json::from_str(text(kind, half)).expect("a compiled-in schema is JSON");
    for name in ["$schema", "$id", "title"] {
        schema.as_object_mut().expect("a compiled-in schema is an object").remove(name);
    }
    schema
}

/// JSON with members in the order of their names, whatever map the build uses.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{}:{}", json!(name), sorted(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests;
