//! Rules of triggers and subscriptions.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::model::{Rule, RuleState};
use crate::record::Hash;
use crate::stage::{Stage, Step, Then, check, iris, of_system};
use crate::verdict::{Code, Outcome};

fn when() -> Value {
    json!({ "type": ["promoted"], "channel": "production" })
}

fn told() -> Value {
    json!({ "webhook": { "subscription": "deployer" } })
}

fn trigger(state: &str, more: &Value) -> Step {
    of_system("trigger-changed", with(json!({ "trigger": "tell", "state": state }), more))
}

fn subscription(state: &str, more: &Value) -> Step {
    of_system("subscription-changed", with(json!({ "subscription": "deployer", "state": state }), more))
}

fn with(mut data: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone()));
    data.as_object_mut().unwrap().extend(more);
    data
}

fn acts(action: &Value) -> Value {
    json!({ "when": when(), "do": action })
}

/// By the words of the documents: each member with its length before it.
fn digest(said: &[&str]) -> String {
    let bytes: Vec<u8> =
        said.iter().flat_map(|text| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()).collect();
    format!("sha256:{}", Hash::of(&bytes))
}

fn said(more: &Value) -> String {
    let member = |name: &str| more.get(name).map(Value::to_string).unwrap_or_default();
    digest(&[&member("when"), &member("do"), &member("cooldown_s"), &member("dedup")])
}

fn now(revision: u64, state: &str, more: &Value) -> Then {
    Then::Accepted(json!({ "trigger": "tell", "revision": revision, "state": state, "digest": said(more) }))
}

fn rules(stage: &Stage) -> Vec<Rule> {
    stage.ledger.model("default/_system").unwrap().triggers().to_vec()
}

#[test]
fn a_trigger_is_set_changed_paused_resumed_removed_and_set_again() {
    let (first, nothing) = (acts(&told()), json!({}));
    let second = with(acts(&told()), &json!({ "cooldown_s": 60, "dedup": "{model}" }));
    let life = [
        (trigger("active", &first), now(1, "active", &first)),
        (trigger("active", &second), now(2, "active", &second)),
        (trigger("paused", &nothing), now(3, "paused", &second)),
        (trigger("active", &nothing), now(4, "active", &second)),
        (trigger("removed", &json!({ "reason": "not needed" })), now(5, "removed", &second)),
        (trigger("active", &first), now(6, "active", &first)),
    ];
    for (nth, (step, then)) in life.iter().enumerate() {
        let before: Vec<Step> = life[..nth].iter().map(|(step, _)| step.clone()).collect();
        let stage = check(&before, step, then);
        assert_eq!(rules(&stage).len(), 1);
        assert_eq!(rules(&stage)[0].revision, u64::try_from(nth).unwrap() + 1);
    }
    let all: Vec<Step> = life.iter().map(|(step, _)| step.clone()).collect();
    let kept = rules(&Stage::given(&all));
    assert_eq!(kept, [Rule { name: "tell".into(), revision: 6, state: RuleState::Active, digest: said(&first).into() }]);
}

#[test]
fn a_rule_that_is_so_already_is_no_change() {
    let (first, nothing) = (acts(&told()), json!({}));
    let same = Then::Refused(Code::NoChange, "says this already");
    let given = [trigger("active", &first)];
    check(&given, &trigger("active", &first), &same);
    check(&given, &trigger("active", &nothing), &same);
    check(&given, &trigger("active", &with(first.clone(), &json!({ "reason": "again" }))), &same);
    check(&given, &trigger("paused", &first), &now(2, "paused", &first));
    let [active] = given;
    let given = [active, trigger("removed", &nothing)];
    check(&given, &trigger("removed", &nothing), &Then::Refused(Code::NoChange, "removed already"));
    check(&given, &trigger("paused", &nothing), &Then::Refused(Code::UnknownTrigger, "no trigger `tell`"));
    check(&given, &trigger("active", &nothing), &Then::Refused(Code::SchemaViolation, "does not say what it is to do"));
}

#[test]
fn what_is_not_there_is_neither_paused_nor_removed_nor_taken_as_read() {
    let (first, nothing) = (acts(&told()), json!({}));
    for state in ["paused", "removed"] {
        check(&[], &trigger(state, &nothing), &Then::Refused(Code::UnknownTrigger, "no trigger `tell`"));
        check(&[], &subscription(state, &nothing), &Then::Refused(Code::UnknownSubscription, "no subscription `deployer`"));
    }
    check(&[], &trigger("removed", &first), &Then::Refused(Code::UnknownTrigger, "no trigger `tell`"));
    check(&[], &trigger("paused", &first), &now(1, "paused", &first));
    check(&[], &trigger("active", &nothing), &Then::Refused(Code::SchemaViolation, "does not say what it is to do"));
    check(&[], &subscription("active", &nothing), &Then::Refused(Code::SchemaViolation, "does not say what it is to do"));
    let other = of_system("trigger-changed", json!({ "trigger": "other", "state": "paused" }));
    let mut stage = Stage::given(&[trigger("active", &first)]);
    let Outcome::Refused(refusal) = stage.judge(&other).outcome else { panic!() };
    assert_eq!((refusal.allowed, &refusal.state["modelseq"]), (vec!["tell".to_owned()], &json!(1)));
}

