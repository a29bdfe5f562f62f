//! Kubernetes: brings the version that a channel holds onto a cluster, says what became of it, goes
//! back when it does not come up, and takes it away when the channel is empty.
//!
//! Woken by an event, it acts by state: what the channel holds now, and what the object says now. So
//! doing a job again does no harm, and what was missed is made up by the next event of the model.
//! Four things keep an older version from going over a newer one, also when a paused instance wakes
//! up: the channel is looked at before each step, the object carries the count of the event that made
//! it so (`annals.dev/modelseq`), it is only changed as it was read (`resourceVersion`), and where
//! nothing was it is created, which fails if there is something by then.

pub mod adopt;
pub mod cluster;
pub mod fields;
pub mod finding;
pub mod mark;
pub mod registry;
pub mod retire;
pub mod roll;
pub mod sight;
pub mod standing;
pub mod template;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::record::Hash;
use serde_json::{Value, json};

use self::cluster::{Cluster, Target, Trouble};
use self::mark::{Mark, NotOver};
use self::registry::Registry;
use self::sight::Sight;
use self::template::{BadTemplate, Manifest, NAMESPACE, Values};
use self::watch::Place;
use super::propose::{NotProposed, Proposed, Proposer, Wanted};
use super::rule::{self, Do, Rule};
use super::{Acting, Actor, Done, Job, Retry};

/// How often an object is read and applied again because it changed in between.
const MOVED_MAX: usize = 10;
/// How soon it is tried again when a cluster or the registry is away.
const AWAY: Duration = Duration::from_secs(5);
/// Longest name of an object that is made up here: a DNS label's.
const NAME_MAX: usize = 63;

/// The actor for rules of Kubernetes.
pub struct Deployer {
    clusters: BTreeMap<String, Cluster>,
    registry: Registry,
    proposer: Proposer,
    /// Where watching does not work, and why.
    blind: Mutex<BTreeMap<Place, String>>,
    sight: Sight,
}

/// How a manifest is put on a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Putting {
    /// Take fields from others.
    force: bool,
    /// Nothing of this journal was ever there: so probably nothing is.
    is_first: bool,
}

/// Why an object was not applied.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// The cluster, or what it says.
    #[error("{0}")]
    Trouble(#[from] Trouble),
    /// It is there, and nothing in this journal made it.
    #[error(
        "{0} is there and was not made by this Annals: take it over with `annals adopt {0}`, remove it, or give the rule another `name`"
    )]
    Foreign(String),
    /// It is another model's, or another channel's.
    #[error("the object serves {0}: give the rule a `name` of its own for each model and channel, such as {{model}}-{{channel}}")]
    Others(String),
    /// It is there by a newer event.
    #[error("version {0} is there by a newer event")]
    Newer(u64),
    /// The registry could not be asked.
    #[error("{0}")]
    Unknown(String),
    /// This deployment failed, and the object is what it was rolled back to.
    #[error("it was rolled back already")]
    RolledBack,
}

impl Deployer {
    /// Acts on these clusters.
    #[must_use]
    pub fn new(clusters: &[crate::config::kubernetes::Cluster], registry: Registry, proposer: Proposer) -> Arc<Self> {
        let clusters = clusters.iter().map(|c| (c.name.clone(), Cluster::new(c.clone()))).collect();
        Arc::new(Self { clusters, registry, proposer, blind: Mutex::default(), sight: Sight::default() })
    }

    /// A cluster by its name.
    ///
    /// # Errors
    /// [`Trouble::Unknown`].
    pub fn cluster(&self, name: &str) -> Result<&Cluster, Trouble> {
        self.clusters.get(name).ok_or_else(|| Trouble::Unknown(name.into()))
    }

    /// How each cluster answers: its version, or what is wrong.
    pub async fn check(&self) -> BTreeMap<String, Result<String, Trouble>> {
        let mut found = BTreeMap::new();
        for (name, cluster) in &self.clusters {
            found.insert(name.clone(), cluster.version().await);
        }
        found
    }

