//! Rules as people write them: what is understood, what is refused and how, and which events fit.

use serde_json::{Value, json};

use super::read::{Invalid, Named};
use super::{Do, Family, Rule, State, render};
use crate::world::Event;

fn named(family: Family) -> Named<'static> {
    Named { family, workspace: "default", name: "r", revision: 1, state: State::Active }
}

fn read(spec: &Value) -> Result<Rule, Invalid> {
    Rule::read(&named(Family::Trigger), spec)
}

/// An event as the journal would have it.
pub fn event(kind: &str, data: Value, decided: Value) -> Event {
    Event {
        key: "default/iris".into(),
        workspace: "default".into(),
        model: "iris".into(),
        kind: annals_events::kind::Kind::from_any(kind).unwrap(),
        id: "e-1".into(),
        source: "/test".into(),
        subject: "default/iris/3".into(),
        version: decided.get("version").and_then(Value::as_u64),
        channel: decided.get("channel").and_then(Value::as_str).map(str::to_owned),
        recorded: annals_events::time::Timestamp(1_000),
        partition: 2,
        offset: 9,
        seq: 7,
        modelseq: 4,
        actor: "ada".into(),
        causation: None,
        correlation: None,
        hops: 0,
        data,
        decided,
        cloudevent: b"{}".to_vec(),
    }
}

fn promoted() -> Event {
    event("promoted", json!({"channel": "production", "reason": "numbers", "n": 1.0}), json!({"version": 3, "channel": "production"}))
}

fn propose(data: Value) -> Value {
    json!({"when": {"type": ["promoted"]}, "do": {"propose": {"type": "retrain-requested", "data": data}}})
}

