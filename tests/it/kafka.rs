//! Several instances on one Kafka: any answers for any, and none is missed when it goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::stage::{Engine, caught_up, event, eventually, exported, place, register};

/// What was answered: the event, and its position.
type Answered = Arc<Mutex<Vec<(Value, String)>>>;

/// Publishes measurements of one model until it is told to stop, to whichever instance is there. What
/// has no answer is sent again with the same id, as a pipeline would.
fn keep_publishing(model: &str, urls: &Mutex<Vec<String>>, stop: &AtomicBool, answered: &Answered) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(std::time::Duration::from_secs(20))).build().into();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let event = event("model.measured", &format!("default/{model}"), json!({"metric": "accuracy", "value": 0.5}));
        loop {
            turn += 1;
            let url = {
                let urls = urls.lock().unwrap();
                urls[turn % urls.len()].clone()
            };
            let answer = agent
                .post(format!("{url}/v1/events"))
                .header("content-type", "application/cloudevents+json")
                .send(event.to_string().as_bytes());
            let Ok(mut answer) = answer else { continue }; // that instance is gone
            let Ok(text) = answer.body_mut().read_to_string() else { continue };
            match answer.status().as_u16() {
                200 | 201 => {
                    let body: Value = serde_json::from_str(&text).unwrap();
                    answered.lock().unwrap().push((event, body["position"].as_str().unwrap().to_owned()));
                    break;
                }
                202 | 503 => {} // not known, or not now: the same again
                status => panic!("{status}: {text}"),
            }
        }
    }
}

/// Every answered event is in the journal once, where the answer said, and a retry is told so.
fn nothing_was_lost(engine: &Engine, answered: &Answered) {
    let answered = answered.lock().unwrap();
    assert!(!answered.is_empty());
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for record in exported(engine).iter().filter(|record| record["headers"].is_object()) {
        let headers = &record["headers"];
        let position = format!("{}:{}", record["partition"], headers["ce_seq"].as_str().unwrap());
        found.entry(headers["ce_id"].as_str().unwrap().to_owned()).or_default().push(position);
    }
    for (event, position) in answered.iter() {
        assert_eq!(found.get(event["id"].as_str().unwrap()), Some(&vec![position.clone()]), "{event}");
    }
    let (event, position) = &answered[answered.len() / 2];
    let retried = engine.publish(event).ok(200);
    assert_eq!((&retried["outcome"], &retried["position"]), (&json!("duplicate"), &json!(position)));
}

#[test]
fn any_instance_answers_for_any_other() {
    let cluster = Cluster::fresh();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let created = event("model.created", "default/iris", json!({}));
    let answer = a.publish(&created).ok(201);
    let behind = [("annals-min-position", answer["position"].as_str().unwrap())];
    let model = b.get_with("/v1/models/iris", &behind).ok(200);
    assert_eq!(model["name"], "iris", "{model}");
    let retried = b.publish(&created).ok(200);
    assert_eq!((&retried["outcome"], &retried["position"]), (&json!("duplicate"), &answer["position"]));
    let state = format!("/v1/proposals/{}?source=/it", created["id"].as_str().unwrap());
    eventually("the other instance has heard of the verdict", || b.get(&state).status == 200);
    // refused by whoever owns the partition, told by whoever was asked
    for engine in [&a, &b] {
        engine.publish(&event("model.created", "default/iris", json!({}))).problem(409, "model-exists");
    }
    let owners = |engine: &Engine| {
        let partitions = engine.get("/v1/partitions").ok(200);
        partitions["partitions"].as_array().unwrap().iter().filter(|p| p["state"] == "owner").count()
    };
    eventually("they share the partitions", || owners(&a) + owners(&b) == 4 && owners(&a) > 0 && owners(&b) > 0);
    assert_eq!(caught_up(&a), caught_up(&b));
    assert_eq!(a.get("/v1/timeline").ok(200)["events"], b.get("/v1/timeline").ok(200)["events"]);
}