    /// Where watching does not work, and why.
    #[must_use]
    pub fn blind(&self) -> BTreeMap<Place, String> {
        self.blind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps how watching a place goes; `true` if that is news.
    fn trouble_at(&self, place: &Place, trouble: Option<String>) -> bool {
        let mut blind = self.blind.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &trouble {
            Some(text) => blind.insert(place.clone(), text.clone()),
            None => blind.remove(place),
        };
        before != trouble
    }

    /// Whether what an object says about itself is so by this journal: one that was made by another journal's engine, such
    /// as that of a directory which is gone, is somebody else's.
    async fn made(&self, target: &Target, mark: &Mark) -> Result<bool, String> {
        if self.sight.knows(&target.path(), mark) {
            return Ok(true);
        }
        let known = self.registry.model(&mark.model).await?;
        Ok(known.deployment(&mark.deployment).is_some_and(|d| d.target == target.path() && d.version == mark.version))
    }

    /// Applies a manifest, unless what is there is newer or somebody else's; creates the object where none is.
    async fn put(&self, target: &Target, manifest: &Manifest, mark: &Mark, how: Putting) -> Result<Value, NotApplied> {
        let cluster = self.cluster(&target.cluster)?;
        let resource = cluster::resource(manifest.made, Some(&manifest.api_version));
        let mut manifest = manifest.clone();
        mark.put_on(&mut manifest);
        let mut looks = !how.is_first;
        for _ in 0..MOVED_MAX {
            let found = if looks { cluster.get(target, &resource).await? } else { None };
            looks = true;
            if let Some(found) = &found {
                let foreign = || NotApplied::Foreign(format!("{}/{}/{}", target.cluster, target.namespace, target.name));
                let there = Mark::of(found).ok_or_else(foreign)?;
                if there.model == mark.model && !self.made(target, &there).await.map_err(NotApplied::Unknown)? {
                    return Err(foreign());
                }
                mark.may_replace(&there).map_err(|not| match not {
                    NotOver::Others(model) => NotApplied::Others(model),
                    NotOver::Newer { version, .. } => NotApplied::Newer(version),
                    NotOver::RolledBack => NotApplied::RolledBack,
                })?;
            }
            let put = match found {
                None => cluster.create(target, &manifest).await,
                Some(found) => cluster.apply_over(target, &manifest, found, how.force).await,
            };
            match put {
                Err(Trouble::Moved) => {} // the controllers write its status, or somebody was faster; look again
                other => return Ok(other?),
            }
        }
        Err(Trouble::Away("the object changes all the time".into()).into())
    }

    async fn propose(&self, job: &Job, kind: Kind, version: u64, data: Value) -> Result<Proposed, NotProposed> {
        let data = data.as_object().cloned().unwrap_or_default();
        let tag = format!("{} {}", kind.short(), data.get("deployment").and_then(Value::as_str).unwrap_or_default());
        self.proposer.propose(job, &Wanted { kind, subject: format!("{}/{version}", job.event.key), data, tag }).await
    }
}

impl Actor for Deployer {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            let Do::Kubernetes(rule) = &job.rule.act else {
                return Done::Failed { note: "the rule has nothing to do with Kubernetes any more".into(), retry: Retry::Never };
            };
            let done = match job.event.kind {
                Kind::VersionPromoted => self.roll(job, rule).await,
                Kind::VersionDemoted => self.retire(job, rule).await,
                other => {
                    let note = format!("a rule for Kubernetes is about promoted and demoted, not {}", other.short());
                    return Done::Failed { note, retry: Retry::Never };
                }
            };
            let done = done.unwrap_or_else(|ended| ended);
            if !matches!(done, Done::Again { .. }) {
                self.sight.forget(&job.task.lane);
            }
            done
        })
    }
}

/// Where a rule brings a model's channel.
#[must_use]
pub fn target(rule: &rule::Kubernetes, model: &str, channel: &str) -> Target {
    let name = match &rule.name {
        Some(name) => name.replace("{model}", &label(model)).replace("{channel}", channel),
        None => label(&format!("{model}-{channel}")),
    };
    Target { cluster: rule.cluster.clone(), namespace: rule.namespace.clone().unwrap_or_else(|| NAMESPACE.into()), name }
}

/// The lane of a rule's tasks for a model's channel: what goes to one target goes there in order.
#[must_use]
pub fn lane(rule: &rule::Kubernetes, model: &str, channel: &str) -> String {
    target(rule, model, channel).path()
}

/// A DNS label that looks like the text; of one that is too long the end is a digest. Two texts may look alike: then the
/// object's own model tells them apart.
fn label(text: &str) -> String {
    let dashed: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let dashed = dashed.trim_matches('-');
    if dashed.len() <= NAME_MAX {
        return dashed.to_owned();
    }
    let digest = Hash::of(text.as_bytes()).to_string();
    format!("{}-{}", dashed[..NAME_MAX - 9].trim_end_matches('-'), &digest[..8])
}

