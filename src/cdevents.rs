//! What was released and deployed, told in the words of CDEvents (0.5.1), for tools of continuous delivery.
//!
//! | ours | theirs | because their spec says |
//! | --- | --- | --- |
//! | `version.promoted` | `artifact.published` | an artifact "has been published and it can be advertised for others to use" |
//! | `deployment.succeeded` | `service.deployed` | "a new instance of a service that has been deployed" |
//! | the same, if it replaces another | `service.upgraded` | "an existing instance … upgraded to a new version" |
//! | `deployment.rolled_back` | `service.rolledback` | "… rolled back to a previous version": the artifact is the one that runs again |
//! | the same, if nothing ran before | `service.removed` | there is no previous version that it could name |
//! | `deployment.removed` | `service.removed` | it is "no longer present in the specified environment" |
//!
//! A service is a target, its environment the place of the target, an artifact a version as a package URL. Our event of
//! a deployment names neither target nor digest, so both are asked of the registry; they never change, so an event is
//! told in the same words whenever and to whomever it is told. It is another event than ours: its id is the record's hash, its source
//! `/annals/<workspace>`, and `customData.annals` says whose it is.

use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::names::{Key, VersionRef};
use annals_events::time::Timestamp;
use annals_projections::{AsOf, Doc, registry};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::http::uri;
use crate::runner::Runner;

/// The version of the spec (`context.specversion`).
pub const SPEC: &str = "0.5.1";
/// The events that have a counterpart.
pub const KINDS: [Kind; 4] = [Kind::VersionPromoted, Kind::DeploymentSucceeded, Kind::DeploymentRolledBack, Kind::DeploymentRemoved];
/// How long the registry may take to come so far.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// A type of our own, as their spec has it for what it does not know: an endpoint is tried out.
const TESTED: &str = "dev.cdeventsx.annals-webhook.tested.0.1.0";

/// In which words events are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    /// CloudEvents of our own types.
    #[default]
    CloudEvents,
    /// CDEvents, each in a CloudEvent; of nothing but releases and deployments.
    CdEvents,
}

impl Words {
    /// The word of the parameter `format`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::CdEvents => "cdevents",
        }
    }

    /// Whether an event of this kind can be told.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self == Self::CloudEvents || KINDS.contains(&kind)
    }
}

/// What can be told, by short names, comma-separated.
#[must_use]
pub fn all() -> String {
    KINDS.map(Kind::short).join(",")
}

/// Why an event is not told.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// Nobody knows yet what it is about: try again.
    #[error("the registry is not at {0} yet")]
    Behind(String),
    /// The registry could not be asked.
    #[error("the registry does not answer: {0}")]
    Views(#[from] annals_projections::Error),
    /// It is no event of ours, or the registry lacks what the journal has.
    #[error("{0}")]
    Broken(String),
}

/// One of our events, as the door writes it.
#[derive(Debug, Deserialize)]
struct Told {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    position: String,
    hash: String,
    actor: String,
    recordedtime: String,
    time: Option<String>,
    cursor: Option<String>,
    data: Halves,
}

#[derive(Debug, Deserialize)]
struct Halves {
    data: Value,
    decided: Decided,
}

/// What the decisions of [`KINDS`] have.
#[derive(Debug, Deserialize)]
struct Decided {
    version: u64,
    channel: Option<String>,
    digest: Option<String>,
    deployment: Option<String>,
    replaces: Option<String>,
    restored: Option<Value>,
}

/// What the registry adds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    /// `platform/cluster/namespace/name`.
    target: String,
    /// The version that is there now, or released.
    version: u64,
    /// Its digest.
    digest: Option<String>,
}

/// What is asked of a deployment.
#[derive(Deserialize)]
struct Deployment {
    version: u64,
    /// `platform/cluster/namespace/name`.
    target: String,
}

/// What is asked of a version.
#[derive(Deserialize)]
struct Version {
    digest: Option<String>,
}

