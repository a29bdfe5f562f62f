//! Rules of measurements and drifts.

use serde_json::json;

use crate::stage::{Step, Then, check, iris, registered};
use crate::verdict::Code;

fn drift(version: &str) -> Step {
    iris("drifted", version, json!({ "drift": "d-1", "kind": "data", "metric": "psi", "observed": 0.4 }))
}

fn resolved(version: &str) -> Step {
    iris("drift-resolved", version, json!({ "drift": "d-1" }))
}

fn deployment() -> Step {
    let data = json!({ "deployment": "dep-1", "target": { "platform": "local", "name": "scorer" } });
    iris("deployment-requested", "1", data)
}

#[test]
fn a_measurement_is_of_the_model_a_version_or_a_deployment() {
    let measured = |version: &str| iris("measured", version, json!({ "metric": "accuracy", "value": 0.93 }));
    check(&[registered('a')], &measured(""), &Then::Accepted(json!({})));
    check(&[registered('a')], &measured("1"), &Then::Accepted(json!({ "version": 1 })));
    check(&[registered('a')], &measured("7"), &Then::Refused(Code::UnknownVersion, "`7`"));
    let on = |version: &str, id: &str| iris("measured", version, json!({ "metric": "accuracy", "value": 0.93, "deployment": id }));
    let given = [registered('a'), registered('b'), deployment()];
    check(&given, &on("", "dep-1"), &Then::Accepted(json!({ "version": 1 })));
    check(&given, &on("2", "dep-1"), &Then::Refused(Code::SubjectMismatch, "version 2"));
    check(&given, &on("", "dep-9"), &Then::Refused(Code::IllegalTransition, "`dep-9`"));
}

#[test]
fn a_drift_is_reported_once_and_never_of_a_guessed_version() {
    check(&[registered('a')], &drift(""), &Then::Accepted(json!({ "drift": "d-1" })));
    check(&[registered('a')], &drift("1"), &Then::Accepted(json!({ "drift": "d-1", "version": 1 })));
    check(&[registered('a')], &drift("2"), &Then::Refused(Code::UnknownVersion, "`2`"));
    check(&[registered('a'), drift("1")], &drift(""), &Then::Refused(Code::NoChange, "reported before"));
    let long = iris("drifted", "", json!({ "drift": "ü".repeat(200), "kind": "data", "metric": "psi", "observed": 1 }));
    check(&[registered('a')], &long, &Then::Refused(Code::SchemaViolation, "255 bytes"));
}

#[test]
fn a_drift_is_resolved_once_and_only_if_it_was_seen() {
    let given = [registered('a'), registered('b'), drift("1")];
    let decided = Then::Accepted(json!({ "drift": "d-1", "version": 1 }));
    check(&given, &resolved(""), &decided);
    check(&given, &resolved("1"), &decided);
    check(&given, &resolved("2"), &Then::Refused(Code::SubjectMismatch, "version 2"));
    check(&[registered('a')], &resolved(""), &Then::Refused(Code::IllegalTransition, "no drift `d-1`"));
    let [a, b, c] = given;
    check(&[a, b, c, resolved("")], &resolved(""), &Then::Refused(Code::NoChange, "resolved already"));
}
