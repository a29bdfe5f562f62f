//! How events change what is wanted on a target and what was found there.

use std::collections::HashMap;

use annals_events::deploy::{DeploymentObserved, DeploymentRequested, DeploymentRolledBack};
use annals_events::model::Decided;
use annals_events::names::is_system;
use annals_events::record::Corrupt;

use super::documents::{Cause, Found, Note, Requested, Target, Wanted};
use crate::payload::Fields;
use crate::position::Event;
use crate::shelf::{Entity, Shelf};
use crate::table::{Cell, Changes, Fold, Needs, OpenRow};

/// Most fields that a note names.
const FIELDS_MAX: usize = 5;

/// The open documents of the models that were touched.
#[derive(Debug, Default)]
pub(super) struct DeploymentsFold {
    models: HashMap<Box<str>, Open>,
}

/// The open documents of one key.
#[derive(Debug, Default)]
struct Open {
    partition: u32,
    targets: Shelf<Target>,
    requested: Shelf<Requested>,
}

/// The deployments that an event names, and the target if it names that.
fn named(decided: &Decided) -> ([Option<&str>; 2], Option<&str>) {
    match decided {
        Decided::DeploymentRequested(d) => ([None, None], Some(&d.target)),
        Decided::DeploymentObserved(d) => ([d.deployment.as_deref(), None], Some(&d.target)),
        Decided::DeploymentSucceeded(d) => ([Some(&d.deployment), None], None),
        Decided::DeploymentFailed(d) | Decided::DeploymentRemoved(d) => ([Some(&d.deployment), None], None),
        Decided::DeploymentRolledBack(d) => ([Some(&d.deployment), d.restored.as_deref()], None),
        // what a channel holds is wanted only where somebody asks for it
        Decided::ModelCreated(_)
        | Decided::RunTrained(_)
        | Decided::RunChecked(_)
        | Decided::VersionRegistered(_)
        | Decided::VersionEvaluated(_)
        | Decided::ApprovalRequested(_)
        | Decided::ApprovalDecided(_)
        | Decided::VersionPromoted(_)
        | Decided::VersionDemoted(_)
        | Decided::AliasSet(_)
        | Decided::AliasRemoved(_)
        | Decided::ModelMeasured(_)
        | Decided::DriftDetected(_)
        | Decided::DriftResolved(_)
        | Decided::RetrainRequested(_)
        | Decided::VersionRetired(_)
        | Decided::TriggerChanged(_)
        | Decided::SubscriptionChanged(_)
        | Decided::ProposalRefused(_)
        | Decided::JournalOpened(_)
        | Decided::JournalContinued(_)
        | Decided::PartitionProgressed(_)
        | Decided::PartitionHalted(_)
        | Decided::PartitionResumed(_) => ([None, None], None),
    }
}

impl Fold for DeploymentsFold {
    fn needs(&self, event: &Event<'_>, needs: &mut Needs) {
        let (deployments, target) = named(&event.decided);
        deployments.into_iter().flatten().for_each(|id| needs.add(Requested::TABLE, event.view.key, id.into()));
        target.into_iter().for_each(|target| needs.add(Target::TABLE, event.view.key, target.into()));
    }

    fn needs_then(&self, event: &Event<'_>, needs: &mut Needs) {
        let Some(open) = self.models.get(event.view.key) else { return };
        let found = named(&event.decided).0.into_iter().flatten().filter_map(|id| open.requested.get(&id.into()));
        found.for_each(|requested| needs.add(Target::TABLE, event.view.key, (*requested.target).into()));
    }

    fn load(&mut self, row: OpenRow) -> Result<(), Corrupt> {
        let open = self.models.entry(row.key.clone()).or_default();
        open.partition = row.partition;
        match row.table {
            Target::TABLE => open.targets.load(&row),
            _ => open.requested.load(&row),
        }
    }

    fn apply(&mut self, event: &Event<'_>, changes: &mut Changes) {
        if let ([None, None], None) = named(&event.decided) {
            return;
        }
        if !self.models.contains_key(event.view.key) {
            self.models.insert(event.view.key.into(), Open { partition: event.partition, ..Open::default() });
        }
        if let Some(open) = self.models.get_mut(event.view.key) {
            Change { event, data: Fields::parse(event.view.data), open, changes }.apply();
        }
    }

    fn settle(&mut self, changes: &mut Changes) {
        for (key, open) in self.models.drain() {
            open.targets.settle(open.partition, &key, changes);
            open.requested.settle(open.partition, &key, changes);
        }
    }
}

