//! Webhooks: delivered in order, signed as the spec's own libraries want it, and kept when nobody takes them.

mod cdevents;
mod odd;
mod receiver;

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::services::{database, run_python};
use crate::stage::{Engine, data_of, directory, event, eventually, exported, program, register};
use receiver::Receiver;

/// Starts an engine that may deliver on this machine.
fn start(data: &Path) -> Engine {
    start_with(data, &[])
}

fn start_with(data: &Path, more: &[&str]) -> Engine {
    let mut command = program();
    command.args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--webhook-allow", "127.0.0.0/8"]).args(more);
    Engine::spawn(command)
}

/// Runs `annals webhook …` and returns what it printed as JSON.
#[track_caller]
fn webhook(engine: &Engine, args: &[&str]) -> Value {
    let output = engine.annals(&[&["webhook"], args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Adds one, and returns what its receiver verifies with.
#[track_caller]
fn add(engine: &Engine, name: &str, url: &str, signing: &str) -> String {
    let added = webhook(engine, &["add", name, "--to", url, "--type", "promoted,demoted", "--signing", signing]);
    key_of(&added)
}

fn key_of(webhook: &Value) -> String {
    let key = webhook.get("secret").unwrap_or(&webhook["keys"][0]["public"]);
    key.as_str().unwrap_or_else(|| panic!("no key: {webhook}")).to_owned()
}

/// Promotes version 1 of a model, or takes it away again, and returns the event's id.
#[track_caller]
fn move_version(engine: &Engine, model: &str, channel: &str) -> String {
    let promoted = event("version.promoted", &format!("default/{model}/1"), json!({"channel": channel, "reason": "a test"}));
    engine.publish(&promoted).ok(201);
    promoted["id"].as_str().unwrap().to_owned()
}

fn deliveries(engine: &Engine, name: &str, state: &str) -> Vec<Value> {
    let page = engine.get(&format!("/v1/webhooks/{name}/deliveries?state={state}")).ok(200);
    page["items"].as_array().unwrap().clone()
}

#[test]
fn messages_verify_with_the_specs_own_libraries() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receivers = [("python", Receiver::python()), ("javascript", Receiver::javascript())];
    register(&engine, "iris", 1);
    let mut expected = Vec::new();
    for (language, receiver) in &receivers {
        let mut keys = Vec::new();
        for signing in ["ed25519", "hmac"] {
            let path = format!("/hook/{signing}");
            let key = add(&engine, &format!("{language}-{signing}"), &format!("{}{path}", receiver.url), signing);
            assert!(key.starts_with(if signing == "hmac" { "whsec_" } else { "whpk_" }), "{key}");
            expected.push((receiver, path, key.clone()));
            keys.push(key);
        }
        receiver.know(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let id = move_version(&engine, "iris", "staging");
    let streamed = engine.get("/v1/events?type=promoted");
    let streamed: Value = serde_json::from_str(streamed.text.lines().next().unwrap()).unwrap();
    for (receiver, path, key) in expected {
        let message = &receiver.wait_for(&path, 1)[0];
        assert_eq!(message["verified"], json!([key]), "{message}");
        assert_eq!((&message["body"]["type"], &message["body"]["timestamp"]), (&json!("version.promoted"), &streamed["recordedtime"]));
        assert_eq!(message["body"]["data"], streamed, "the event is as the stream has it");
        let webhook_id = message["id"].as_str().unwrap();
        assert!(webhook_id.starts_with(&format!("{id}_")) && !webhook_id.contains('.'), "{webhook_id}");
    }
    for (receiver, _) in ["python-ed25519", "python-hmac", "javascript-ed25519", "javascript-hmac"].iter().zip(0..) {
        eventually("it is noted as delivered", || deliveries(&engine, receiver, "done").len() == 1);
        let done = &deliveries(&engine, receiver, "done")[0];
        assert!(done["note"].as_str().unwrap().starts_with("204 in "), "{done}");
        assert_eq!((&done["event"], &done["attempts"], &done["key"]), (&json!(id), &json!(0), &json!("default/iris")));
    }
    let metrics = engine.get("/metrics").text;
    assert!(metrics.contains("annals_webhook_tries_total{outcome=\"delivered\"} 4"), "{metrics}");
    assert!(metrics.contains("annals_webhook_try_duration_seconds_count 4"), "{metrics}");
}

#[test]
fn a_key_changes_while_its_receiver_goes_on() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    for signing in ["ed25519", "hmac"] {
        let url = format!("{}/hook/{signing}", receiver.url);
        let old = add(&engine, signing, &url, signing);
        let new = key_of(&webhook(&engine, &["rotate", signing, "--overlap", "1h"]));
        assert_ne!(old, new);
        receiver.know(&[&old, &new]);
        assert_eq!(webhook(&engine, &["test", signing])["status"], 204);
        let both = &receiver.wait_for(&format!("/hook/{signing}"), 1)[0];
        assert_eq!((&both["verified"], &both["body"]["type"]), (&json!([old, new]), &json!("annals.test")), "{both}");
        let newest = key_of(&webhook(&engine, &["rotate", signing, "--overlap", "0s"]));
        receiver.know(&[&old, &new, &newest]);
        webhook(&engine, &["test", signing]);
        assert_eq!(receiver.wait_for(&format!("/hook/{signing}"), 2)[1]["verified"], json!([newest]));
        assert_eq!(webhook(&engine, &["show", signing])["keys"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_secret_is_told_once_and_is_nowhere_else() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    let url = format!("{}/hook", receiver.url);
    let add = engine.annals(&["webhook", "add", "pager", "--to", &url, "--type", "promoted", "--signing", "hmac"]);
    let said = String::from_utf8(add.stdout).unwrap();
    let secret = said.lines().find_map(|line| line.strip_prefix("secret")).unwrap_or_else(|| panic!("{said}")).trim().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    receiver.know(&[&secret]);
    assert_eq!(webhook(&engine, &["test", "pager"])["delivered"], true);
    // said again it is no change, and tells nothing
    let again = webhook(&engine, &["add", "pager", "--to", &url, "--type", "promoted", "--signing", "hmac"]);
    assert_eq!((again.get("secret"), &again["changed"], &again["revision"]), (None, &json!(false), &json!(1)), "{again}");
    let hidden = |text: &str| assert!(!text.contains(secret.trim_start_matches("whsec_")), "the secret is told: {text}");
    hidden(&webhook(&engine, &["show", "pager"]).to_string());
    hidden(&webhook(&engine, &["list"]).to_string());
    exported(&engine).iter().for_each(|record| hidden(&record.to_string()));
    hidden(&engine.get("/metrics").text);
    hidden(&engine.said());
}

#[test]
fn order_per_model_is_kept_and_every_try_has_one_id() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    // each message fails once
    add(&engine, "flaky", &format!("{}/flaky/1", receiver.url), "ed25519");
    for model in ["iris", "wine"] {
        register(&engine, model, 1);
    }
    let (mut iris, mut wine) = (Vec::new(), Vec::new());
    for channel in ["dev", "staging"] {
        iris.push(move_version(&engine, "iris", channel));
        wine.push(move_version(&engine, "wine", channel));
    }
    receiver.wait_for("/flaky/1", 8);
    eventually("all are delivered", || deliveries(&engine, "flaky", "done").len() == 4);
    let got = receiver.got("/flaky/1");
    assert_eq!(got.len(), 8, "twice each: {got:?}");
    for (model, ids) in [("iris", &iris), ("wine", &wine)] {
        let of: Vec<_> = got.iter().filter(|m| m["body"]["data"]["subject"] == format!("default/{model}/1")).collect();
        let order: Vec<_> = of.iter().map(|m| m["body"]["data"]["id"].as_str().unwrap()).collect();
        assert_eq!(order, [&ids[0], &ids[0], &ids[1], &ids[1]], "the second waits for the first");
        assert!(of[0]["id"] == of[1]["id"] && of[2]["id"] == of[3]["id"] && of[0]["id"] != of[2]["id"]);
        let pause = of[1]["at"].as_f64().unwrap() - of[0]["at"].as_f64().unwrap();
        assert!((3.9..15.0).contains(&pause), "the first pause is 5 s, with jitter: {pause}");
    }
    let done = deliveries(&engine, "flaky", "done");
    assert!(done.iter().all(|delivery| delivery["attempts"] == 1), "{done:?}");
}

#[test]
fn what_was_not_delivered_survives_a_kill() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    let (port, path) = (receiver.port(), "/hook");
    add(&engine, "later", &format!("{}{path}", receiver.url), "ed25519");
    register(&engine, "iris", 1);
    drop(receiver);
    let id = move_version(&engine, "iris", "staging");
    eventually("it was tried", || deliveries(&engine, "later", "pending").iter().any(|delivery| delivery["attempts"] == 1));
    let waiting = &deliveries(&engine, "later", "pending")[0];
    assert!(waiting["note"].as_str().unwrap().contains("connection refused") && waiting["next"].is_string(), "{waiting}");
    engine.kill();
    let receiver = Receiver::python_at(port);
    let engine = start(&data_of(&dir));
    let got = receiver.wait_for(path, 1);
    assert_eq!(got[0]["body"]["data"]["id"], id);
    eventually("it is noted", || deliveries(&engine, "later", "done").len() == 1);
}

#[test]
fn a_parked_delivery_is_told_by_doctor_and_delivered_again() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    // fails twice, and succeeds after that
    add(&engine, "mended", &format!("{}/flaky/2", receiver.url), "ed25519");
    register(&engine, "iris", 1);
    let id = move_version(&engine, "iris", "staging");
    eventually("it failed once", || deliveries(&engine, "mended", "pending").iter().any(|delivery| delivery["attempts"] == 1));
    assert_eq!(engine.stop(), Some(0));
    // nine tries have failed over three days, as far as the store knows
    let store = data_of(&dir).join("ops.db");
    run_python(
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); n = c.execute('UPDATE tasks SET attempts = 9, next_at = 0').rowcount; assert n == 1; c.commit()",
        &[store.to_str().unwrap()],
    );
    let engine = start(&data_of(&dir));
    eventually("it is parked", || deliveries(&engine, "mended", "parked").len() == 1);
    let parked = &deliveries(&engine, "mended", "parked")[0];
    assert!(parked["note"].as_str().unwrap().contains("500") && parked["attempts"] == 10, "{parked}");
    let doctor = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("annals webhook replay mended --parked") && doctor.status.code() == Some(1), "{said}");
    assert_eq!(webhook(&engine, &["replay", "mended", "--parked"])["replayed"], 1);
    let got = receiver.wait_for("/flaky/2", 3);
    assert!(got.iter().all(|m| m["id"] == got[0]["id"] && m["body"]["data"]["id"] == id.as_str()), "{got:?}");
    eventually("it is delivered", || deliveries(&engine, "mended", "done").len() == 1);
    // and what is done can be done again, by time or by number
    assert_eq!(webhook(&engine, &["replay", "mended", "--since", "2020-01-01T00:00:00Z"])["replayed"], 1);
    receiver.wait_for("/flaky/2", 4);
    eventually("it is delivered again", || deliveries(&engine, "mended", "done").len() == 1);
    let number = deliveries(&engine, "mended", "done")[0]["id"].to_string();
    assert_eq!(webhook(&engine, &["replay", "mended", "--delivery", &number])["replayed"], 1);
    receiver.wait_for("/flaky/2", 5);
    assert_eq!(engine.annals(&["doctor"]).status.code(), Some(0));
}

#[test]
fn a_webhook_is_paused_resumed_changed_and_removed() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    let url = format!("{}/hook", receiver.url);
    add(&engine, "deployer", &url, "ed25519");
    register(&engine, "iris", 1);
    assert_eq!(webhook(&engine, &["pause", "deployer", "--reason", "maintenance"])["state"], "paused");
    let id = move_version(&engine, "iris", "dev");
    eventually("it is kept", || deliveries(&engine, "deployer", "pending").len() == 1);
    assert_eq!(webhook(&engine, &["list"])["items"][0]["pending"], 1);
    assert_eq!(receiver.got("/hook").len(), 0);
    assert_eq!(webhook(&engine, &["resume", "deployer"])["state"], "active");
    assert_eq!(receiver.wait_for("/hook", 1)[0]["body"]["data"]["id"], id);
    // another filter, and the keys stay
    let before = webhook(&engine, &["show", "deployer"]);
    let changed = webhook(&engine, &["add", "deployer", "--to", &url, "--type", "promoted", "--channel", "production"]);
    assert_eq!((&changed["keys"], &changed["changed"]), (&before["keys"], &json!(true)), "{changed}");
    move_version(&engine, "iris", "staging");
    let wanted = move_version(&engine, "iris", "production");
    assert_eq!(receiver.wait_for("/hook", 2)[1]["body"]["data"]["id"], wanted, "staging is not wanted any more");
    assert_eq!(webhook(&engine, &["remove", "deployer"])["state"], "removed");
    engine.get("/v1/webhooks/deployer").problem(404, "unknown-subscription");
    assert_eq!(webhook(&engine, &["list"])["items"], json!([]));
    for args in [&["pause", "deployer"][..], &["resume", "deployer"], &["remove", "deployer"], &["test", "deployer"]] {
        let output = engine.annals(&[&["webhook"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // made again, it has another key
    assert_ne!(key_of(&before), add(&engine, "deployer", &url, "ed25519"));
    let timeline = engine.get("/v1/timeline").text;
    assert!(timeline.contains("maintenance"), "who reads the history sees why: {timeline}");
}

#[test]
fn on_kafka_another_instance_delivers_when_one_is_killed() {
    let database = database();
    let cluster = Cluster::fresh().with(&["--database", &database.url, "--webhook-allow", "127.0.0.0/8"]);
    let mut engines = vec![cluster.start("a"), cluster.start("b")];
    let receiver = Receiver::python();
    receiver.know(&[&add(&engines[0], "shared", &format!("{}/hook", receiver.url), "ed25519")]);
    register(&engines[0], "iris", 1);
    let mut ids = vec![move_version(&engines[0], "iris", "dev")];
    assert_eq!(receiver.wait_for("/hook", 1)[0]["body"]["data"]["id"], ids[0].as_str());
    // whichever of the two delivers: both are killed, one after the other
    for (round, channel) in ["staging", "production"].into_iter().enumerate() {
        engines.remove(0).kill();
        engines.push(cluster.start(&format!("next-{round}")));
        let promoted = event("version.promoted", "default/iris/1", json!({"channel": channel, "reason": "a test"}));
        eventually("somebody judges it", || matches!(engines[0].publish(&promoted).status, 200 | 201));
        ids.push(promoted["id"].as_str().unwrap().to_owned());
        eventually("it is delivered", || receiver.got("/hook").iter().any(|m| m["body"]["data"]["id"] == promoted["id"]));
    }
    let mut got: Vec<Value> = receiver.got("/hook").iter().map(|m| m["body"]["data"]["id"].clone()).collect();
    got.dedup();
    assert_eq!(json!(got), json!(ids), "in order, each at least once");
    assert!(receiver.got("/hook").iter().all(|m| m["verified"] != json!([])), "with one key, whoever sends");
}
