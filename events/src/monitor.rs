//! Monitor: a model in use is measured, drifts, and is well again.

use serde::{Deserialize, Serialize};

use crate::model::{Ask, Drift, Model};
use crate::verdict::{Code, Refusal};

/// `decided` of `model.measured`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The version, if it or its deployment was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `decided` of `drift.detected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftDetected {
    /// The drift's id.
    pub drift: String,
    /// The version, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `decided` of `drift.resolved`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftResolved {
    /// The drift's id.
    pub drift: String,
    /// The version it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

#[derive(Deserialize)]
struct MeasuredData {
    #[serde(default)]
    deployment: Option<String>,
}

#[derive(Deserialize)]
struct DriftData {
    drift: String,
}

pub(crate) fn measured(ask: &Ask<'_>) -> Result<Measured, Refusal> {
    let model = ask.model()?;
    let data: MeasuredData = ask.data()?;
    let named = ask.named_version(model)?;
    let Some(id) = data.deployment else { return Ok(Measured { version: named }) };
    let deployment = crate::deploy::find_deployment(model, &id)?;
    ask.same_version(model, deployment.version)?;
    Ok(Measured { version: Some(deployment.version) })
}

pub(crate) fn drifted(ask: &Ask<'_>) -> Result<DriftDetected, Refusal> {
    let model = ask.model()?;
    let data: DriftData = ask.data()?;
    ask.identifier("drift", &data.drift)?;
    if model.drifts.iter().any(|d| *d.id == *data.drift) {
        let message = format!("the drift `{}` was reported before", data.drift);
        return Err(Refusal::new(Code::NoChange, message, "give a new occurrence an id of its own").on(model.summary()));
    }
    Ok(DriftDetected { drift: data.drift, version: ask.named_version(model)? })
}

pub(crate) fn evolve_drifted(model: &mut Model, d: &DriftDetected) {
    model.drifts.push(Drift { id: d.drift.as_str().into(), version: d.version, resolved: false });
}

pub(crate) fn drift_resolved(ask: &Ask<'_>) -> Result<DriftResolved, Refusal> {
    let model = ask.model()?;
    let data: DriftData = ask.data()?;
    let open = || model.drifts.iter().filter(|d| !d.resolved).map(|d| format!("resolve {}", d.id)).take(20);
    let Some(drift) = model.drifts.iter().find(|d| *d.id == *data.drift) else {
        let message = format!("there is no drift `{}`", data.drift);
        return Err(Refusal::new(Code::IllegalTransition, message, "name a drift that was detected").on(model.summary()).allow(open()));
    };
    if drift.resolved {
        let message = format!("the drift `{}` is resolved already", data.drift);
        return Err(Refusal::new(Code::NoChange, message, "nothing is left to do").on(model.summary()).allow(open()));
    }
    if let Some(version) = drift.version {
        ask.same_version(model, version)?;
    }
    Ok(DriftResolved { drift: data.drift, version: drift.version })
}

pub(crate) fn evolve_resolved(model: &mut Model, d: &DriftResolved) {
    if let Some(drift) = model.drifts.iter_mut().find(|drift| *drift.id == *d.drift) {
        drift.resolved = true;
    }
}

#[cfg(test)]
mod tests;
