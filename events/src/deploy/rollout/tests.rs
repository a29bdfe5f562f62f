//! Rules of rollbacks, and of what is found on a target.

use serde_json::{Value, json};

use crate::model::DeploymentState;
use crate::stage::{Stage, Step, Then, check, iris, of_system, registered};
use crate::verdict::Code;

fn wanted(id: &str, version: &str, name: &str) -> Step {
    iris("deployment-requested", version, json!({ "deployment": id, "target": { "platform": "local", "name": name } }))
}

fn deployed(id: &str) -> Step {
    iris("deployed", "", json!({ "deployment": id }))
}

fn failed(id: &str) -> Step {
    iris("deployment-failed", "", json!({ "deployment": id, "error": "no memory" }))
}

fn removed(id: &str) -> Step {
    iris("deployment-removed", "", json!({ "deployment": id, "reason": "over" }))
}

fn taken_back(id: &str) -> Step {
    iris("rolled-back", "", json!({ "deployment": id, "reason": "the health check failed", "error": "503" }))
}

/// Three versions; `a`, `b` and `c` are asked for on one target, and `x` on another.
fn given(more: &[Step]) -> Vec<Step> {
    let start =
        [registered('a'), registered('b'), registered('c'), wanted("x", "1", "elsewhere"), deployed("x"), wanted("a", "1", "scorer")];
    start.into_iter().chain(more.iter().cloned()).collect()
}

fn to(id: &str, version: u64, restored: Option<&str>) -> Then {
    let mut decided = json!({ "deployment": id, "version": version });
    if let Some(restored) = restored {
        decided["restored"] = restored.into();
    }
    Then::Accepted(decided)
}

fn states(stage: &Stage) -> Vec<(String, &'static str)> {
    stage.iris().deployments.iter().map(|d| (d.id.to_string(), d.state.word())).collect()
}

fn are(list: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    list.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect()
}

#[test]
fn a_rollback_restores_what_the_deployment_took_the_target_from() {
    let two = given(&[deployed("a"), wanted("b", "2", "scorer"), deployed("b")]);
    let stage = check(&two, &taken_back("b"), &to("b", 2, Some("a")));
    assert_eq!(states(&stage), are(&[("x", "active"), ("a", "active"), ("b", "rolled_back")]));
    let three = [&two[..], &[wanted("c", "3", "scorer"), deployed("c"), taken_back("c")]].concat();
    let stage = check(&three, &taken_back("b"), &to("b", 2, Some("a")));
    assert_eq!(states(&stage), are(&[("x", "active"), ("a", "active"), ("b", "rolled_back"), ("c", "rolled_back")]));
    let again = [&two[..], &[taken_back("b"), wanted("c", "3", "scorer")]].concat();
    check(&again, &deployed("c"), &Then::Accepted(json!({ "deployment": "c", "version": 3, "replaces": "a" })));
}

#[test]
fn the_one_that_was_replaced_comes_back_in_whatever_order_they_were_asked_for() {
    let crossed = given(&[wanted("b", "2", "scorer"), deployed("b"), deployed("a"), wanted("c", "3", "scorer"), deployed("c")]);
    let stage = check(&crossed, &taken_back("c"), &to("c", 3, Some("a")));
    assert_eq!(states(&stage)[1..], are(&[("a", "active"), ("b", "superseded"), ("c", "rolled_back")]));
    let back = [&crossed[..], &[taken_back("c")]].concat();
    check(&back, &taken_back("a"), &to("a", 1, Some("b")));
}

#[test]
fn one_that_never_came_up_leaves_what_is_there() {
    let broken = given(&[deployed("a"), wanted("b", "2", "scorer"), failed("b")]);
    let stage = check(&broken, &taken_back("b"), &to("b", 2, Some("a")));
    assert_eq!(states(&stage)[1..], are(&[("a", "active"), ("b", "rolled_back")]));
}

#[test]
fn nothing_is_restored_where_nothing_was_before() {
    check(&given(&[deployed("a")]), &taken_back("a"), &to("a", 1, None));
    check(&given(&[failed("a")]), &taken_back("a"), &to("a", 1, None));
    let emptied =
        given(&[deployed("a"), wanted("b", "2", "scorer"), deployed("b"), removed("b"), wanted("c", "3", "scorer"), deployed("c")]);
    check(&emptied, &taken_back("c"), &to("c", 3, None));
}

