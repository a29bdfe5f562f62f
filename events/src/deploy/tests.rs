//! Rules of approvals, channels, aliases and deployments.

use serde_json::{Value, json};

use crate::model::DeploymentState;
use crate::stage::{Stage, Step, Then, check, digest, iris, promoted, registered};
use crate::verdict::{Code, Outcome};

fn asked(version: &str) -> Step {
    iris("approval-requested", version, json!({ "approval": "a-1", "channel": "production", "requester": { "id": "bob" } }))
}

fn answered(approver: &str, decision: &str) -> Step {
    let data = json!({ "approval": "a-1", "decision": decision, "approver": { "id": approver }, "reason": "reviewed" });
    iris("approval-decided", "", data)
}

fn moved(version: u64, channel: &str, from: Option<u64>) -> Value {
    let displaced: Vec<_> = from.iter().map(|v| json!({ "version": v, "now": "kept" })).collect();
    let mut decided = json!({
        "version": version, "channel": channel, "digest": digest(if version == 1 { 'a' } else { 'b' }),
        "displaced": displaced, "approvals": [], "restored": false,
    });
    if let Some(from) = from {
        decided["from"] = from.into();
    }
    decided
}

fn wanted(id: &str, version: &str, name: &str) -> Step {
    iris("deployment-requested", version, json!({ "deployment": id, "target": { "platform": "local", "name": name } }))
}

fn told(short: &str, id: &str) -> Step {
    let mut data = json!({ "deployment": id });
    match short {
        "deployment-failed" => data["error"] = "no memory".into(),
        "deployment-removed" => data["reason"] = "over".into(),
        _ => {}
    }
    iris(short, "", data)
}

#[test]
fn an_approval_is_asked_for_the_versions_very_bytes() {
    let decided = json!({
        "approval": "a-1", "version": 1, "channel": "production", "digest": digest('a'), "requester": "bob",
    });
    check(&[registered('a')], &asked("1"), &Then::Accepted(decided));
    let by_actor = iris("approval-requested", "1", json!({ "approval": "a-1", "channel": "dev", "digest": digest('a') })).by("eve");
    let decided = json!({ "approval": "a-1", "version": 1, "channel": "dev", "digest": digest('a'), "requester": "unverified:eve" });
    check(&[registered('a')], &by_actor, &Then::Accepted(decided));
    let other = iris("approval-requested", "1", json!({ "approval": "a-1", "channel": "dev", "digest": digest('b') }));
    check(&[registered('a')], &other, &Then::Refused(Code::DigestMismatch, "not sha256:bbbb"));
    let nowhere = iris("approval-requested", "1", json!({ "approval": "a-1", "channel": "prod" }));
    check(&[registered('a')], &nowhere, &Then::Refused(Code::UnknownChannel, "`prod`"));
    check(&[registered('a')], &asked("2"), &Then::Refused(Code::UnknownVersion, "`2`"));
    check(&[registered('a'), asked("1")], &asked("1"), &Then::Refused(Code::NoChange, "requested before"));
}

#[test]
fn an_approval_is_decided_once_by_somebody_else_on_the_same_bytes() {
    let given = [registered('a'), registered('b'), asked("1")];
    let decided = |decision: &str| {
        Then::Accepted(json!({
            "approval": "a-1", "version": 1, "channel": "production", "digest": digest('a'),
            "decision": decision, "approver": "cat",
        }))
    };
    check(&given, &answered("cat", "approved"), &decided("approved"));
    check(&given, &answered("cat", "rejected"), &decided("rejected"));
    for own in ["bob", "ann", "unverified:bob", "unverified:ann"] {
        check(&given, &answered(own, "approved"), &Then::Refused(Code::SelfApproval, own));
    }
    let on = |version: &str, digit| {
        let data = json!({
            "approval": "a-1", "decision": "approved", "approver": { "id": "cat" }, "reason": "ok", "digest": digest(digit),
        });
        iris("approval-decided", version, data)
    };
    check(&given, &on("1", 'a'), &decided("approved"));
    check(&given, &on("2", 'a'), &Then::Refused(Code::SubjectMismatch, "version 2"));
    check(&given, &on("", 'b'), &Then::Refused(Code::DigestMismatch, "not sha256:bbbb"));
    let [a, b, c] = given;
    let twice = Then::Refused(Code::IllegalTransition, "decided already");
    check(&[a, b, c, answered("cat", "rejected")], &answered("dan", "approved"), &twice);
    let never = Then::Refused(Code::IllegalTransition, "no approval `a-1`");
    check(&[registered('a')], &answered("cat", "approved"), &never);
}

