//! The question of the deployments view: which targets there are, and how each is.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::as_of::AsOf;
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::page::{LIMIT_MAX, Listing, Page};
use crate::table::Cell;
use crate::views::Views;

/// Which targets are asked for; what is not said is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this workspace.
    pub workspace: Option<String>,
    /// Serving this channel.
    pub channel: Option<String>,
    /// One of [`super::STATES`].
    pub state: Option<String>,
    /// `platform/cluster/namespace/name`, in which `*` stands for any characters.
    pub target: Option<String>,
}

/// A target, as a [`super::documents::Target`]; it serializes as its JSON.
#[derive(Clone, Debug)]
pub struct Line {
    /// `workspace/model`, or `workspace/_system` where what is there is foreign.
    pub key: Box<str>,
    /// The target.
    pub target: Box<str>,
    /// The JSON.
    pub body: Box<RawValue>,
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}

impl Line {
    /// A key holds no colon, and a target may hold anything.
    fn cursor(&self) -> String {
        format!("{}:{}", self.key, self.target)
    }
}

impl Views {
    /// The targets, by target and key. What is foreign is not told where a model has the target.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn targets(&self, filter: &Filter, as_of: &AsOf, page: &Page) -> Result<Listing<Line>, Error> {
        let cursor = page.after.as_ref().map(|text| text.split_once(':').ok_or_else(|| Error::Cursor(text.clone()))).transpose()?;
        let (key, target) = cursor.unwrap_or_default();
        let (mut key, mut target): (Box<str>, Box<str>) = (key.into(), target.into());
        let (mut found, wanted) = (Vec::new(), usize::try_from(page.fetch()).unwrap_or(1));
        loop {
            let some = self.some_targets(filter, as_of, &key, &target).await?;
            let Some(last) = some.last() else { break };
            (key, target) = (last.key.clone(), last.target.clone());
            let ended = some.len() < LIMIT_MAX as usize;
            found.extend(some.into_iter().filter(|line| filter.target.as_ref().is_none_or(|pattern| matches(pattern, &line.target))));
            if ended || found.len() >= wanted {
                break;
            }
        }
        found.truncate(wanted);
        Ok(Listing::cut(found, page, Line::cursor))
    }

    async fn some_targets(&self, filter: &Filter, as_of: &AsOf, key: &str, target: &str) -> Result<Vec<Line>, Error> {
        let mut cells: Vec<Cell> = vec![target.into(), key.into()];
        let mut conditions = String::new();
        for (column, wanted) in [("workspace", &filter.workspace), ("channel", &filter.channel), ("state", &filter.state)] {
            if let Some(wanted) = wanted {
                conditions += &format!(" AND t.{column} = ?");
                cells.push(wanted.as_str().into());
            }
        }
        let sql = format!(
            "SELECT t.key, t.target, t.doc FROM deployments t WHERE (t.target, t.key) > (?, ?){conditions} AND {} \
             AND (t.state <> 'foreign' OR NOT EXISTS (SELECT 1 FROM deployments o \
                  WHERE o.workspace = t.workspace AND o.target = t.target AND o.state <> 'foreign' AND {})) \
             ORDER BY t.target, t.key LIMIT {LIMIT_MAX}",
            as_of.holds("t"),
            as_of.holds("o"),
        );
        let mut reader = self.reader().await?;
        // a vector of positions makes a statement that is not seen again: it need not be kept
        let rows = reader.rows(Statement::new(sql, cells).kept(*as_of == AsOf::Now)).await;
        rows.and_then(|rows| rows.iter().map(line).collect()).map_err(|e| self.fault(e))
    }
}

fn line(row: &Row) -> Result<Line, sqlx::Error> {
    Ok(Line {
        key: row.text("key")?.into(),
        target: row.text("target")?.into(),
        body: RawValue::from_string(row.text("doc")?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
    })
}

/// Whether a text is as a pattern says, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let target = "kubernetes/kind/ml/iris-production";
        for pattern in
            [target, "*", "**", "kubernetes/*", "*/iris-production", "kube*/ml/*prod*", "*kind*", "kubernetes/kind/ml/iris-production*"]
        {
            assert!(matches(pattern, target), "{pattern}");
        }
        for pattern in ["", "kubernetes", "*/iris", "kind*", "*ml*kind*", "kubernetes/kind/ml/iris-production?", "*production*production"] {
            assert!(!matches(pattern, target), "{pattern}");
        }
        assert!(!matches("ab*ba", "aba"), "what stands before and behind do not overlap");
    }
}
