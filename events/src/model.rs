//! One model: its folded state, what may happen to it next (`decide`) and what did (`evolve`).
//!
//! `decide` refuses, `evolve` cannot. `evolve` reads only `decided`, never the producer's `data`:
//! so a fold depends on nothing but integers and strings that the engine wrote, and data may be
//! redacted without touching a state.

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use crate::decided::Decided;
use crate::kind::Kind;
use crate::names::{self, BadName, VersionRef};
use crate::proposal::Proposal;
use crate::time::Timestamp;
use crate::verdict::{Code, Refusal};
use crate::window::Seen;
use crate::{deploy, design, govern, maintain, monitor, train};

/// The channels, in their order.
pub const CHANNELS: [&str; 3] = ["dev", "staging", "production"];
/// How many event ids a model remembers beyond the partition's window.
pub const RECENT_MAX: usize = 8;

/// All that `decide` may know of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Count of the events that changed it.
    pub modelseq: u64,
    /// Version `n` is at index `n - 1`.
    pub versions: Vec<Version>,
    /// Runs that were reported as trained.
    pub runs: Vec<Run>,
    /// Which version each channel holds.
    pub channels: Vec<Pointer>,
    /// Which version each alias names.
    pub aliases: Vec<Pointer>,
    /// Requested approvals, also the decided ones.
    pub approvals: Vec<Approval>,
    /// Deployments, also the ended ones.
    pub deployments: Vec<Deployment>,
    /// Drifts, also the resolved ones.
    pub drifts: Vec<Drift>,
    /// Deduplication keys of retrainings that no registered version has answered yet.
    pub retrains: Vec<Box<str>>,
    /// The last accepted proposals: the second half of the idempotency window.
    pub recent: Vec<Seen>,
    /// What is standing in a workspace; only `workspace/_system` has any, and every model pays for the place.
    pub standing: Option<Box<Standing>>,
}

/// A registered version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The producer's label.
    pub label: Option<Box<str>>,
    /// The artifact's digest; `None` is *unpinned*.
    pub digest: Option<Box<str>>,
    /// The run it came from.
    pub run: Option<Box<str>>,
    /// Who registered it.
    pub author: Box<str>,
    /// Whether it is retired.
    pub retired: bool,
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The pipeline's own id.
    pub id: Box<str>,
    /// Digest of the artifact that it made.
    pub digest: Option<Box<str>>,
}

/// A channel or an alias, and the version that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Its name.
    pub name: Box<str>,
    /// The version.
    pub version: u64,
}

/// An approval that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: Box<str>,
    /// The version, and with it the digest that is approved.
    pub version: u64,
    /// The channel it is for.
    pub channel: Box<str>,
    /// Who asked.
    pub requester: Box<str>,
    /// `None` while it is open.
    pub approved: Option<bool>,
}

/// Where a deployment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Asked for.
    Requested,
    /// Running.
    Active,
    /// Did not come up.
    Failed,
    /// Another took its target.
    Superseded,
    /// Taken away.
    Removed,
    /// Taken back in favour of what ran before.
    RolledBack,
}

impl DeploymentState {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Removed => "removed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A version on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: Box<str>,
    /// The version.
    pub version: u64,
    /// The target: platform, cluster, namespace and name.
    pub target: Box<str>,
    /// Where it is in its life.
    pub state: DeploymentState,
    /// The deployment that it took the target from: what a rollback restores.
    pub replaces: Option<Box<str>>,
}

/// A drift that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Its id.
    pub id: Box<str>,
    /// The version, if it was named.
    pub version: Option<u64>,
    /// Whether it is over.
    pub resolved: bool,
}

/// The rules of a workspace, also the removed ones: their revisions go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What acts.
    pub triggers: Vec<Rule>,
    /// Who listens.
    pub subscriptions: Vec<Rule>,
}

/// A trigger or a subscription, as far as the next decision on it needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, unique in the workspace among its like.
    pub name: Box<str>,
    /// Counts its changes, from 1.
    pub revision: u64,
    /// Whether it is in force.
    pub state: RuleState,
    /// SHA-256 of what it says.
    pub digest: Box<str>,
}