#[test]
fn what_may_be_decided_is_said_with_the_refusal() {
    let mut stage = Stage::given(&[registered('a'), asked("1")]);
    let data = json!({ "approval": "a-9", "decision": "approved", "approver": { "id": "cat" }, "reason": "ok" });
    let Outcome::Refused(refusal) = stage.judge(&iris("approval-decided", "", data)).outcome else { panic!() };
    assert_eq!(refusal.allowed, ["decide a-1"]);
    assert_eq!(refusal.state["versions"], 1);
}

#[test]
fn a_promotion_moves_the_channel_and_names_what_it_displaced() {
    let two = [registered('a'), registered('b')];
    check(&two, &promoted("1", "production"), &Then::Accepted(moved(1, "production", None)));
    let [a, b] = two;
    let given = [a, b, promoted("1", "production"), promoted("1", "dev")];
    let stage = check(&given, &promoted("2", "production"), &Then::Accepted(moved(2, "production", Some(1))));
    assert_eq!((stage.iris().channel("production"), stage.iris().channel("dev")), (Some(2), Some(1)));
    check(&given, &promoted("1", "production"), &Then::Refused(Code::NoChange, "holds version 1 already"));
    check(&given, &promoted("2", "moon"), &Then::Refused(Code::UnknownChannel, "`moon`"));
    check(&given, &promoted("3", "dev"), &Then::Refused(Code::UnknownVersion, "`3`"));
}

#[test]
fn a_promotion_names_the_granted_approvals_of_this_version_and_channel_only() {
    let given = [registered('a'), asked("1"), answered("cat", "approved")];
    let mut decided = moved(1, "production", None);
    decided["approvals"] = json!(["a-1"]);
    check(&given, &promoted("1", "production"), &Then::Accepted(decided));
    check(&given, &promoted("1", "dev"), &Then::Accepted(moved(1, "dev", None)));
    let rejected = [registered('a'), asked("1"), answered("cat", "rejected")];
    check(&rejected, &promoted("1", "production"), &Then::Accepted(moved(1, "production", None)));
}

#[test]
fn a_rollback_is_a_promotion_that_names_what_it_takes_back() {
    let back = iris("promoted", "1", json!({ "channel": "production", "rollback": true }));
    let given = [registered('a'), registered('b'), promoted("1", "production"), promoted("2", "production")];
    let mut decided = moved(1, "production", Some(2));
    decided["rollback_of"] = 2.into();
    check(&given, &back, &Then::Accepted(decided));
    check(&[registered('a')], &back, &Then::Refused(Code::IllegalTransition, "rolled back"));
}

#[test]
fn promoting_a_retired_version_restores_it() {
    let retired = iris("retired", "1", json!({ "reason": "old" }));
    let mut decided = moved(1, "dev", None);
    decided["restored"] = true.into();
    let stage = check(&[registered('a'), retired], &promoted("1", "dev"), &Then::Accepted(decided));
    assert!(!stage.iris().versions[0].retired);
}

#[test]
fn a_demotion_empties_the_channel_that_holds_the_version() {
    let demoted = |version: &str| iris("demoted", version, json!({ "channel": "dev", "reason": "wrong" }));
    let given = [registered('a'), registered('b'), promoted("1", "dev")];
    let stage = check(&given, &demoted("1"), &Then::Accepted(json!({ "version": 1, "channel": "dev" })));
    assert_eq!(stage.iris().channel("dev"), None);
    check(&given, &demoted("2"), &Then::Refused(Code::IllegalTransition, "does not hold version 2"));
    check(&[registered('a')], &demoted("1"), &Then::Refused(Code::IllegalTransition, "does not hold version 1"));
    let unknown = iris("demoted", "1", json!({ "channel": "moon", "reason": "wrong" }));
    check(&given, &unknown, &Then::Refused(Code::UnknownChannel, "`moon`"));
}

#[test]
fn an_alias_is_set_moved_and_removed() {
    let set = |version: &str| iris("alias-set", version, json!({ "alias": "champion" }));
    let removed = |version: &str| iris("alias-removed", version, json!({ "alias": "champion", "reason": "over" }));
    let given = [registered('a'), registered('b')];
    check(&given, &set("1"), &Then::Accepted(json!({ "alias": "champion", "version": 1 })));
    check(&given, &removed(""), &Then::Refused(Code::UnknownAlias, "`champion`"));
    for bad in ["a/b", "a:b", "_a", " a"] {
        let step = iris("alias-set", "1", json!({ "alias": bad }));
        check(&given, &step, &Then::Refused(Code::SchemaViolation, "alias"));
    }
    let [a, b] = given;
    let given = [a, b, set("1")];
    check(&given, &set("1"), &Then::Refused(Code::NoChange, "names version 1 already"));
    check(&given, &set("2"), &Then::Accepted(json!({ "alias": "champion", "version": 2, "from": 1 })));
    check(&given, &removed("2"), &Then::Refused(Code::SubjectMismatch, "version 2"));
    let stage = check(&given, &removed(""), &Then::Accepted(json!({ "alias": "champion", "from": 1 })));
    assert_eq!(stage.iris().alias("champion"), None);
}

