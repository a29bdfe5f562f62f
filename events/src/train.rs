//! Train: runs end and their commits are looked up, versions are registered from them and evaluated.

use serde::{Deserialize, Serialize};

use crate::model::{Ask, Model, Run, Version, bad_name, push};
use crate::names;
use crate::verdict::{Code, Refusal};

/// `decided` of `run.trained`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// The run's id.
    pub run: String,
    /// Digest of the artifact that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether this event also created the model.
    pub created: bool,
}

/// `decided` of `run.checked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The run's id.
    pub run: String,
    /// What was found, in the schema's words.
    pub outcome: String,
}

/// `decided` of `version.registered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The number it got: one more than the last, never reused.
    pub version: u64,
    /// The producer's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The artifact's digest; without one the version is *unpinned*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The run it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Whether that run was never reported here.
    pub external: bool,
    /// Whether this event also created the model.
    pub created: bool,
}

/// `decided` of `version.evaluated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The version.
    pub version: u64,
    /// Its digest: an evaluation speaks of these bytes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `passed` or `failed`.
    pub verdict: String,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
struct TrainedData {
    run: RunData,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct RunData {
    id: String,
}

#[derive(Deserialize)]
struct CheckedData {
    run: String,
    outcome: String,
}

#[derive(Deserialize)]
struct RegisterData {
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    run: Option<String>,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct EvaluatedData {
    verdict: String,
}

/// The model, or none if this event may create it.
fn or_create<'a>(ask: &Ask<'a>) -> Result<Option<&'a Model>, Refusal> {
    if ask.proposal.must_exist { ask.model().map(Some) } else { Ok(ask.existing) }
}

pub(crate) fn trained(ask: &Ask<'_>) -> Result<Trained, Refusal> {
    let model = or_create(ask)?;
    let data: TrainedData = ask.data()?;
    ask.identifier("run", &data.run.id)?;
    if model.is_some_and(|m| m.runs.iter().any(|r| *r.id == *data.run.id)) {
        let message = format!("the run `{}` was reported as trained before", data.run.id);
        return Err(Refusal::new(Code::RunKnown, message, "send a retry with its first id, or name the new run")
            .on(model.map_or(serde_json::Value::Null, Model::summary)));
    }
    Ok(Trained { run: data.run.id, digest: data.artifact.digest, created: model.is_none() })
}

pub(crate) fn evolve_trained(model: &mut Model, d: &Trained) {
    push(&mut model.runs, Run { id: d.run.as_str().into(), digest: d.digest.as_deref().map(Into::into) });
}

pub(crate) fn checked(ask: &Ask<'_>) -> Result<Checked, Refusal> {
    let model = ask.model()?;
    let CheckedData { run, outcome } = ask.data()?;
    if !model.runs.iter().any(|known| *known.id == *run) {
        let message = format!("the run `{run}` was not reported as trained");
        return Err(Refusal::new(Code::IllegalTransition, message, "name a run that was, or report it first").on(model.summary()));
    }
    Ok(Checked { run, outcome })
}

pub(crate) fn register(ask: &Ask<'_>) -> Result<Registered, Refusal> {
    let model = or_create(ask)?;
    let data: RegisterData = ask.data()?;
    let versions: &[Version] = model.map_or(&[], |m| &m.versions);
    let on_state = |refusal: Refusal| refusal.on(model.map_or(serde_json::Value::Null, Model::summary));
    if let Some(run) = &data.run {
        ask.identifier("run", run)?;
    }
    if let Some(label) = &data.label {
        names::label(label).map_err(|e| bad_name(&e))?;
        if let Some((number, _)) = (1_u64..).zip(versions).find(|(_, v)| v.label.as_deref() == Some(label)) {
            let message = format!("the label `{label}` is version {number}'s");
            return Err(on_state(Refusal::new(Code::LabelTaken, message, "choose another label, or none")));
        }
    }
    let run = data.run.as_ref().and_then(|id| model?.runs.iter().find(|r| *r.id == **id));
    if let (Some(run), Some(digest)) = (run.and_then(|r| r.digest.as_deref()), data.artifact.digest.as_deref())
        && run != digest
    {
        let message = format!("the run made the artifact {run}, not {digest}");
        return Err(on_state(Refusal::new(Code::DigestMismatch, message, "register the artifact that the run made, or name no run")));
    }
    Ok(Registered {
        version: versions.len() as u64 + 1,
        label: data.label,
        digest: data.artifact.digest.or_else(|| run.and_then(|r| r.digest.as_deref()).map(Into::into)),
        external: data.run.is_some() && run.is_none(),
        run: data.run,
        created: model.is_none(),
    })
}

pub(crate) fn evolve_registered(model: &mut Model, d: &Registered, actor: &str) {
    let boxed = |text: &Option<String>| text.as_deref().map(Into::into);
    let version = Version { label: boxed(&d.label), digest: boxed(&d.digest), run: boxed(&d.run), author: actor.into(), retired: false };
    push(&mut model.versions, version);
    model.retrains.clear(); // a new version is the answer to whatever asked for one
}

pub(crate) fn evaluated(ask: &Ask<'_>) -> Result<Evaluated, Refusal> {
    let (model, version) = ask.version()?;
    let data: EvaluatedData = ask.data()?;
    let digest = model.version(version).and_then(|v| v.digest.as_deref()).map(Into::into);
    Ok(Evaluated { version, digest, verdict: data.verdict })
}

#[cfg(test)]
mod tests;
