//! The lineage's question: all that a version came from, and all that came of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{LABEL, version_node};
use crate::as_of::AsOf;
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::table::Cell;
use crate::views::Views;

/// Most nodes in one direction; a lineage that has more says so.
const NODES_MAX: usize = 1000;

/// Something in a lineage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its id, such as `version:default/iris/1`.
    pub id: String,
    /// `data`, `code`, `run`, `version` or `deployment`.
    pub kind: String,
    /// What was said of it; the latest word on each member.
    pub about: Map<String, Value>,
}

/// What came from what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Where it came from.
    pub source: String,
    /// What came of it.
    pub target: String,
    /// How: `built` (code), a role of data, `parent`, `produced`, `deployed`.
    pub relation: String,
}

/// Up- and downstream of one version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lineage {
    /// The version's node id.
    pub version: String,
    /// By id; the version among them.
    pub nodes: Vec<Node>,
    /// By source and target.
    pub edges: Vec<Edge>,
    /// Whether there is more than fits.
    pub truncated: bool,
}

impl Views {
    /// All that a version came from and all that came of it; `None` if there is no such version.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn lineage(&self, key: &str, version: u64, as_of: &AsOf) -> Result<Option<Lineage>, Error> {
        let start = version_node(key, version);
        let mut lineage = Lineage { version: start.clone(), nodes: Vec::new(), edges: Vec::new(), truncated: false };
        for (from, to) in [("target", "source"), ("source", "target")] {
            let found = self.edges(&start, from, to, as_of).await?;
            lineage.truncated |= found.len() > NODES_MAX;
            lineage.edges.extend(found.into_iter().take(NODES_MAX));
        }
        lineage.edges = without_labels(lineage.edges);
        let mut wanted: Vec<&str> =
            lineage.edges.iter().flat_map(|e| [e.source.as_str(), e.target.as_str()]).chain([start.as_str()]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        lineage.nodes = self.nodes(&wanted, as_of).await?;
        Ok(lineage.nodes.iter().any(|node| node.id == start).then_some(lineage))
    }

    /// The edges that are reached from a node by following them in one direction.
    async fn edges(&self, start: &str, from: &str, to: &str, as_of: &AsOf) -> Result<Vec<Edge>, Error> {
        let seen = as_of.seen("e");
        // each row of a recursion is made when it is asked for, so the limit ends it
        let sql = format!(
            "WITH RECURSIVE reached(node) AS (SELECT s.{from} FROM lineage_edges s WHERE s.{from} = ? \
             UNION SELECT e.{to} FROM reached r JOIN lineage_edges e ON e.{from} = r.node WHERE {seen}), \
             near AS (SELECT node FROM reached LIMIT {most}) \
             SELECT DISTINCT e.source, e.target, e.relation FROM near r JOIN lineage_edges e ON e.{from} = r.node WHERE {seen} LIMIT {most}",
            most = NODES_MAX + 1,
        );
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, [start.into()]).kept(*as_of == AsOf::Now)).await;
        let edge = |row: &Row| Ok(Edge { source: row.text("source")?, target: row.text("target")?, relation: row.text("relation")? });
        rows.and_then(|rows| rows.iter().map(edge).collect()).map_err(|e| self.fault(e))
    }

    /// What was said of these nodes. One that nobody spoke of (a parent elsewhere) has its id only.
    async fn nodes(&self, ids: &[&str], as_of: &AsOf) -> Result<Vec<Node>, Error> {
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let mut reader = self.reader().await?;
        for some in ids.chunks(200) {
            // data and code nodes are spoken of by many runs: the last of their statements is enough,
            // while the statements on a run, version or deployment complete each other
            let sql = format!(
                "SELECT n.node, n.kind, n.doc FROM lineage_nodes n WHERE n.node IN ({}) AND {} AND (n.kind NOT IN ('data', 'code') OR \
                 (n.partition, n.seq) = (SELECT m.partition, m.seq FROM lineage_nodes m WHERE m.node = n.node AND {} ORDER BY m.partition DESC, m.seq DESC LIMIT 1)) \
                 ORDER BY n.node, n.seq",
                vec!["?"; some.len()].join(","),
                as_of.seen("n"),
                as_of.seen("m"),
            );
            let ids: Vec<Cell> = some.iter().map(|id| (*id).into()).collect();
            for row in reader.rows(Statement::new(sql, ids).kept(false)).await.map_err(|e| self.fault(e))? {
                let part = |name| row.text(name).map_err(|e| self.fault(e));
                let (id, kind) = (part("node")?, part("kind")?);
                let said: Map<String, Value> = serde_json::from_str(&part("doc")?).unwrap_or_default();
                nodes.entry(id.clone()).or_insert(Node { id, kind, about: Map::new() }).about.extend(said);
            }
        }
        Ok(nodes.into_values().collect())
    }
}

/// Puts the version in the place of its label's node; sorted, each edge once.
fn without_labels(edges: Vec<Edge>) -> Vec<Edge> {
    let (labels, mut edges): (Vec<Edge>, Vec<Edge>) = edges.into_iter().partition(|edge| edge.relation == LABEL);
    let labels: BTreeMap<String, String> = labels.into_iter().map(|edge| (edge.target, edge.source)).collect();
    for edge in &mut edges {
        if let Some(version) = labels.get(&edge.source) {
            edge.source.clone_from(version);
        }
    }
    edges.sort();
    edges.dedup();
    edges
}
