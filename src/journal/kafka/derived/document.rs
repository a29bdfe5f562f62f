//! A model's state as the compacted topic has it: small, whatever the model's size, and the same whoever publishes it.

use std::collections::BTreeMap;

use annals_events::model::{Deployment, DeploymentState, Model, Pointer, Version};
use annals_events::names::is_system;
use annals_events::time::Timestamp;
use serde::Serialize;

/// Most entries of each list: all names at their longest still fit into a message.
const LISTED_MAX: usize = 100;

/// See the module; `events/asyncapi.yaml` describes it for readers.
#[derive(Debug, Serialize)]
struct Document<'a> {
    workspace: &'a str,
    model: &'a str,
    modelseq: u64,
    recorded: String,
    /// How many there are; numbers are never given twice, so it is the last one's, too.
    versions: usize,
    newest: Vec<Listed<'a>>,
    channels: BTreeMap<&'a str, Listed<'a>>,
    aliases: BTreeMap<&'a str, Listed<'a>>,
    health: &'static str,
    open_drifts: Vec<&'a str>,
    deployments: Vec<Deployed<'a>>,
    /// Whether one of the lists was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    left_out: bool,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    version: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Deployed<'a> {
    deployment: &'a str,
    version: u64,
    target: &'a str,
    state: &'static str,
}

/// The document of a model; `recorded` is the time of its last event. `None` for a key that is no model's.
pub fn write(key: &str, model: &Model, recorded: Timestamp) -> Option<Vec<u8>> {
    let (workspace, name) = key.split_once('/').filter(|_| !is_system(key))?;
    let mut cut = Cut(false);
    let newest = (1..=model.versions.len() as u64).rev().map(|number| listed(number, model.version(number)));
    let deployments = model.deployments.iter().rev().filter_map(deployed);
    let drifts = model.drifts.iter().rev().filter(|drift| !drift.resolved).map(|drift| &*drift.id);
    let document = Document {
        workspace,
        model: name,
        modelseq: model.modelseq,
        recorded: recorded.to_string(),
        versions: model.versions.len(),
        // a list of versions is cut as a matter of course: `versions` tells
        newest: newest.take(LISTED_MAX).collect(),
        channels: cut.list(held(model, &model.channels)).into_iter().collect(),
        aliases: cut.list(held(model, &model.aliases)).into_iter().collect(),
        health: if model.drifts.iter().all(|drift| drift.resolved) { "healthy" } else { "drifted" },
        open_drifts: cut.list(drifts),
        deployments: cut.list(deployments),
        left_out: cut.0,
    };
    serde_json::to_vec(&document).ok()
}

/// Whether a list was cut.
struct Cut(bool);

impl Cut {
    fn list<T>(&mut self, items: impl Iterator<Item = T>) -> Vec<T> {
        let mut items = items.peekable();
        let listed = items.by_ref().take(LISTED_MAX).collect();
        self.0 |= items.peek().is_some();
        listed
    }
}

fn held<'a>(model: &'a Model, pointers: &'a [Pointer]) -> impl Iterator<Item = (&'a str, Listed<'a>)> {
    pointers.iter().rev().map(|pointer| (&*pointer.name, listed(pointer.version, model.version(pointer.version))))
}

fn listed(number: u64, version: Option<&Version>) -> Listed<'_> {
    Listed {
        version: number,
        state: if version.is_some_and(|v| v.retired) { "retired" } else { "registered" },
        label: version.and_then(|v| v.label.as_deref()),
        digest: version.and_then(|v| v.digest.as_deref()),
        run: version.and_then(|v| v.run.as_deref()),
    }
}

/// A deployment that is asked for or runs.
fn deployed(deployment: &Deployment) -> Option<Deployed<'_>> {
    let state = match deployment.state {
        DeploymentState::Requested | DeploymentState::Active => deployment.state.word(),
        DeploymentState::Failed | DeploymentState::Superseded | DeploymentState::Removed | DeploymentState::RolledBack => return None,
    };
    Some(Deployed { deployment: &deployment.id, version: deployment.version, target: &deployment.target, state })
}

#[cfg(test)]
mod tests {
    use annals_events::model::Drift;
    use serde_json::{Value, json};

    use super::*;

    fn version(label: Option<&str>, retired: bool) -> Version {
        Version { label: label.map(Into::into), digest: None, run: Some("r".into()), author: "ada".into(), retired }
    }

    fn written(model: &Model) -> Value {
        serde_json::from_slice(&write("default/iris", model, Timestamp(0)).unwrap()).unwrap()
    }

    #[test]
    fn a_model_is_told_with_what_it_holds() {
        let deployment = |id: &str, state| Deployment { id: id.into(), version: 2, target: "k8s/a/b/c".into(), state, replaces: None };
        let model = Model {
            modelseq: 9,
            versions: vec![version(None, true), version(Some("1.0"), false)],
            channels: vec![Pointer { name: "production".into(), version: 2 }],
            aliases: vec![Pointer { name: "old".into(), version: 1 }],
            deployments: vec![deployment("gone", DeploymentState::Superseded), deployment("here", DeploymentState::Active)],
            drifts: vec![Drift { id: "d".into(), version: None, resolved: false }],
            ..Model::default()
        };
        let (first, second) = (
            json!({"version": 1, "state": "retired", "run": "r"}),
            json!({"version": 2, "state": "registered", "label": "1.0", "run": "r"}),
        );
        let told = json!({
            "workspace": "default", "model": "iris", "modelseq": 9, "recorded": "1970-01-01T00:00:00.000Z",
            "versions": 2, "newest": [second, first],
            "channels": {"production": second}, "aliases": {"old": first},
            "health": "drifted", "open_drifts": ["d"],
            "deployments": [{"deployment": "here", "version": 2, "target": "k8s/a/b/c", "state": "active"}],
        });
        assert_eq!(written(&model), told);
    }

    #[test]
    fn a_model_of_any_size_fits_into_a_message() {
        let long = || "\"".repeat(255).into_boxed_str(); // each byte of it takes two
        let model = Model {
            versions: (0..1_000).map(|_| Version { digest: Some(long()), run: Some(long()), ..version(Some(&long()), false) }).collect(),
            aliases: (0..1_000).map(|n| Pointer { name: format!("{n}{}", &long()[..250]).into(), version: 1_000 }).collect(),
            deployments: (0..1_000)
                .map(|_| Deployment {
                    id: long(),
                    version: 1,
                    target: long().repeat(4).into(),
                    state: DeploymentState::Active,
                    replaces: Some(long()),
                })
                .collect(),
            drifts: (0..1_000).map(|_| Drift { id: long(), version: None, resolved: false }).collect(),
            ..Model::default()
        };
        assert_eq!(write("default/_system", &model, Timestamp(0)), None, "no model");
        let bytes = write("default/iris", &model, Timestamp(0)).unwrap();
        assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
        let told = written(&model);
        assert_eq!((&told["left_out"], &told["versions"], &told["newest"][0]["version"]), (&json!(true), &json!(1_000), &json!(1_000)));
    }
}