/// Whether a trigger or a subscription is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// It is.
    Active,
    /// Not now; what happens meanwhile waits.
    Paused,
    /// No more.
    Removed,
}

impl RuleState {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Removed => "removed",
        }
    }
}

/// A question to `decide`: the proposal, the model as it is, and the moment of the question.
pub struct Ask<'a> {
    /// What is proposed.
    pub proposal: &'a Proposal,
    /// The model, if it exists.
    pub existing: Option<&'a Model>,
    /// When the proposal reached the log: the only clock there is.
    pub at: Timestamp,
}

impl<'a> Ask<'a> {
    /// The model.
    ///
    /// # Errors
    /// `unknown-model`.
    pub fn model(&self) -> Result<&'a Model, Refusal> {
        self.existing.ok_or_else(|| {
            Refusal::new(
                Code::UnknownModel,
                format!("there is no model `{}`", self.proposal.key),
                "create the model, or register a version of it, first",
            )
        })
    }

    /// The model and the number of the version that the subject names.
    ///
    /// # Errors
    /// `unknown-model`, `unknown-version`.
    pub fn version(&self) -> Result<(&'a Model, u64), Refusal> {
        let model = self.model()?;
        let named = self.named_version(model)?;
        named.map(|version| (model, version)).ok_or_else(|| {
            Refusal::new(Code::UnknownVersion, "the subject names no version", "send `workspace/model/version` as the subject")
        })
    }

    /// The number of the version that the subject names, if it names one.
    ///
    /// # Errors
    /// `unknown-version`.
    pub fn named_version(&self, model: &Model) -> Result<Option<u64>, Refusal> {
        let Some(named) = &self.proposal.version else { return Ok(None) };
        model.resolve(named).map(Some).ok_or_else(|| {
            let message = format!("`{}` has no version `{named}`", self.proposal.key);
            Refusal::new(Code::UnknownVersion, message, "register it first, or name another").on(model.summary())
        })
    }

    /// Refuses a subject that names another version than `version`.
    ///
    /// # Errors
    /// `unknown-version`, `subject-mismatch`.
    pub fn same_version(&self, model: &Model, version: u64) -> Result<(), Refusal> {
        match self.named_version(model)? {
            Some(named) if named != version => Err(Refusal::new(
                Code::SubjectMismatch,
                format!("the subject names version {named}, but this is about version {version}"),
                "name the right version, or none",
            )
            .on(model.summary())),
            _ => Ok(()),
        }
    }

    /// Reads the payload; the schema was checked when the proposal was read.
    ///
    /// # Errors
    /// `schema-violation`, should schema and type ever disagree.
    pub fn data<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        serde_json::from_str(&self.proposal.data).map_err(|e| {
            Refusal::new(
                Code::SchemaViolation,
                format!("the data does not fit {}: {e}", self.proposal.kind),
                "compare it with the published schema",
            )
        })
    }

    /// Checks somebody else's identifier, which the schema can only count in characters.
    ///
    /// # Errors
    /// `schema-violation`.
    pub fn identifier(&self, what: &'static str, text: &str) -> Result<(), Refusal> {
        names::identifier(what, text).map_err(|e| bad_name(&e))
    }

    /// Who asks, as the record will say.
    #[must_use]
    pub fn actor(&self) -> String {
        actor(self.proposal)
    }
}

/// Who asked: without a signature or a login that the engine can check, a claim stays a claim.
#[must_use]
pub fn actor(proposal: &Proposal) -> String {
    proposal.actor.as_ref().map_or_else(|| "unverified".into(), |claimed| format!("unverified:{claimed}"))
}

