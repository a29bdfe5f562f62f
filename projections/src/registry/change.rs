//! How one event changes one model's documents.

use std::collections::BTreeMap;

use annals_events::deploy::{ApprovalDecided, ApprovalRequested, DeploymentRequested, DeploymentRolledBack, DeploymentSucceeded, Promoted};
use annals_events::model::Decided;
use annals_events::train::{Evaluated, Registered};

use super::documents::{
    Alias, Approval, Channel, Deployment, Drift, Evaluation, KEPT_MAX, Measurement, Model, Retirement, Retrain, Version,
};
use super::fold::Open;
use crate::payload::Fields;
use crate::position::Event;
use crate::table::{Cell, Changes};

/// One event on its way into one model's documents.
pub(super) struct Change<'a, 'e> {
    pub(super) event: &'a Event<'e>,
    pub(super) data: Fields<'e>,
    pub(super) open: &'a mut Open,
    pub(super) changes: &'a mut Changes,
}

impl Change<'_, '_> {
    pub(super) fn apply(mut self) {
        let event = self.event;
        if self.open.model.get(&self.model_id()).is_none() {
            self.create();
        }
        match &event.decided {
            // a refusal changes nothing, and the others are about no model
            Decided::TriggerChanged(_)
            | Decided::SubscriptionChanged(_)
            | Decided::ProposalRefused(_)
            | Decided::JournalOpened(_)
            | Decided::JournalContinued(_)
            | Decided::PartitionProgressed(_)
            | Decided::PartitionHalted(_)
            | Decided::PartitionResumed(_) => {}
            // these are in the model's sequence, the timeline and the lineage
            Decided::ModelCreated(_) | Decided::RunTrained(_) | Decided::RunChecked(_) | Decided::DeploymentObserved(_) => {}
            Decided::VersionRegistered(d) => self.registered(d),
            Decided::VersionEvaluated(d) => self.evaluated(d),
            Decided::ApprovalRequested(d) => self.approval_requested(d),
            Decided::ApprovalDecided(d) => self.approval_decided(d),
            Decided::VersionPromoted(d) => self.promoted(d),
            Decided::VersionDemoted(d) => self.demoted(d.version, &d.channel),
            Decided::AliasSet(d) => self.alias_set(&d.alias, d.version, d.from),
            Decided::AliasRemoved(d) => self.alias_removed(&d.alias, d.from),
            Decided::DeploymentRequested(d) => self.deployment_requested(d),
            Decided::DeploymentSucceeded(d) => self.deployed(d),
            Decided::DeploymentFailed(d) => self.deployment_ended(&d.deployment, "failed", None),
            Decided::DeploymentRemoved(d) => self.deployment_ended(&d.deployment, "removed", None),
            Decided::DeploymentRolledBack(d) => self.rolled_back(d),
            Decided::ModelMeasured(d) => self.measured(d.version),
            Decided::DriftDetected(d) => self.drifted(&d.drift, d.version),
            Decided::DriftResolved(d) => self.drift_resolved(&d.drift),
            Decided::RetrainRequested(d) => self.retrain_requested(&d.dedup, d.drift.as_deref()),
            Decided::VersionRetired(d) => self.retired(d.version),
        }
    }

    fn model_id(&self) -> Cell {
        self.event.names().1.into()
    }

    fn now(&self) -> Box<str> {
        self.event.recorded.clone()
    }

    fn actor(&self) -> Box<str> {
        self.event.view.actor.into()
    }

    fn event_id(&self) -> Box<str> {
        self.event.view.id.into()
    }

    fn names(&self) -> (Box<str>, Box<str>) {
        let (workspace, model) = self.event.names();
        (workspace.into(), model.into())
    }

    fn model(&mut self, change: impl FnOnce(&mut Model)) {
        let id = self.model_id();
        self.open.model.change(self.event, &id, self.changes, change);
    }

    fn version(&mut self, number: u64, change: impl FnOnce(&mut Version)) {
        let (updated, modelseq) = (self.now(), self.event.view.modelseq);
        self.open.versions.change(self.event, &Cell::count(number), self.changes, |version| {
            change(version);
            version.updated = updated;
            version.modelseq = modelseq;
        });
    }

