//! What is wanted on a target beside what was found, asked of the real program at each step of its life.

use serde_json::{Value, json};

use crate::stage::{Engine, fresh, register};

const TARGET: &str = "kubernetes/kind/ml/iris";

fn target(name: &str) -> Value {
    json!({"platform": "kubernetes", "cluster": "kind", "namespace": "ml", "name": name})
}

/// The targets, once the view has passed an event.
fn targets(engine: &Engine, query: &str, behind: &Value) -> Vec<Value> {
    let path = format!("/v1/deployments{query}");
    let answer = engine.get_with(&path, &[("annals-min-position", behind["position"].as_str().unwrap())]).ok(200);
    answer["items"].as_array().unwrap().clone()
}

/// A step of a target's life, and what is then said of it: state, wanted and found version, note.
struct Step {
    kind: &'static str,
    subject: &'static str,
    data: Value,
    then: (&'static str, Option<u64>, Option<u64>, Option<&'static str>),
    /// Whether the state is due to this very event.
    causes: bool,
}

fn step(
    kind: &'static str,
    subject: &'static str,
    data: Value,
    then: (&'static str, Option<u64>, Option<u64>, Option<&'static str>),
) -> Step {
    Step { kind, subject, data, then, causes: true }
}

fn life() -> Vec<Step> {
    let wanted = |id: &str| json!({"deployment": id, "target": target("iris"), "channel": "production"});
    let of = |id: &str| json!({"deployment": id});
    let found =
        |finding: &str| json!({"target": target("iris"), "finding": finding, "manager": "kubectl-edit", "fields": ["spec.replicas"]});
    let changed = Some("changed by kubectl-edit: spec.replicas");
    let restored = Some("restored by kubectl-edit: spec.replicas");
    let removed = Some("removed by kubectl-edit: spec.replicas");
    let no_cause = |step: Step| Step { causes: false, ..step };
    let failed = json!({"deployment": "d3", "error": "no such image"});
    vec![
        step("deployment.requested", "default/iris/1", wanted("d1"), ("progressing", Some(1), None, None)),
        step("deployment.succeeded", "default/iris", of("d1"), ("in-sync", Some(1), Some(1), None)),
        step("deployment.observed", "default/iris", found("changed"), ("changed", Some(1), Some(1), changed)),
        no_cause(step("deployment.observed", "default/iris", found("changed"), ("changed", Some(1), Some(1), changed))),
        step("deployment.observed", "default/iris", found("restored"), ("in-sync", Some(1), Some(1), restored)),
        step("deployment.observed", "default/iris", found("removed"), ("missing", Some(1), None, removed)),
        step("deployment.observed", "default/iris", found("restored"), ("in-sync", Some(1), Some(1), restored)),
        no_cause(step("version.promoted", "default/iris/2", json!({"channel": "production"}), ("in-sync", Some(1), Some(1), restored))),
        step("deployment.requested", "default/iris/2", wanted("d2"), ("progressing", Some(2), Some(1), restored)),
        // changed while it comes, it is so once it is up
        no_cause(step("deployment.observed", "default/iris", found("changed"), ("progressing", Some(2), Some(1), changed))),
        step("deployment.succeeded", "default/iris", of("d2"), ("changed", Some(2), Some(2), changed)),
        step("deployment.observed", "default/iris", found("restored"), ("in-sync", Some(2), Some(2), restored)),
        step("deployment.requested", "default/iris/2", wanted("d3"), ("progressing", Some(2), Some(2), restored)),
        step("deployment.failed", "default/iris", failed, ("failed", Some(2), Some(2), Some("no such image"))),
        step(
            "deployment.rolled_back",
            "default/iris",
            json!({"deployment": "d3", "reason": "it never came up"}),
            ("rolled-back", Some(2), Some(2), Some("it never came up")),
        ),
        step(
            "deployment.rolled_back",
            "default/iris",
            json!({"deployment": "d2", "reason": "slow"}),
            ("rolled-back", Some(2), Some(1), Some("slow")),
        ),
        step("deployment.observed", "default/iris", found("changed"), ("changed", Some(2), Some(1), changed)),
        step("deployment.observed", "default/iris", found("removed"), ("missing", Some(2), None, removed)),
        // what is there again is d1, and d3 is wanted: it is what it was
        step("deployment.observed", "default/iris", found("restored"), ("rolled-back", Some(2), Some(1), restored)),
    ]
}

