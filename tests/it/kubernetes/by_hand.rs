//! What people and other programs do on a cluster: noticed, put right where that is wanted, and taken over.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BY_URI, Kube, deployments, events, expect, one, promote, rule, serve, stage, tasks, version};
use crate::stage::{Engine, data_of, directory, eventually, register};

/// Iris 1 runs in production, by this rule.
fn deployed(what: &Value) -> (TempDir, Kube, Engine) {
    let (dir, kube, engine) = stage();
    rule(&engine, &kube, what);
    version(&engine, "iris", 1, "registry/iris:1");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    (dir, kube, engine)
}

/// How often this was found.
fn told(engine: &Engine, finding: &str) -> usize {
    events(engine, "deployment.observed").iter().filter(|event| event["data"]["finding"] == finding).count()
}

/// Waits until the target of iris in production is so.
#[track_caller]
fn becomes(engine: &Engine, state: &str) -> Value {
    let target = || engine.get("/v1/deployments?target=*/iris-production").json()["items"][0].clone();
    eventually(&format!("the target is {state}"), || target()["state"] == state);
    target()
}

fn doctor(engine: &Engine) -> String {
    String::from_utf8_lossy(&engine.annals(&["doctor"]).stdout).into_owned()
}

#[test]
fn a_change_by_hand_is_noticed_once() {
    let (dir, kube, engine) = deployed(&json!({"template": BY_URI}));
    kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/other:9"]);
    let seen = one(&engine, "deployment.observed", |_| true);
    assert_eq!((&seen["data"]["finding"], &seen["data"]["image"]), (&json!("changed"), &json!("registry/other:9")), "{seen}");
    assert_eq!(seen["data"]["manager"], "kubectl-set", "{seen}");
    assert!(seen["data"]["fields"].to_string().contains("image"), "{seen}");
    assert_eq!((&seen["subject"], &seen["decided"]["version"]), (&json!("default/iris/1"), &json!(1)), "{seen}");
    let changed = becomes(&engine, "changed");
    assert_eq!((&changed["event"], &changed["found"]["image"]), (&seen["id"], &json!("registry/other:9")), "{changed}");
    assert!(doctor(&engine).contains("/iris-production is not as it was deployed: changed by kubectl-set"), "{}", doctor(&engine));
    // Seen again by the next process, it is not told again; and nobody asked to have it put right.
    drop(engine);
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    kube.kubectl(&["create", "deployment", "later", "--image=x"]);
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "created");
    assert_eq!(events(&engine, "deployment.observed").len(), 2);
    assert_eq!(kube.image("iris-production"), "registry/other:9");
    becomes(&engine, "changed");
    // Another change does not put it right; the right image does.
    kube.kubectl(&["scale", "deployment/iris-production", "--replicas=3"]);
    one(&engine, "deployment.observed", |event| event["data"]["fields"].to_string().contains("replicas"));
    becomes(&engine, "changed");
    kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/iris:1"]);
    kube.kubectl(&["scale", "deployment/iris-production", "--replicas=2"]);
    let restored = one(&engine, "deployment.observed", |event| event["data"]["finding"] == "restored");
    let again = becomes(&engine, "in-sync");
    assert_eq!((&again["event"], &again["found"]["image"]), (&restored["id"], &Value::Null), "{again}");
    assert!(!doctor(&engine).contains("not as it was deployed"), "{}", doctor(&engine));
}

#[test]
fn a_field_that_somebody_removes_is_noticed_once_and_put_back_by_a_rule_that_heals() {
    for heals in [false, true] {
        let (_dir, kube, engine) = stage();
        // the server keeps no empty value: that is nobody's doing
        let nothing = BY_URI.replace("env: [", "env: [{name: NOTHING, value: \"\"}, ");
        let template = nothing.replace("image: {uri},", "image: {uri}, workingDir: /models,");
        rule(&engine, &kube, &json!({"template": template, "heal": heals}));
        version(&engine, "iris", 1, "registry/iris:1");
        promote(&engine, "iris", 1);
        expect(&engine, "iris", &[(1, "active")]);
        // what was there is known once the watcher has seen it
        let working =
            || kube.kubectl(&["get", "deployment/iris-production", "-o", "jsonpath={.spec.template.spec.containers[0].workingDir}"]);
        assert_eq!(working(), "/models");
        let remove = r#"[{"op": "remove", "path": "/spec/template/spec/containers/0/workingDir"}]"#;
        kube.kubectl(&["patch", "deployment/iris-production", "--type=json", "--patch", remove]);
        let seen = one(&engine, "deployment.observed", |event| event["data"]["finding"] == "changed");
        assert_eq!(seen["data"]["fields"], json!([".spec.template.spec.containers[name=\"model\"].workingDir"]), "{seen}");
        if heals {
            eventually("it is put back", || working() == "/models");
        }
        // neither what was told nor what we put back is told again
        kube.kubectl(&["create", "deployment", "later", "--image=x"]);
        one(&engine, "deployment.observed", |event| event["data"]["finding"] == "created");
        assert_eq!((told(&engine, "changed"), working().as_str()), (1, if heals { "/models" } else { "" }));
        becomes(&engine, if heals { "in-sync" } else { "changed" });
        assert_eq!(told(&engine, "restored"), usize::from(heals));
        // what we take away ourselves, since the rule says so now, nobody else did
        rule(&engine, &kube, &json!({"template": nothing, "heal": heals}));
        let of = |field: &str| {
            let observed = events(&engine, "deployment.observed");
            observed.iter().filter(|event| event["data"]["fields"].to_string().contains(field)).count()
        };
        eventually("the watcher knows the rule as it is now", || {
            kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/other:9"]);
            eventually("the image is told", || of("image") >= 1);
            if heals {
                eventually("the image is what it was", || kube.image("iris-production") == "registry/iris:1");
            }
            working().is_empty()
        });
        kube.kubectl(&["create", "deployment", "latest", "--image=x"]);
        eventually("what came last is told", || told(&engine, "created") == 2);
        assert_eq!((of("workingDir"), of("NOTHING")), (1, 0));
    }
}

