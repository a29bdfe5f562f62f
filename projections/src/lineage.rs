//! The lineage: data and code → run → version → deployment, as nodes and edges.
//!
//! Nodes and edges are only ever added, each by one event; what a node is follows from all that was
//! said of it until then, the latest word last.

mod query;

pub use query::{Edge, Lineage, Node};

use annals_events::deploy::DeploymentRequested;
use annals_events::model::Decided;
use annals_events::names::VersionRef;
use annals_events::record::Corrupt;
use annals_events::train::{Checked, Registered, Trained};
use serde_json::{Map, Value, json};

use crate::payload::Fields;
use crate::position::Event;
use crate::table::{Cell, Changes, Fold, Needs, OpenRow, Projection, Table};

/// Its name.
pub const NAME: &str = "lineage";

/// The projection.
pub struct LineageView;

const NODES: usize = 0;
const EDGES: usize = 1;
/// The relation of a version to the node of its label.
const LABEL: &str = "label";
/// Most data sets of one run that become nodes.
const DATA_MAX: usize = 1000;

static TABLES: [Table; 2] = [
    Table { name: "lineage_nodes", columns: &["partition", "seq", "node", "kind", "doc"], identity: None },
    Table { name: "lineage_edges", columns: &["partition", "seq", "source", "target", "relation"], identity: None },
];

impl Projection for LineageView {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn fold(&self) -> Box<dyn Fold> {
        Box::new(Statements)
    }
}

/// The id of a version's node.
pub(crate) fn version_node(key: &str, version: u64) -> String {
    format!("version:{key}/{version}")
}

fn run_node(key: &str, run: &str) -> String {
    format!("run:{key}/{run}")
}

/// Stands for a version where only its label is known; answers show the version in its place.
fn label_node(key: &str, label: &str) -> String {
    format!("label:{key}/{label}")
}

fn deployment_node(key: &str, deployment: &str) -> String {
    format!("deployment:{key}/{deployment}")
}

/// What an event says of nodes and edges follows from the event alone.
struct Statements;

impl Fold for Statements {
    fn needs(&self, _: &Event<'_>, _: &mut Needs) {}

    fn load(&mut self, _: OpenRow) -> Result<(), Corrupt> {
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>, changes: &mut Changes) {
        let mut says = Says { event, data: Fields::parse(event.view.data), changes };
        match &event.decided {
            Decided::RunTrained(d) => says.trained(d),
            Decided::RunChecked(d) => says.checked(d),
            Decided::VersionRegistered(d) => says.registered(d),
            Decided::VersionRetired(d) => says.version(d.version, &[("status", "retired".into())]),
            Decided::VersionPromoted(d) if d.restored => says.version(d.version, &[("status", "registered".into())]),
            Decided::DeploymentRequested(d) => says.requested(d),
            Decided::DeploymentSucceeded(d) => {
                says.deployment(&d.deployment, "active");
                d.replaces.iter().for_each(|replaced| says.deployment(replaced, "superseded"));
            }
            Decided::DeploymentFailed(d) => says.deployment(&d.deployment, "failed"),
            Decided::DeploymentRemoved(d) => says.deployment(&d.deployment, "removed"),
            Decided::DeploymentRolledBack(d) => {
                says.deployment(&d.deployment, "rolled_back");
                d.restored.iter().for_each(|restored| says.deployment(restored, "active"));
            }
            // where a version stands, how it does and what is asked of it is not where it came from
            Decided::ModelCreated(_)
            | Decided::VersionEvaluated(_)
            | Decided::ApprovalRequested(_)
            | Decided::ApprovalDecided(_)
            | Decided::VersionPromoted(_)
            | Decided::VersionDemoted(_)
            | Decided::AliasSet(_)
            | Decided::AliasRemoved(_)
            | Decided::DeploymentObserved(_)
            | Decided::TriggerChanged(_)
            | Decided::SubscriptionChanged(_)
            | Decided::ModelMeasured(_)
            | Decided::DriftDetected(_)
            | Decided::DriftResolved(_)
            | Decided::RetrainRequested(_)
            | Decided::ProposalRefused(_)
            | Decided::JournalOpened(_)
            | Decided::JournalContinued(_)
            | Decided::PartitionProgressed(_)
            | Decided::PartitionHalted(_)
            | Decided::PartitionResumed(_) => {}
        }
    }

    fn settle(&mut self, _: &mut Changes) {}
}

struct Says<'a, 'e> {
    event: &'a Event<'e>,
    data: Fields<'e>,
    changes: &'a mut Changes,
}

impl Says<'_, '_> {
    fn place(&self) -> [Cell; 2] {
        [Cell::Int(self.event.partition.into()), Cell::count(self.event.view.seq)]
    }

    fn node(&mut self, node: &str, kind: &str, said: &[(&str, Value)]) {
        let doc: Map<String, Value> = said.iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        let cells = [node.into(), kind.into(), Value::Object(doc).to_string().as_str().into()];
        self.changes.add(NODES, self.place().into_iter().chain(cells));
    }

