//! Takes over an object that somebody made by hand: from then on it is a deployment of ours.

use std::time::Duration;

use annals_events::kind::Kind;
use serde_json::{Map, Value, json};

use super::Deployer;
use super::cluster::{Applying, Cluster, MANAGER, Target, Trouble, resource};
use super::finding::manager;
use super::mark::Mark;
use super::standing::{self, Standing};
use super::template::{Made, Manifest, member};
use crate::world::propose::{NotProposed, Proposed, Wanted};

/// How long an object may take that was on its way when it was taken over.
const COMING_MAX: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// What is taken over, as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopt {
    /// The object.
    pub target: Target,
    /// `workspace/model`.
    pub key: String,
    /// The version that it runs, as a person says.
    pub version: u64,
    /// The channel that it serves, which holds the version.
    pub channel: Option<String>,
    /// Who says so.
    pub actor: String,
}

/// What an adoption led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The deployment's id.
    pub deployment: String,
    /// The events.
    pub events: Vec<Proposed>,
}

/// Why it was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// There is none.
    #[error("there is no Deployment and no InferenceService {0}")]
    Missing(String),
    /// It is a deployment of ours already.
    #[error("{target} is the deployment {deployment} of {model} already")]
    Ours {
        /// The object.
        target: String,
        /// The deployment.
        deployment: String,
        /// Of which model.
        model: String,
    },
    /// The cluster, or what it says.
    #[error("{0}")]
    Trouble(#[from] Trouble),
    /// The engine said no.
    #[error("{0}")]
    NotProposed(#[from] NotProposed),
    /// The registry could not be asked.
    #[error("{0}")]
    Unknown(String),
}

impl Deployer {
    /// Takes an object over as it is: nothing restarts. What others owned of it is ours afterwards.
    /// After a failure it may be done again.
    ///
    /// # Errors
    /// [`NotAdopted`].
    pub async fn adopt(&self, adopt: &Adopt) -> Result<Adopted, NotAdopted> {
        let cluster = self.cluster(&adopt.target.cluster)?;
        let (made, found) = find(cluster, &adopt.target).await?;
        let id = format!("adopted-{}", found.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default());
        let marked = Mark::of(&found).filter(|mark| mark.deployment != id);
        if let Some(mark) = marked
            && self.made(&adopt.target, &mark).await.map_err(NotAdopted::Unknown)?
        {
            return Err(NotAdopted::Ours { target: adopt.target.path(), deployment: mark.deployment, model: mark.model });
        }
        let mut request = json!({"deployment": id, "target": adopt.target.data(), "reason": "taken over as it was found"});
        if let Some(channel) = &adopt.channel {
            request["channel"] = json!(channel);
        }
        let requested = self.say(adopt, Kind::DeploymentRequested, &id, request).await?;
        let known = self.registry.model(&adopt.key).await.map_err(NotAdopted::Unknown)?;
        let modelseq = known.deployment(&id).map_or(0, |d| d.modelseq);
        let digest = self.registry.version(&adopt.key, adopt.version).await.map_err(NotAdopted::Unknown)?.digest;
        let mark = Mark {
            model: adopt.key.clone(),
            version: adopt.version,
            digest,
            channel: adopt.channel.clone(),
            deployment: id.clone(),
            event: requested.id.clone(),
            position: requested.position.clone().unwrap_or_default(),
            modelseq,
            rolled_back: None,
        };
        take(cluster, &adopt.target, made, &found, &mark).await?;
        let mut events = vec![requested];
        let (kind, outcome) = match stands(cluster, &adopt.target, made).await? {
            Standing::Up(observed) => (Kind::DeploymentSucceeded, json!({"deployment": id, "observed": observed})),
            Standing::Coming(said) | Standing::Failed(said) => {
                (Kind::DeploymentFailed, json!({"deployment": id, "error": format!("taken over while it was not up: {said}")}))
            }
        };
        events.push(self.say(adopt, kind, &id, outcome).await?);
        let mut observed = json!({"target": adopt.target.data(), "finding": "adopted", "reason": format!("by {}", adopt.actor)});
        for (name, value) in [("manager", manager(&found)), ("image", image(&found))] {
            if let Some(value) = value {
                observed[name] = json!(value);
            }
        }
        events.push(self.say(adopt, Kind::DeploymentObserved, &id, observed).await?);
        Ok(Adopted { deployment: id, events })
    }

    async fn say(&self, adopt: &Adopt, kind: Kind, id: &str, data: Value) -> Result<Proposed, NotProposed> {
        let data = data.as_object().cloned().unwrap_or_default();
        let tag = format!("adopt {id} {}", kind.short());
        self.proposer.outside(&adopt.actor, &Wanted { kind, subject: format!("{}/{}", adopt.key, adopt.version), data, tag }).await
    }
}

/// How the object stands; one that is on its way is waited for a while.
async fn stands(cluster: &Cluster, target: &Target, made: Made) -> Result<Standing, Trouble> {
    let until = tokio::time::Instant::now() + COMING_MAX;
    loop {
        let found = cluster.get(target, &resource(made, None)).await?.unwrap_or_default();
        match standing::of(made, &found) {
            Standing::Coming(_) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK).await,
            standing => return Ok(standing),
        }
    }
}

async fn find(cluster: &Cluster, target: &Target) -> Result<(Made, Value), NotAdopted> {
    for made in [Made::Deployment, Made::InferenceService] {
        match cluster.get(target, &resource(made, None)).await {
            Ok(Some(found)) => return Ok((made, found)),
            Ok(None) | Err(Trouble::NotServed(_)) => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Err(NotAdopted::Missing(target.path()))
}

/// Applies the object as it is, with our mark, and makes us the owner of all that others wrote: what a
/// later template leaves out is then removed, not kept for somebody who is gone.
async fn take(cluster: &Cluster, target: &Target, made: Made, found: &Value, mark: &Mark) -> Result<(), Trouble> {
    let mut object = Map::new();
    for name in ["apiVersion", "kind", "spec"] {
        object.insert(name.into(), found[name].clone());
    }
    let metadata = member(&mut object, "metadata");
    metadata.insert("name".into(), json!(target.name));
    metadata.insert("namespace".into(), json!(target.namespace));
    if let Some(labels) = found.pointer("/metadata/labels") {
        metadata.insert("labels".into(), labels.clone());
    }
    let mut manifest = Manifest { made, api_version: found["apiVersion"].as_str().unwrap_or_default().into(), object };
    mark.put_on(&mut manifest);
    let force = Applying { force: true, dry_run: false };
    // Its status is written all the time, and what is in its spec is what we just read.
    let taken = match cluster.apply(target, &manifest, Some(found), &force).await {
        Err(Trouble::Moved) => cluster.apply(target, &manifest, None, &force).await?,
        other => other?,
    };
    let is_kept = |entry: &&Value| {
        !entry["subresource"].is_null() || [MANAGER, "kube-controller-manager"].contains(&entry["manager"].as_str().unwrap_or_default())
    };
    let owners: Vec<Value> = taken
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter(is_kept).cloned().collect())
        .unwrap_or_default();
    let patch = json!({"metadata": {"managedFields": owners}});
    cluster.merge(target, &resource(made, Some(&manifest.api_version)), patch.as_object().cloned().unwrap_or_default()).await?;
    Ok(())
}

fn image(object: &Value) -> Option<String> {
    object.pointer("/spec/template/spec/containers/0/image")?.as_str().map(str::to_owned)
}
