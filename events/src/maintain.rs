//! Maintain: retraining is asked for, versions are retired.

use serde::{Deserialize, Serialize};

use crate::model::{Ask, DeploymentState, Model};
use crate::verdict::{Code, Refusal};

/// `decided` of `retrain.requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrainRequested {
    /// At most one retraining with this key is open until a version is registered.
    pub dedup: String,
    /// The drift that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
}

/// `decided` of `version.retired`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The version.
    pub version: u64,
}

#[derive(Deserialize)]
struct RetrainData {
    cause: Cause,
    #[serde(default)]
    dedup: Option<String>,
}

#[derive(Deserialize)]
struct Cause {
    kind: String,
    #[serde(default)]
    drift: Option<String>,
}

pub(crate) fn request_retrain(ask: &Ask<'_>) -> Result<RetrainRequested, Refusal> {
    let model = ask.model()?;
    let RetrainData { cause, dedup } = ask.data()?;
    if let Some(dedup) = &dedup {
        ask.identifier("dedup", dedup)?;
    }
    if let Some(drift) = &cause.drift
        && !model.drifts.iter().any(|d| *d.id == **drift)
    {
        let message = format!("there is no drift `{drift}`");
        return Err(Refusal::new(Code::IllegalTransition, message, "name a drift that was detected, or none").on(model.summary()));
    }
    let dedup = dedup.unwrap_or_else(|| cause.drift.as_ref().map_or_else(|| cause.kind.clone(), |drift| format!("{}:{drift}", cause.kind)));
    if model.retrains.iter().any(|open| **open == *dedup) {
        let message = format!("a retraining for `{dedup}` is open already");
        return Err(Refusal::new(Code::NoChange, message, "wait for its version, or give another `dedup`").on(model.summary()));
    }
    Ok(RetrainRequested { dedup, drift: cause.drift })
}

pub(crate) fn retire(ask: &Ask<'_>) -> Result<Retired, Refusal> {
    let (model, version) = ask.version()?;
    let refuse = |code, message: String, remedy: &str| Err(Refusal::new(code, message, remedy).on(model.summary()));
    if model.version(version).is_some_and(|v| v.retired) {
        return refuse(Code::NoChange, format!("version {version} is retired already"), "nothing is left to do");
    }
    if let Some(channel) = model.channels.iter().find(|c| c.version == version) {
        let message = format!("the channel `{}` holds version {version}", channel.name);
        return Err(Refusal::new(Code::VersionHeld, message, "promote another version there, or demote this one, first")
            .on(model.summary())
            .allow([format!("demote from {}", channel.name)]));
    }
    let live = |s| matches!(s, DeploymentState::Active | DeploymentState::Requested);
    if let Some(deployment) = model.deployments.iter().find(|d| d.version == version && live(d.state)) {
        let message = format!("the deployment `{}` uses version {version}", deployment.id);
        return Err(Refusal::new(Code::VersionHeld, message, "remove or replace the deployment first")
            .on(model.summary())
            .allow([format!("remove deployment {}", deployment.id)]));
    }
    Ok(Retired { version })
}

pub(crate) fn evolve_retired(model: &mut Model, d: &Retired) {
    if let Some(version) = usize::try_from(d.version).ok().and_then(|n| model.versions.get_mut(n.checked_sub(1)?)) {
        version.retired = true;
    }
}

#[cfg(test)]
mod tests;
