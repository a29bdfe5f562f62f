//! The index: its explicit mapping, what it knows of itself, and whether what is found in its place is ours.
//!
//! `models` is an alias to `models-000001`; made anew, it is an alias to the next one. `_meta` says of which journal an index
//! is and how far it is, so whoever loses the index loses its place, too, and begins anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::{Body, Cluster, Trouble, Verb, reason};

/// The form of documents and mapping; another one needs a new index.
const FORMAT: u32 = 1;
/// Most documents that are remembered as refused.
pub const REFUSED_MAX: usize = 50;

/// An index of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its own name, behind the alias.
    pub name: String,
    /// What the cluster calls it: another one of the same name has another. Empty until it was looked at.
    pub uuid: String,
    /// What it knows of itself.
    pub meta: Meta,
}

/// What an index knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The journal that it is made of.
    pub journal: String,
    format: u32,
    /// By partition the last event that is in it.
    #[serde(default)]
    pub positions: BTreeMap<u32, u64>,
    /// By partition the last event that it was known to have come to at the end of a walk, by which the journal is known again.
    #[serde(default)]
    pub(super) seals: BTreeMap<u32, Seal>,
    /// Whether it once had all that there was: before, nobody is answered from it.
    #[serde(default)]
    pub complete: bool,
    /// Documents that the cluster did not take, and why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// Whether there were more of them than are remembered.
    #[serde(default)]
    refused_more: bool,
}

/// One event of the journal, and no other in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) hash: String,
}

/// What is in the place of an alias.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Free,
    /// An index of this journal.
    Ours(Index),
}

/// An index as a cluster tells of it.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    mappings: Mappings,
    #[serde(default)]
    aliases: BTreeMap<String, Value>,
    #[serde(default)]
    settings: Value,
}

#[derive(Debug, Default, Deserialize)]
struct Mappings {
    #[serde(default)]
    dynamic: Value,
    #[serde(rename = "_meta", default)]
    meta: Value,
    #[serde(default)]
    properties: BTreeMap<String, Value>,
}

/// The fields, as both kinds of clusters take and tell them.
fn properties() -> Value {
    let keyword = json!({"type": "keyword", "ignore_above": 8191});
    let text = json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 8191}}});
    // any JSON, which is shown and not looked into: its words are among `words`
    let opaque = json!({"type": "object", "enabled": false});
    let (date, number) = (json!({"type": "date"}), json!({"type": "long"}));
    json!({
        "kind": keyword, "workspace": keyword, "name": text, "version": number, "label": keyword, "status": keyword,
        "description": text, "data": opaque, "algorithm": text, "performance": opaque, "tags": opaque,
        "channels": keyword, "aliases": keyword, "digest": keyword, "uri": keyword, "format": keyword, "run": keyword,
        "licence": keyword, "owner": keyword, "purpose": text, "risk_tier": keyword,
        "created": date, "created_by": keyword, "updated": date, "modelseq": number, "position": keyword, "event": keyword,
        "subject": {"type": "keyword"}, "created_ms": number, "words": {"type": "keyword", "doc_values": false},
    })
}

impl Meta {
    /// Of an index with nothing in it.
    #[must_use]
    pub fn empty(journal: &str) -> Self {
        Self { journal: journal.into(), format: FORMAT, ..Self::default() }
    }

    /// Remembers that a document was refused, if there is room; otherwise that there was one more.
    pub fn refuse(&mut self, subject: &str, why: String) {
        if self.refused.len() < REFUSED_MAX || self.refused.contains_key(subject) {
            self.refused.insert(subject.into(), why);
        } else {
            self.refused_more = true;
        }
    }

    /// Whether the cluster has not taken some of the documents.
    #[must_use]
    pub fn lacks(&self) -> bool {
        self.refused_more || !self.refused.is_empty()
    }
}

impl Cluster {
    /// Looks at what is in the place of the alias.
    ///
    /// # Errors
    /// [`Trouble::Foreign`] if it is none of ours, [`Trouble::Changed`] if it is ours and not as we make it.
    pub async fn look(&self, alias: &str, journal: &str) -> Result<Place, Trouble> {
        let answer = self.ask(Verb::Get, &format!("/{alias}"), Body::None).await?;
        if answer.status == 404 {
            return Ok(Place::Free);
        }
        let unreadable = |why: String| Trouble::Refused(answer.status, why);
        if answer.status >= 300 {
            return Err(unreadable(reason(&answer.text)));
        }
        let found: BTreeMap<String, Told> = serde_json::from_str(&answer.text).map_err(|e| unreadable(e.to_string()))?;
        judge(alias, journal, found, self.shown())
    }