    /// Label and digest of a version.
    fn marks(&self, number: u64) -> (Option<Box<str>>, Option<Box<str>>) {
        self.open.versions.get(&Cell::count(number)).map(|v| (v.label.clone(), v.digest.clone())).unwrap_or_default()
    }

    /// The model's document, by `model.created` or by the first event on it.
    fn create(&mut self) {
        let (workspace, name) = self.names();
        let (policy, data) = match &self.event.decided {
            Decided::ModelCreated(d) => (d.policy.as_str().into(), self.data.clone()),
            _ => ("open".into(), Fields::default()),
        };
        let model = Model {
            workspace,
            name,
            owner: data.verbatim("owner"),
            description: data.verbatim("description"),
            purpose: data.verbatim("purpose"),
            risk_tier: data.verbatim("risk_tier"),
            tags: data.verbatim("tags"),
            policy,
            latest_version: None,
            versions: 0,
            channels: BTreeMap::new(),
            aliases: BTreeMap::new(),
            health: "healthy".into(),
            open_drifts: Vec::new(),
            open_retrains: Vec::new(),
            created: self.now(),
            created_by: self.actor(),
        };
        self.open.model.put(self.event, model, self.changes);
    }

    fn registered(&mut self, d: &Registered) {
        let (workspace, model) = self.names();
        let (data, artifact) = (&self.data, self.data.object("artifact"));
        let version = Version {
            workspace,
            model,
            version: d.version,
            label: d.label.as_deref().map(Into::into),
            status: "registered".into(),
            digest: d.digest.as_deref().map(Into::into),
            unpinned: d.digest.is_none(),
            uri: artifact.verbatim("uri"),
            format: artifact.verbatim("format"),
            size: artifact.verbatim("size"),
            run: d.run.as_deref().map(Into::into),
            external_run: d.external,
            algorithm: data.verbatim("algorithm"),
            description: data.verbatim("description"),
            data: data.verbatim("data"),
            performance: data.verbatim("performance"),
            signature: data.verbatim("signature"),
            licence: data.verbatim("licence"),
            model_card: data.verbatim("model_card"),
            evidence: data.verbatim("evidence"),
            labels: data.verbatim("labels"),
            channels: Vec::new(),
            aliases: Vec::new(),
            evaluations: Vec::new(),
            approvals: Vec::new(),
            retired: None,
            created: self.now(),
            created_by: self.actor(),
            updated: self.now(),
            modelseq: self.event.view.modelseq,
            event: self.event_id(),
        };
        self.open.versions.put(self.event, version, self.changes);
        self.model(|model| {
            model.latest_version = Some(d.version);
            model.versions = d.version;
            model.open_retrains.clear(); // a new version is the answer to whatever asked for one
        });
    }

    fn evaluated(&mut self, d: &Evaluated) {
        let evaluation = Evaluation {
            verdict: d.verdict.as_str().into(),
            suite: self.data.verbatim("suite"),
            dataset_digest: self.data.verbatim("dataset_digest"),
            results: self.data.verbatim("results"),
            digest: d.digest.as_deref().map(Into::into),
            evaluated: self.now(),
            evaluated_by: self.actor(),
            event: self.event_id(),
        };
        self.version(d.version, |version| push_last(&mut version.evaluations, evaluation));
    }

    fn approval_requested(&mut self, d: &ApprovalRequested) {
        let approval = Approval {
            approval: d.approval.as_str().into(),
            channel: d.channel.as_str().into(),
            state: "requested".into(),
            requester: d.requester.as_str().into(),
            requested: self.now(),
            approver: None,
            decided: None,
            meaning: None,
            event: self.event_id(),
        };
        self.version(d.version, |version| push_last(&mut version.approvals, approval));
    }

    fn approval_decided(&mut self, d: &ApprovalDecided) {
        let (now, event, meaning) = (self.now(), self.event_id(), self.data.verbatim("meaning"));
        self.version(d.version, |version| {
            if let Some(approval) = version.approvals.iter_mut().find(|a| *a.approval == *d.approval) {
                approval.state = d.decision.as_str().into();
                approval.approver = Some(d.approver.as_str().into());
                approval.decided = Some(now);
                approval.meaning = meaning;
                approval.event = event;
            }
        });
    }

