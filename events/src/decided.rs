//! What the engine decided of a proposal: the half of an event that states are folded from.

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::record::Corrupt;
use crate::{control, deploy, design, govern, maintain, monitor, train};

/// What the engine decided of a proposal; its JSON is the `decided` half of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // the variants are the kinds, the structs have the words
pub enum Decided {
    ModelCreated(design::Created),
    RunTrained(train::Trained),
    RunChecked(train::Checked),
    VersionRegistered(train::Registered),
    VersionEvaluated(train::Evaluated),
    ApprovalRequested(deploy::ApprovalRequested),
    ApprovalDecided(deploy::ApprovalDecided),
    VersionPromoted(deploy::Promoted),
    VersionDemoted(deploy::Demoted),
    AliasSet(deploy::AliasSet),
    AliasRemoved(deploy::AliasRemoved),
    DeploymentRequested(deploy::DeploymentRequested),
    DeploymentSucceeded(deploy::DeploymentSucceeded),
    DeploymentFailed(deploy::DeploymentEnded),
    DeploymentRemoved(deploy::DeploymentEnded),
    DeploymentRolledBack(deploy::DeploymentRolledBack),
    DeploymentObserved(deploy::DeploymentObserved),
    ModelMeasured(monitor::Measured),
    DriftDetected(monitor::DriftDetected),
    DriftResolved(monitor::DriftResolved),
    RetrainRequested(maintain::RetrainRequested),
    VersionRetired(maintain::Retired),
    TriggerChanged(govern::TriggerChanged),
    SubscriptionChanged(govern::SubscriptionChanged),
    ProposalRefused(design::Refused),
    JournalOpened(design::Opened),
    JournalContinued(control::Continued),
    PartitionProgressed(control::Progressed),
    PartitionHalted(control::Halted),
    PartitionResumed(control::Resumed),
}

impl Decided {
    /// Reads the `decided` half of an event.
    ///
    /// # Errors
    /// [`Corrupt`] if it is not what this kind's `decided` looks like.
    pub fn parse(kind: Kind, json: &str) -> Result<Self, Corrupt> {
        fn read<'a, T: Deserialize<'a>>(json: &'a str, wrap: impl Fn(T) -> Decided) -> Result<Decided, Corrupt> {
            serde_json::from_str(json).map(wrap).map_err(|e| Corrupt(format!("`decided` is not readable: {e}")))
        }
        match kind {
            Kind::ModelCreated => read(json, Self::ModelCreated),
            Kind::RunTrained => read(json, Self::RunTrained),
            Kind::RunChecked => read(json, Self::RunChecked),
            Kind::VersionRegistered => read(json, Self::VersionRegistered),
            Kind::VersionEvaluated => read(json, Self::VersionEvaluated),
            Kind::ApprovalRequested => read(json, Self::ApprovalRequested),
            Kind::ApprovalDecided => read(json, Self::ApprovalDecided),
            Kind::VersionPromoted => read(json, Self::VersionPromoted),
            Kind::VersionDemoted => read(json, Self::VersionDemoted),
            Kind::AliasSet => read(json, Self::AliasSet),
            Kind::AliasRemoved => read(json, Self::AliasRemoved),
            Kind::DeploymentRequested => read(json, Self::DeploymentRequested),
            Kind::DeploymentSucceeded => read(json, Self::DeploymentSucceeded),
            Kind::DeploymentFailed => read(json, Self::DeploymentFailed),
            Kind::DeploymentRemoved => read(json, Self::DeploymentRemoved),
            Kind::DeploymentRolledBack => read(json, Self::DeploymentRolledBack),
            Kind::DeploymentObserved => read(json, Self::DeploymentObserved),
            Kind::ModelMeasured => read(json, Self::ModelMeasured),
            Kind::DriftDetected => read(json, Self::DriftDetected),
            Kind::DriftResolved => read(json, Self::DriftResolved),
            Kind::RetrainRequested => read(json, Self::RetrainRequested),
            Kind::VersionRetired => read(json, Self::VersionRetired),
            Kind::TriggerChanged => read(json, Self::TriggerChanged),
            Kind::SubscriptionChanged => read(json, Self::SubscriptionChanged),
            Kind::ProposalRefused => read(json, Self::ProposalRefused),
            Kind::JournalOpened => read(json, Self::JournalOpened),
            Kind::JournalContinued => read(json, Self::JournalContinued),
            Kind::PartitionProgressed => read(json, Self::PartitionProgressed),
            Kind::PartitionHalted => read(json, Self::PartitionHalted),
            Kind::PartitionResumed => read(json, Self::PartitionResumed),
        }
    }

    /// Where judging goes on behind the event, if it says so: behind its own proposal, `src`, or elsewhere.
    #[must_use]
    pub fn next_src(&self, src: Option<u64>) -> Option<u64> {
        match self {
            Self::PartitionHalted(d) => Some(d.resume),
            Self::JournalContinued(d) => Some(d.base),
            _ => src.map(|src| src + 1),
        }
    }

    /// The version that the event is about, where there is one.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::VersionRegistered(d) => Some(d.version),
            Self::VersionEvaluated(d) => Some(d.version),
            Self::ApprovalRequested(d) => Some(d.version),
            Self::ApprovalDecided(d) => Some(d.version),
            Self::VersionPromoted(d) => Some(d.version),
            Self::VersionDemoted(d) => Some(d.version),
            Self::AliasSet(d) => Some(d.version),
            Self::AliasRemoved(d) => Some(d.from),
            Self::DeploymentRequested(d) => Some(d.version),
            Self::DeploymentSucceeded(d) => Some(d.version),
            Self::DeploymentFailed(d) | Self::DeploymentRemoved(d) => Some(d.version),
            Self::DeploymentRolledBack(d) => Some(d.version),
            Self::DeploymentObserved(d) => d.version,
            Self::ModelMeasured(d) => d.version,
            Self::DriftDetected(d) => d.version,
            Self::DriftResolved(d) => d.version,
            Self::VersionRetired(d) => Some(d.version),
            Self::ModelCreated(_)
            | Self::RunTrained(_)
            | Self::RunChecked(_)
            | Self::RetrainRequested(_)
            | Self::TriggerChanged(_)
            | Self::SubscriptionChanged(_)
            | Self::ProposalRefused(_)
            | Self::JournalOpened(_)
            | Self::JournalContinued(_)
            | Self::PartitionProgressed(_)
            | Self::PartitionHalted(_)
            | Self::PartitionResumed(_) => None,
        }
    }
}
