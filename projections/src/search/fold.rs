//! How events change the documents: what is said of a version when it is registered, and what points to it since.

use std::collections::{BTreeMap, HashMap};

use annals_events::kind::About;
use annals_events::model::Decided;
use annals_events::names::is_system;
use annals_events::record::Corrupt;
use annals_events::train::Registered;

use super::{DOCUMENTS, Document, WORDS};
use crate::payload::Fields;
use crate::position::Event;
use crate::table::{Cell, Changes, Fold, Needs, OpenRow};

/// In place of a version: the model itself.
const MODEL: u64 = 0;

/// The documents of the models that were touched.
#[derive(Debug, Default)]
pub(super) struct SearchFold {
    models: HashMap<Box<str>, Model>,
}

/// The documents of one model, by version.
#[derive(Debug, Default)]
struct Model {
    partition: u32,
    documents: BTreeMap<u64, Slot>,
}

#[derive(Debug)]
struct Slot {
    document: Document,
    since: u64,
    /// Whether the store has one of this version.
    stored: bool,
    /// Whether it is not the one that the store has.
    changed: bool,
}

/// The versions whose documents an event changes, and does not make.
fn touched(decided: &Decided) -> [Option<u64>; 2] {
    match decided {
        Decided::VersionPromoted(d) => [Some(d.version), d.from],
        Decided::VersionDemoted(d) => [Some(d.version), None],
        Decided::AliasSet(d) => [Some(d.version), d.from],
        Decided::AliasRemoved(d) => [Some(d.from), None],
        Decided::VersionRetired(d) => [Some(d.version), None],
        // it makes a document, or says nothing that is looked for
        Decided::ModelCreated(_)
        | Decided::RunTrained(_)
        | Decided::RunChecked(_)
        | Decided::VersionRegistered(_)
        | Decided::VersionEvaluated(_)
        | Decided::ApprovalRequested(_)
        | Decided::ApprovalDecided(_)
        | Decided::DeploymentRequested(_)
        | Decided::DeploymentSucceeded(_)
        | Decided::DeploymentFailed(_)
        | Decided::DeploymentRemoved(_)
        | Decided::DeploymentRolledBack(_)
        | Decided::DeploymentObserved(_)
        | Decided::ModelMeasured(_)
        | Decided::DriftDetected(_)
        | Decided::DriftResolved(_)
        | Decided::RetrainRequested(_)
        | Decided::TriggerChanged(_)
        | Decided::SubscriptionChanged(_)
        | Decided::ProposalRefused(_)
        | Decided::JournalOpened(_)
        | Decided::JournalContinued(_)
        | Decided::PartitionProgressed(_)
        | Decided::PartitionHalted(_)
        | Decided::PartitionResumed(_) => [None, None],
    }
}

/// Whether an event makes a document: each first one of a model, and each registration.
fn makes(event: &Event<'_>) -> bool {
    event.view.modelseq == 1 || matches!(event.decided, Decided::VersionRegistered(_))
}

/// Whether an event is about a model at all.
fn is_of_model(event: &Event<'_>) -> bool {
    event.view.kind.about() != About::Engine && !is_system(event.view.key)
}

impl Fold for SearchFold {
    fn needs(&self, event: &Event<'_>, needs: &mut Needs) {
        if is_of_model(event) {
            let versions = touched(&event.decided).into_iter().flatten();
            versions.for_each(|version| needs.add(DOCUMENTS, event.view.key, Cell::count(version)));
        }
    }

    fn load(&mut self, row: OpenRow) -> Result<(), Corrupt> {
        let unreadable = |e| Corrupt(format!("a document of `{}` in the view is not readable: {e}", row.key));
        let document: Document = serde_json::from_str(&row.doc).map_err(unreadable)?;
        let model = self.models.entry(row.key.clone()).or_default();
        model.partition = row.partition;
        let version = document.version.unwrap_or(MODEL);
        model.documents.insert(version, Slot { document, since: row.since, stored: true, changed: false });
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>, _: &mut Changes) {
        if !is_of_model(event) || (touched(&event.decided) == [None, None] && !makes(event)) {
            return;
        }
        if !self.models.contains_key(event.view.key) {
            self.models.insert(event.view.key.into(), Model { partition: event.partition, ..Model::default() });
        }
        if let Some(model) = self.models.get_mut(event.view.key) {
            model.apply(event);
        }
    }

    fn settle(&mut self, changes: &mut Changes) {
        for (key, model) in self.models.drain() {
            for (version, slot) in model.documents.into_iter().filter(|(_, slot)| slot.changed) {
                slot.write(model.partition, &key, version, changes);
            }
        }
    }
}