/// What becomes of a proposal, given the model as it is.
///
/// Pure: the same question has the same answer for ever, under the rules of [`crate::RULES`].
///
/// # Errors
/// The refusal, with the state it was judged on.
pub fn decide(ask: &Ask<'_>) -> Result<Decided, Refusal> {
    if let Some(expected) = ask.proposal.expected {
        let found = ask.existing.map_or(0, |m| m.modelseq);
        if expected != found {
            let message = format!("the model is at sequence {found}, not {expected}");
            return Err(Refusal::new(Code::StaleExpectation, message, "read the model again and decide anew")
                .on(ask.existing.map_or(serde_json::Value::Null, Model::summary)));
        }
    }
    match ask.proposal.kind {
        Kind::ModelCreated => design::create(ask).map(Decided::ModelCreated),
        Kind::RunTrained => train::trained(ask).map(Decided::RunTrained),
        Kind::RunChecked => train::checked(ask).map(Decided::RunChecked),
        Kind::VersionRegistered => train::register(ask).map(Decided::VersionRegistered),
        Kind::VersionEvaluated => train::evaluated(ask).map(Decided::VersionEvaluated),
        Kind::ApprovalRequested => deploy::request_approval(ask).map(Decided::ApprovalRequested),
        Kind::ApprovalDecided => deploy::decide_approval(ask).map(Decided::ApprovalDecided),
        Kind::VersionPromoted => deploy::promote(ask).map(Decided::VersionPromoted),
        Kind::VersionDemoted => deploy::demote(ask).map(Decided::VersionDemoted),
        Kind::AliasSet => deploy::set_alias(ask).map(Decided::AliasSet),
        Kind::AliasRemoved => deploy::remove_alias(ask).map(Decided::AliasRemoved),
        Kind::DeploymentRequested => deploy::request_deployment(ask).map(Decided::DeploymentRequested),
        Kind::DeploymentSucceeded => deploy::deployed(ask).map(Decided::DeploymentSucceeded),
        Kind::DeploymentFailed => deploy::deployment_failed(ask).map(Decided::DeploymentFailed),
        Kind::DeploymentRemoved => deploy::deployment_removed(ask).map(Decided::DeploymentRemoved),
        Kind::DeploymentRolledBack => deploy::rolled_back(ask).map(Decided::DeploymentRolledBack),
        Kind::DeploymentObserved => deploy::observed(ask).map(Decided::DeploymentObserved),
        Kind::ModelMeasured => monitor::measured(ask).map(Decided::ModelMeasured),
        Kind::DriftDetected => monitor::drifted(ask).map(Decided::DriftDetected),
        Kind::DriftResolved => monitor::drift_resolved(ask).map(Decided::DriftResolved),
        Kind::RetrainRequested => maintain::request_retrain(ask).map(Decided::RetrainRequested),
        Kind::VersionRetired => maintain::retire(ask).map(Decided::VersionRetired),
        Kind::TriggerChanged => govern::change_trigger(ask).map(Decided::TriggerChanged),
        Kind::SubscriptionChanged => govern::change_subscription(ask).map(Decided::SubscriptionChanged),
        Kind::ProposalRefused
        | Kind::JournalOpened
        | Kind::JournalContinued
        | Kind::PartitionProgressed
        | Kind::PartitionHalted
        | Kind::PartitionResumed => {
            Err(Refusal::new(Code::UnknownType, format!("{} is written by the engine only", ask.proposal.kind), "leave it to the engine"))
        }
    }
}

/// Whether a refusal of this kind is itself an event: it then outlives the verdicts' retention.
#[must_use]
pub fn refusal_matters(kind: Kind) -> bool {
    matches!(kind, Kind::ApprovalDecided | Kind::VersionPromoted | Kind::VersionRetired)
}

