//! What `annals doctor` says of Kubernetes: clusters that do not answer or deny, what cannot be watched, and targets that
//! people changed.

use serde::Deserialize;

use super::super::Failure;
use super::super::client::{Client, Path};
use super::Finding;

/// Targets of a state of which each is told.
const TARGETS_MAX: &str = "10";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    clusters: Vec<Cluster>,
    unwatched: Vec<Unwatched>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    name: String,
    version: Option<String>,
    trouble: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Unwatched {
    cluster: String,
    namespace: String,
    trouble: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Targets {
    items: Vec<Target>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    target: String,
    state: String,
    since: String,
    note: Option<Note>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Note {
    text: String,
}

/// Looks at every cluster that the instance was told of.
///
/// # Errors
/// [`Failure`] if the engine does not answer at all.
pub(super) fn findings(client: &Client) -> Result<Vec<Finding>, Failure> {
    let answer = client.try_get(&Path::new(&["v1", "clusters"]), &[])?;
    let all = Answer::deserialize(&answer.body).unwrap_or_default();
    let clusters = all.clusters.iter().map(|cluster| match (&cluster.version, &cluster.trouble) {
        (Some(version), None) => Finding::well(format!("the cluster {} answers ({version})", cluster.name)),
        (_, trouble) => Finding::act(
            format!("the cluster {}: {}", cluster.name, trouble.as_deref().unwrap_or("no answer")),
            "see that its API server runs and that the kubeconfig is right; deployments wait and are tried again by themselves",
        ),
    });
    let unwatched = all.unwatched.iter().map(|place| {
        Finding::act(
            format!("changes by hand in {}/{} cannot be seen: {}", place.cluster, place.namespace, place.trouble),
            "give the account the right to list and watch there (examples/operations/kubernetes/deployer.yaml)",
        )
    });
    let mut found: Vec<Finding> = clusters.chain(unwatched).collect();
    for state in ["changed", "missing"] {
        let asked = Path::new(&["v1", "deployments"]).with("workspace", "*").with("state", state).with("limit", TARGETS_MAX);
        let answer = client.try_get(&asked, &[])?;
        let all = Targets::deserialize(&answer.body).unwrap_or_default();
        found.extend(all.items.iter().map(of));
        if all.next.is_some() {
            found.push(Finding::act(format!("more targets are {state}"), &format!("`annals deployments --state {state}` shows them all")));
        }
    }
    Ok(found)
}

fn of(target: &Target) -> Finding {
    let note = target.note.as_ref().map_or("", |note| &note.text);
    let todo = if target.state == "missing" {
        "`annals trigger replay RULE --task N` makes it again (`annals trigger history RULE` has the number); a rule with `heal: true` does by itself"
    } else {
        "put back what was changed; a rule with `heal: true` does so by itself"
    };
    Finding::act(format!("{} is not as it was deployed: {note} (since {})", target.target, target.since), todo)
}
