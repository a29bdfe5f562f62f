//! A producer's `data`, read leniently: a field that is missing, redacted or of another shape is no
//! field, because a view must not stop at what the engine has accepted.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object, unparsed.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object; anything else has no members.
    #[must_use]
    pub fn parse(json: &'a str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// A member as it was sent, unless it is null.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    /// A member to keep as it was sent.
    #[must_use]
    pub fn verbatim(&self, name: &str) -> Option<Box<RawValue>> {
        self.raw(name).map(ToOwned::to_owned)
    }

    /// A member that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Box<str>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// A member that is a whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// A member that is text or a number, as text.
    #[must_use]
    pub fn word(&self, name: &str) -> Option<Box<str>> {
        self.text(name).or_else(|| self.raw(name).map(RawValue::get).filter(|t| !t.starts_with(['{', '[', '"'])).map(Into::into))
    }

    /// The members of a member that is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Fields<'a> {
        self.raw(name).map(|raw| Fields::parse(raw.get())).unwrap_or_default()
    }

    /// The texts in a member that is a list of nothing else.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// The objects in a member that is a list.
    #[must_use]
    pub fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Fields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_shape_is_no_field() {
        let fields = Fields::parse(r#"{"a":{"b":"c","n":3},"list":[{"x":1.50}],"null":null,"l\u0061bel":"ok"}"#);
        assert_eq!(fields.object("a").text("b").as_deref(), Some("c"));
        assert_eq!(fields.object("a").text("n"), None);
        assert_eq!(fields.object("a").word("n").as_deref(), Some("3"));
        assert_eq!(fields.objects("list")[0].raw("x").map(RawValue::get), Some("1.50"), "floats stay as they were sent");
        assert_eq!(fields.text("label").as_deref(), Some("ok"));
        assert!(fields.texts("list").is_empty() && Fields::parse(r#"{"t":["a"]}"#).texts("t") == ["a"]);
        assert!(fields.raw("null").is_none());
        assert!(fields.object("list").text("x").is_none());
        assert!(Fields::parse("[1]").raw("a").is_none());
    }
}
