//! What is found: the record of a model or of a version, as JSON.
#![allow(missing_docs)] // a field is named as in the events and in the registry; words are added where that does not say it

use annals_events::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::words::Words;

type Text = Box<str>;
type Raw = Option<Box<RawValue>>;

/// A model, or one of its versions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Document {
    /// `model` or `version`.
    pub kind: Text,
    pub workspace: Text,
    /// The model's.
    pub name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text>,
    /// `registered` or `retired`; of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Raw,
    /// The labels of a version, or the tags of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Raw,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_tier: Option<Text>,
    /// When the event was recorded that made it.
    pub created: Text,
    pub created_by: Text,
    /// When the event was recorded that changed it last.
    pub updated: Text,
    /// The model's sequence at that event.
    pub modelseq: u64,
    /// `partition:seq` of the event that made it.
    pub position: Text,
    /// Its id.
    pub event: Text,
}

impl Document {
    /// `workspace/model` or `workspace/model/version`.
    #[must_use]
    pub fn subject(&self) -> String {
        let model = format!("{}/{}", self.workspace, self.name);
        self.version.map_or_else(|| model.clone(), |version| format!("{model}/{version}"))
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn created_ms(&self) -> i64 {
        Timestamp::parse(&self.created).map_or(0, |time| time.0)
    }

    /// A number of its own, the same however often the view is made: the event that made it, and which of its documents.
    #[must_use]
    pub fn id(&self) -> i64 {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        let (partition, seq) = self.position.split_once(':').map_or((0, 0), |(p, s)| (number(p), number(s)));
        (partition << 48) | (seq << 1) | i64::from(self.version.is_some())
    }

    /// The words that it is found by.
    #[must_use]
    pub fn words(&self) -> Words {
        let mut words = Words::default();
        words.add_named("kind", &self.kind);
        words.add("name", &self.name);
        let version = self.version.map(|version| version.to_string());
        words.add("version", version.as_deref().unwrap_or_default());
        self.channels.iter().for_each(|channel| words.add("channel", channel));
        self.aliases.iter().for_each(|alias| words.add("alias", alias));
        for (field, text) in [
            ("label", &self.label),
            ("status", &self.status),
            ("owner", &self.owner),
            ("algorithm", &self.algorithm),
            ("risk", &self.risk_tier),
            ("run", &self.run),
            ("digest", &self.digest),
            ("format", &self.format),
            ("licence", &self.licence),
            ("description", &self.description),
            ("purpose", &self.purpose),
        ] {
            words.add(field, text.as_deref().unwrap_or_default());
        }
        words.add_named("uri", self.uri.as_deref().unwrap_or_default());
        for (field, value) in [("tag", &self.tags), ("data", &self.data), ("performance", &self.performance)] {
            let value = value.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
            words.add_value(field, &value.unwrap_or_default());
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_by_what_is_said_of_it() {
        let json = r#"{"kind":"version","workspace":"default","name":"iris","version":3,"label":"1.0","algorithm":"Forest",
            "data":[{"name":"petals","rows":150}],"performance":[{"name":"accuracy","value":0.97}],"tags":{"team":"botany"},
            "channels":["production"],"digest":"sha256:ab12","uri":"file:///m","created":"1970-01-01T00:00:01Z","created_by":"x",
            "updated":"1970-01-01T00:00:01Z","modelseq":4,"position":"3:17","event":"e"}"#;
        let document: Document = serde_json::from_str(json).unwrap();
        assert_eq!((document.subject().as_str(), document.created_ms()), ("default/iris/3", 1000));
        assert_eq!(document.id(), (3 << 48) | (17 << 1) | 1);
        let words = document.words();
        for word in ["iris", "version:3", "label:1", "forest", "petals", "accuracy", "tag:team", "botany", "channel:production", "ab12"] {
            assert!(words.all().contains(word), "{word}: {}", words.line());
        }
        for word in ["file", "150", "97", "team", "workspace"] {
            assert!(!words.all().contains(word), "{word}");
        }
    }
}
