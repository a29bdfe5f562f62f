//! What people did by hand on a cluster, as it is recorded.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cluster::{MANAGER, Target};

/// What there is to say about an object.
pub struct Finding<'a> {
    /// `created`, `changed`, `removed` or `restored`.
    pub word: &'static str,
    /// The model that it serves, if it is one of ours.
    pub key: Option<String>,
    /// Where it is.
    pub target: Target,
    /// The object as it was seen.
    pub object: &'a Value,
    /// Its fields that are not as they should be, each with who made it so, if the cluster says it.
    pub fields: BTreeMap<String, String>,
    /// Tells it from every other finding.
    pub tag: String,
    /// What becomes of it.
    pub reason: Option<String>,
}

impl Finding<'_> {
    /// The data of a `deployment.observed`.
    #[must_use]
    pub fn data(&self) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("target".into(), self.target.data());
        data.insert("finding".into(), json!(self.word));
        let image = self.object.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        let who = self.fields.values().find(|owner| !owner.is_empty()).cloned();
        let who = who.or_else(|| manager(self.object).filter(|_| self.word == "created"));
        for (name, value) in [("image", image), ("manager", who.as_deref()), ("reason", self.reason.as_deref())] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                data.insert(name.into(), json!(value));
            }
        }
        if !self.fields.is_empty() {
            data.insert("fields".into(), json!(self.fields.keys().take(100).collect::<Vec<_>>()));
        }
        data
    }
}

/// Who wrote the object, beside us and the controllers.
#[must_use]
pub fn manager(object: &Value) -> Option<String> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let hand = |entry: &&Value| {
        entry["subresource"].is_null() && ![MANAGER, "kube-controller-manager"].contains(&entry["manager"].as_str().unwrap_or_default())
    };
    entries.iter().rfind(hand)?["manager"].as_str().map(str::to_owned)
}
