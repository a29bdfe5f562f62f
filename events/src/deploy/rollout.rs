//! What runs where: deployments from the request to the end, and what is found on their targets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{check_channel, digest_of};
use crate::model::{Ask, Deployment, DeploymentState, Model};
use crate::verdict::{Code, Refusal};

/// `decided` of `deployment.requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRequested {
    /// The deployment's id.
    pub deployment: String,
    /// The version.
    pub version: u64,
    /// Its digest: what must run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `platform/cluster/namespace/name`.
    pub target: String,
}

/// `decided` of `deployment.succeeded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSucceeded {
    /// The deployment's id.
    pub deployment: String,
    /// The version.
    pub version: u64,
    /// The deployment that had the target before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// `decided` of `deployment.failed` and `deployment.removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentEnded {
    /// The deployment's id.
    pub deployment: String,
    /// The version.
    pub version: u64,
}

/// `decided` of `deployment.rolled_back`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRolledBack {
    /// The deployment that was taken back.
    pub deployment: String,
    /// Its version.
    pub version: u64,
    /// The deployment that is active on the target now: still, or again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
}

/// `decided` of `deployment.observed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentObserved {
    /// `platform/cluster/namespace/name`.
    pub target: String,
    /// The deployment that is on the target; none of a model's, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

#[derive(Deserialize)]
struct DeploymentData {
    deployment: String,
}

#[derive(Deserialize)]
struct DeploymentRequestData {
    deployment: String,
    target: Target,
    #[serde(default)]
    channel: Option<String>,
}

#[derive(Deserialize)]
struct ObservedData {
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    platform: String,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    namespace: String,
    name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { platform, cluster, namespace, name } = self;
        write!(f, "{platform}/{cluster}/{namespace}/{name}")
    }
}

pub(crate) fn find_deployment<'a>(model: &'a Model, id: &str) -> Result<&'a Deployment, Refusal> {
    model.deployments.iter().find(|d| *d.id == *id).ok_or_else(|| {
        Refusal::new(Code::IllegalTransition, format!("no deployment `{id}` was requested"), "send deployment.requested first")
            .on(model.summary())
    })
}

pub(crate) fn request_deployment(ask: &Ask<'_>) -> Result<DeploymentRequested, Refusal> {
    let (model, version) = ask.version()?;
    let data: DeploymentRequestData = ask.data()?;
    ask.identifier("deployment", &data.deployment)?;
    if model.deployments.iter().any(|d| *d.id == *data.deployment) {
        let message = format!("the deployment `{}` was requested before", data.deployment);
        return Err(Refusal::new(Code::NoChange, message, "give a new deployment an id of its own").on(model.summary()));
    }
    if let Some(channel) = &data.channel {
        check_channel(channel)?;
        if model.channel(channel) != Some(version) {
            let message = format!("the target serves the channel `{channel}`, which does not hold version {version}");
            return Err(Refusal::new(Code::IllegalTransition, message, "promote the version to that channel first, or name no channel")
                .on(model.summary()));
        }
    }
    let target = data.target.to_string();
    Ok(DeploymentRequested { deployment: data.deployment, version, digest: digest_of(model, version), target })
}

pub(crate) fn evolve_deployment_requested(model: &mut Model, d: &DeploymentRequested) {
    model.deployments.push(Deployment {
        id: d.deployment.as_str().into(),
        version: d.version,
        target: d.target.as_str().into(),
        state: DeploymentState::Requested,
        replaces: None,
    });
}

/// The deployment that the data names, if it is in one of these states.
fn deployment_in<'a>(ask: &Ask<'a>, states: &[DeploymentState]) -> Result<(&'a Model, &'a Deployment), Refusal> {
    let model = ask.model()?;
    let data: DeploymentData = ask.data()?;
    let deployment = find_deployment(model, &data.deployment)?;
    ask.same_version(model, deployment.version)?;
    if states.contains(&deployment.state) {
        return Ok((model, deployment));
    }
    let message = format!("the deployment `{}` is {}", deployment.id, deployment.state.word());
    Err(Refusal::new(Code::IllegalTransition, message, "request a new deployment").on(model.summary()))
}

