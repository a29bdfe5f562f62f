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
//! told in the same words whenever it is told. It is another event than ours: its id is the record's hash, its source
//! `/annals/<workspace>`, and `customData.annals` says whose it is.

use annals_events::kind::Kind;
use annals_events::names::{Key, VersionRef};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::read::ask::{Ask, REGISTRY, problem};
use super::{App, uri};
use crate::world::kubernetes::registry::{Deployment, Version};

/// The version of the spec (`context.specversion`).
pub const SPEC: &str = "0.5.1";
/// The events that have a counterpart.
pub const KINDS: [Kind; 4] = [Kind::VersionPromoted, Kind::DeploymentSucceeded, Kind::DeploymentRolledBack, Kind::DeploymentRemoved];

/// In which words events are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// CloudEvents of our own types.
    #[default]
    Ours,
    /// CDEvents.
    CdEvents,
}

impl Words {
    /// Reads the parameter `format`.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn asked(format: Option<&str>) -> Result<Self, Problem> {
        match format {
            None | Some("" | "cloudevents") => Ok(Self::Ours),
            Some("cdevents") => Ok(Self::CdEvents),
            Some(other) => {
                let detail = format!("`format={}` is not known", other.escape_debug());
                Err(Problem::bad_request("bad-query", detail, "send cloudevents or cdevents"))
            }
        }
    }

    /// The types to filter by: those that can be told, unless some of them are asked for.
    ///
    /// # Errors
    /// 400 for a type that cannot be told: nothing would ever come.
    pub fn kinds(self, asked: Option<String>) -> Result<Option<String>, Problem> {
        let asked = asked.filter(|kinds| !kinds.is_empty());
        if self == Self::Ours {
            return Ok(asked);
        }
        let all = || KINDS.map(Kind::short).join(",");
        let Some(asked) = asked else { return Ok(Some(all())) };
        let untold = asked.split(',').find(|name| Kind::from_any(name.trim()).is_some_and(|kind| !KINDS.contains(&kind)));
        untold.map_or(Ok(Some(asked.clone())), |name| {
            let detail = format!("CDEvents has no word for `{name}`");
            Err(Problem::bad_request("bad-query", detail, format!("ask for {}, or for our own format", all())))
        })
    }
}

/// One of our events, as [`super::cloudevent::write`] writes it.
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
/// 503 while the registry is not so far, 500 if the line is none of ours.
pub async fn tell(app: &App, line: &[u8]) -> Result<Event, Problem> {
    let told: Told = serde_json::from_slice(line).map_err(|e| Problem::internal(format!("an event is not one of ours: {e}")))?;
    let facts = facts(app, &told).await?;
    Ok(written(&told, &facts))
}

impl Told {
    fn key(&self) -> Result<Key, Problem> {
        let mut parts = self.subject.splitn(3, '/');
        let (workspace, model) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Key::new(workspace, model).map_err(|e| Problem::internal(format!("an event's subject is none of ours: {e}")))
    }

    fn kind(&self) -> Option<Kind> {
        Kind::from_name(&self.kind)
    }

    /// The deployment that runs again, if this takes one back; in a promotion the word means something else.
    fn restored(&self) -> Option<&str> {
        let restored = self.data.decided.restored.as_ref().filter(|_| self.kind() == Some(Kind::DeploymentRolledBack));
        restored.and_then(Value::as_str)
    }
}

/// Asks the registry, as of the event at least; of what it asks for nothing changes later.
async fn facts(app: &App, told: &Told) -> Result<Facts, Problem> {
    let Decided { version, digest, deployment, .. } = &told.data.decided;
    let Some(id) = deployment else { return Ok(Facts { target: String::new(), version: *version, digest: digest.clone() }) };
    let key = told.key()?;
    let ask = Ask::behind(app, REGISTRY, &told.position).await?;
    let lost = |what: String| Problem::internal(format!("the registry does not know {what} of {key}, which the journal has"));
    let deployment = async |id: &str| -> Result<Deployment, Problem> {
        let found = ask.views().deployment(key.as_str(), id, &ask.at).await.map_err(problem)?;
        found.and_then(|doc| serde_json::from_str(doc.body.get()).ok()).ok_or_else(|| lost(format!("the deployment {id}")))
    };
    let target = deployment(id).await?.target;
    let version = match told.restored() {
        Some(restored) => deployment(restored).await?.version,
        None => *version,
    };
    let found = ask.views().version(key.as_str(), &VersionRef::Number(version), &ask.at).await.map_err(problem)?;
    let found: Option<Version> = found.and_then(|doc| serde_json::from_str(doc.body.get()).ok());
    let digest = found.ok_or_else(|| lost(format!("the version {version}")))?.digest;
    Ok(Facts { target, version, digest })
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
    let workspace = told.subject.split('/').next().unwrap_or_default();
    let source = format!("/annals/{}", uri::encode(workspace));
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
    let context = json!({"specversion": SPEC, "id": told.hash, "source": source, "type": kind, "timestamp": time});
    let subject_part = json!({"id": subject, "source": source, "content": content});
    let data = json!({
        "context": context, "subject": subject_part, "customData": {"annals": ours}, "customDataContentType": "application/json",
    });
    let json = json!({
        "specversion": "1.0", "id": told.hash, "source": source, "type": kind, "subject": subject, "time": time,
        "datacontenttype": "application/json", "data": data,
    });
    Event { kind, cursor: told.cursor.clone(), json }
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

    #[test]
    fn what_has_no_word_is_not_waited_for() {
        let kinds = |asked: &str| Words::CdEvents.kinds(Some(asked.into()));
        assert_eq!(kinds("promoted,deployed").unwrap().as_deref(), Some("promoted,deployed"));
        assert_eq!(kinds("").unwrap().as_deref(), Some("promoted,deployed,rolled-back,deployment-removed"));
        assert!(kinds("promoted,drifted").unwrap_err().detail.contains("drifted"));
        assert_eq!(Words::Ours.kinds(Some("drifted".into())).unwrap().as_deref(), Some("drifted"));
        assert_eq!(Words::asked(Some("xml")).unwrap_err().code, "bad-query");
    }
}