#[test]
fn a_rule_that_heals_puts_right_what_was_changed_or_removed() {
    let (_dir, kube, engine) = deployed(&json!({"template": BY_URI, "heal": true}));
    kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/other:9"]);
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "changed");
    eventually("the image is what it was", || kube.image("iris-production") == "registry/iris:1");
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "restored");
    becomes(&engine, "in-sync");
    kube.kubectl(&["delete", "deployment", "iris-production"]);
    let seen = one(&engine, "deployment.observed", |event| event["data"]["finding"] == "removed");
    assert!(seen["data"]["reason"].as_str().unwrap().contains("put back"), "{seen}");
    eventually("it is there again", || kube.image("iris-production") == "registry/iris:1");
    becomes(&engine, "in-sync");
    assert_eq!(told(&engine, "restored"), 2, "once for each");
}

#[test]
fn what_was_removed_while_nobody_looked_is_put_back_at_the_start() {
    let (dir, kube, mut engine) = deployed(&json!({"template": BY_URI, "heal": true}));
    for times in 1..=2 {
        assert_eq!(engine.stop(), Some(0));
        kube.kubectl(&["delete", "deployment", "iris-production"]);
        engine = serve(&data_of(&dir), &kube.kubeconfig);
        eventually("each time is told", || told(&engine, "removed") == times);
        eventually("it is there again", || kube.image("iris-production") == "registry/iris:1");
        eventually("that is told too", || told(&engine, "restored") == times);
        becomes(&engine, "in-sync");
    }
}

#[test]
fn what_was_put_right_while_nobody_looked_or_by_another_rule_is_in_sync_again() {
    let (dir, kube, engine) = deployed(&json!({"template": BY_URI}));
    kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/other:9"]);
    becomes(&engine, "changed");
    assert_eq!(engine.stop(), Some(0));
    kube.kubectl(&["set", "image", "deployment/iris-production", "model=registry/iris:1"]);
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    becomes(&engine, "in-sync");
    // what a person did becomes what the rule wants: nothing happens to the object then
    kube.kubectl(&["scale", "deployment/iris-production", "--replicas=3"]);
    becomes(&engine, "changed");
    rule(&engine, &kube, &json!({"template": BY_URI.replace("replicas: 2", "replicas: 3")}));
    becomes(&engine, "in-sync");
    // one that is gone while nobody looks is told once, however often the engine starts
    kube.kubectl(&["delete", "deployment", "iris-production"]);
    becomes(&engine, "missing");
    let before = events(&engine, "deployment.observed").len();
    drop(engine);
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    kube.kubectl(&["create", "deployment", "later", "--image=x"]);
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "created");
    assert_eq!(events(&engine, "deployment.observed").len(), before + 1);
}

