//! Records that somebody has written into an index by hand, page by page, and as proposals of ours.

use annals_events::names;
use annals_events::record::Hash;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cluster::{Body, Cluster, Trouble, Verb};

/// Records of a page.
const PAGE: usize = 200;
/// How long the cluster keeps the place between two pages.
const KEEP: &str = "5m";
/// The source of what is imported.
pub const SOURCE: &str = "/import/elasticsearch";
/// Longest label, in characters.
const LABEL_MAX: usize = 4096;

/// A record as it lies there.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// Its id in the index.
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_source", default)]
    source: Value,
}

/// A page of records.
#[derive(Debug)]
pub struct Records {
    /// The records.
    pub records: Vec<Record>,
    /// How many there are in all.
    pub total: u64,
    scroll: Option<String>,
}

impl Cluster {
    /// An index behind this name that Annals has made, if there is one: its documents are no records by hand.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn made_by_annals(&self, index: &str) -> Result<Option<String>, Trouble> {
        let text = self.get(Verb::Get, &format!("/{index}/_mapping"), Body::None).await?;
        let found: Map<String, Value> = serde_json::from_str(&text).map_err(|e| Trouble::Refused(200, e.to_string()))?;
        Ok(found.into_iter().find(|(_, told)| !told["mappings"]["_meta"]["annals"].is_null()).map(|(name, _)| name))
    }

    /// The first page of an index.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn records(&self, index: &str) -> Result<Records, Trouble> {
        let body = json!({"size": PAGE, "sort": ["_doc"], "query": {"match_all": {}}, "track_total_hits": true});
        let path = format!("/{index}/_search?scroll={KEEP}&allow_partial_search_results=false");
        read(&self.get(Verb::Post, &path, Body::Json(body.to_string())).await?)
    }

    /// The page behind this one; none at the end.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn more(&self, before: &Records) -> Result<Option<Records>, Trouble> {
        let Some(scroll) = before.scroll.as_ref().filter(|_| !before.records.is_empty()) else { return Ok(None) };
        let body = json!({"scroll": KEEP, "scroll_id": scroll});
        let page = read(&self.get(Verb::Post, "/_search/scroll", Body::Json(body.to_string())).await?)?;
        if page.records.is_empty() {
            let end = json!({"scroll_id": page.scroll});
            let _ = self.ask(Verb::Delete, "/_search/scroll", Body::Json(end.to_string())).await; // it ends by itself, too
            return Ok(None);
        }
        Ok(Some(page))
    }
}

fn read(text: &str) -> Result<Records, Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "_scroll_id")]
        scroll: Option<String>,
        hits: Hits,
    }
    #[derive(Deserialize)]
    struct Hits {
        #[serde(default)]
        total: Value,
        hits: Vec<Record>,
    }
    let answer: Answer = serde_json::from_str(text).map_err(|e| Trouble::Refused(200, format!("the answer cannot be read: {e}")))?;
    let total = answer.hits.total.as_u64().or_else(|| answer.hits.total["value"].as_u64()).unwrap_or(0);
    Ok(Records { records: answer.hits.hits, total, scroll: answer.scroll })
}

impl Record {
    /// As a CloudEvent that registers the version. The id follows from index and record, so it is one event however often it
    /// is proposed.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn proposal(&self, workspace: &str, actor: Option<&str>) -> Result<Value, String> {
        let source = self.source.as_object().ok_or("it is no object")?;
        let name = source.get("name").and_then(Value::as_str).ok_or("it has no `name` that is text")?;
        names::name("model", name).map_err(|e| e.to_string())?;
        let mut data = Map::new();
        let mut labels = Map::new();
        for (member, value) in source.iter().filter(|(member, value)| *member != "name" && !value.is_null()) {
            let known = match member.as_str() {
                "version" => label(value),
                "description" => text(value, 4096),
                "algorithm" => text(value, 1024),
                "licence" => text(value, 255),
                "data" => datasets(value),
                "performance" => metrics(value),
                "artifact" => Some(value.clone()).filter(Value::is_object),
                _ => None,
            };
            match (member.as_str(), known) {
                ("version", Some(value)) => drop(data.insert("label".into(), value)),
                ("uri" | "digest", _) if value.is_string() => {
                    data.entry("artifact").or_insert_with(|| json!({}))[member] = value.clone();
                }
                (_, Some(value)) => drop(data.insert(member.clone(), value)),
                // what has another form than ours stays as it was written
                (_, None) => drop(labels.insert(member.clone(), kept(member, value)?)),
            }
        }
        // nobody has said where the bytes are: the record itself is what there is
        data.entry("artifact").or_insert_with(|| json!({"uri": format!("elasticsearch:{}/_doc/{}", self.index, self.id)}));
        if !labels.is_empty() {
            data.insert("labels".into(), Value::Object(labels));
        }
        let hash = Hash::of(format!("{}\n{}", self.index, self.id).as_bytes()).to_string();
        let mut event = json!({
            "specversion": "1.0", "id": format!("elasticsearch-{}", &hash[..32]), "source": SOURCE,
            "type": "dev.annals.version.registered.v1", "subject": format!("{workspace}/{name}"), "data": data,
        });
        if let Some(actor) = actor {
            event["actor"] = actor.into();
        }
        Ok(event)
    }
}