/// A CDEvent in a CloudEvent.
pub struct Event {
    /// The type, as `dev.cdevents.service.deployed.0.3.0`.
    pub kind: &'static str,
    /// Our cursor behind it, if the line had one.
    pub cursor: Option<String>,
    /// The CloudEvent in structured mode.
    pub json: Value,
}

/// Tells one line of ours in their words.
///
/// # Errors
/// [`NotTold`]
pub async fn tell(runner: &Runner, line: &[u8]) -> Result<Event, NotTold> {
    let told: Told = serde_json::from_slice(line).map_err(|e| NotTold::Broken(format!("an event is not one of ours: {e}")))?;
    let facts = facts(runner, &told).await?;
    Ok(written(&told, &facts))
}

/// A message that tells of no event, for an endpoint that is tried out.
#[must_use]
pub fn test(id: &str, workspace: &str, subscription: &str, now: Timestamp) -> Value {
    let source = source(workspace);
    let parts = Parts { kind: TESTED, id, source: &source, subject: subscription, time: &now.to_string(), content: json!({}) };
    parts.cloudevent(json!({"workspace": workspace, "subscription": subscription}))
}

impl Told {
    fn key(&self) -> Result<Key, NotTold> {
        let mut parts = self.subject.splitn(3, '/');
        let (workspace, model) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Key::new(workspace, model).map_err(|e| NotTold::Broken(format!("an event's subject is none of ours: {e}")))
    }

    fn kind(&self) -> Option<Kind> {
        Kind::from_name(&self.kind)
    }

    /// `partition:seq`, as the runner has it.
    fn place(&self) -> Result<(u32, u64), NotTold> {
        let read = |(partition, seq): (&str, &str)| Some((partition.parse().ok()?, seq.parse().ok()?));
        let broken = || NotTold::Broken(format!("`{}` is no position", self.position));
        self.position.split_once(':').and_then(read).ok_or_else(broken)
    }

    /// The deployment that runs again, if this takes one back; in a promotion the word means something else.
    fn restored(&self) -> Option<&str> {
        let restored = self.data.decided.restored.as_ref().filter(|_| self.kind() == Some(Kind::DeploymentRolledBack));
        restored.and_then(Value::as_str)
    }
}

/// Asks the registry, as of the event at least; of what it asks for nothing changes later.
async fn facts(runner: &Runner, told: &Told) -> Result<Facts, NotTold> {
    let Decided { version, digest, deployment, .. } = &told.data.decided;
    let Some(id) = deployment else { return Ok(Facts { target: String::new(), version: *version, digest: digest.clone() }) };
    let key = told.key()?;
    if !runner.wait_for(registry::NAME, &[told.place()?], BEHIND_MAX).await {
        return Err(NotTold::Behind(told.position.clone()));
    }
    let views = runner.views();
    let deployment = async |id: &str| -> Result<Deployment, NotTold> {
        known(views.deployment(key.as_str(), id, &AsOf::Now).await?, || format!("the deployment {id} of {key}"))
    };
    let target = deployment(id).await?.target;
    let version = match told.restored() {
        Some(restored) => deployment(restored).await?.version,
        None => *version,
    };
    let found = views.version(key.as_str(), &VersionRef::Number(version), &AsOf::Now).await?;
    let Version { digest } = known(found, || format!("the version {version} of {key}"))?;
    Ok(Facts { target, version, digest })
}

fn known<T: DeserializeOwned>(found: Option<Doc>, what: impl Fn() -> String) -> Result<T, NotTold> {
    let read = found.and_then(|doc| serde_json::from_str(doc.body.get()).ok());
    read.ok_or_else(|| NotTold::Broken(format!("the registry does not know {}, which the journal has", what())))
}

fn source(workspace: &str) -> String {
    format!("/annals/{}", uri::encode(workspace))
}

/// What their context and subject say, and the CloudEvent around them says again.
struct Parts<'a> {
    kind: &'static str,
    id: &'a str,
    source: &'a str,
    subject: &'a str,
    time: &'a str,
    content: Value,
}

