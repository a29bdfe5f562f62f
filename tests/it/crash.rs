//! kill -9 under load: what was answered is there, once; and the views are what a replay makes.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{Engine, caught_up, data_of, directory, event, eventually, exported, program, register};

const ROUNDS: u64 = 20;
const MODELS: u64 = 8;
const PRODUCERS: u64 = 4;

/// Ids that were sent, and the position that was answered, if there was an answer.
type Sent = Arc<Mutex<HashMap<String, Option<String>>>>;

/// Publishes until the engine is gone; retries an unanswered event in the next round with its first id.
fn produce(url: String, producer: u64, sent: &Sent, count: &AtomicU64) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20))).build().into();
    for n in 0.. {
        let mut body =
            event("model.measured", &format!("default/model-{}", (n + producer) % MODELS), json!({"metric": "accuracy", "value": 0.5}));
        let unanswered = || {
            sent.lock().unwrap().iter().find(|(id, at)| at.is_none() && id.starts_with(&format!("{producer}-"))).map(|(id, _)| id.clone())
        };
        let fresh = format!("{producer}-{}-{}", (n + producer) % MODELS, body["id"].as_str().unwrap());
        let id = if n == 0 { unanswered().unwrap_or(fresh) } else { fresh };
        let model = id.split('-').nth(1).unwrap().to_owned();
        body["id"] = id.clone().into();
        body["subject"] = format!("default/model-{model}").into();
        sent.lock().unwrap().entry(id.clone()).or_insert(None);
        let answer =
            agent.post(format!("{url}/v1/events")).header("content-type", "application/cloudevents+json").send(body.to_string().as_bytes());
        let Ok(mut answer) = answer else { return };
        let Ok(text) = answer.body_mut().read_to_string() else { return };
        match answer.status().as_u16() {
            200 | 201 => {
                let body: Value = serde_json::from_str(&text).unwrap();
                sent.lock().unwrap().insert(id, Some(body["position"].as_str().unwrap().to_owned()));
                count.fetch_add(1, Ordering::Relaxed);
            }
            202 | 503 => {}
            status => panic!("{status}: {text}"),
        }
    }
}

#[test]
fn after_twenty_kills_every_answered_event_is_there_once_and_the_views_equal_a_replay() {
    let dir = directory();
    let sent: Sent = Arc::default();
    let engine = Engine::start(&data_of(&dir));
    (0..MODELS).for_each(|m| drop(register(&engine, &format!("model-{m}"), 1)));
    engine.kill();
    for round in 0..ROUNDS {
        let engine = Engine::start(&data_of(&dir));
        let count = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|p| {
                let (url, sent, count) = (engine.url.clone(), Arc::clone(&sent), Arc::clone(&count));
                std::thread::spawn(move || produce(url, p, &sent, &count))
            })
            .collect();
        // at another point of the load each time
        eventually("some events were accepted", || count.load(Ordering::Relaxed) > round * 7 + 3);
        engine.kill();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
    let engine = Engine::start(&data_of(&dir));
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for line in exported(&engine).iter().filter(|l| l["headers"]["ce_type"] == "dev.annals.model.measured.v1") {
        let at = format!("{}:{}", line["partition"], line["headers"]["ce_seq"].as_str().unwrap());
        found.entry(line["headers"]["ce_id"].as_str().unwrap().to_owned()).or_default().push(at);
    }
    let sent = sent.lock().unwrap();
    for (id, answered) in sent.iter().filter_map(|(id, at)| Some((id, at.as_ref()?))) {
        assert_eq!(found.get(id).map(Vec::as_slice), Some(std::slice::from_ref(answered)), "{id} was answered at {answered}");
    }
    assert!(found.iter().all(|(id, at)| sent.contains_key(id) && at.len() == 1));
    assert!(sent.values().flatten().count() > 200, "too little happened to mean something");
    views_equal_a_replay(&engine);
    let export = dir.path().join("export.ndjson");
    let export = export.to_str().unwrap();
    assert!(engine.annals(&["export", export]).status.success());
    let verified = Command::new(program().get_program()).args(["audit", "verify", export]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// What the views say, in full.
fn views(engine: &Engine) -> Vec<Value> {
    let head = engine.get("/v1/models").header("annals-position").unwrap_or_default().to_owned();
    let mut all = vec![Value::from(head)];
    for m in 0..MODELS {
        for path in ["", "/versions", "/channels", "/timeline?limit=1000", "/versions/1/lineage"] {
            all.push(engine.get(&format!("/v1/models/model-{m}{path}")).ok(200));
        }
    }
    all
}

fn views_equal_a_replay(engine: &Engine) {
    caught_up(engine);
    let live = views(engine);
    for view in ["registry", "timeline", "lineage", "deployments", "search"] {
        let rebuilt = engine.annals(&["rebuild", view]);
        assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    }
    assert_eq!(views(engine), live);
}