#[test]
fn only_the_newest_of_a_target_is_rolled_back_and_only_once() {
    let refused = |words| Then::Refused(Code::IllegalTransition, words);
    check(&given(&[]), &taken_back("a"), &refused("`a` is requested"));
    check(&given(&[deployed("a"), removed("a")]), &taken_back("a"), &refused("`a` is removed"));
    check(&given(&[deployed("a"), taken_back("a")]), &taken_back("a"), &refused("`a` is rolled_back"));
    check(&given(&[]), &taken_back("q"), &refused("no deployment `q`"));
    check(
        &given(&[deployed("a"), wanted("b", "2", "scorer")]),
        &taken_back("a"),
        &refused("`b` of the same target is newer and requested"),
    );
    check(&given(&[deployed("a"), wanted("b", "2", "scorer"), failed("b")]), &taken_back("a"), &refused("newer and failed"));
    check(&given(&[deployed("a"), wanted("b", "2", "scorer"), deployed("b")]), &taken_back("a"), &refused("`a` is superseded"));
    check(&given(&[deployed("a"), wanted("b", "2", "scorer"), removed("b")]), &taken_back("a"), &to("a", 1, None));
    check(&given(&[deployed("a"), taken_back("a")]), &deployed("a"), &refused("`a` is rolled_back"));
    let wrong = iris("rolled-back", "2", json!({ "deployment": "a", "reason": "slow" }));
    check(&given(&[deployed("a")]), &wrong, &Then::Refused(Code::SubjectMismatch, "version 2"));
}

#[test]
fn a_version_that_runs_again_is_held() {
    let back = given(&[deployed("a"), wanted("b", "2", "scorer"), deployed("b"), taken_back("b"), removed("x")]);
    let retired = |version: &str| iris("retired", version, json!({ "reason": "old" }));
    check(&back, &retired("1"), &Then::Refused(Code::VersionHeld, "`a` uses version 1"));
    check(&back, &retired("2"), &Then::Accepted(json!({ "version": 2 })));
}

fn finding(finding: &str, name: &str) -> Value {
    json!({
        "target": { "platform": "local", "name": name }, "finding": finding,
        "image": "scorer:1", "manager": "kubectl-edit", "fields": ["spec.replicas"],
    })
}

fn found(deployment: &str, version: u64) -> Then {
    Then::Accepted(json!({ "target": "local///scorer", "deployment": deployment, "version": version }))
}

#[test]
fn what_is_found_on_a_models_target_names_the_deployment_there_and_changes_no_state() {
    for what in ["created", "changed", "removed", "adopted", "restored"] {
        let seen = iris("observed", "", finding(what, "scorer"));
        let stage = check(&given(&[deployed("a"), wanted("b", "2", "scorer")]), &seen, &found("a", 1));
        assert_eq!(states(&stage)[1..], are(&[("a", "active"), ("b", "requested")]));
    }
    let seen = iris("observed", "", finding("changed", "scorer"));
    check(&given(&[]), &seen, &found("a", 1));
    check(&given(&[failed("a"), wanted("b", "2", "scorer")]), &seen, &found("b", 2));
    check(&given(&[deployed("a")]), &iris("observed", "1", finding("changed", "scorer")), &found("a", 1));
    let wrong = iris("observed", "2", finding("changed", "scorer"));
    check(&given(&[deployed("a")]), &wrong, &Then::Refused(Code::SubjectMismatch, "version 2"));
    let not_there = Then::Refused(Code::IllegalTransition, "no deployment of `default/iris` is on the target `local///scorer`");
    check(&given(&[removed("a")]), &seen, &not_there);
    check(&given(&[deployed("a"), taken_back("a")]), &seen, &not_there);
    check(&[], &seen, &Then::Refused(Code::UnknownModel, "default/iris"));
}

#[test]
fn what_is_found_where_no_model_is_deployed_is_the_workspaces() {
    let seen = of_system("observed", finding("created", "scorer"));
    let stage = check(&[], &seen, &Then::Accepted(json!({ "target": "local///scorer" })));
    assert_eq!(stage.ledger.model("default/_system").unwrap().modelseq, 1);
    check(&[seen], &of_system("observed", finding("removed", "scorer")), &Then::Accepted(json!({ "target": "local///scorer" })));
    let of_version = iris("observed", "1", finding("created", "scorer")).of("default/_system");
    check(&[], &of_version, &Then::Malformed(Code::Malformed, "`default/_system` is no model"));
    check(&[], &of_system("observed", finding("lost", "scorer")), &Then::Malformed(Code::SchemaViolation, "/finding"));
}

#[test]
fn nothing_else_may_be_told_of_no_model() {
    for (short, data) in [
        ("created", json!({})),
        ("deployed", json!({ "deployment": "a" })),
        ("rolled-back", json!({ "deployment": "a", "reason": "slow" })),
        ("measured", json!({ "metric": "accuracy", "value": 1 })),
    ] {
        check(&[], &of_system(short, data), &Then::Malformed(Code::Malformed, "must not begin with `_`"));
    }
    assert_eq!(DeploymentState::RolledBack.word(), "rolled_back");
}
