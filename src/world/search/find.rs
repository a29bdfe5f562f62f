//! Questions to a cluster: the same words, the same order and the same pages as the database's own full-text search.

use annals_projections::search::query::Word;
use annals_projections::search::{Place, Query};
use annals_projections::{Listing, Page};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::cluster::{Body, Cluster, Trouble, Verb};

/// A document that a cluster found.
#[derive(Debug, Deserialize)]
pub struct Hit {
    #[serde(rename = "_source")]
    source: Box<RawValue>,
    sort: (i64, String),
}

impl serde::Serialize for Hit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    hits: Hits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hits {
    hits: Vec<Hit>,
}

impl Cluster {
    /// The documents that a query means, in one workspace or in all; the newest first.
    ///
    /// # Errors
    /// [`Trouble`]: half an answer is none.
    pub async fn find(&self, alias: &str, question: &str, limit: usize) -> Result<Listing<Hit>, Trouble> {
        let path = format!("/{alias}/_search?allow_partial_search_results=false&filter_path=hits.hits._source,hits.hits.sort");
        let text = self.get(Verb::Post, &path, Body::Json(question.to_owned())).await?;
        let answer: Answer = serde_json::from_str(&text).map_err(|e| Trouble::Refused(200, format!("the answer cannot be read: {e}")))?;
        let mut items = answer.hits.hits;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|hit| format!("{} {}", hit.sort.0, hit.sort.1));
        Ok(Listing { items, next })
    }
}

/// A question as a cluster reads it, and how many documents the page has.
///
/// # Errors
/// If the page's cursor is none of ours.
pub fn question(workspace: Option<&str>, query: &Query, page: &Page) -> Result<(String, usize), annals_projections::Error> {
    let all = |words: &[Word]| -> Vec<Value> {
        let one = |word: &Word| if word.prefix { json!({"prefix": {"words": word.text}}) } else { json!({"term": {"words": word.text}}) };
        words.iter().map(one).collect()
    };
    let mut filter = all(&query.all);
    filter.extend(workspace.map(|workspace| json!({"term": {"workspace": workspace}})));
    let none: Vec<Value> = query.none.iter().map(|words| json!({"bool": {"filter": all(words)}})).collect();
    let limit = usize::try_from(page.limit.clamp(1, annals_projections::page::LIMIT_MAX)).unwrap_or(1);
    let mut body = json!({
        // one more than wanted tells whether there is a next page
        "size": limit + 1,
        "track_total_hits": false,
        "query": {"bool": {"filter": filter, "must_not": none}},
        "sort": [{"created_ms": "desc"}, {"subject": "asc"}],
    });
    if let Some(Place { created, subject }) = Place::of(page)? {
        body["search_after"] = json!([created, subject]);
    }
    Ok((body.to_string(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_words_workspace_and_place() {
        let page = Page { after: Some("7 default/iris/1".into()), limit: 2 };
        let (body, limit) = question(Some("default"), &Query::parse("fore* -channel:dev").unwrap(), &page).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((limit, &body["size"], &body["search_after"]), (2, &json!(3), &json!([7, "default/iris/1"])));
        let expected = json!({"bool": {
            "filter": [{"prefix": {"words": "fore"}}, {"term": {"workspace": "default"}}],
            "must_not": [{"bool": {"filter": [{"term": {"words": "channel:dev"}}]}}],
        }});
        assert_eq!(body["query"], expected);
    }
}