#[test]
fn a_deployment_is_requested_once_and_for_a_channel_that_holds_the_version() {
    let decided = json!({ "deployment": "dep-1", "version": 1, "digest": digest('a'), "target": "local///scorer" });
    check(&[registered('a')], &wanted("dep-1", "1", "scorer"), &Then::Accepted(decided));
    let twice = Then::Refused(Code::NoChange, "requested before");
    check(&[registered('a'), wanted("dep-1", "1", "scorer")], &wanted("dep-1", "1", "other"), &twice);
    let target = json!({ "platform": "kubernetes", "cluster": "c", "namespace": "n", "name": "iris/blue" });
    let served = |channel: &str| iris("deployment-requested", "1", json!({ "deployment": "dep-1", "target": target, "channel": channel }));
    let decided = json!({ "deployment": "dep-1", "version": 1, "digest": digest('a'), "target": "kubernetes/c/n/iris/blue" });
    check(&[registered('a'), promoted("1", "staging")], &served("staging"), &Then::Accepted(decided));
    let not_held = Then::Refused(Code::IllegalTransition, "does not hold version 1");
    check(&[registered('a'), promoted("1", "dev")], &served("staging"), &not_held);
    check(&[registered('a')], &served("moon"), &Then::Refused(Code::UnknownChannel, "`moon`"));
    let slash = iris("deployment-requested", "1", json!({ "deployment": "d", "target": { "platform": "a/b", "name": "c" } }));
    check(&[registered('a')], &slash, &Then::Malformed(Code::SchemaViolation, "/target/platform"));
    check(&[registered('a')], &wanted(&"ü".repeat(200), "1", "x"), &Then::Refused(Code::SchemaViolation, "255 bytes"));
}

#[test]
fn a_deployment_goes_from_requested_to_active_or_failed_and_from_active_to_removed() {
    let (yes, failed, removed) = (told("deployed", "dep-1"), told("deployment-failed", "dep-1"), told("deployment-removed", "dep-1"));
    let given = |more: &[&Step]| {
        let mut steps = vec![registered('a'), wanted("dep-1", "1", "scorer")];
        steps.extend(more.iter().map(|s| (*s).clone()));
        steps
    };
    let ended = || Then::Accepted(json!({ "deployment": "dep-1", "version": 1 }));
    for legal in [vec![&yes], vec![&failed], vec![&removed], vec![&yes, &removed]] {
        let (last, before) = legal.split_last().unwrap();
        check(&given(before), last, &ended());
    }
    for (before, last, is) in [
        (vec![&yes], &yes, "active"),
        (vec![&yes], &failed, "active"),
        (vec![&failed], &yes, "failed"),
        (vec![&failed], &failed, "failed"),
        (vec![&failed], &removed, "failed"),
        (vec![&removed], &yes, "removed"),
        (vec![&removed], &failed, "removed"),
        (vec![&yes, &removed], &removed, "removed"),
    ] {
        check(&given(&before), last, &Then::Refused(Code::IllegalTransition, is));
    }
    for step in [&yes, &failed, &removed] {
        check(&[registered('a')], step, &Then::Refused(Code::IllegalTransition, "no deployment `dep-1`"));
    }
    let mut other = given(&[]);
    other.push(registered('b'));
    let wrong = iris("deployed", "2", json!({ "deployment": "dep-1" }));
    check(&other, &wrong, &Then::Refused(Code::SubjectMismatch, "version 2"));
}

#[test]
fn a_deployment_replaces_the_one_that_had_its_target() {
    let given = [
        registered('a'),
        registered('b'),
        wanted("dep-1", "1", "scorer"),
        told("deployed", "dep-1"),
        wanted("dep-2", "2", "scorer"),
        wanted("dep-3", "2", "elsewhere"),
    ];
    let decided = json!({ "deployment": "dep-2", "version": 2, "replaces": "dep-1" });
    let stage = check(&given, &told("deployed", "dep-2"), &Then::Accepted(decided));
    let states: Vec<_> = stage.iris().deployments.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeploymentState::Superseded, DeploymentState::Active, DeploymentState::Requested]);
    check(&given, &told("deployed", "dep-3"), &Then::Accepted(json!({ "deployment": "dep-3", "version": 2 })));
    let mut over = given.to_vec();
    over.push(told("deployed", "dep-2"));
    check(&over, &told("deployment-removed", "dep-1"), &Then::Refused(Code::IllegalTransition, "superseded"));
}
