//! The event types: one list, from which names, short names and schemas are read.

use std::fmt;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident $dotted:literal $short:literal $topic:ident,)*) => {
        /// What happened, or is asked for. A `match` names every variant, so that a new one makes
        /// the compiler list every place that must have an opinion.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[doc = $doc])* $kind,)* }

        impl Kind {
            /// Every kind, in the order of a model's life.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The CloudEvents type, such as `dev.annals.version.promoted.v1`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => concat!("dev.annals.", $dotted, ".v1"),)* }
            }

            /// `version.promoted`: the type without the prefix and the version of its schema.
            #[must_use]
            pub fn dotted(self) -> &'static str {
                match self { $(Self::$kind => $dotted,)* }
            }

            /// The word that the doors take: `promoted`.
            #[must_use]
            pub fn short(self) -> &'static str {
                match self { $(Self::$kind => $short,)* }
            }

            /// Whether the subject names a version.
            #[must_use]
            pub fn about(self) -> About {
                match self { $(Self::$kind => About::$topic,)* }
            }

            /// Reads a CloudEvents type.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(concat!("dev.annals.", $dotted, ".v1") => Some(Self::$kind),)* _ => None }
            }

            /// Reads what a person may write: the whole type, `version.promoted` or `promoted`.
            #[must_use]
            pub fn from_any(name: &str) -> Option<Self> {
                match name { $($dotted | $short => Some(Self::$kind),)* _ => Self::from_name(name) }
            }
        }
    };
}

/// What the subject of a kind names behind the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing: the subject is `workspace/model`.
    Model,
    /// A version, always.
    Version,
    /// A version, if the producer wants to name it.
    Either,
    /// Nothing, and it is about no model: the subject is `workspace/_system`.
    Workspace,
    /// A model, with a version if the producer wants to name it, or no model: `workspace/_system`.
    Target,
    /// Only the engine writes it.
    Engine,
}

kinds! {
    /// A model got its name.
    ModelCreated "model.created" "created" Model,
    /// A training run ended with an artifact.
    RunTrained "run.trained" "trained" Model,
    /// The commit of a run was looked up in its repository.
    RunChecked "run.checked" "checked" Model,
    /// A version got its number.
    VersionRegistered "version.registered" "registered" Model,
    /// A version was measured against thresholds.
    VersionEvaluated "version.evaluated" "evaluated" Version,
    /// Somebody asked for a version's release to a channel.
    ApprovalRequested "approval.requested" "approval-requested" Version,
    /// Somebody answered.
    ApprovalDecided "approval.decided" "approval-decided" Either,
    /// A channel now holds this version.
    VersionPromoted "version.promoted" "promoted" Version,
    /// A channel no longer holds this version.
    VersionDemoted "version.demoted" "demoted" Version,
    /// An alias points to this version.
    AliasSet "alias.set" "alias-set" Version,
    /// An alias is gone.
    AliasRemoved "alias.removed" "alias-removed" Either,
    /// A version is wanted on a target.
    DeploymentRequested "deployment.requested" "deployment-requested" Version,
    /// It runs there.
    DeploymentSucceeded "deployment.succeeded" "deployed" Either,
    /// It did not come up.
    DeploymentFailed "deployment.failed" "deployment-failed" Either,
    /// It no longer runs there.
    DeploymentRemoved "deployment.removed" "deployment-removed" Either,
    /// It was taken back, and what ran before runs again.
    DeploymentRolledBack "deployment.rolled_back" "rolled-back" Either,
    /// Something was found on a target that nobody asked for here.
    DeploymentObserved "deployment.observed" "observed" Target,
    /// A metric of a model in use.
    ModelMeasured "model.measured" "measured" Either,
    /// A model in use no longer fits its data.
    DriftDetected "drift.detected" "drifted" Either,
    /// It fits again, or was judged harmless.
    DriftResolved "drift.resolved" "drift-resolved" Either,
    /// A new training is wanted.
    RetrainRequested "retrain.requested" "retrain-requested" Model,
    /// A version is no longer to be used.
    VersionRetired "version.retired" "retired" Version,
    /// A rule that acts was set, paused, resumed or removed.
    TriggerChanged "trigger.changed" "trigger-changed" Workspace,
    /// A party that listens was set, paused, resumed or removed.
    SubscriptionChanged "subscription.changed" "subscription-changed" Workspace,
    /// A proposal that mattered was refused.
    ProposalRefused "proposal.refused" "refused" Engine,
    /// A partition of the journal begins.
    JournalOpened "journal.opened" "journal-opened" Engine,
    /// The journal goes on behind an import, with another log of proposals.
    JournalContinued "journal.continued" "journal-continued" Engine,
    /// Every proposal up to an offset is judged.
    PartitionProgressed "partition.progressed" "partition-progressed" Engine,
    /// A partition stands still: somebody else wrote into it.
    PartitionHalted "partition.halted" "partition-halted" Engine,
    /// A person lets it go on.
    PartitionResumed "partition.resumed" "partition-resumed" Engine,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dotted())
    }
}
