//! A model's life through the HTTP door, and the questions that can be asked of it, now and as of then.

use serde_json::{Value, json};

use crate::stage::{Engine, caught_up, digest, event, fresh, place, register};

/// Reads once the view has passed an event that was published before.
fn read(engine: &Engine, path: &str, behind: &Value) -> Value {
    engine.get_with(path, &[("annals-min-position", behind["position"].as_str().unwrap())]).ok(200)
}

#[test]
fn iris_goes_through_its_whole_life() {
    let (_dir, engine) = fresh();
    let version = "default/iris/1";
    engine.accept("model.created", "default/iris", json!({"owner": "ann", "purpose": "demo"}));
    let run = json!({"run": {"id": "run-1", "system": "sklearn"}, "artifact": {"digest": digest(1)}, "metrics": [{"name": "accuracy", "value": 0.97, "split": "test"}]});
    engine.accept("run.trained", "default/iris", run);
    let registered =
        engine.accept("version.registered", "default/iris", json!({"label": "1.0", "run": "run-1", "artifact": {"uri": "file:///m.pkl"}}));
    assert_eq!((registered["version"].as_u64(), &registered["subject"]), (Some(1), &json!(version)));
    engine.accept("version.evaluated", "default/iris/run:run-1", json!({"suite": "holdout", "verdict": "passed"}));
    engine.accept(
        "approval.requested",
        "default/iris/1.0",
        json!({"approval": "a-1", "channel": "production", "requester": {"id": "ann"}}),
    );
    let own = event(
        "approval.decided",
        "default/iris",
        json!({"approval": "a-1", "decision": "approved", "approver": {"id": "ann"}, "reason": "mine"}),
    );
    engine.publish(&own).problem(409, "self-approval");
    engine.accept(
        "approval.decided",
        "default/iris",
        json!({"approval": "a-1", "decision": "approved", "approver": {"id": "bob"}, "reason": "numbers hold", "digest": digest(1)}),
    );
    engine.accept("version.promoted", version, json!({"channel": "staging"}));
    engine.accept("version.promoted", version, json!({"channel": "production"}));
    engine.accept("alias.set", version, json!({"alias": "champion"}));
    let target = json!({"platform": "local", "name": "scorer"});
    engine.accept("deployment.requested", version, json!({"deployment": "d-1", "target": target, "channel": "production"}));
    engine.accept("deployment.succeeded", "default/iris", json!({"deployment": "d-1", "observed": {"endpoint": "http://127.0.0.1:1"}}));
    engine.accept("model.measured", "default/iris", json!({"metric": "accuracy", "value": 0.61, "deployment": "d-1"}));
    engine.accept(
        "drift.detected",
        version,
        json!({"drift": "dr-1", "kind": "performance", "metric": "accuracy", "observed": 0.61, "baseline": 0.97}),
    );
    engine.accept("retrain.requested", "default/iris", json!({"cause": {"kind": "drift", "drift": "dr-1"}}));
    register(&engine, "iris", 2);
    let promoted = engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));

    let model = read(&engine, "/v1/models/iris", &promoted);
    assert_eq!(model["channels"], json!({"production": 2, "staging": 1}));
    assert_eq!((&model["health"], &model["latest_version"]), (&json!("drifted"), &json!(2)));
    let channel = read(&engine, "/v1/models/iris/channels/production", &promoted);
    assert_eq!((&channel["version"], &channel["previous"], &channel["digest"]), (&json!(2), &json!(1), &json!(digest(2))));
    let first = read(&engine, "/v1/models/iris/versions/1.0", &promoted);
    assert_eq!(first["approvals"][0]["state"], "approved");
    assert_eq!(first["evaluations"][0]["verdict"], "passed");
    assert_eq!(first["digest"], json!(digest(1)), "taken from the run");
    assert_eq!(read(&engine, "/v1/models/iris/deployments/d-1", &promoted)["state"], "active");
    let timeline = read(&engine, "/v1/models/iris/timeline?limit=1000", &promoted);
    let lines = timeline["items"].as_array().unwrap();
    assert_eq!(lines.len(), 17, "sixteen events and one refusal that mattered");
    let lineage = read(&engine, "/v1/models/iris/versions/1/lineage", &promoted).to_string();
    assert!(lineage.contains("run-1") && lineage.contains("d-1"), "{lineage}");
}