#[test]
fn every_action_is_understood() {
    for (act, word) in [
        (json!({"webhook": {"subscription": "s"}}), "webhook"),
        (json!({"command": {"run": "train.sh", "args": ["{model}"], "timeout_s": 5}}), "command"),
        (json!({"pipeline": {"run": "train.sh"}}), "pipeline"),
        (json!({"pipeline": {"subscription": "s"}}), "pipeline"),
        (json!({"propose": {"type": "promoted", "version": "event", "data": {"channel": "production"}}}), "propose"),
        (json!({"kubernetes": {"cluster": "prod", "format": "deployment", "image": "i", "rollback": true}}), "kubernetes"),
    ] {
        let rule =
            read(&json!({"when": {"type": ["promoted", "dev.annals.drift.detected.v1"]}, "do": act, "cooldown_s": 5, "dedup": "{model}"}));
        assert_eq!(rule.map(|rule| rule.act.as_str()), Ok(word));
    }
    let spec = json!({"url": "https://h/", "when": {"type": ["promoted"]}});
    let rule = Rule::read(&named(Family::Subscription), &spec).unwrap();
    assert_eq!((rule.tells(), rule.endpoint.as_ref().map(|endpoint| endpoint.url.as_str())), (Some("r"), Some("https://h/")));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_field_and_a_remedy() {
    let when = json!({"type": ["promoted"]});
    let act = json!({"webhook": {"subscription": "s"}});
    let command = |command: Value| json!({"when": when, "do": {"command": command}});
    for (spec, field, told) in [
        (json!({"do": act}), "when", "missing"),
        (json!({"when": when}), "do", "does not say"),
        (json!({"when": when, "do": {"webhook": {"subscription": "s"}, "command": {"run": "x"}}}), "do", "more than one"),
        (json!({"when": when, "do": {"mail": {}}}), "do", "`mail`"),
        (json!({"when": when, "do": {"git": {}}}), "do.git", "repository"),
        (json!({"when": when, "do": {"git": {"repository": "x.git"}}}), "do.git.repository", "absolute path"),
        (json!({"when": when, "do": {"git": {"repository": "/x", "path": "/etc/{model}"}}}), "do.git.path", "no path of a file"),
        (json!({"when": when, "do": {"lookup": {}}}), "when.type", "`promoted`"),
        (json!({"when": when, "do": act, "url": "x", "extra": 1}), "rule", "extra"),
        (json!({"when": {"type": []}, "do": act}), "when.type", "0 types"),
        (json!({"when": {"type": ["promotd"]}, "do": act}), "when.type", "`promotd`"),
        (json!({"when": {"type": ["promoted"], "chanel": "x"}, "do": act}), "when", "chanel"),
        (json!({"when": {"type": ["promoted"], "channel": "prodution"}, "do": act}), "when.channel", "`prodution`"),
        (json!({"when": {"type": ["promoted"], "model": ""}, "do": act}), "when.model", "empty"),
        (json!({"when": {"type": ["promoted"], "where": {"/severity": "high"}}, "do": act}), "when.where", "`/severity`"),
        (json!({"when": {"type": ["promoted"], "where": {"/data/x": [1]}}, "do": act}), "when.where", "no scalar"),
        (json!({"when": when, "do": act, "cooldown_s": 99_999_999_999_u64}), "cooldown_s", "99999999999"),
        (json!({"when": when, "do": act, "dedup": "{modl}"}), "dedup", "`{modl}`"),
        (json!({"when": when, "do": act, "dedup": "{model"}), "dedup", "nothing closes"),
        (command(json!({"run": "../x"})), "do.command.run", "`../x`"),
        (command(json!({"run": "/bin/sh"})), "do.command.run", "`/bin/sh`"),
        (command(json!({"run": "x", "timeout_s": 0})), "do.command.timeout_s", "0"),
        (command(json!({"run": "x", "args": ["{nothing}"]})), "do.command.args", "`{nothing}`"),
        (command(json!({"args": []})), "do.command", "run"),
        (json!({"when": when, "do": {"pipeline": {"run": "x", "subscription": "s"}}}), "do.pipeline", "run"),
        (json!({"when": when, "do": {"propose": {"type": "journal-opened", "data": {}}}}), "do.propose.type", "engine"),
        (json!({"when": when, "do": {"propose": {"type": "trigger-changed", "data": {}}}}), "do.propose.type", "workspace"),
        (json!({"when": when, "do": {"propose": {"type": "promoted", "data": {}}}}), "do.propose.version", "version"),
        (
            json!({"when": when, "do": {"propose": {"type": "retrain-requested", "version": "event", "data": {}}}}),
            "do.propose.version",
            "model",
        ),
        (propose(json!({"a": {"b": ["{what}"]}})), "do.propose.data", "`{what}`"),
        (json!({"when": when, "do": {"kubernetes": {}}}), "do.kubernetes", "cluster"),
        (
            json!({"when": when, "do": {"kubernetes": {"cluster": "c", "template": "x", "format": "deployment"}}}),
            "do.kubernetes",
            "template",
        ),
    ] {
        let wrong = read(&spec).expect_err(&spec.to_string());
        assert_eq!(wrong.field, field, "{spec}: {wrong}");
        assert!(wrong.message.contains(told) && !wrong.remedy.is_empty(), "{spec}: {wrong}");
    }
}

#[test]
fn all_that_is_given_must_fit() {
    let fits = |when: Value| read(&json!({"when": when, "do": {"webhook": {"subscription": "s"}}})).unwrap().fits(&promoted());
    assert!(fits(json!({"type": ["registered", "version.promoted"]})));
    assert!(fits(
        json!({"type": ["promoted"], "model": "i*", "channel": "prod*", "where": {"/data/reason": "numbers", "/decided/version": 3}})
    ));
    assert!(fits(json!({"type": ["promoted"], "where": {"/data/n": 1}})), "1 and 1.0 say the same");
    assert!(!fits(json!({"type": ["registered"]})));
    assert!(!fits(json!({"type": ["promoted"], "model": "wine"})));
    assert!(!fits(json!({"type": ["promoted"], "channel": "staging"})));
    assert!(!fits(json!({"type": ["promoted"], "where": {"/data/reason": "other"}})));
    assert!(!fits(json!({"type": ["promoted"], "where": {"/data/none": "numbers"}})));
    assert!(!fits(json!({"type": ["promoted"], "where": {"/decided/version": "3"}})), "text is no number");
    let mut other = promoted();
    other.workspace = "elsewhere".into();
    assert!(!read(&propose(json!({}))).unwrap().fits(&other), "a rule sees its own workspace only");
}

#[test]
fn texts_are_filled_in_from_the_event() {
    let event = promoted();
    let filled = render::text("{workspace}/{model} v{version} {channel} {event} {position} {type} {{x}}", &event);
    assert_eq!(filled.as_deref(), Ok("default/iris v3 production e-1 2:7 promoted {x}"));
    assert!(render::text("{drift}", &event).unwrap_err().contains("has no drift"));
    let drifted = super::tests::event("drifted", json!({"drift": "d-1"}), json!({"drift": "d-1"}));
    assert_eq!(render::text("{drift}", &drifted).as_deref(), Ok("d-1"));
    let trained = super::tests::event("trained", json!({"run": {"id": "r-1"}}), json!({"run": "r-1"}));
    assert_eq!(render::text("{run}", &trained).as_deref(), Ok("r-1"));
    let rule = read(&propose(json!({"cause": {"list": ["{model}", 1, null]}}))).unwrap();
    let Do::Propose(propose) = rule.act else { panic!("not propose") };
    assert_eq!(render::object(&propose.data, &event).map(Value::Object), Ok(json!({"cause": {"list": ["iris", 1, null]}})));
}
