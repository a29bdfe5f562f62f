//! The command line, as scripts rely on it: exit codes, standard output, standard error.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::stage::{Engine, caught_up, data_of, digest, directory, eventually, fresh, program, register};

fn code(output: &Output) -> i32 {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    output.status.code().unwrap()
}

fn json_of(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn emit_registered(engine: &Engine, extra: &[&str]) -> Output {
    let data = json!({"artifact": {"digest": digest(1)}}).to_string();
    let args = ["emit", "registered", "--model", "iris", "--data", &data, "--json"];
    engine.annals(&[&args[..], extra].concat())
}

#[test]
fn exit_codes_tell_accepted_duplicate_refused_usage_and_unavailable() {
    let (_dir, engine) = fresh();
    let first = json_of(&emit_registered(&engine, &["--id", "one"]));
    let again = json_of(&emit_registered(&engine, &["--id", "one"]));
    assert_eq!((&first["outcome"], &again["outcome"]), (&json!("accepted"), &json!("duplicate")));
    assert_eq!(first["position"], again["position"]);
    let refused = engine.annals(&["emit", "promoted", "--model", "iris", "--version", "9", "--data", r#"{"channel":"staging"}"#]);
    assert_eq!(code(&refused), 1);
    assert!(refused.stdout.is_empty() && String::from_utf8_lossy(&refused.stderr).contains("no version `9`"));
    assert_eq!(code(&emit_registered(&engine, &["--expect", "7"])), 1);
    assert_eq!(code(&engine.annals(&["emit", "painted", "--model", "iris"])), 2);
    assert_eq!(code(&engine.annals(&["emit", "created", "--model", "iris", "--data", "{"])), 2);
    assert_eq!(code(&engine.annals(&["paint"])), 2);
    let away = program().env("ANNALS_URL", "http://127.0.0.1:9").args(["list", "models"]).output().unwrap();
    assert_eq!(code(&away), 69);
}

#[test]
fn data_comes_from_the_argument_a_file_or_standard_input() {
    let (dir, engine) = fresh();
    let file = dir.path().join("data.json");
    std::fs::write(&file, r#"{"owner": "ann"}"#).unwrap();
    let at = format!("@{}", file.display());
    assert_eq!(json_of(&engine.annals(&["emit", "created", "--model", "a", "--data", &at, "--json"]))["outcome"], "accepted");
    let mut child = program()
        .env("ANNALS_URL", &engine.url)
        .args(["emit", "created", "--model", "b", "--data", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), br#"{"owner":"bob"}"#).unwrap();
    assert!(child.wait().unwrap().success());
    eventually("both are listed", || json_of(&engine.annals(&["list", "models", "--json"]))["items"].as_array().unwrap().len() == 2);
}

#[test]
fn reading_commands_answer_for_people_and_for_programs() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production", "reason": "passed"}));
    caught_up(&engine);
    for args in [
        &["get", "iris"][..],
        &["get", "iris", "1"],
        &["get", "iris", "--channel", "production"],
        &["list", "models"],
        &["list", "versions", "iris"],
        &["timeline", "iris"],
        &["lineage", "iris", "1"],
        &["at", "2999-01-01T00:00:00Z", "--channel", "production"],
    ] {
        let text = engine.annals(args);
        assert_eq!(code(&text), 0, "{args:?}: {}", String::from_utf8_lossy(&text.stderr));
        let said = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(said.contains("iris") || said.contains("production"), "{args:?}: {said}");
        assert!(json_of(&engine.annals(&[args, &["--json"]].concat())).is_object(), "{args:?}");
    }
    assert_eq!(code(&engine.annals(&["get", "wine"])), 1);
    assert_eq!(code(&engine.annals(&["doctor"])), 0);
    let schema = json_of(&engine.annals(&["schemas", "promoted"]));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn replay_stops_where_it_is_told_and_a_closed_pipe_is_no_error() {
    let (dir, engine) = fresh();
    let first = register(&engine, "iris", 1);
    (2..=20).for_each(|n| drop(register(&engine, "iris", n)));
    let all = engine.annals(&["replay"]);
    assert_eq!(code(&all), 0);
    let events: Vec<Value> = String::from_utf8_lossy(&all.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.iter().filter(|e| e["type"] == "dev.annals.version.registered.v1").count(), 20);
    let until = engine.annals(&["replay", "--until", first["position"].as_str().unwrap(), "--type", "registered"]);
    assert_eq!(String::from_utf8_lossy(&until.stdout).lines().count(), 1);
    let offline = program().args(["replay", "--data", data_of(&dir).to_str().unwrap()]).output().unwrap();
    assert_eq!(offline.stdout, all.stdout, "beside a running engine, too");
    let script = format!("{} replay --url {} | head -n 1", program().get_program().display(), engine.url);
    let piped = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    assert!(!String::from_utf8_lossy(&piped.stderr).contains("panicked"));
    assert_eq!(String::from_utf8_lossy(&piped.stdout).lines().count(), 1);
}

#[test]
fn subscribe_prints_what_comes_and_ends_when_it_has_enough() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    let heard = engine.annals(&["subscribe", "--from", "beginning", "--type", "registered", "--max", "2", "--json"]);
    assert_eq!(code(&heard), 0);
    assert_eq!(String::from_utf8_lossy(&heard.stdout).lines().count(), 2);
}

#[test]
fn an_export_is_verified_and_a_changed_one_is_not() {
    let (dir, engine) = fresh();
    (1..=5).for_each(|n| drop(register(&engine, "iris", n)));
    let file = dir.path().join("export.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(code(&engine.annals(&["export", path])), 0);
    let verified = json_of(&program().args(["audit", "verify", path, "--json"]).output().unwrap());
    assert!(verified.is_object());
    let offline = dir.path().join("offline.ndjson");
    assert_eq!(
        code(&program().args(["export", offline.to_str().unwrap(), "--data", data_of(&dir).to_str().unwrap()]).output().unwrap()),
        0
    );
    assert_eq!(std::fs::read(&offline).unwrap(), std::fs::read(&file).unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("file:///models/iris/3.pkl", "file:///models/iris/X.pkl", 1)).unwrap();
    let changed = program().args(["audit", "verify", path]).output().unwrap();
    assert_eq!(code(&changed), 1);
    let said = String::from_utf8_lossy(&changed.stderr).into_owned() + &String::from_utf8_lossy(&changed.stdout);
    assert!(said.contains("seq 3"), "{said}");
}

#[test]
fn a_backup_of_a_running_engine_is_an_engine() {
    let (dir, engine) = fresh();
    (1..=5).for_each(|n| drop(register(&engine, "iris", n)));
    let target = dir.path().join("copy");
    let backup = program().args(["backup", target.to_str().unwrap(), "--data", data_of(&dir).to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&backup), 0, "{}", String::from_utf8_lossy(&backup.stderr));
    register(&engine, "iris", 6);
    let copy = Engine::start(&target);
    assert_eq!(register(&copy, "iris", 7)["version"], 6, "the copy goes on from where it was made");
}

#[test]
fn serve_refuses_an_address_that_others_can_reach() {
    let dir = directory();
    let output = program().args(["serve", "--data", data_of(&dir).to_str().unwrap(), "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_ne!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-unauthenticated"));
    assert!(!data_of(&dir).exists());
}
