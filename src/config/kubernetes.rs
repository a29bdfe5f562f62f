//! Flags for the clusters that deployments may go to.

use std::path::PathBuf;

use clap::Args;

use super::{Remote, Workspace};

/// Which clusters there are.
#[derive(Clone, Debug, Default, Args)]
pub struct Kubernetes {
    /// A cluster that trigger rules may name: NAME=KUBECONFIG[#CONTEXT], or NAME=in-cluster for the one that Annals runs on; repeatable
    #[arg(
        long = "kubernetes",
        env = "ANNALS_KUBERNETES",
        value_name = "NAME=KUBECONFIG[#CONTEXT]",
        value_delimiter = ',',
        value_parser = cluster
    )]
    pub clusters: Vec<Cluster>,
}

/// An object that is taken over.
#[derive(Clone, Debug, Args)]
pub struct Adopt {
    /// The object, as the engine calls the cluster and `kubectl get` the rest
    #[arg(value_name = "CLUSTER/NAMESPACE/NAME")]
    pub object: String,
    /// The model that it serves
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The number of the version that it runs
    #[arg(long, value_name = "NUMBER")]
    pub version: u64,
    /// The channel that it serves; it must hold the version
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Who says so
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What rules call it.
    pub name: String,
    /// How it is reached.
    pub access: Access,
}

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the account of the pod that Annals runs in.
    InCluster,
    /// By a kubeconfig.
    File {
        /// Where it is.
        path: PathBuf,
        /// Which of its contexts, if not the current one.
        context: Option<String>,
    },
}

fn cluster(text: &str) -> Result<Cluster, String> {
    const REMEDY: &str = "say NAME=KUBECONFIG, NAME=KUBECONFIG#CONTEXT or NAME=in-cluster";
    let (name, rest) = text.split_once('=').ok_or(REMEDY)?;
    if name.is_empty() || name.contains('/') || rest.is_empty() {
        return Err(format!("a name without `/` and a file are needed: {REMEDY}"));
    }
    if rest == "in-cluster" {
        return Ok(Cluster { name: name.into(), access: Access::InCluster });
    }
    let (path, context) = match rest.rsplit_once('#') {
        Some((path, context)) if !path.is_empty() && !context.is_empty() => (path, Some(context.to_owned())),
        Some(_) => return Err(format!("what is before and behind `#` is empty: {REMEDY}")),
        None => (rest, None),
    };
    Ok(Cluster { name: name.into(), access: Access::File { path: path.into(), context } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_a_name_and_how_to_reach_it() {
        let file = |path: &str, context: Option<&str>| Access::File { path: path.into(), context: context.map(Into::into) };
        for (text, name, access) in [
            ("prod=/etc/kube", "prod", file("/etc/kube", None)),
            ("prod=/etc/kube#eu", "prod", file("/etc/kube", Some("eu"))),
            ("here=in-cluster", "here", Access::InCluster),
        ] {
            assert_eq!(cluster(text), Ok(Cluster { name: name.into(), access }), "{text}");
        }
        for text in ["prod", "=x", "prod=", "a/b=x", "prod=#eu", "prod=x#"] {
            assert!(cluster(text).unwrap_err().contains("NAME=KUBECONFIG"), "{text}");
        }
    }
}
