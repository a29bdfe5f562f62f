//! What `annals doctor` says of Kubernetes: clusters that do not answer or deny, and what cannot be watched.

use serde::Deserialize;

use super::super::Failure;
use super::super::client::{Client, Path};
use super::Finding;

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
    Ok(clusters.chain(unwatched).collect())
}