    fn promoted(&mut self, d: &Promoted) {
        let (workspace, model) = self.names();
        let channel = Channel {
            workspace,
            model,
            channel: d.channel.as_str().into(),
            version: d.version,
            label: self.marks(d.version).0,
            digest: d.digest.as_deref().map(Into::into),
            since: self.now(),
            actor: self.actor(),
            previous: d.from,
            approvals: d.approvals.iter().map(|a| a.as_str().into()).collect(),
            rollback_of: d.rollback_of,
            strategy: self.data.verbatim("strategy"),
            break_glass: self.data.verbatim("break_glass"),
            reason: self.data.verbatim("reason"),
            ticket: self.data.verbatim("ticket"),
            evidence: self.data.verbatim("evidence"),
            modelseq: self.event.view.modelseq,
            event: self.event_id(),
        };
        self.open.channels.put(self.event, channel, self.changes);
        if let Some(from) = d.from {
            self.version(from, |version| version.channels.retain(|c| **c != *d.channel));
        }
        self.version(d.version, |version| {
            version.channels.push(d.channel.as_str().into());
            if d.restored {
                version.status = "registered".into();
                version.retired = None;
            }
        });
        self.model(|model| {
            model.channels.insert(d.channel.as_str().into(), d.version);
        });
    }

    fn demoted(&mut self, number: u64, channel: &str) {
        self.open.channels.take(self.event, &channel.into(), self.changes);
        self.version(number, |version| version.channels.retain(|c| **c != *channel));
        self.model(|model| {
            model.channels.remove(channel);
        });
    }

    fn alias_set(&mut self, alias: &str, number: u64, from: Option<u64>) {
        let (workspace, model) = self.names();
        let (label, digest) = self.marks(number);
        let (since, actor, event, modelseq) = (self.now(), self.actor(), self.event_id(), self.event.view.modelseq);
        let named =
            Alias { workspace, model, alias: alias.into(), version: number, label, digest, since, actor, previous: from, modelseq, event };
        self.open.aliases.put(self.event, named, self.changes);
        if let Some(from) = from {
            self.version(from, |version| version.aliases.retain(|a| **a != *alias));
        }
        self.version(number, |version| version.aliases.push(alias.into()));
        self.model(|model| {
            model.aliases.insert(alias.into(), number);
        });
    }

    fn alias_removed(&mut self, alias: &str, from: u64) {
        self.open.aliases.take(self.event, &alias.into(), self.changes);
        self.version(from, |version| version.aliases.retain(|a| **a != *alias));
        self.model(|model| {
            model.aliases.remove(alias);
        });
    }

    fn deployment_requested(&mut self, d: &DeploymentRequested) {
        let (workspace, model) = self.names();
        let deployment = Deployment {
            workspace,
            model,
            deployment: d.deployment.as_str().into(),
            version: d.version,
            digest: d.digest.as_deref().map(Into::into),
            target: d.target.as_str().into(),
            channel: self.data.text("channel"),
            state: "requested".into(),
            requested: self.now(),
            requested_by: self.actor(),
            active: None,
            ended: None,
            endpoint: None,
            observed: None,
            error: None,
            replaces: None,
            replaced_by: None,
            modelseq: self.event.view.modelseq,
            event: self.event_id(),
        };
        self.open.deployments.put(self.event, deployment, self.changes);
    }

    fn deployment(&mut self, id: &str, change: impl FnOnce(&mut Deployment)) {
        let (modelseq, event) = (self.event.view.modelseq, self.event_id());
        self.open.deployments.change(self.event, &id.into(), self.changes, |deployment| {
            change(deployment);
            deployment.modelseq = modelseq;
            deployment.event = event;
        });
    }

    fn deployed(&mut self, d: &DeploymentSucceeded) {
        let observed = self.data.verbatim("observed");
        let endpoint = self.data.object("observed").verbatim("endpoint");
        let (now, replaces) = (self.now(), d.replaces.as_deref().map(Into::into));
        if let Some(replaced) = &d.replaces {
            self.deployment_ended(replaced, "superseded", Some(&d.deployment));
        }
        self.deployment(&d.deployment, |deployment| {
            deployment.state = "active".into();
            deployment.active = Some(now);
            deployment.endpoint = endpoint;
            deployment.observed = observed;
            deployment.replaces = replaces;
        });
    }