/// What a rule makes of a version.
///
/// # Errors
/// [`BadTemplate`].
pub fn manifest(
    rule: &rule::Kubernetes,
    target: &Target,
    model: &str,
    channel: &str,
    version: (u64, &registry::Version),
) -> Result<Manifest, BadTemplate> {
    let values = Values {
        model: model.into(),
        version: version.0,
        channel: channel.into(),
        digest: version.1.digest.clone(),
        uri: version.1.uri.clone(),
        name: target.name.clone(),
        namespace: target.namespace.clone(),
    };
    template::manifest(rule, &values)
}

/// The first id that a rule's deployment has which an event leads to, by the event's count in its model. Another one, after a
/// failure, has `.` and a number behind it.
fn first_id(rule: &Rule, modelseq: u64) -> String {
    format!("{}-{modelseq}", rule.name)
}

/// The count of the event that led to a deployment of this rule; `None` of what is no deployment of it: a rule's name may
/// begin with another one's.
fn count_of(rule: &Rule, deployment: &str) -> Option<u64> {
    let behind = deployment.strip_prefix(&rule.name)?.strip_prefix('-')?;
    let count = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (first, again) = behind.split_once('.').unwrap_or((behind, "2"));
    count(again).and(count(first))
}

/// It could not be asked or decided now, and it may pass by itself: an outage of ours or of the cluster's uses up no tries.
fn wait(job: &Job, note: impl Into<String>) -> Done {
    Done::Again { after: AWAY, progress: job.task.progress.clone().unwrap_or_default(), note: Some(note.into()) }
}

/// A person must look.
fn never(note: impl Into<String>) -> Done {
    Done::Failed { note: note.into(), retry: Retry::Never }
}

/// What trouble with a cluster means for a task: what may pass by itself is tried again, and what somebody must see to only so
/// many times.
fn done(job: &Job, trouble: &Trouble) -> Done {
    match trouble {
        Trouble::Away(_) | Trouble::Moved | Trouble::Stranger(_) => wait(job, trouble.to_string()),
        Trouble::Denied(_) | Trouble::NotServed(_) | Trouble::Unknown(_) => {
            Done::Failed { note: trouble.to_string(), retry: Retry::Schedule }
        }
        Trouble::Owned(_) | Trouble::Invalid(_) => never(trouble.to_string()),
    }
}

fn outcome(events: &[Proposed]) -> Option<String> {
    (!events.is_empty()).then(|| super::propose::outcome(events))
}

fn removed(deployment: &str, reason: &str) -> Value {
    json!({"deployment": deployment, "reason": reason})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: Option<&str>) -> rule::Kubernetes {
        serde_json::from_value(json!({"cluster": "c", "name": name})).unwrap()
    }

    #[test]
    fn a_deployment_is_of_the_rule_whose_name_it_has_and_of_no_other() {
        let rule = |name: &str| {
            let named =
                rule::read::Named { family: rule::Family::Trigger, workspace: "default", name, revision: 1, state: rule::State::Active };
            Rule::read(&named, &json!({"when": {"type": ["promoted"]}, "do": {"kubernetes": {"cluster": "c", "image": "i"}}})).unwrap()
        };
        let (serve, other) = (rule("serve"), rule("serve-7"));
        let is_of = |rule: &Rule, id: &str| count_of(rule, id).is_some();
        assert!(is_of(&serve, &first_id(&serve, 7)) && is_of(&serve, "serve-7.2") && is_of(&other, &first_id(&other, 12)));
        assert!(!is_of(&serve, "serve-7-12") && !is_of(&serve, "serve-eu-7") && !is_of(&serve, "serve-") && !is_of(&serve, "serve-7."));
        let dotted = rule("serve.v1");
        assert_eq!((count_of(&dotted, "serve.v1-7.3"), count_of(&serve, "serve.v1-7")), (Some(7), None));
    }

    #[test]
    fn a_target_has_a_name_that_kubernetes_takes() {
        let name = |rule_name, model| target(&rule(rule_name), model, "production").name;
        assert_eq!(name(None, "iris"), "iris-production");
        assert_eq!(name(None, "Fraud_v2.x"), "fraud-v2-x-production");
        assert_eq!(name(Some("serve-{model}"), "Iris"), "serve-iris");
        let long = "m".repeat(100);
        assert_eq!(name(None, &long).len(), NAME_MAX);
        let staging = target(&rule(None), &long, "staging").name;
        assert_ne!(name(None, &long), staging, "what is cut off still counts");
        assert_eq!(lane(&rule(None), "iris", "dev"), "kubernetes/c/default/iris-dev");
    }
}