#[test]
fn an_instance_does_what_its_roles_say() {
    let cluster = Cluster::fresh();
    let with = |name: &str, roles: &str| {
        let mut command = cluster.command(name);
        command.args(["--roles", roles]);
        Engine::spawn(command)
    };
    let (judge, door) = (with("judge", "arbiter"), with("door", "door,projector"));
    let created = door.publish(&event("model.created", "default/iris", json!({}))).ok(201);
    assert_eq!(door.get_with("/v1/models/iris", &[("annals-min-position", created["position"].as_str().unwrap())]).status, 200);
    judge.publish(&event("model.created", "default/iris", json!({}))).problem(421, "no-door");
    judge.get("/v1/models").problem(421, "no-door");
    assert_eq!(judge.get("/metrics").status, 200);
    let states = |engine: &Engine| {
        let partitions = engine.get("/v1/partitions").ok(200);
        partitions["partitions"].as_array().unwrap().iter().map(|p| p["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("it owns all partitions", || states(&judge).iter().all(|state| state == "owner"));
    assert_eq!(states(&door), ["standby"; 4]);
}

#[test]
fn a_rolling_restart_loses_no_answer_and_changes_none() {
    let cluster = Cluster::fresh();
    let mut engines: Vec<Engine> = ["a", "b", "c"].map(|name| cluster.start(name)).into();
    register(&engines[0], "rolling", 1);
    let urls = Arc::new(Mutex::new(engines.iter().map(|e| e.url.clone()).collect::<Vec<_>>()));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Answered::default());
    let load = {
        let (urls, stop, answered) = (Arc::clone(&urls), Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || keep_publishing("rolling", &urls, &stop, &answered))
    };
    for name in ["a", "b", "c"] {
        let before = answered.lock().unwrap().len();
        eventually("the load goes on", || answered.lock().unwrap().len() > before + 20);
        assert_eq!(engines.remove(0).stop(), Some(0));
        let next = cluster.start(name);
        urls.lock().unwrap().remove(0);
        urls.lock().unwrap().push(next.url.clone());
        engines.push(next);
    }
    let before = answered.lock().unwrap().len();
    eventually("the load goes on", || answered.lock().unwrap().len() > before + 20);
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    nothing_was_lost(&engines[0], &answered);
    nothing_was_lost(&engines[2], &answered);
}

#[test]
fn after_a_kill_another_takes_over() {
    let cluster = Cluster::fresh();
    let (a, b) = (cluster.start("a"), cluster.start("b"));
    let names: Vec<String> = (0..8).map(|n| format!("model-{n}")).collect();
    let places: Vec<_> = names.iter().map(|name| place(&a.accept("model.created", &format!("default/{name}"), json!({})))).collect();
    a.kill();
    for (name, place) in names.iter().zip(places) {
        // the first waits for the group to miss the other one, longer than a door waits for a verdict
        let event = event("model.measured", &format!("default/{name}"), json!({"metric": "accuracy", "value": 0.5}));
        eventually("somebody judges again", || matches!(b.publish(&event).status, 200 | 201));
        let found = b.publish(&event).ok(200);
        assert_eq!(crate::stage::place(&found).0, place.0, "a model stays in its partition");
    }
}

#[test]
fn without_its_topics_it_says_how_to_make_them() {
    let cluster = Cluster::fresh();
    let mut missing = crate::stage::program();
    missing.args(["serve", "--kafka", &crate::cluster::bootstrap(), "--kafka-prefix", "nobody-made-these", "--listen", "127.0.0.1:0"]);
    let said = missing.output().unwrap();
    assert_eq!(said.status.code(), Some(69));
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("annals topics create"), "{text}");
    let check = cluster.topics("check", &["--json"]);
    assert_eq!(check.status.code(), Some(1), "one replica is not enough");
    let found: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert!(found["findings"].as_array().unwrap().iter().all(|f| !f["remedy"].as_str().unwrap().is_empty()), "{found}");
}