    fn deployment_ended(&mut self, id: &str, state: &str, by: Option<&str>) {
        let (now, error) = (self.now(), self.data.verbatim("error").filter(|_| ["failed", "rolled_back"].contains(&state)));
        self.deployment(id, |deployment| {
            deployment.state = state.into();
            deployment.ended = Some(now);
            deployment.error = error;
            deployment.replaced_by = by.map(Into::into);
        });
    }

    fn rolled_back(&mut self, d: &DeploymentRolledBack) {
        self.deployment_ended(&d.deployment, "rolled_back", d.restored.as_deref());
        let Some(restored) = &d.restored else { return };
        // one that never lost its target is as it was
        if self.open.deployments.get(&restored.as_str().into()).is_some_and(|deployment| *deployment.state == *"active") {
            return;
        }
        let now = self.now();
        self.deployment(restored, |deployment| {
            deployment.state = "active".into();
            deployment.active = Some(now);
            deployment.ended = None;
            deployment.replaced_by = None;
        });
    }

    /// A measurement of the model as a whole is of no version, and stays in the timeline.
    fn measured(&mut self, version: Option<u64>) {
        let (Some(version), Some(metric)) = (version, self.data.text("metric")) else { return };
        let value = self.data.verbatim("value");
        let measurement = Measurement { version, metric, value, measured: self.now(), event: self.event_id() };
        self.open.measurements.put(self.event, measurement, self.changes);
    }

    fn drifted(&mut self, id: &str, version: Option<u64>) {
        let (workspace, model) = self.names();
        let data = &self.data;
        let drift = Drift {
            workspace,
            model,
            drift: id.into(),
            version,
            state: "open".into(),
            kind: data.verbatim("kind"),
            metric: data.verbatim("metric"),
            baseline: data.verbatim("baseline"),
            observed: data.verbatim("observed"),
            threshold: data.verbatim("threshold"),
            severity: data.verbatim("severity"),
            window: data.verbatim("window"),
            detector: data.verbatim("detector"),
            features: data.verbatim("features"),
            deployment: data.verbatim("deployment"),
            detected: self.now(),
            detected_by: self.actor(),
            resolved: None,
            resolved_by: None,
            reason: None,
            modelseq: self.event.view.modelseq,
            event: self.event_id(),
        };
        self.open.drifts.put(self.event, drift, self.changes);
        self.model(|model| {
            model.open_drifts.push(id.into());
            model.health = "drifted".into();
        });
    }

    fn drift_resolved(&mut self, id: &str) {
        let (now, actor, reason) = (self.now(), self.actor(), self.data.verbatim("reason"));
        let (modelseq, event) = (self.event.view.modelseq, self.event_id());
        self.open.drifts.change(self.event, &id.into(), self.changes, |drift| {
            drift.state = "resolved".into();
            drift.resolved = Some(now);
            drift.resolved_by = Some(actor);
            drift.reason = reason;
            drift.modelseq = modelseq;
            drift.event = event;
        });
        self.model(|model| {
            model.open_drifts.retain(|d| **d != *id);
            model.health = if model.open_drifts.is_empty() { "healthy" } else { "drifted" }.into();
        });
    }

    fn retrain_requested(&mut self, dedup: &str, drift: Option<&str>) {
        let retrain = Retrain {
            dedup: dedup.into(),
            drift: drift.map(Into::into),
            pipeline: self.data.verbatim("pipeline"),
            reason: self.data.verbatim("reason"),
            requested: self.now(),
            requested_by: self.actor(),
            event: self.event_id(),
        };
        self.model(|model| model.open_retrains.push(retrain));
    }

    fn retired(&mut self, number: u64) {
        let retirement = Retirement {
            retired: self.now(),
            retired_by: self.actor(),
            reason: self.data.verbatim("reason"),
            successor: self.data.verbatim("successor"),
            event: self.event_id(),
        };
        self.version(number, |version| {
            version.status = "retired".into();
            version.retired = Some(retirement);
        });
    }
}

fn push_last<T>(list: &mut Vec<T>, item: T) {
    if list.len() == KEPT_MAX {
        list.remove(0);
    }
    list.push(item);
}