impl Model {
    /// Takes a decision into the state. Cannot fail: what was accepted is true.
    pub fn evolve(&mut self, decided: &Decided, actor: &str) {
        match decided {
            Decided::ModelCreated(_)
            | Decided::RunChecked(_)
            | Decided::VersionEvaluated(_)
            | Decided::ModelMeasured(_)
            | Decided::DeploymentObserved(_) => {}
            Decided::RunTrained(d) => train::evolve_trained(self, d),
            Decided::VersionRegistered(d) => train::evolve_registered(self, d, actor),
            Decided::ApprovalRequested(d) => deploy::evolve_approval_requested(self, d),
            Decided::ApprovalDecided(d) => deploy::evolve_approval_decided(self, d),
            Decided::VersionPromoted(d) => deploy::evolve_promoted(self, d),
            Decided::VersionDemoted(d) => self.channels.retain(|c| *c.name != *d.channel),
            Decided::AliasSet(d) => point(&mut self.aliases, &d.alias, d.version),
            Decided::AliasRemoved(d) => self.aliases.retain(|a| *a.name != *d.alias),
            Decided::DeploymentRequested(d) => deploy::evolve_deployment_requested(self, d),
            Decided::DeploymentSucceeded(d) => deploy::evolve_deployed(self, d),
            Decided::DeploymentFailed(d) => deploy::evolve_deployment(self, &d.deployment, DeploymentState::Failed),
            Decided::DeploymentRemoved(d) => deploy::evolve_deployment(self, &d.deployment, DeploymentState::Removed),
            Decided::DeploymentRolledBack(d) => deploy::evolve_rolled_back(self, d),
            Decided::DriftDetected(d) => monitor::evolve_drifted(self, d),
            Decided::DriftResolved(d) => monitor::evolve_resolved(self, d),
            Decided::RetrainRequested(d) => push(&mut self.retrains, d.dedup.as_str().into()),
            Decided::VersionRetired(d) => maintain::evolve_retired(self, d),
            Decided::TriggerChanged(d) => govern::evolve_trigger(self, d),
            Decided::SubscriptionChanged(d) => govern::evolve_subscription(self, d),
            // a refusal changes nothing, and the others are about no model
            Decided::ProposalRefused(_)
            | Decided::JournalOpened(_)
            | Decided::JournalContinued(_)
            | Decided::PartitionProgressed(_)
            | Decided::PartitionHalted(_)
            | Decided::PartitionResumed(_) => {}
        }
    }

    /// The number of a version that somebody named.
    #[must_use]
    pub fn resolve(&self, named: &VersionRef) -> Option<u64> {
        match named {
            VersionRef::Number(number) => self.version(*number).map(|_| *number),
            VersionRef::Label(label) => (1..).zip(&self.versions).find(|(_, v)| v.label.as_deref() == Some(label)).map(|(n, _)| n),
            VersionRef::Run(run) => {
                self.versions.iter().rposition(|v| v.run.as_deref() == Some(run)).and_then(|i| u64::try_from(i + 1).ok())
            }
        }
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&Version> {
        self.versions.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The version that a channel holds.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<u64> {
        self.channels.iter().find(|c| *c.name == *name).map(|c| c.version)
    }

    /// The version that an alias names.
    #[must_use]
    pub fn alias(&self, name: &str) -> Option<u64> {
        self.aliases.iter().find(|a| *a.name == *name).map(|a| a.version)
    }

    /// The triggers of a workspace, also the removed ones.
    #[must_use]
    pub fn triggers(&self) -> &[Rule] {
        self.standing.as_ref().map_or(&[], |standing| &standing.triggers)
    }

    /// The subscriptions of a workspace, also the removed ones.
    #[must_use]
    pub fn subscriptions(&self) -> &[Rule] {
        self.standing.as_ref().map_or(&[], |standing| &standing.subscriptions)
    }

    /// The state as a refusal shows it: small, whatever the model's size.
    #[must_use]
    pub fn summary(&self) -> serde_json::Value {
        let pointers =
            |list: &[Pointer]| list.iter().take(20).map(|p| (p.name.to_string(), p.version.into())).collect::<serde_json::Map<_, _>>();
        json!({
            "modelseq": self.modelseq,
            "versions": self.versions.len(),
            "channels": pointers(&self.channels),
            "aliases": pointers(&self.aliases),
        })
    }
}

/// The refusal of a name that cannot be one.
pub(crate) fn bad_name(bad: &BadName) -> Refusal {
    Refusal::new(Code::SchemaViolation, bad.to_string(), "choose another")
}

/// Appends, and gives a first element no room to grow: most models have one version and one run.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push(item);
}

/// Lets a channel or an alias name a version.
pub(crate) fn point(pointers: &mut Vec<Pointer>, name: &str, version: u64) {
    match pointers.iter_mut().find(|p| *p.name == *name) {
        Some(pointer) => pointer.version = version,
        None => push(pointers, Pointer { name: name.into(), version }),
    }
}
