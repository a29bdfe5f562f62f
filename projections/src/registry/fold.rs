//! The registry's fold: which documents an event needs, and the documents that are open.

use std::collections::HashMap;

use annals_events::kind::About;
use annals_events::model::Decided;
use annals_events::names::is_system;
use annals_events::record::Corrupt;

use super::STEPS;
use super::change::Change;
use super::documents::{Alias, Channel, Deployment, Drift, Entity, Measurement, Model, Version};
use crate::payload::Fields;
use crate::position::Event;
use crate::shelf::Shelf;
use crate::table::{Cell, Changes, Fold, Needs, OpenRow};

/// The open documents of the models that were touched.
#[derive(Debug, Default)]
pub(super) struct RegistryFold {
    models: HashMap<Box<str>, Open>,
}

/// The open documents of one model.
#[derive(Debug, Default)]
pub(super) struct Open {
    partition: u32,
    pub(super) model: Shelf<Model>,
    pub(super) versions: Shelf<Version>,
    pub(super) channels: Shelf<Channel>,
    pub(super) aliases: Shelf<Alias>,
    pub(super) deployments: Shelf<Deployment>,
    pub(super) drifts: Shelf<Drift>,
    pub(super) measurements: Shelf<Measurement>,
}

impl Fold for RegistryFold {
    fn needs(&self, event: &Event<'_>, needs: &mut Needs) {
        let key = event.view.key;
        if is_system(key) {
            return;
        }
        let mut add = |table, identity| needs.add(table, key, identity);
        match &event.decided {
            Decided::TriggerChanged(_)
            | Decided::SubscriptionChanged(_)
            | Decided::ProposalRefused(_)
            | Decided::JournalOpened(_)
            | Decided::JournalContinued(_)
            | Decided::PartitionProgressed(_)
            | Decided::PartitionHalted(_)
            | Decided::PartitionResumed(_) => return,
            Decided::VersionPromoted(d) => {
                add(Channel::TABLE, d.channel.as_str().into());
                d.from.iter().for_each(|from| add(Version::TABLE, Cell::count(*from)));
            }
            Decided::VersionDemoted(d) => add(Channel::TABLE, d.channel.as_str().into()),
            Decided::AliasSet(d) => {
                add(Alias::TABLE, d.alias.as_str().into());
                d.from.iter().for_each(|from| add(Version::TABLE, Cell::count(*from)));
            }
            Decided::AliasRemoved(d) => add(Alias::TABLE, d.alias.as_str().into()),
            Decided::DeploymentSucceeded(d) => {
                add(Deployment::TABLE, d.deployment.as_str().into());
                d.replaces.iter().for_each(|id| add(Deployment::TABLE, id.as_str().into()));
            }
            Decided::DeploymentFailed(d) | Decided::DeploymentRemoved(d) => add(Deployment::TABLE, d.deployment.as_str().into()),
            Decided::DeploymentRolledBack(d) => {
                add(Deployment::TABLE, d.deployment.as_str().into());
                d.restored.iter().for_each(|id| add(Deployment::TABLE, id.as_str().into()));
            }
            Decided::DriftResolved(d) => add(Drift::TABLE, d.drift.as_str().into()),
            Decided::ModelMeasured(d) => {
                let metric = Fields::parse(event.view.data).text("metric");
                let named = d.version.zip(metric);
                named.into_iter().for_each(|(version, metric)| add(Measurement::TABLE, Measurement::identity_of(version, &metric)));
            }
            Decided::ModelCreated(_)
            | Decided::RunTrained(_)
            | Decided::RunChecked(_)
            | Decided::VersionRegistered(_)
            | Decided::VersionEvaluated(_)
            | Decided::ApprovalRequested(_)
            | Decided::ApprovalDecided(_)
            | Decided::DeploymentRequested(_)
            | Decided::DeploymentObserved(_)
            | Decided::DriftDetected(_)
            | Decided::RetrainRequested(_)
            | Decided::VersionRetired(_) => {}
        }
        add(Model::TABLE, event.names().1.into());
        if let Some(version) = event.decided.version() {
            add(Version::TABLE, Cell::count(version));
        }
    }

    fn load(&mut self, row: OpenRow) -> Result<(), Corrupt> {
        let open = self.models.entry(row.key.clone()).or_default();
        open.partition = row.partition;
        match row.table {
            Model::TABLE => open.model.load(&row),
            Version::TABLE => open.versions.load(&row),
            Channel::TABLE => open.channels.load(&row),
            Alias::TABLE => open.aliases.load(&row),
            Deployment::TABLE => open.deployments.load(&row),
            Drift::TABLE => open.drifts.load(&row),
            Measurement::TABLE => open.measurements.load(&row),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, event: &Event<'_>, changes: &mut Changes) {
        let view = &event.view;
        if view.kind.about() == About::Engine || is_system(view.key) {
            return;
        }
        let step = [Cell::Int(event.partition.into()), view.key.into(), Cell::count(view.seq), Cell::count(view.modelseq)];
        changes.add(STEPS, step.into_iter().chain([Cell::Int(view.recorded.0)]));
        if !self.models.contains_key(view.key) {
            self.models.insert(view.key.into(), Open { partition: event.partition, ..Open::default() });
        }
        if let Some(open) = self.models.get_mut(view.key) {
            Change { event, data: Fields::parse(view.data), open, changes }.apply();
        }
    }

    fn settle(&mut self, changes: &mut Changes) {
        for (key, open) in self.models.drain() {
            open.model.settle(open.partition, &key, changes);
            open.versions.settle(open.partition, &key, changes);
            open.channels.settle(open.partition, &key, changes);
            open.aliases.settle(open.partition, &key, changes);
            open.deployments.settle(open.partition, &key, changes);
            open.drifts.settle(open.partition, &key, changes);
            open.measurements.settle(open.partition, &key, changes);
        }
    }
}