pub(crate) fn deployed(ask: &Ask<'_>) -> Result<DeploymentSucceeded, Refusal> {
    let (model, deployment) = deployment_in(ask, &[DeploymentState::Requested])?;
    let replaced = model.deployments.iter().find(|d| d.target == deployment.target && d.state == DeploymentState::Active);
    Ok(DeploymentSucceeded {
        deployment: deployment.id.to_string(),
        version: deployment.version,
        replaces: replaced.map(|d| d.id.to_string()),
    })
}

pub(crate) fn evolve_deployed(model: &mut Model, d: &DeploymentSucceeded) {
    if let Some(replaced) = &d.replaces {
        evolve_deployment(model, replaced, DeploymentState::Superseded);
    }
    if let Some(deployment) = model.deployments.iter_mut().find(|known| *known.id == *d.deployment) {
        deployment.state = DeploymentState::Active;
        deployment.replaces = d.replaces.as_deref().map(Into::into);
    }
}

pub(crate) fn deployment_failed(ask: &Ask<'_>) -> Result<DeploymentEnded, Refusal> {
    let (_, deployment) = deployment_in(ask, &[DeploymentState::Requested])?;
    Ok(DeploymentEnded { deployment: deployment.id.to_string(), version: deployment.version })
}

pub(crate) fn deployment_removed(ask: &Ask<'_>) -> Result<DeploymentEnded, Refusal> {
    let (_, deployment) = deployment_in(ask, &[DeploymentState::Requested, DeploymentState::Active])?;
    Ok(DeploymentEnded { deployment: deployment.id.to_string(), version: deployment.version })
}

/// What a deployment took the target from is restored, or is still there if the deployment never came up.
pub(crate) fn rolled_back(ask: &Ask<'_>) -> Result<DeploymentRolledBack, Refusal> {
    let (model, deployment) = deployment_in(ask, &[DeploymentState::Active, DeploymentState::Failed])?;
    let behind = model.deployments.iter().skip_while(|d| d.id != deployment.id).skip(1);
    let holds = |s| matches!(s, DeploymentState::Requested | DeploymentState::Active | DeploymentState::Failed);
    if let Some(newer) = behind.filter(|d| d.target == deployment.target).find(|d| holds(d.state)) {
        let message = format!("the deployment `{}` of the same target is newer and {}", newer.id, newer.state.word());
        return Err(Refusal::new(Code::IllegalTransition, message, "roll the newer one back or remove it first").on(model.summary()));
    }
    let restored = match deployment.state {
        DeploymentState::Active => deployment.replaces.as_deref(),
        _ => model.deployments.iter().find(|d| d.target == deployment.target && d.state == DeploymentState::Active).map(|d| &*d.id),
    };
    Ok(DeploymentRolledBack { deployment: deployment.id.to_string(), version: deployment.version, restored: restored.map(Into::into) })
}

pub(crate) fn evolve_rolled_back(model: &mut Model, d: &DeploymentRolledBack) {
    evolve_deployment(model, &d.deployment, DeploymentState::RolledBack);
    if let Some(restored) = &d.restored {
        evolve_deployment(model, restored, DeploymentState::Active);
    }
}

/// Changes no state: what is wanted stays wanted, whatever was found.
pub(crate) fn observed(ask: &Ask<'_>) -> Result<DeploymentObserved, Refusal> {
    let data: ObservedData = ask.data()?;
    let target = data.target.to_string();
    if ask.proposal.key.is_system() {
        return Ok(DeploymentObserved { target, deployment: None, version: None });
    }
    let model = ask.model()?;
    let on_it = |states: &[DeploymentState]| model.deployments.iter().rfind(|d| *d.target == *target && states.contains(&d.state));
    let found = on_it(&[DeploymentState::Active]).or_else(|| on_it(&[DeploymentState::Requested, DeploymentState::Failed]));
    let Some(deployment) = found else {
        let message = format!("no deployment of `{}` is on the target `{target}`", ask.proposal.key);
        let remedy = "name the model that is deployed there, or send it of `workspace/_system`";
        return Err(Refusal::new(Code::IllegalTransition, message, remedy).on(model.summary()));
    };
    ask.same_version(model, deployment.version)?;
    Ok(DeploymentObserved { target, deployment: Some(deployment.id.to_string()), version: Some(deployment.version) })
}

pub(crate) fn evolve_deployment(model: &mut Model, id: &str, state: DeploymentState) {
    if let Some(deployment) = model.deployments.iter_mut().find(|d| *d.id == *id) {
        deployment.state = state;
    }
}

#[cfg(test)]
mod tests;
