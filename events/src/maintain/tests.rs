//! Rules of retraining and retirement.

use serde_json::{Value, json};

use crate::stage::{Step, Then, check, iris, promoted, registered};
use crate::verdict::Code;

fn drift() -> Step {
    iris("drifted", "", json!({ "drift": "d-1", "kind": "data", "metric": "psi", "observed": 0.4 }))
}

fn retrain(cause: Value) -> Step {
    iris("retrain-requested", "", json!({ "cause": cause }))
}

fn retired(version: &str) -> Step {
    iris("retired", version, json!({ "reason": "replaced" }))
}

#[test]
fn a_retraining_is_open_until_a_version_answers_it() {
    let by_drift = retrain(json!({ "kind": "drift", "drift": "d-1" }));
    let decided = Then::Accepted(json!({ "dedup": "drift:d-1", "drift": "d-1" }));
    check(&[registered('a'), drift()], &by_drift, &decided);
    check(&[registered('a'), drift(), by_drift.clone()], &by_drift, &Then::Refused(Code::NoChange, "open already"));
    check(&[registered('a'), drift(), by_drift.clone(), registered('b')], &by_drift, &decided);
}

#[test]
fn a_retraining_for_a_drift_that_nobody_saw_is_refused() {
    let step = retrain(json!({ "kind": "drift", "drift": "d-9" }));
    check(&[registered('a'), drift()], &step, &Then::Refused(Code::IllegalTransition, "no drift `d-9`"));
}

#[test]
fn a_schedule_and_a_person_may_ask_and_another_dedup_is_another_retraining() {
    let by_person = retrain(json!({ "kind": "person" }));
    check(&[registered('a')], &by_person, &Then::Accepted(json!({ "dedup": "person" })));
    let named = iris("retrain-requested", "", json!({ "cause": { "kind": "person" }, "dedup": "march" }));
    check(&[registered('a'), by_person], &named, &Then::Accepted(json!({ "dedup": "march" })));
    let long = iris("retrain-requested", "", json!({ "cause": { "kind": "person" }, "dedup": "ü".repeat(200) }));
    check(&[registered('a')], &long, &Then::Refused(Code::SchemaViolation, "255 bytes"));
}

#[test]
fn a_version_that_nothing_holds_is_retired_once() {
    let stage = check(&[registered('a')], &retired("1"), &Then::Accepted(json!({ "version": 1 })));
    assert!(stage.iris().versions[0].retired);
    check(&[registered('a'), retired("1")], &retired("1"), &Then::Refused(Code::NoChange, "retired already"));
    check(&[registered('a')], &retired("2"), &Then::Refused(Code::UnknownVersion, "`2`"));
    check(&[registered('a')], &iris("retired", "1", json!({})), &Then::Malformed(Code::SchemaViolation, "reason"));
}

#[test]
fn a_version_that_a_channel_or_a_deployment_holds_is_not_retired() {
    let held = Then::Refused(Code::VersionHeld, "`production` holds version 1");
    check(&[registered('a'), promoted("1", "production")], &retired("1"), &held);
    let demoted = iris("demoted", "1", json!({ "channel": "production", "reason": "wrong" }));
    let free = Then::Accepted(json!({ "version": 1 }));
    check(&[registered('a'), promoted("1", "production"), demoted], &retired("1"), &free);

    let data = json!({ "deployment": "dep-1", "target": { "platform": "local", "name": "scorer" } });
    let requested = iris("deployment-requested", "1", data);
    let deployed = iris("deployed", "", json!({ "deployment": "dep-1" }));
    let removed = iris("deployment-removed", "", json!({ "deployment": "dep-1", "reason": "over" }));
    let used = Then::Refused(Code::VersionHeld, "`dep-1` uses version 1");
    check(&[registered('a'), requested.clone()], &retired("1"), &used);
    check(&[registered('a'), requested.clone(), deployed.clone()], &retired("1"), &used);
    check(&[registered('a'), requested, deployed, removed], &retired("1"), &free);
}