#[test]
fn half_a_rule_is_none() {
    for half in [json!({ "when": when() }), json!({ "do": told() }), json!({ "cooldown_s": 1 }), json!({ "dedup": "x", "when": when() })] {
        check(&[], &trigger("active", &half), &Then::Refused(Code::SchemaViolation, "belong together"));
    }
    for half in [json!({ "when": when() }), json!({ "url": "https://a.example" }), json!({ "signing": "hmac" })] {
        check(&[], &subscription("active", &half), &Then::Refused(Code::SchemaViolation, "belong together"));
    }
}

#[test]
fn a_subscription_and_a_trigger_of_one_name_are_two() {
    let tells = |url: &str| json!({ "url": url, "when": when() });
    let decided = |revision: u64, state: &str, url: &str| {
        let digest = digest(&[&json!(url).to_string(), &when().to_string(), ""]);
        Then::Accepted(json!({ "subscription": "deployer", "revision": revision, "state": state, "digest": digest }))
    };
    let name = of_system("trigger-changed", with(json!({ "trigger": "deployer", "state": "active" }), &acts(&told())));
    let (here, there) = ("https://a.example/x?y=1", "http://[::1]:8080");
    check(std::slice::from_ref(&name), &subscription("active", &tells(here)), &decided(1, "active", here));
    let given = [name, subscription("active", &tells(here))];
    check(&given, &subscription("active", &tells(here)), &Then::Refused(Code::NoChange, "says this already"));
    check(&given, &subscription("active", &tells(there)), &decided(2, "active", there));
    let stage = check(&given, &subscription("removed", &json!({})), &decided(2, "removed", here));
    assert_eq!(rules(&stage)[0].state, RuleState::Active);
    for bad in ["ftp://a.example", "https://", "https://user:secret@a.example", "a.example", "https://a b.example"] {
        check(&[], &subscription("active", &tells(bad)), &Then::Malformed(Code::SchemaViolation, "/url"));
    }
    let signed = |how: &str| subscription("active", &with(tells(here), &json!({ "signing": how })));
    check(&[], &signed("rsa"), &Then::Malformed(Code::SchemaViolation, "/signing"));
    assert!(matches!(Stage::new().judge(&signed("hmac")).outcome, Outcome::Accepted(_)));
}

#[test]
fn only_the_workspace_has_rules() {
    let data = with(json!({ "trigger": "tell", "state": "active" }), &acts(&told()));
    check(&[], &iris("trigger-changed", "", data.clone()), &Then::Malformed(Code::Malformed, "must be `_system` here"));
    check(&[], &of_system("trigger-changed", data.clone()).of("_x/_system"), &Then::Malformed(Code::Malformed, "reserved"));
    let of_version = iris("trigger-changed", "1", data).of("default/_system");
    check(&[], &of_version, &Then::Malformed(Code::Malformed, "names a version"));
    for bad in ["a/b", "a:b", "_a", ""] {
        let step = of_system("trigger-changed", with(json!({ "trigger": bad, "state": "active" }), &acts(&told())));
        check(&[], &step, &Then::Malformed(Code::SchemaViolation, "/trigger"));
    }
    let blank = of_system("trigger-changed", with(json!({ "trigger": "a ", "state": "active" }), &acts(&told())));
    check(&[], &blank, &Then::Refused(Code::SchemaViolation, "blank"));
}