#[test]
fn every_read_answers_as_of_any_position_what_it_answered_then() {
    let (_dir, engine) = fresh();
    let paths = [
        "/v1/models",
        "/v1/models/iris",
        "/v1/models/iris/versions",
        "/v1/models/iris/channels",
        "/v1/models/iris/aliases",
        "/v1/models/iris/timeline",
        "/v1/channels/production",
        "/v1/models/iris/versions/1/lineage",
    ];
    let steps = [
        ("version.registered", "default/iris", json!({"artifact": {"digest": digest(1)}})),
        ("version.promoted", "default/iris/1", json!({"channel": "production"})),
        ("alias.set", "default/iris/1", json!({"alias": "champion"})),
        ("version.registered", "default/iris", json!({"artifact": {"digest": digest(2)}})),
        ("version.promoted", "default/iris/2", json!({"channel": "production"})),
        ("version.retired", "default/iris/1", json!({"reason": "replaced"})),
        ("alias.removed", "default/iris", json!({"alias": "champion", "reason": "no longer used"})),
        ("version.promoted", "default/iris/1", json!({"channel": "production", "rollback": true})),
    ];
    let mut then = Vec::new();
    let mut version = 0;
    for (kind, subject, data) in steps {
        if kind == "version.retired" {
            // an alias does not hold a version, a channel would
            version += 1;
        }
        let accepted = engine.accept(kind, subject, data);
        let answers: Vec<Value> = paths.iter().map(|path| items(read(&engine, path, &accepted))).collect();
        then.push((accepted["position"].as_str().unwrap().to_owned(), answers));
    }
    assert_eq!(version, 1);
    for (position, answers) in then {
        for (path, answer) in paths.iter().zip(answers) {
            let now = engine.get(&format!("{path}?as_of={position}")).ok(200);
            assert_eq!(items(now), answer, "{path} as of {position}");
        }
    }
}

/// An answer without what says how it was asked.
fn items(answer: Value) -> Value {
    let mut answer = answer.get("items").cloned().unwrap_or(answer);
    if let Some(object) = answer.as_object_mut() {
        object.remove("as_of");
        object.remove("position");
    }
    answer
}

#[test]
fn what_was_in_production_at_a_time_is_one_request() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    let second = engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));
    let channel = read(&engine, "/v1/models/iris/channels/production", &second);
    // just before the second promotion was recorded; both may fall into one millisecond, so look for the first with a time before
    let since = channel["since"].as_str().unwrap().to_owned();
    let now = engine.get(&format!("/v1/channels/production?as_of={since}")).ok(200);
    assert_eq!(now["items"][0]["version"], 2, "{now}");
    let before = engine.get("/v1/channels/production?as_of=2020-01-01T00:00:00Z").ok(200);
    assert_eq!(before["items"], json!([]));
    assert_eq!(before["as_of"]["settled"], true, "{before}");
    let future = engine.get("/v1/channels/production?as_of=2999-01-01T00:00:00Z").ok(200);
    assert_eq!((&future["items"][0]["version"], &future["as_of"]["settled"]), (&json!(2), &json!(false)));
    for path in ["/v1/channels/prodution", "/v1/models/iris/channels/prodution"] {
        engine.get(path).problem(404, "unknown-channel");
    }
    engine.get("/v1/events?channel=prodution").problem(400, "unknown-channel");
    // the same positions give the same answer for ever
    let position = now["as_of"]["position"].as_str().unwrap();
    register(&engine, "iris", 3);
    engine.accept("version.promoted", "default/iris/3", json!({"channel": "production"}));
    assert_eq!(engine.get(&format!("/v1/channels/production?as_of={position}")).ok(200)["items"][0]["version"], 2);
}

#[test]
fn a_reader_sees_its_own_write_when_it_asks_for_the_position() {
    let (_dir, engine) = fresh();
    for n in 1..=50 {
        let registered = register(&engine, "iris", n);
        assert_eq!(read(&engine, "/v1/models/iris", &registered)["latest_version"], n);
    }
}

#[test]
fn a_proposals_state_can_be_asked_for() {
    let (_dir, engine) = fresh();
    let sent = event("version.registered", "default/iris", json!({"artifact": {"digest": digest(1)}}));
    let accepted = engine.publish(&sent).ok(201);
    let id = sent["id"].as_str().unwrap();
    let state = engine.get(&format!("/v1/proposals/{id}?source=/it")).ok(200);
    assert_eq!((&state["state"], &state["position"]), (&json!("accepted"), &accepted["position"]), "{state}");
    let refused = event("version.promoted", "default/iris/9", json!({"channel": "staging"}));
    assert_eq!(engine.publish(&refused).status, 404);
    let state = engine.get(&format!("/v1/proposals/{}?source=/it", refused["id"].as_str().unwrap())).ok(200);
    assert_eq!(state["state"], "refused", "{state}");
    assert_eq!(engine.get("/v1/proposals/never?source=/it").status, 404);
}

#[test]
fn lists_are_paged_without_gaps_or_repeats() {
    let (_dir, engine) = fresh();
    let mut last = Value::Null;
    for n in 0..25 {
        last = register(&engine, &format!("model-{n:02}"), n);
        assert!(place(&last).0 < 12);
    }
    caught_up(&engine);
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = engine.get(&format!("/v1/models?limit=10{after}")).ok(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<String> = (0..25).map(|n| format!("model-{n:02}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(last["version"], 1);
}
