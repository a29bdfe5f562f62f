//! The published JSON Schemas (2020-12), compiled in: what `data` and `decided` of a kind may hold.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::kind::Kind;
use crate::verdict::Violation;

/// Most fields that one answer names.
const VIOLATIONS_MAX: usize = 20;

/// Longest description of one field's fault, in bytes: a fault quotes the value, which may be large.
const MESSAGE_BYTES_MAX: usize = 400;

/// Which half of an event's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The producer's.
    Data,
    /// The engine's.
    Decided,
}

/// The schema's text, as published in `events/schemas`.
#[must_use]
pub fn text(kind: Kind, half: Half) -> &'static str {
    match half {
        Half::Data => sources(kind).0,
        Half::Decided => sources(kind).1,
    }
}

/// Checks a value; an empty list means that it fits.
///
/// # Panics
/// If a compiled-in schema is not a schema, which a test excludes.
#[must_use]
pub fn violations(kind: Kind, half: Half, value: &Value) -> Vec<Violation> {
    static VALIDATORS: OnceLock<Vec<[OnceLock<Validator>; 2]>> = OnceLock::new();
    let all = VALIDATORS.get_or_init(|| Kind::ALL.iter().map(|_| Default::default()).collect());
    let validator = all[kind as usize][half as usize].get_or_init(|| compile(text(kind, half)));
    if validator.is_valid(value) {
        return Vec::new();
    }
    validator
        .iter_errors(value)
        .take(VIOLATIONS_MAX)
        .map(|e| Violation { field: e.instance_path().to_string(), message: cut(e.to_string()) })
        .collect()
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - '…'.len_utf8()));
        message.push('…');
    }
    message
}

fn compile(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).expect("a compiled-in schema is JSON");
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).expect("a compiled-in schema is a schema")
}

macro_rules! schemas {
    ($($kind:ident $dotted:literal,)*) => {
        fn sources(kind: Kind) -> (&'static str, &'static str) {
            match kind {
                $(Kind::$kind => (
                    include_str!(concat!("../schemas/", $dotted, ".v1.data.json")),
                    include_str!(concat!("../schemas/", $dotted, ".v1.decided.json")),
                ),)*
            }
        }
    };
}

schemas! {
    ModelCreated "model.created",
    RunTrained "run.trained",
    RunChecked "run.checked",
    VersionRegistered "version.registered",
    VersionEvaluated "version.evaluated",
    ApprovalRequested "approval.requested",
    ApprovalDecided "approval.decided",
    VersionPromoted "version.promoted",
    VersionDemoted "version.demoted",
    AliasSet "alias.set",
    AliasRemoved "alias.removed",
    DeploymentRequested "deployment.requested",
    DeploymentSucceeded "deployment.succeeded",
    DeploymentFailed "deployment.failed",
    DeploymentRemoved "deployment.removed",
    DeploymentRolledBack "deployment.rolled_back",
    DeploymentObserved "deployment.observed",
    ModelMeasured "model.measured",
    DriftDetected "drift.detected",
    DriftResolved "drift.resolved",
    RetrainRequested "retrain.requested",
    VersionRetired "version.retired",
    TriggerChanged "trigger.changed",
    SubscriptionChanged "subscription.changed",
    ProposalRefused "proposal.refused",
    JournalOpened "journal.opened",
    JournalContinued "journal.continued",
    PartitionProgressed "partition.progressed",
    PartitionHalted "partition.halted",
    PartitionResumed "partition.resumed",
}

#[cfg(test)]
mod frozen;
#[cfg(test)]
mod tests;