#[test]
fn every_action_is_taken_and_no_two_at_once() {
    for action in [
        told(),
        json!({ "command": { "run": "notify", "args": ["{model}"], "timeout_s": 30 } }),
        json!({ "pipeline": { "run": "retrain" } }),
        json!({ "pipeline": { "subscription": "airflow" } }),
        json!({ "propose": { "type": "promoted", "data": { "channel": "dev", "share": 0.5 }, "version": "event" } }),
        json!({ "propose": { "type": "dev.annals.retrain.requested.v1", "data": {} } }),
        json!({ "kubernetes": { "cluster": "kind" } }),
        json!({ "kubernetes": { "cluster": "kind", "namespace": "ml", "name": "{model}-{channel}", "template": "kind: Deployment" } }),
        json!({ "kubernetes": { "cluster": "kind", "format": "inferenceservice", "image": "scorer:{version}", "replicas": 2,
            "rollback": true, "heal": false, "deadline_s": 300 } }),
        json!({ "git": { "repository": "https://git.example/deploy.git" } }),
        json!({ "git": { "repository": "/srv/git/deploy.git", "branch": "main", "path": "{model}/{channel}.yaml", "manifest": "v: {version}",
            "tag": false, "author": "Annals <annals@example.org>" } }),
        json!({ "lookup": {} }),
        json!({ "lookup": { "repository": "/srv/git/iris.git" } }),
    ] {
        check(&[], &trigger("active", &acts(&action)), &now(1, "active", &acts(&action)));
    }
    for (action, place) in [
        (json!({}), "/do"),
        (json!({ "webhook": { "subscription": "a" }, "command": { "run": "b" } }), "/do"),
        (json!({ "email": { "to": "ada" } }), "/do"),
        (json!({ "webhook": {} }), "/do/webhook"),
        (json!({ "command": { "run": "../sh" } }), "/do/command/run"),
        (json!({ "command": { "run": "sh", "timeout_s": 0 } }), "/do/command/timeout_s"),
        (json!({ "pipeline": {} }), "/do/pipeline"),
        (json!({ "propose": { "type": "promoted", "data": [] } }), "/do/propose/data"),
        (json!({ "kubernetes": { "cluster": "kind", "format": "job" } }), "/do/kubernetes/format"),
        (json!({ "git": { "branch": "main" } }), "/do/git"),
        (json!({ "git": { "repository": "/srv/git/deploy.git", "author": "annals" } }), "/do/git/author"),
    ] {
        check(&[], &trigger("active", &acts(&action)), &Then::Malformed(Code::SchemaViolation, place));
    }
    for (action, words) in [
        (json!({ "pipeline": { "run": "a", "subscription": "b" } }), "either `run` or `subscription`"),
        (json!({ "pipeline": { "args": ["a"] } }), "either `run` or `subscription`"),
        (json!({ "kubernetes": { "cluster": "kind", "format": "deployment", "template": "a" } }), "either `template` or `format`"),
    ] {
        check(&[], &trigger("active", &acts(&action)), &Then::Refused(Code::SchemaViolation, words));
    }
}

#[test]
fn an_unknown_type_is_refused_with_those_that_there_are() {
    let refused = |step: &Step| {
        let Outcome::Refused(refusal) = Stage::new().judge(step).outcome else { panic!() };
        assert_eq!(refusal.code, Code::UnknownType, "{refusal:?}");
        refusal.allowed
    };
    let about = |kinds: Value| json!({ "when": { "type": kinds }, "do": told() });
    for good in [json!(["promoted"]), json!(["version.promoted", "dev.annals.drift.detected.v1"]), json!(["partition-halted"])] {
        check(&[], &trigger("active", &about(good.clone())), &now(1, "active", &about(good)));
    }
    assert_eq!(refused(&trigger("active", &about(json!(["promoted", "promotion"])))).len(), Kind::ALL.len());
    let listens = json!({ "url": "https://a.example", "when": { "type": ["all"] } });
    assert!(refused(&subscription("active", &listens)).contains(&"promoted".to_owned()));
    for bad in ["promotion", "journal-opened", "trigger-changed"] {
        let allowed = refused(&trigger("active", &acts(&json!({ "propose": { "type": bad, "data": {} } }))));
        assert!(allowed.contains(&"promoted".to_owned()) && !allowed.contains(&bad.to_owned()));
    }
    check(&[], &trigger("active", &about(json!([]))), &Then::Malformed(Code::SchemaViolation, "/when/type"));
    check(&[], &trigger("active", &about(json!("promoted"))), &Then::Malformed(Code::SchemaViolation, "/when/type"));
}

#[test]
fn a_condition_compares_a_place_in_the_event_with_a_plain_value() {
    let on = |condition: &Value| json!({ "when": { "type": ["drifted"], "model": "iris*", "where": condition }, "do": told() });
    for good in [json!({}), json!({ "/data/severity": "high", "/decided/version": 3, "/data/a~1b/0": true })] {
        check(&[], &trigger("active", &on(&good)), &now(1, "active", &on(&good)));
    }
    for bad in [json!({ "data": 1 }), json!({ "/data/~2": 1 }), json!({ "/data": {} }), json!({ "/data": null })] {
        check(&[], &trigger("active", &on(&bad)), &Then::Malformed(Code::SchemaViolation, "/when/where"));
    }
    let model = json!({ "when": { "type": ["drifted"], "model": "default/iris" }, "do": told() });
    check(&[], &trigger("active", &model), &Then::Malformed(Code::SchemaViolation, "/when/model"));
}