/// One event on its way into the documents of one key.
struct Change<'a, 'e> {
    event: &'a Event<'e>,
    data: Fields<'e>,
    open: &'a mut Open,
    changes: &'a mut Changes,
}

impl Change<'_, '_> {
    fn apply(mut self) {
        let event = self.event;
        match &event.decided {
            Decided::DeploymentRequested(d) => self.requested(d),
            Decided::DeploymentSucceeded(d) => self.succeeded(&d.deployment),
            Decided::DeploymentFailed(d) => self.failed(&d.deployment),
            Decided::DeploymentRemoved(d) => self.removed(&d.deployment),
            Decided::DeploymentRolledBack(d) => self.rolled_back(d),
            Decided::DeploymentObserved(d) if is_system(event.view.key) => self.foreign(d),
            Decided::DeploymentObserved(d) => self.observed(d),
            _ => {} // `named` has said that they are about no target
        }
    }

    fn cause(&self) -> Cause {
        let view = &self.event.view;
        let position = format!("{}:{}", self.event.partition, view.seq).into();
        Cause { since: self.event.recorded.clone(), event: view.id.into(), position }
    }

    fn note(&self, text: Option<Box<str>>) -> Option<Note> {
        text.map(|text| Note { text, cause: self.cause() })
    }

    fn put(&mut self, target: Target) {
        self.open.targets.put(self.event, target, self.changes);
    }

    fn change(&mut self, target: &str, change: impl FnOnce(&mut Target)) {
        self.open.targets.change(self.event, &target.into(), self.changes, change);
    }

    /// What was asked for under this id, and where.
    fn known(&self, deployment: &str) -> Option<Requested> {
        self.open.requested.get(&deployment.into()).cloned()
    }

    fn requested(&mut self, d: &DeploymentRequested) {
        let (workspace, model) = self.event.names();
        let cause = self.cause();
        let wanted = Wanted {
            deployment: d.deployment.as_str().into(),
            version: d.version,
            digest: d.digest.as_deref().map(Into::into),
            channel: self.data.text("channel"),
            cause: cause.clone(),
        };
        let requested = Requested { target: d.target.as_str().into(), wanted: wanted.clone() };
        self.open.requested.put(self.event, requested, self.changes);
        let before = self.open.targets.get(&d.target.as_str().into());
        let (note, found) = before.map(|target| (target.note.clone(), target.found.clone())).unwrap_or_default();
        self.put(Target {
            workspace: workspace.into(),
            model: Some(model.into()),
            target: d.target.as_str().into(),
            channel: wanted.channel.clone(),
            state: "progressing".into(),
            cause,
            before: None,
            note,
            wanted: Some(wanted),
            found,
        });
    }

    fn succeeded(&mut self, deployment: &str) {
        let (Some(Requested { target, wanted }), cause) = (self.known(deployment), self.cause()) else { return };
        self.change(&target, |target| {
            target.found = Some(found(&wanted, &cause));
            if target.wants(deployment) && target.before.as_deref() == Some("progressing") {
                target.turn("changed", cause);
                target.before = Some("in-sync".into());
                return;
            }
            target.note = None;
            if target.wants(deployment) {
                target.turn("in-sync", cause);
            }
        });
    }

    fn failed(&mut self, deployment: &str) {
        let (Some(Requested { target, .. }), cause) = (self.known(deployment), self.cause()) else { return };
        let note = self.note(self.data.text("error"));
        self.change(&target, |target| {
            if target.wants(deployment) {
                target.turn("failed", cause);
                target.note = note;
            }
        });
    }

    fn removed(&mut self, deployment: &str) {
        let Some(Requested { target, .. }) = self.known(deployment) else { return };
        let id = Cell::from(&*target);
        let Some(before) = self.open.targets.get(&id).cloned() else { return };
        let left = before.found.clone().filter(|found| found.deployment.as_deref() != Some(deployment));
        // one that was rolled back is wanted no more
        let over = before.wants(deployment) || *before.state == *"rolled-back";
        let cause = self.cause();
        match (left, over) {
            (None, true) => self.open.targets.take(self.event, &id, self.changes),
            (Some(left), true) => self.change(&target, |target| {
                target.wanted = left.deployment.clone().zip(left.version).map(|(deployment, version)| Wanted {
                    deployment,
                    version,
                    digest: left.digest.clone(),
                    channel: target.channel.clone(),
                    cause: cause.clone(),
                });
                target.turn("in-sync", cause);
            }),
            (left, false) => self.change(&target, |target| target.found = left),
        }
    }

