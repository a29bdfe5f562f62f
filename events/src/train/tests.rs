//! Rules of runs, versions and evaluations.

use serde_json::json;

use crate::model::Model;
use crate::names::VersionRef;
use crate::stage::{Then, check, digest, iris, registered, trained};
use crate::verdict::Code;

#[test]
fn a_run_is_known_by_its_id_and_once() {
    let stage = check(&[], &trained("run-1", 'a'), &Then::Accepted(json!({ "run": "run-1", "digest": digest('a'), "created": true })));
    assert_eq!(stage.iris().runs.len(), 1);
    check(&[trained("run-1", 'a')], &trained("run-1", 'a'), &Then::Refused(Code::RunKnown, "run-1"));
    check(
        &[trained("run-1", 'a')],
        &trained("run-2", 'a'),
        &Then::Accepted(json!({ "run": "run-2", "digest": digest('a'), "created": false })),
    );
}

#[test]
fn a_run_may_end_without_a_digest() {
    let data = json!({ "run": { "id": "run-1" }, "artifact": { "uri": "file:///iris/model.pkl" } });
    check(&[], &iris("trained", "", data), &Then::Accepted(json!({ "run": "run-1", "created": true })));
}

#[test]
fn what_was_found_of_a_commit_is_told_of_a_run_that_was_reported() {
    let looked = |run: &str, outcome: &str| {
        let code = json!({ "repository": "https://git.example/iris", "commit": "9fceb02" });
        iris("checked", "", json!({ "run": run, "code": code, "outcome": outcome, "branches": ["main"], "tags": [] }))
    };
    let given = [trained("run-1", 'a')];
    for outcome in ["found", "dirty", "missing", "ambiguous", "shallow", "unreachable", "denied", "unnamed"] {
        let stage = check(&given, &looked("run-1", outcome), &Then::Accepted(json!({ "run": "run-1", "outcome": outcome })));
        assert_eq!(stage.iris().runs.len(), 1);
    }
    check(&given, &looked("run-2", "found"), &Then::Refused(Code::IllegalTransition, "`run-2` was not reported"));
    check(&given, &looked("run-1", "fine"), &Then::Malformed(Code::SchemaViolation, "/outcome"));
}

#[test]
fn versions_count_from_one_and_the_label_and_run_are_theirs() {
    let data = json!({ "artifact": { "digest": digest('a') }, "label": "1.0", "run": "run-1" });
    let decided = json!({ "version": 1, "label": "1.0", "digest": digest('a'), "run": "run-1", "external": false, "created": false });
    let stage = check(&[trained("run-1", 'a')], &iris("registered", "", data).by("ann"), &Then::Accepted(decided));
    let iris = stage.iris();
    for name in [VersionRef::Number(1), VersionRef::Label("1.0".into()), VersionRef::Run("run-1".into())] {
        assert_eq!(Model::resolve(&iris, &name), Some(1), "{name}");
    }
    assert_eq!(*iris.versions[0].author, *"unverified:ann");
}

#[test]
fn a_run_that_was_never_reported_is_external_and_a_missing_digest_comes_from_the_run() {
    let data = json!({ "artifact": { "uri": "s3://iris/model.pkl" }, "run": "run-1" });
    let step = iris("registered", "", data);
    check(&[], &step, &Then::Accepted(json!({ "version": 1, "run": "run-1", "external": true, "created": true })));
    let decided = json!({ "version": 1, "digest": digest('a'), "run": "run-1", "external": false, "created": false });
    check(&[trained("run-1", 'a')], &step, &Then::Accepted(decided));
}

#[test]
fn a_digest_that_the_run_did_not_make_is_refused() {
    let data = json!({ "artifact": { "digest": digest('b') }, "run": "run-1" });
    check(&[trained("run-1", 'a')], &iris("registered", "", data), &Then::Refused(Code::DigestMismatch, "not sha256:bbbb"));
}

#[test]
fn a_label_is_one_versions_only_and_the_same_content_is_no_duplicate() {
    let labelled = iris("registered", "", json!({ "artifact": { "digest": digest('a') }, "label": "1.0" }));
    check(&[registered('a'), labelled.clone()], &labelled, &Then::Refused(Code::LabelTaken, "`1.0` is version 2's"));
    let decided = json!({ "version": 2, "digest": digest('a'), "external": false, "created": false });
    check(&[registered('a')], &registered('a'), &Then::Accepted(decided));
}

#[test]
fn a_label_must_be_a_name_and_a_run_an_identifier() {
    for (label, words) in [("12", "all digits"), ("a/b", "must not contain"), ("run:x", "must not contain"), (" a", "blank")] {
        let data = json!({ "artifact": { "digest": digest('a') }, "label": label });
        check(&[], &iris("registered", "", data), &Then::Refused(Code::SchemaViolation, words));
    }
    let long = "ü".repeat(200); // 200 characters fit the schema, 400 bytes do not fit a subject
    let then = Then::Refused(Code::SchemaViolation, "longer than 255 bytes");
    check(&[], &trained(&long, 'a'), &then);
    check(&[], &iris("registered", "", json!({ "artifact": { "digest": digest('a') }, "run": long })), &then);
}

#[test]
fn a_registration_needs_a_uri_or_a_digest() {
    check(&[], &iris("registered", "", json!({ "artifact": {} })), &Then::Malformed(Code::SchemaViolation, "/artifact"));
    check(&[], &iris("registered", "", json!({})), &Then::Malformed(Code::SchemaViolation, "artifact"));
    let data = json!({ "artifact": { "digest": "sha256:AB" } });
    check(&[], &iris("registered", "", data), &Then::Malformed(Code::SchemaViolation, "/artifact/digest"));
}

#[test]
fn an_evaluation_speaks_of_the_versions_bytes() {
    let data = json!({ "suite": "iris-holdout", "verdict": "passed" });
    let decided = json!({ "version": 1, "digest": digest('a'), "verdict": "passed" });
    check(&[registered('a')], &iris("evaluated", "1", data.clone()), &Then::Accepted(decided));
    check(&[registered('a')], &iris("evaluated", "2", data.clone()), &Then::Refused(Code::UnknownVersion, "no version `2`"));
    check(&[registered('a')], &iris("evaluated", "1.0", data.clone()), &Then::Refused(Code::UnknownVersion, "`1.0`"));
    check(&[registered('a')], &iris("evaluated", "run:r", data), &Then::Refused(Code::UnknownVersion, "`run:r`"));
}

#[test]
fn a_version_is_found_by_label_and_by_its_run_and_recorded_by_number() {
    let data = json!({ "artifact": { "digest": digest('a') }, "label": "1.0", "run": "cron/2026-03-01" });
    for named in ["1.0", "run:cron/2026-03-01", "2"] {
        let decided = json!({ "version": 2, "digest": digest('a'), "verdict": "failed" });
        let step = iris("evaluated", named, json!({ "suite": "s", "verdict": "failed" }));
        let stage = check(&[registered('b'), iris("registered", "", data.clone())], &step, &Then::Accepted(decided));
        assert_eq!(stage.records.last().unwrap().view().unwrap().subject, "default/iris/2");
    }
}