#[test]
fn a_target_is_told_at_each_step_of_its_life_and_as_of_each_step_later() {
    let (_dir, engine) = fresh();
    for n in [1, 2] {
        register(&engine, "iris", n);
    }
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    let mut told = Vec::new();
    for step in life() {
        let accepted = engine.accept(step.kind, step.subject, step.data);
        let all = targets(&engine, "", &accepted);
        assert_eq!(all.len(), 1, "{all:?}");
        let it = &all[0];
        let (version, note) = (|place: &str| it.pointer(place).and_then(Value::as_u64), it.pointer("/note/text").and_then(Value::as_str));
        let found = (it["state"].as_str().unwrap(), version("/wanted/version"), version("/found/version"), note);
        assert_eq!(found, step.then, "{}: {it:#}", step.kind);
        assert_eq!((&it["target"], &it["channel"], &it["model"]), (&json!(TARGET), &json!("production"), &json!("iris")));
        assert_eq!((it["event"] == accepted["id"], it["position"] == accepted["position"]), (step.causes, step.causes), "{it:#}");
        told.push((accepted["position"].as_str().unwrap().to_owned(), all));
    }
    let last = told.last().map(|(position, _)| position.clone()).unwrap();
    for (position, all) in told {
        let then = engine.get(&format!("/v1/deployments?as_of={position}")).ok(200);
        assert_eq!(then["items"], json!(all), "as of {position}");
        assert_eq!(then["as_of"]["settled"], true);
    }
    // the registry, a view that follows by itself, tells the same of the single deployments
    let behind = [("annals-min-position", last.as_str())];
    let state = |id: &str| engine.get_with(&format!("/v1/models/iris/deployments/{id}"), &behind).ok(200)["state"].clone();
    assert_eq!(["d1", "d2", "d3"].map(state), ["active", "rolled_back", "rolled_back"]);
    let listed = engine.annals(&["list", "deployments", "iris"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("rolled_back"));
}

#[test]
fn what_nobody_asked_for_is_foreign_until_a_model_has_its_target() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let stray = json!({"target": target("stray"), "finding": "created", "image": "model-image", "manager": "kubectl-create"});
    let seen = engine.accept("deployment.observed", "default/_system", stray.clone());
    let all = targets(&engine, "?state=foreign", &seen);
    assert_eq!((&all[0]["model"], &all[0]["found"]["image"], &all[0]["wanted"]), (&json!(null), &json!("model-image"), &json!(null)));
    let table = engine.annals(&["deployments"]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["TARGET", "CHANNEL", "MODEL", "WANTED", "FOUND", "STATE", "SINCE", "EVENT", "POSITION", "NOTE"]);
    assert_eq!(lines[1][..6], ["kubernetes/kind/ml/stray", "-", "-", "-", "model-image", "foreign"]);
    assert_eq!(lines[1][7..9], [seen["id"].as_str().unwrap(), seen["position"].as_str().unwrap()]);
    // a model that names it must have something there
    engine.publish(&crate::stage::event("deployment.observed", "default/iris", stray)).problem(409, "illegal-transition");
    let wanted = json!({"deployment": "d1", "target": target("stray")});
    let asked = engine.accept("deployment.requested", "default/iris/1", wanted);
    let mine = targets(&engine, "?target=kubernetes/*/stray", &asked);
    assert_eq!((mine.len(), &mine[0]["state"], &mine[0]["model"]), (1, &json!("progressing"), &json!("iris")));
    assert!(targets(&engine, "?state=foreign", &asked).is_empty());

    let json_of = |args: &[&str]| serde_json::from_slice::<Value>(&engine.annals(args).stdout).unwrap()["items"].clone();
    let count = |args: &[&str]| json_of(&[&["deployments", "--json"], args].concat()).as_array().unwrap().len();
    assert_eq!((count(&[]), count(&["--state", "progressing"]), count(&["--state", "missing"])), (1, 1, 0));
    assert_eq!((count(&["--channel", "production"]), count(&["--target", "*stray"]), count(&["--workspace", "other"])), (0, 1, 0));
    assert_eq!(json_of(&["deployments", "--json", "--as-of", seen["position"].as_str().unwrap()])[0]["state"], "foreign");
    // what is about the workspace has its timeline, and is no model
    let lines = engine.get("/v1/models/_system/timeline").ok(200);
    assert!(lines["items"][0]["summary"].as_str().unwrap().starts_with("found kubernetes/kind/ml/stray created by kubectl-create"));
    engine.get("/v1/models/_system").problem(400, "bad-name");
    assert_eq!(json_of(&["list", "models", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_question_that_cannot_be_meant_is_refused() {
    let (_dir, engine) = fresh();
    engine.get("/v1/deployments?state=green").problem(400, "bad-query");
    engine.get("/v1/deployments?channel=prod").problem(404, "unknown-channel");
    engine.get("/v1/deployments?after=nonsense").problem(400, "bad-cursor");
    engine.get("/v1/deployments?limit=0").problem(400, "bad-query");
    assert_eq!(engine.annals(&["deployments", "--state", "green"]).status.code(), Some(2), "usage");
    let rebuilt = engine.annals(&["rebuild", "deployments", "--json"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
}

#[test]
fn rules_are_proposed_for_the_workspace_and_for_nothing_else() {
    let (_dir, engine) = fresh();
    let told =
        json!({"trigger": "tell", "state": "active", "when": {"type": ["promoted"]}, "do": {"webhook": {"subscription": "x"}}}).to_string();
    let emit = |model: &str, data: &str| engine.annals(&["emit", "trigger-changed", "--model", model, "--data", data, "--json"]);
    let first = emit("_system", &told);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(emit("iris", &told).status.code(), Some(2), "a model has no rules");
    assert_eq!(emit("_system", &told).status.code(), Some(1), "nothing is left to do");
    let unknown = json!({"trigger": "other", "state": "paused"});
    engine.publish(&crate::stage::event("trigger.changed", "default/_system", unknown)).problem(404, "unknown-trigger");
    let typo = json!({"trigger": "other", "state": "active", "when": {"type": ["promotion"]}, "do": {"webhook": {"subscription": "x"}}});
    let problem = engine.publish(&crate::stage::event("trigger.changed", "default/_system", typo)).problem(422, "unknown-type");
    assert!(problem["allowed"].as_array().unwrap().contains(&json!("promoted")), "{problem}");
}