impl Model {
    fn apply(&mut self, event: &Event<'_>) {
        if event.view.modelseq == 1 {
            self.put(event, MODEL, model(event));
        }
        match &event.decided {
            Decided::VersionRegistered(d) => self.put(event, d.version, version(event, d)),
            Decided::VersionPromoted(d) => {
                d.from.into_iter().for_each(|from| self.change(event, from, |document| document.channels.retain(|c| **c != *d.channel)));
                self.change(event, d.version, |document| {
                    document.channels.push(d.channel.as_str().into());
                    if d.restored {
                        document.status = Some("registered".into());
                    }
                });
            }
            Decided::VersionDemoted(d) => self.change(event, d.version, |document| document.channels.retain(|c| **c != *d.channel)),
            Decided::AliasSet(d) => {
                d.from.into_iter().for_each(|from| self.change(event, from, |document| document.aliases.retain(|a| **a != *d.alias)));
                self.change(event, d.version, |document| document.aliases.push(d.alias.as_str().into()));
            }
            Decided::AliasRemoved(d) => self.change(event, d.from, |document| document.aliases.retain(|a| **a != *d.alias)),
            Decided::VersionRetired(d) => self.change(event, d.version, |document| document.status = Some("retired".into())),
            _ => {} // `touched` has said that they change nothing
        }
    }

    /// A new one: no version and no model is made twice.
    fn put(&mut self, event: &Event<'_>, version: u64, document: Document) {
        self.documents.insert(version, Slot { document, since: event.view.seq, stored: false, changed: true });
    }

    fn change(&mut self, event: &Event<'_>, version: u64, change: impl FnOnce(&mut Document)) {
        let Some(slot) = self.documents.get_mut(&version) else { return };
        change(&mut slot.document);
        slot.document.updated = event.recorded.clone();
        slot.document.modelseq = event.view.modelseq;
        slot.since = event.view.seq;
        slot.changed = true;
    }
}

impl Slot {
    fn write(self, partition: u32, key: &str, version: u64, changes: &mut Changes) {
        let (document, id, since) = (self.document, Cell::count(version), self.since);
        if self.stored {
            changes.close(DOCUMENTS, key, id.clone(), since);
            changes.close(WORDS, key, Cell::Int(document.id()), since);
        }
        let mut row = vec![Cell::Int(partition.into()), key.into(), Cell::count(since), id];
        row.extend([Cell::Int(document.id()), Cell::Int(document.created_ms()), document.subject().into()]);
        // texts, numbers and verbatim JSON: writing them cannot fail
        row.push(Cell::Text(serde_json::to_string(&document).unwrap_or_default().into()));
        changes.add(DOCUMENTS, row);
        changes.add(WORDS, [Cell::Int(document.id()), document.words().line().into()]);
    }
}

/// What the event says of who made the document and when.
fn made(event: &Event<'_>, kind: &str) -> Document {
    let (workspace, name) = event.names();
    let view = &event.view;
    Document {
        kind: kind.into(),
        workspace: workspace.into(),
        name: name.into(),
        created: event.recorded.clone(),
        created_by: view.actor.into(),
        updated: event.recorded.clone(),
        modelseq: view.modelseq,
        position: format!("{}:{}", event.partition, view.seq).into(),
        event: view.id.into(),
        ..Document::default()
    }
}

/// The model's document, by `model.created` or by the first event on it.
fn model(event: &Event<'_>) -> Document {
    let data = match &event.decided {
        Decided::ModelCreated(_) => Fields::parse(event.view.data),
        _ => Fields::default(),
    };
    Document {
        description: data.text("description"),
        owner: data.text("owner"),
        purpose: data.text("purpose"),
        risk_tier: data.text("risk_tier"),
        tags: data.verbatim("tags"),
        ..made(event, "model")
    }
}

fn version(event: &Event<'_>, d: &Registered) -> Document {
    let data = Fields::parse(event.view.data);
    let artifact = data.object("artifact");
    Document {
        version: Some(d.version),
        label: d.label.as_deref().map(Into::into),
        status: Some("registered".into()),
        description: data.text("description"),
        data: data.verbatim("data"),
        algorithm: data.text("algorithm"),
        performance: data.verbatim("performance"),
        tags: data.verbatim("labels"),
        digest: d.digest.as_deref().map(Into::into),
        uri: artifact.text("uri"),
        format: artifact.text("format"),
        run: d.run.as_deref().map(Into::into),
        licence: data.text("licence"),
        ..made(event, "version")
    }
}