    fn rolled_back(&mut self, d: &DeploymentRolledBack) {
        let (Some(Requested { target, .. }), cause) = (self.known(&d.deployment), self.cause()) else { return };
        let restored = d.restored.as_deref().and_then(|id| self.known(id));
        let (reason, error) = (self.data.text("reason"), self.data.text("error"));
        let note = self.note(match (reason, error) {
            (Some(reason), Some(error)) => Some(format!("{reason} ({error})").into()),
            (reason, error) => reason.or(error),
        });
        self.change(&target, |target| {
            // one that never lost the target is there since it came
            let still = target.found.take().filter(|found| found.deployment.as_deref() == d.restored.as_deref());
            target.found = still.filter(|found| found.deployment.is_some()).or_else(|| Some(found(&restored?.wanted, &cause)));
            target.turn("rolled-back", cause);
            target.note = note;
        });
    }

    fn observed(&mut self, d: &DeploymentObserved) {
        let (cause, finding) = (self.cause(), self.data.text("finding").unwrap_or_default());
        let known = d.deployment.as_deref().and_then(|id| self.known(id));
        let (note, image) = (self.note(Some(self.seen())), self.data.text("image"));
        self.change(&d.target, |target| {
            target.note = note;
            match (&*finding, &*target.state) {
                ("removed", state) => {
                    target.found = None;
                    if state == "progressing" {
                        target.before = None;
                    } else {
                        target.leave("missing", cause);
                    }
                }
                // what somebody changed while it came is told once it is up
                ("changed", "progressing") => target.before = Some("progressing".into()),
                ("changed", state @ ("in-sync" | "rolled-back" | "changed")) => {
                    // the first change made it so; the note tells the last one
                    if state != "changed" {
                        target.leave("changed", cause);
                    }
                    if let Some(found) = &mut target.found {
                        found.image = image;
                    }
                }
                ("restored", "progressing") => target.before = None,
                ("restored", "missing" | "changed") => {
                    target.found = known.map(|known| found(&known.wanted, &cause));
                    let before = target.before.take();
                    target.turn(before.as_deref().unwrap_or("in-sync"), cause);
                }
                ("adopted", "missing") => {
                    let Some(known) = known.filter(|known| target.wants(&known.wanted.deployment)) else { return };
                    target.found = Some(found(&known.wanted, &cause));
                    target.turn("in-sync", cause);
                }
                _ => {}
            }
        });
    }

    /// What was found where no model is deployed.
    fn foreign(&mut self, d: &DeploymentObserved) {
        let (cause, id) = (self.cause(), Cell::from(d.target.as_str()));
        if let Some("removed" | "adopted") = self.data.text("finding").as_deref() {
            self.open.targets.take(self.event, &id, self.changes);
            return;
        }
        let (note, image) = (self.note(Some(self.seen())), self.data.text("image"));
        let since = self.open.targets.get(&id).map_or(cause.clone(), |target| target.cause.clone());
        self.put(Target {
            workspace: self.event.names().0.into(),
            model: None,
            target: d.target.as_str().into(),
            channel: None,
            state: "foreign".into(),
            cause: since,
            before: None,
            note,
            wanted: None,
            found: Some(Found { deployment: None, version: None, digest: None, image, cause }),
        });
    }

    /// `changed by kubectl-edit: spec.replicas`.
    fn seen(&self) -> Box<str> {
        let finding = self.data.text("finding").unwrap_or_default();
        let by = self.data.text("manager").map(|manager| format!(" by {manager}")).unwrap_or_default();
        let fields: Vec<String> = self.data.raw("fields").and_then(|fields| serde_json::from_str(fields.get()).ok()).unwrap_or_default();
        let more = if fields.len() > FIELDS_MAX { ", …" } else { "" };
        let fields = fields.into_iter().take(FIELDS_MAX).collect::<Vec<_>>().join(", ");
        format!("{finding}{by}{}{fields}{more}", if fields.is_empty() { "" } else { ": " }).into()
    }
}

impl Target {
    fn wants(&self, deployment: &str) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| *wanted.deployment == *deployment)
    }

    fn turn(&mut self, state: &str, cause: Cause) {
        self.state = state.into();
        self.cause = cause;
        self.before = None;
    }

    /// Somebody made it so; what it was before is kept.
    fn leave(&mut self, state: &str, cause: Cause) {
        let before = self.before.take().unwrap_or_else(|| self.state.clone());
        self.turn(state, cause);
        self.before = Some(before);
    }
}

fn found(wanted: &Wanted, cause: &Cause) -> Found {
    Found {
        deployment: Some(wanted.deployment.clone()),
        version: Some(wanted.version),
        digest: wanted.digest.clone(),
        image: None,
        cause: cause.clone(),
    }
}