impl Parts<'_> {
    /// The CloudEvent in structured mode; `ours` is what their words have no place for.
    fn cloudevent(self, ours: Value) -> Value {
        let Self { kind, id, source, subject, time, content } = self;
        let data = json!({
            "context": {"specversion": SPEC, "id": id, "source": source, "type": kind, "timestamp": time},
            "subject": {"id": subject, "source": source, "content": content},
            "customData": {"annals": ours},
            "customDataContentType": "application/json",
        });
        json!({
            "specversion": "1.0", "id": id, "source": source, "type": kind, "subject": subject, "time": time,
            "datacontenttype": "application/json", "data": data,
        })
    }
}

/// The package URL of a version: `pkg:generic/default/iris@1?checksum=sha256:…`.
fn package_url(subject: &str, facts: &Facts) -> String {
    let mut parts = subject.splitn(3, '/');
    let (workspace, model) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut url = format!("pkg:generic/{}/{}@{}", uri::encode(workspace), uri::encode(model), facts.version);
    if let Some(digest) = &facts.digest {
        url += &format!("?checksum={digest}");
    }
    url
}

/// Platform, cluster and namespace, and those with the name: parts that are empty are left out.
fn places(target: &str) -> (String, String) {
    let parts: Vec<&str> = target.splitn(4, '/').collect();
    let path = |parts: &[&str]| parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    (path(&parts[..parts.len().saturating_sub(1)]), path(&parts))
}

fn written(told: &Told, facts: &Facts) -> Event {
    let artifact = package_url(&told.subject, facts);
    let (environment, service) = places(&facts.target);
    let running = json!({"environment": {"id": environment}, "artifactId": artifact});
    let Decided { channel, replaces, deployment, .. } = &told.data.decided;
    let (kind, subject, content) = match (told.kind(), told.restored()) {
        (Some(Kind::VersionPromoted), _) => ("dev.cdevents.artifact.published.0.3.0", artifact.clone(), json!({"user": told.actor})),
        (Some(Kind::DeploymentSucceeded), _) if replaces.is_none() => ("dev.cdevents.service.deployed.0.3.0", service, running),
        (Some(Kind::DeploymentSucceeded), _) => ("dev.cdevents.service.upgraded.0.3.0", service, running),
        (Some(Kind::DeploymentRolledBack), Some(_)) => ("dev.cdevents.service.rolledback.0.3.0", service, running),
        _ => ("dev.cdevents.service.removed.0.3.0", service, json!({"environment": {"id": environment}})),
    };
    let source = source(told.subject.split('/').next().unwrap_or_default());
    let time = told.time.as_ref().unwrap_or(&told.recordedtime);
    let mut ours = Map::new();
    for (name, value) in [
        ("id", Some(&told.id)),
        ("source", Some(&told.source)),
        ("type", Some(&told.kind)),
        ("subject", Some(&told.subject)),
        ("position", Some(&told.position)),
        ("channel", channel.as_ref()),
        ("deployment", deployment.as_ref()),
    ] {
        ours.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    ours.extend(told.data.data.get("reason").map(|reason| ("reason".to_owned(), reason.clone())));
    let parts = Parts { kind, id: &told.hash, source: &source, subject: &subject, time, content };
    Event { kind, cursor: told.cursor.clone(), json: parts.cloudevent(Value::Object(ours)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_service_in_its_environment() {
        let of = |target: &str| places(target);
        assert_eq!(of("kubernetes/prod/models/iris"), ("kubernetes/prod/models".into(), "kubernetes/prod/models/iris".into()));
        assert_eq!(of("local///scorer"), ("local".into(), "local/scorer".into()));
        assert_eq!(of("local///a/b"), ("local".into(), "local/a/b".into()));
    }

    #[test]
    fn a_version_is_a_package_url() {
        let facts = |digest: Option<&str>| Facts { target: String::new(), version: 3, digest: digest.map(Into::into) };
        assert_eq!(package_url("default/grün iris/3", &facts(None)), "pkg:generic/default/gr%C3%BCn%20iris@3");
        assert_eq!(package_url("a/b", &facts(Some("sha256:0f"))), "pkg:generic/a/b@3?checksum=sha256:0f");
    }
}