#[test]
fn what_somebody_removed_comes_back_when_the_task_is_done_again() {
    let (_dir, kube, engine) = deployed(&json!({"template": BY_URI}));
    kube.kubectl(&["delete", "deployment", "iris-production"]);
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "removed");
    becomes(&engine, "missing");
    assert!(doctor(&engine).contains("annals trigger replay RULE --task N"), "{}", doctor(&engine));
    let again = engine.annals(&["trigger", "replay", "serve", "--since", "2000-01-01T00:00:00Z"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    eventually("it is there again", || kube.image("iris-production") == "registry/iris:1");
    eventually("the task is done", || tasks(&engine)[0]["state"] == "done");
    expect(&engine, "iris", &[(1, "active")]);
    becomes(&engine, "in-sync");
}

#[test]
fn what_somebody_made_by_hand_is_flagged_and_taken_over() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"image": "server:2", "name": "model-deployment"}));
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    kube.kubectl(&["create", "deployment", "model-deployment", "--image=model-image"]);
    let seen = one(&engine, "deployment.observed", |_| true);
    assert_eq!(seen["data"]["finding"], "created", "{seen}");
    assert_eq!((&seen["data"]["image"], &seen["data"]["manager"]), (&json!("model-image"), &json!("kubectl-create")), "{seen}");
    assert_eq!((&seen["subject"], &seen["data"]["target"]["name"]), (&json!("default/_system"), &json!("model-deployment")), "{seen}");

    // It is not ours to go over.
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "failed")]);
    eventually("the task is parked", || tasks(&engine)[0]["state"] == "parked");
    assert!(tasks(&engine)[0]["note"].as_str().unwrap().contains("annals adopt"), "{}", tasks(&engine));
    assert_eq!(kube.image("model-deployment"), "model-image");

    eventually("it is up", || kube.get("deployment", "model-deployment")["status"]["availableReplicas"] == 1);
    let before = kube.get("deployment", "model-deployment");
    let object = format!("test/{}/model-deployment", kube.namespace);
    let adopt = ["adopt", &object, "--model", "iris", "--version", "1", "--channel", "production", "--actor", "ada"];
    let taken = engine.annals(&adopt);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    expect(&engine, "iris", &[(1, "failed"), (1, "active")]);
    let after = kube.get("deployment", "model-deployment");
    assert_eq!(after["spec"], before["spec"], "nothing restarts");
    assert_eq!(after["metadata"]["annotations"]["annals.dev/version"], "1");
    let adopted = one(&engine, "deployment.observed", |event| event["data"]["finding"] == "adopted");
    assert_eq!((&adopted["data"]["manager"], &adopted["data"]["reason"]), (&json!("kubectl-create"), &json!("by ada")), "{adopted}");
    let again = engine.annals(&["adopt", &format!("test/{}/nothing", kube.namespace), "--model", "iris", "--version", "1"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no Deployment"), "{}", String::from_utf8_lossy(&again.stderr));

    // And from then on promotions go there: what kubectl had made is gone, not kept beside ours.
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "failed"), (1, "superseded"), (2, "active")]);
    let containers = kube.get("deployment", "model-deployment")["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers.as_array().unwrap().iter().map(|c| &c["image"]).collect::<Vec<_>>(), [&json!("server:2")], "{containers}");
}

#[test]
fn a_field_that_another_program_owns_is_for_a_person() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"template": BY_URI}));
    version(&engine, "iris", 1, "registry/iris:1");
    version(&engine, "iris", 2, "registry/iris:2");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    let theirs = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: iris-production}, \
                  spec: {template: {spec: {containers: [{name: model, image: registry/iris:theirs}]}}}}";
    kube.apply(theirs, &["--server-side", "--field-manager=argocd", "--force-conflicts"]);
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "active"), (2, "failed")]);
    eventually("the task is parked", || tasks(&engine)[0]["state"] == "parked");
    let task = tasks(&engine)[0].clone();
    let note = task["note"].as_str().unwrap();
    assert!(note.contains("argocd owns") && note.contains("image") && note.contains("annals adopt"), "{note}");
    assert_eq!(kube.image("iris-production"), "registry/iris:theirs");
    assert_eq!(tasks(&engine)[0]["attempts"], task["attempts"], "it is not tried again and again");
}

#[test]
fn an_object_of_another_model_is_left_alone() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"image": "server:1", "name": "one-for-all"}));
    register(&engine, "iris", 1);
    register(&engine, "fraud", 1);
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    promote(&engine, "fraud", 1);
    expect(&engine, "fraud", &[(1, "failed")]);
    let model = |object: Value| object["metadata"]["annotations"]["annals.dev/model"].clone();
    assert_eq!(model(kube.get("deployment", "one-for-all")), "default/iris");
}

/// A directory was lost and begun anew, and the cluster has still what the old journal's engine made, with higher counts.
#[test]
fn what_another_journal_s_engine_made_is_no_newer_promotion() {
    let (_dir, kube, engine) = stage();
    let act = json!({"template": BY_URI});
    rule(&engine, &kube, &act);
    for number in 1..=3 {
        version(&engine, "iris", number, &format!("registry/iris:old-{number}"));
        promote(&engine, "iris", number);
        eventually("it is up", || deployments(&engine, "iris").pop().is_some_and(|(n, state, _)| n == number && state == "active"));
    }
    drop(engine);
    let anew = directory();
    let engine = serve(&data_of(&anew), &kube.kubeconfig);
    rule(&engine, &kube, &act);
    version(&engine, "iris", 1, "registry/iris:new");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "failed")]);
    eventually("the task is parked", || tasks(&engine)[0]["state"] == "parked");
    assert!(tasks(&engine)[0]["note"].as_str().unwrap().contains("not made by this Annals"), "{}", tasks(&engine));
    assert_eq!(kube.image("iris-production"), "registry/iris:old-3");
    let object = format!("test/{}/iris-production", kube.namespace);
    let taken = engine.annals(&["adopt", &object, "--model", "iris", "--version", "1", "--channel", "production"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    version(&engine, "iris", 2, "registry/iris:newer");
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "failed"), (1, "superseded"), (2, "active")]);
    assert_eq!(kube.image("iris-production"), "registry/iris:newer");
}