    /// Makes an empty index under an alias.
    ///
    /// # Errors
    /// [`Trouble`]; 400 if there is one of this name.
    pub async fn make(&self, name: &str, alias: &str, meta: &Meta, refresh: &str) -> Result<(), Trouble> {
        let body = json!({
            "aliases": {alias: {}},
            "settings": {"index": {
                "number_of_shards": 1,
                "auto_expand_replicas": "0-1",
                "refresh_interval": refresh,
                // what was deleted keeps its version for so long, and cannot come back by a late request
                "gc_deletes": "1h",
            }},
            "mappings": {
                "dynamic": false,
                "_meta": {"annals": meta},
                "_source": {"excludes": ["subject", "created_ms", "words"]},
                "properties": properties(),
            },
        });
        self.get(Verb::Put, &format!("/{name}"), Body::Json(body.to_string())).await.map(drop)
    }

    /// Makes what was sent visible to questions.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn show(&self, index: &str) -> Result<(), Trouble> {
        self.get(Verb::Post, &format!("/{index}/_refresh"), Body::None).await.map(drop)
    }

    /// Removes an index; one that is gone already is as good.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn remove(&self, index: &str) -> Result<(), Trouble> {
        match self.get(Verb::Delete, &format!("/{index}"), Body::None).await {
            Err(Trouble::Refused(404, _)) => Ok(()),
            removed => removed.map(drop),
        }
    }

    /// Writes down what an index knows of itself.
    ///
    /// # Errors
    /// [`Trouble`]; 404 if it is gone.
    pub async fn note(&self, index: &Index) -> Result<(), Trouble> {
        let body = json!({"_meta": {"annals": index.meta}});
        self.get(Verb::Put, &format!("/{}/_mapping", index.name), Body::Json(body.to_string())).await.map(drop)
    }

    /// The indexes of this journal that were made for the alias, and that nobody reads.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn unread(&self, alias: &str, journal: &str) -> Result<Vec<String>, Trouble> {
        let path = format!("/{alias}-*?ignore_unavailable=true&allow_no_indices=true");
        let text = self.get(Verb::Get, &path, Body::None).await?;
        let found: BTreeMap<String, Told> = serde_json::from_str(&text).map_err(|e| Trouble::Refused(200, e.to_string()))?;
        let ours = |told: &Told| told.mappings.meta["annals"]["journal"] == *journal;
        let read = |told: &Told| told.aliases.keys().any(|name| *name != filling(alias));
        let unread = found.into_iter().filter(|(name, told)| number(alias, name).is_some() && ours(told) && !read(told));
        Ok(unread.map(|(name, _)| name).collect())
    }
}

/// The alias of an index that is being filled: nobody reads it, and a write through it never makes an index by itself.
#[must_use]
pub fn filling(alias: &str) -> String {
    format!("{alias}-filling")
}

/// The name of the index behind this one, or of the first.
#[must_use]
pub fn next(alias: &str, last: Option<&str>) -> String {
    format!("{alias}-{:06}", last.and_then(|name| number(alias, name)).unwrap_or(0) + 1)
}

fn number(alias: &str, name: &str) -> Option<u64> {
    name.strip_prefix(alias)?.strip_prefix('-')?.parse().ok()
}

