//! `annals lineage`: where a version comes from and where it runs, as a tree.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::{Client, Path};
use super::output::{Output, plain, printable, say};
use super::{Exit, Failure, read};
use crate::config::ask::Lineage;

/// What the engine answers; what else it says is kept for `--json` only.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Graph {
    version: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    truncated: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    id: String,
    kind: String,
    about: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Edge {
    source: String,
    target: String,
    relation: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Lineage, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.question.remote.url);
    let path = Path::new(&["v1", "models", &args.model, "versions", &args.version, "lineage"]);
    let answer = client.get_fresh(&read::ask(path, &args.question))?;
    if args.question.remote.json {
        out.json(&answer)?;
        return Ok(Exit::Done);
    }
    let graph = Graph::deserialize(&answer).map_err(|e| anyhow::anyhow!("the engine's answer cannot be read: {e}"))?;
    for line in graph.tree() {
        out.line(&line)?;
    }
    if graph.truncated {
        say("there is more than fits: --json and the API have the same limit");
    }
    Ok(Exit::Done)
}

/// In which direction a tree grows.
#[derive(Clone, Copy)]
enum Way {
    From,
    To,
}

impl Graph {
    fn tree(&self) -> Vec<String> {
        let mut lines = vec![self.label(&self.version)];
        for (way, title) in [(Way::From, "comes from"), (Way::To, "went into")] {
            let mut seen = HashSet::from([self.version.as_str()]);
            let branches = self.branches(&self.version, way, "", &mut seen);
            if !branches.is_empty() {
                lines.push(title.to_owned());
                lines.extend(branches);
            }
        }
        lines
    }

    fn branches<'a>(&'a self, node: &str, way: Way, indent: &str, seen: &mut HashSet<&'a str>) -> Vec<String> {
        let next: Vec<(&Edge, &str)> = self
            .edges
            .iter()
            .filter_map(|edge| match way {
                Way::From if edge.target == node => Some((edge, edge.source.as_str())),
                Way::To if edge.source == node => Some((edge, edge.target.as_str())),
                Way::From | Way::To => None,
            })
            .collect();
        let mut lines = Vec::new();
        for (i, (edge, id)) in next.iter().enumerate() {
            let last = i + 1 == next.len();
            let (branch, deeper) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let is_new = seen.insert(id);
            let again = if is_new { "" } else { " (see above)" };
            lines.push(format!("{indent}{branch}{}: {}{again}", printable(&edge.relation), self.label(id)));
            if is_new {
                lines.extend(self.branches(id, way, &format!("{indent}{deeper}"), seen));
            }
        }
        lines
    }

    /// The node's id, and what tells a person more.
    fn label(&self, id: &str) -> String {
        let Some(node) = self.nodes.iter().find(|node| node.id == id) else { return printable(id) };
        let wanted: &[&str] = match node.kind.as_str() {
            "data" => &["name", "rows", "uri"],
            "code" => &[],
            "run" => &["system", "trained", "artifact", "commit_is", "branches", "tags"],
            "version" => &["label", "status", "digest", "registered"],
            "deployment" => &["state", "target", "requested"],
            _ => &["name"],
        };
        let said: Vec<String> =
            wanted.iter().filter_map(|name| Some(format!("{name}={}", plain(node.about.get(*name).filter(|v| !v.is_null())?)))).collect();
        if said.is_empty() { printable(id) } else { format!("{} [{}]", printable(id), said.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lineage_is_a_tree_in_both_directions_and_circles_end() {
        let answer = json!({
            "version": "version:default/iris/2",
            "nodes": [
                {"id": "version:default/iris/2", "kind": "version", "about": {"status": "registered", "label": null}},
                {"id": "run:default/iris/r", "kind": "run", "about": {"system": "local"}},
                {"id": "data:d", "kind": "data", "about": {"name": "iris"}},
            ],
            "edges": [
                {"source": "run:default/iris/r", "target": "version:default/iris/2", "relation": "produced"},
                {"source": "data:d", "target": "run:default/iris/r", "relation": "train"},
                {"source": "code:x@1", "target": "run:default/iris/r", "relation": "built"},
                {"source": "version:default/iris/2", "target": "run:default/iris/r", "relation": "parent"},
                {"source": "version:default/iris/2", "target": "deployment:default/iris/p", "relation": "deployed"},
            ],
        });
        let lines = Graph::deserialize(&answer).unwrap().tree();
        assert_eq!(
            lines,
            [
                "version:default/iris/2 [status=registered]",
                "comes from",
                "└─ produced: run:default/iris/r [system=local]",
                "   ├─ train: data:d [name=iris]",
                "   ├─ built: code:x@1",
                "   └─ parent: version:default/iris/2 [status=registered] (see above)",
                "went into",
                "├─ parent: run:default/iris/r [system=local]",
                "│  └─ produced: version:default/iris/2 [status=registered] (see above)",
                "└─ deployed: deployment:default/iris/p",
            ]
        );
    }
}