/// A version that can be a label of ours: not all digits, for those are numbers that the engine gives.
fn label(value: &Value) -> Option<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    names::label(&text).is_ok().then(|| text.into())
}

fn text(value: &Value, chars_max: usize) -> Option<Value> {
    value.as_str().filter(|text| !text.is_empty() && text.chars().count() <= chars_max).map(Into::into)
}

/// `"iris.csv"`, a list of such, or datasets as we have them.
fn datasets(value: &Value) -> Option<Value> {
    let one = |value: &Value| match value {
        Value::String(name) if !name.is_empty() && name.chars().count() <= 255 => Some(json!({"name": name})),
        Value::Object(members) if !members.is_empty() => {
            let fits = |(name, value): (&String, &Value)| match name.as_str() {
                "name" | "uri" | "digest" | "role" => value.is_string(),
                "rows" => value.is_u64(),
                _ => false,
            };
            members.iter().all(fits).then(|| value.clone())
        }
        _ => None,
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect::<Option<Vec<_>>>().map(Value::Array),
        other => one(other).map(|one| json!([one])),
    }
}

/// `{"accuracy": 0.97}`, `0.97`, or metrics as we have them.
fn metrics(value: &Value) -> Option<Value> {
    let metric = |(name, value): (&String, &Value)| value.is_number().then(|| json!({"name": name, "value": value}));
    match value {
        Value::Number(_) => Some(json!([{"name": "performance", "value": value}])),
        Value::Object(members) if !members.is_empty() => members.iter().map(metric).collect::<Option<Vec<_>>>().map(Value::Array),
        Value::Array(items) => {
            let fits =
                |item: &Value| item["name"].is_string() && item["value"].is_number() && item.as_object().is_some_and(|m| m.len() == 2);
            items.iter().all(fits).then(|| value.clone())
        }
        _ => None,
    }
}

/// As a label: text as it is, all else as JSON.
fn kept(member: &str, value: &Value) -> Result<Value, String> {
    let text = value.as_str().map_or_else(|| value.to_string(), Into::into);
    if text.chars().count() > LABEL_MAX {
        return Err(format!("`{member}` is longer than {LABEL_MAX} characters, and has no form that is known here"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(source: Value) -> Result<Value, String> {
        Record { id: "7".into(), index: "models".into(), source }.proposal("default", Some("ada"))
    }

    #[test]
    fn a_record_by_hand_is_a_registration() {
        let event = proposed(json!({"name": "iris", "version": "1.0", "description": "flowers", "data": "iris.csv",
            "algorithm": "LogisticRegression", "performance": {"accuracy": 0.97}}))
        .unwrap();
        let expected = json!({
            "label": "1.0", "description": "flowers", "data": [{"name": "iris.csv"}], "algorithm": "LogisticRegression",
            "performance": [{"name": "accuracy", "value": 0.97}], "artifact": {"uri": "elasticsearch:models/_doc/7"},
        });
        assert_eq!((&event["subject"], &event["data"], &event["actor"]), (&json!("default/iris"), &expected, &json!("ada")));
        assert_eq!(event["id"], proposed(json!({"name": "iris"})).unwrap()["id"], "the id is the record's, whatever it holds");
    }

    #[test]
    fn what_has_another_form_stays_as_it_was_written() {
        let event = proposed(json!({"name": "iris", "version": 3, "data": {"path": "a"}, "performance": "good", "team": "botany",
            "uri": "file:///m.pkl", "description": null}))
        .unwrap();
        let labels = json!({"version": "3", "data": "{\"path\":\"a\"}", "performance": "good", "team": "botany"});
        assert_eq!((&event["data"]["labels"], &event["data"]["artifact"]), (&labels, &json!({"uri": "file:///m.pkl"})));
        assert!(event["data"].get("label").is_none());
        let long = proposed(json!({"name": "iris", "description": "d".repeat(4096), "licence": "l".repeat(256)})).unwrap();
        assert!(long["data"]["description"].is_string() && long["data"]["labels"]["licence"].is_string(), "each has its own limit");
    }

    #[test]
    fn what_cannot_be_one_is_told() {
        for (source, says) in [
            (json!({"version": "1"}), "no `name`"),
            (json!({"name": 7}), "no `name`"),
            (json!({"name": "a/b"}), "must not contain"),
            (json!("text"), "no object"),
            (json!({"name": "a", "notes": "x".repeat(5000)}), "`notes` is longer"),
        ] {
            let why = proposed(source).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