fn judge(alias: &str, journal: &str, found: BTreeMap<String, Told>, at: &str) -> Result<Place, Trouble> {
    let names = found.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut found = found.into_iter();
    let (Some((name, told)), None) = (found.next(), found.next()) else {
        return Err(Trouble::Foreign(format!("`{alias}` at {at} is an alias of several indexes ({names}), none of which is ours alone")));
    };
    if name == alias {
        return Err(Trouble::Foreign(format!("`{alias}` at {at} is an index that Annals has not made")));
    }
    let Some(meta) = told.mappings.meta.get("annals") else {
        return Err(Trouble::Foreign(format!("`{alias}` at {at} is an alias of `{name}`, which Annals has not made")));
    };
    let changed = |what: String| Trouble::Changed(format!("the index `{name}` at {at} {what}"));
    let meta: Meta = serde_json::from_value(meta.clone()).map_err(|e| changed(format!("does not say how far it is ({e})")))?;
    if meta.journal != journal {
        let (found, wanted) = (&meta.journal, journal);
        return Err(Trouble::Foreign(format!("`{alias}` at {at} belongs to the journal {found}, and this is {wanted}")));
    }
    if meta.format != FORMAT {
        return Err(changed(format!("has the form {}, and this build makes {FORMAT}", meta.format)));
    }
    let ours = properties();
    let ours = ours.as_object().into_iter().flatten();
    let has = |(field, kind): &(&String, &Value)| told.mappings.properties.get(*field).is_some_and(|found| holds(found, kind));
    let other: Vec<_> = ours.filter(|pair| !has(pair)).map(|(field, _)| field.as_str()).collect();
    if !other.is_empty() || told.mappings.dynamic != "false" {
        let fields = if other.is_empty() { "dynamic".into() } else { other.join(", ") };
        return Err(changed(format!("has another mapping than ours: {fields}")));
    }
    let uuid = told.settings["index"]["uuid"].as_str().unwrap_or_default().to_owned();
    Ok(Place::Ours(Index { name, uuid, meta }))
}

/// Whether a value has all that another one has: what somebody adds to a field of ours does no harm.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| holds(found, wanted)))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(alias: &str, indexes: Value) -> Result<Place, Trouble> {
        judge(alias, "j", serde_json::from_value(indexes).unwrap(), "http://h")
    }

    fn ours() -> Value {
        json!({"mappings": {"dynamic": "false", "_meta": {"annals": Meta::empty("j")}, "properties": properties()}})
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_not() {
        let Ok(Place::Ours(index)) = at("models", json!({"models-000004": ours()})) else { panic!("it is ours") };
        assert_eq!((index.name.as_str(), next("models", Some(&index.name))), ("models-000004", "models-000005".into()));
        for (indexes, word, says) in [
            (json!({"models": ours()}), "foreign", "has not made"),
            (json!({"theirs": {"mappings": {"properties": {"name": {"type": "text"}}}}}), "foreign", "`theirs`, which Annals has not made"),
            (json!({"models-000001": ours(), "theirs": {}}), "foreign", "several indexes"),
            (json!({"models-000001": {"mappings": {"_meta": {"annals": Meta::empty("k")}}}}), "foreign", "the journal k"),
        ] {
            let trouble = at("models", indexes).unwrap_err();
            assert!(trouble.word() == word && trouble.to_string().contains(says), "{trouble}");
        }
        let mut other = ours();
        other["mappings"]["properties"]["label"]["type"] = json!("text");
        let trouble = at("models", json!({"models-000001": other})).unwrap_err();
        assert!(trouble.word() == "changed" && trouble.to_string().ends_with("another mapping than ours: label"), "{trouble}");
        let mut more = ours();
        more["mappings"]["properties"]["theirs"] = json!({"type": "date"});
        more["mappings"]["properties"]["label"]["fields"] = json!({"theirs": {"type": "text"}});
        assert!(at("models", json!({"models-000001": more})).is_ok(), "a field that somebody adds does no harm");
    }

    #[test]
    fn names_go_on_and_other_names_have_no_number() {
        assert_eq!(next("models", None), "models-000001");
        assert_eq!(next("models", Some("theirs-7")), "models-000001");
        assert_eq!((number("models", "models-000017"), number("models", "models-x")), (Some(17), None));
    }

    #[test]
    fn refusals_are_remembered_up_to_a_limit() {
        let mut meta = Meta::empty("j");
        (0..REFUSED_MAX + 5).for_each(|n| meta.refuse(&format!("w/m/{n}"), "no".into()));
        meta.refuse("w/m/1", "again".into());
        assert_eq!((meta.refused.len(), meta.refused["w/m/1"].as_str()), (REFUSED_MAX, "again"));
        meta.refused.clear();
        assert!(meta.lacks(), "those that found no room are not there either");
    }
}
