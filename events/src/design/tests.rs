//! Rules of a model's beginning.

use serde_json::json;

use crate::kind::Kind;
use crate::stage::{IRIS, Then, check, iris, registered, trained};
use crate::verdict::Code;

#[test]
fn a_model_is_created_under_the_open_policy() {
    check(&[], &iris("created", "", json!({})), &Then::Accepted(json!({ "policy": "open" })));
    let data = json!({ "owner": "ann", "purpose": "teaching", "risk_tier": "low", "policy": "open", "tags": { "team": "flowers" } });
    check(&[], &iris("created", "", data), &Then::Accepted(json!({ "policy": "open" })));
}

#[test]
fn a_model_is_not_created_twice_nor_after_it_came_to_be_by_a_run() {
    let again = iris("created", "", json!({}));
    let then = Then::Refused(Code::ModelExists, "exists already");
    check(&[iris("created", "", json!({}))], &again, &then);
    check(&[trained("run-1", 'a')], &again, &then);
    check(&[registered('a')], &again, &then);
}

#[test]
fn a_policy_that_is_not_built_yet_is_refused_by_the_schema() {
    check(&[], &iris("created", "", json!({ "policy": "governed" })), &Then::Malformed(Code::SchemaViolation, "/policy"));
}

#[test]
fn a_producer_may_ask_that_the_model_exists() {
    let unknown = Then::Refused(Code::UnknownModel, "no model `default/iris`");
    for step in [iris("created", "", json!({})), trained("run-1", 'a'), registered('a')] {
        check(&[], &step.with("modelexists", "true"), &unknown);
    }
    let data = json!({ "run": "run-1", "digest": crate::stage::digest('a'), "created": false });
    check(&[iris("created", "", json!({}))], &trained("run-1", 'a').with("modelexists", "true"), &Then::Accepted(data));
}

#[test]
fn every_kind_but_the_three_that_begin_a_model_needs_one() {
    let unknown = Then::Refused(Code::UnknownModel, "no model `default/iris`");
    for (kind, step) in crate::golden::samples().into_iter().filter(|(_, step)| step.key() == IRIS) {
        if ![Kind::ModelCreated, Kind::RunTrained, Kind::VersionRegistered].contains(&kind) {
            check(&[], &step, &unknown);
        }
    }
}