    fn edge(&mut self, source: &str, target: &str, relation: &str) {
        let cells = [source.into(), target.into(), relation.into()];
        self.changes.add(EDGES, self.place().into_iter().chain(cells));
    }

    fn trained(&mut self, d: &Trained) {
        let key = self.event.view.key;
        let run = run_node(key, &d.run);
        let about = self.data.object("run");
        let said = [
            ("model", key.into()),
            ("run", d.run.as_str().into()),
            ("external", false.into()),
            ("system", text(&about, "system")),
            ("uri", text(&about, "uri")),
            ("artifact", d.digest.as_deref().into()),
            ("trained", (*self.event.recorded).into()),
        ];
        self.node(&run, "run", &said);
        self.code(&run);
        for data in self.data.objects("data").iter().take(DATA_MAX) {
            self.data_set(&run, data);
        }
        if let Some(parent) = self.data.word("parent") {
            let parent = match VersionRef::parse(&parent) {
                Ok(VersionRef::Number(number)) => version_node(key, number),
                Ok(VersionRef::Run(run)) => run_node(key, &run),
                Ok(VersionRef::Label(_)) | Err(_) => label_node(key, &parent),
            };
            self.edge(&parent, &run, "parent");
        }
    }

    /// Where the commit stands is said of the run: of code that many runs share, only the last word would be kept.
    fn checked(&mut self, d: &Checked) {
        let run = run_node(self.event.view.key, &d.run);
        let (branches, tags) = (self.data.texts("branches"), self.data.texts("tags"));
        let said = [("commit_is", d.outcome.as_str().into()), ("branches", branches.into()), ("tags", tags.into())];
        self.node(&run, "run", &said);
    }

    fn code(&mut self, run: &str) {
        let code = self.data.object("code");
        let (repository, commit) = (code.text("repository"), code.text("commit"));
        if repository.is_none() && commit.is_none() {
            return;
        }
        let node = format!("code:{}@{}", repository.as_deref().unwrap_or(""), commit.as_deref().unwrap_or(""));
        self.node(&node, "code", &[("repository", repository.as_deref().into()), ("commit", commit.as_deref().into())]);
        self.edge(&node, run, "built");
    }

    /// A data set is told from another by its digest; without one by its URI, or its name.
    fn data_set(&mut self, run: &str, data: &Fields<'_>) {
        let (name, uri, digest) = (data.text("name"), data.text("uri"), data.text("digest"));
        let Some(id) = digest.as_ref().or(uri.as_ref()).or(name.as_ref()) else { return };
        let node = format!("data:{id}");
        let said = [
            ("name", name.as_deref().into()),
            ("uri", uri.as_deref().into()),
            ("digest", digest.as_deref().into()),
            ("rows", data.number("rows").into()),
        ];
        self.node(&node, "data", &said);
        let role = data.text("role").unwrap_or_else(|| "used".into());
        self.edge(&node, run, &role);
    }

    fn registered(&mut self, d: &Registered) {
        let key = self.event.view.key;
        let said = [
            ("model", key.into()),
            ("version", d.version.into()),
            ("label", d.label.as_deref().into()),
            ("digest", d.digest.as_deref().into()),
            ("status", "registered".into()),
            ("registered", (*self.event.recorded).into()),
        ];
        let version = version_node(key, d.version);
        self.node(&version, "version", &said);
        if let Some(label) = &d.label {
            self.edge(&version, &label_node(key, label), LABEL);
        }
        if let Some(run) = &d.run {
            let node = run_node(key, run);
            if d.external {
                self.node(&node, "run", &[("model", key.into()), ("run", run.as_str().into()), ("external", true.into())]);
            }
            self.edge(&node, &version, "produced");
        }
        if d.run.is_none() || d.external {
            // nobody reported the run, so what the registration says of data is all there is
            for data in self.data.objects("data").iter().take(DATA_MAX) {
                self.data_set(&version, data);
            }
        }
    }

    fn version(&mut self, version: u64, said: &[(&str, Value)]) {
        self.node(&version_node(self.event.view.key, version), "version", said);
    }

    fn requested(&mut self, d: &DeploymentRequested) {
        let key = self.event.view.key;
        let said = json!({
            "model": key, "deployment": d.deployment, "target": d.target, "state": "requested", "requested": &*self.event.recorded,
        });
        let said: Vec<_> = said.as_object().into_iter().flatten().map(|(n, v)| (n.as_str(), v.clone())).collect();
        let node = deployment_node(key, &d.deployment);
        self.node(&node, "deployment", &said);
        self.edge(&version_node(key, d.version), &node, "deployed");
    }

    fn deployment(&mut self, id: &str, state: &str) {
        self.node(&deployment_node(self.event.view.key, id), "deployment", &[("state", state.into())]);
    }
}

fn text(fields: &Fields<'_>, name: &str) -> Value {
    fields.text(name).as_deref().into()
}
