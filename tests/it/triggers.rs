//! Triggers with the real program: rules act, once at least and in order, whatever dies in between.

mod bad;
mod held;
mod killed;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Engine, data_of, directory, event, eventually, program};

/// What is measured.
pub const MODELS: [&str; 3] = ["iris", "wine", "oak"];

/// The same proposal each time, so that a model is made once.
pub fn create(model: &str) -> Value {
    let mut created = event("model.created", &format!("default/{model}"), json!({}));
    created["id"] = format!("create-{model}").into();
    created
}

/// An engine with a directory of programs.
pub struct Stage {
    pub dir: TempDir,
}

impl Stage {
    pub fn fresh() -> Self {
        let dir = directory();
        std::fs::create_dir(dir.path().join("commands")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a program into the directory.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.path("commands").join(name);
        // in one piece: an engine may be about to run it
        let new = self.path(name);
        std::fs::write(&new, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// A program that writes down which events it was run for, in order.
    pub fn noting(&self, name: &str) {
        self.script(name, &format!("echo \"$ANNALS_MODEL $ANNALS_POSITION\" >> {}\n", self.path("noted").display()));
    }

    /// What it wrote: model and seq.
    pub fn noted(&self) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(self.path("noted")).unwrap_or_default();
        let line = |line: &str| {
            let (model, position) = line.split_once(' ')?;
            Some((model.to_owned(), position.split_once(':')?.1.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    pub fn command(&self) -> Command {
        let mut command = program();
        command.args(["serve", "--data", data_of(&self.dir).to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        command.args(["--commands", self.path("commands").to_str().unwrap()]);
        command
    }

    /// Starts the engine, and makes the models that are measured.
    pub fn start(&self) -> Engine {
        let engine = Engine::spawn(self.command());
        for model in MODELS {
            let created = create(model);
            let answer = engine.publish(&created);
            assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
        }
        engine
    }

    /// Applies a file of rules, and expects that it is all right.
    #[track_caller]
    pub fn apply(&self, engine: &Engine, rules: &str) -> Value {
        let file = self.path("rules.yaml");
        std::fs::write(&file, rules).unwrap();
        said(engine, &["trigger", "apply", file.to_str().unwrap(), "--json"])
    }
}

/// What a command says with `--json`, if it ends well.
#[track_caller]
pub fn said(engine: &Engine, args: &[&str]) -> Value {
    let output = engine.annals(args);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A trigger's history, the oldest first.
pub fn history(engine: &Engine, name: &str) -> Vec<Value> {
    let found = engine.get(&format!("/v1/triggers/{name}/history?limit=1000")).ok(200);
    let mut items = found["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

/// How many tasks of a trigger are in each of these states.
pub fn counts(engine: &Engine, name: &str, states: &[&str]) -> Vec<usize> {
    let items = history(engine, name);
    states.iter().map(|state| items.iter().filter(|item| item["state"] == **state).count()).collect()
}

/// All events of the journal as the stream tells them, without the partitions' own.
pub fn events(engine: &Engine) -> Vec<Value> {
    let replay = engine.get("/v1/events");
    let all = replay.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["type"] != "dev.annals.journal.opened.v1").collect()
}

pub fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == format!("dev.annals.{kind}.v1")).collect()
}

pub fn measured(engine: &Engine, model: &str, n: u64) -> Value {
    engine.accept("model.measured", &format!("default/{model}"), json!({"metric": "accuracy", "value": n}))
}

/// A rule that runs a program on each measurement.
pub fn on_measured(name: &str, run: &str, more: &str) -> String {
    format!("- trigger: {name}\n  when: {{type: [measured]}}\n  do: {{command: {{run: {run}}}}}\n{more}")
}

const LOOP: &str = r#"
- trigger: ask
  when: {type: [drifted]}
  do: {propose: {type: retrain-requested, data: {cause: {kind: drift, drift: "{drift}"}}}}
- trigger: train
  when: {type: [retrain-requested], model: "i*"}
  do: {pipeline: {run: train.sh, args: ["{model}"], timeout_s: 120}}
- trigger: release
  when: {type: [evaluated], where: {/data/verdict: passed}}
  do: {propose: {type: promoted, version: event, data: {channel: production, reason: "version {version} passed"}}}
"#;

/// Trains as a pipeline does: with ids that follow from the cause, so that a second run changes nothing.
fn train(annals: &Path) -> String {
    let annals = annals.display();
    format!(
        r#"set -e
run="run-$ANNALS_EVENT_ID"
artifact='{{"uri":"file:///m.pkl","digest":"sha256:{:064x}"}}'
{annals} emit trained --model "$1" --id "t-$run" --data "{{\"run\":{{\"id\":\"$run\"}},\"artifact\":$artifact}}"
{annals} emit registered --model "$1" --id "r-$run" --data "{{\"run\":\"$run\",\"artifact\":$artifact}}"
{annals} emit evaluated --model "$1" --version "run:$run" --id "e-$run" --data '{{"suite":"holdout","verdict":"passed"}}'
"#,
        7
    )
}

#[test]
fn a_drift_leads_to_a_new_version_in_production_without_a_hand() {
    let stage = Stage::fresh();
    stage.script("train.sh", &train(Path::new(env!("CARGO_BIN_EXE_annals"))));
    let engine = stage.start();
    let applied = stage.apply(&engine, LOOP);
    assert!(applied["items"].as_array().unwrap().iter().all(|trigger| trigger["result"] == "added"), "{applied}");
    let drift = json!({"drift": "dr-1", "kind": "data", "metric": "psi", "observed": 0.4});
    let drifted = engine.accept("drift.detected", "default/iris", drift);
    eventually("the new version is in production", || {
        let channel = engine.get("/v1/models/iris/channels/production");
        channel.status == 200 && channel.json()["version"] == 1
    });
    eventually("all is written down", || ["ask", "train", "release"].iter().all(|name| counts(&engine, name, &["done"]) == [1]));
    let events = events(&engine);
    let one = |kind: &str| {
        let found = of(&events, kind);
        assert_eq!(found.len(), 1, "{kind}: {found:?}");
        found[0].clone()
    };
    let [drift, retrain, trained, registered, evaluated, promoted] =
        ["drift.detected", "retrain.requested", "run.trained", "version.registered", "version.evaluated", "version.promoted"].map(one);
    for (event, cause, hops) in [
        (&retrain, &drift, "1"),
        (&trained, &retrain, "2"),
        (&registered, &retrain, "2"),
        (&evaluated, &retrain, "2"),
        (&promoted, &evaluated, "3"),
    ] {
        assert_eq!((&event["causationid"], &event["annalshops"]), (&cause["id"], &json!(hops)), "{event}");
        assert_eq!(event["correlationid"], drifted["id"], "{event}");
    }
    assert_eq!((&promoted["actor"], &promoted["source"]), (&json!("unverified:trigger:release"), &json!("/annals/actor")));
    assert_eq!(promoted["data"]["data"]["reason"], "version 1 passed");
    // and the other way round: from the trigger to the events that came of it
    let outcome = &history(&engine, "train")[0]["outcome"]["events"];
    let came: Vec<_> = outcome.as_array().unwrap().iter().map(|event| event["position"].clone()).collect();
    assert_eq!(came, [&trained, &registered, &evaluated].map(|event| event["position"].clone()));
    assert_eq!(history(&engine, "release")[0]["outcome"]["events"][0]["id"], promoted["id"]);
    let shown = text(&engine.annals(&["trigger", "history", "release"]).stdout);
    assert!(shown.contains("evaluated") && shown.contains(promoted["position"].as_str().unwrap()), "{shown}");
    assert_eq!(engine.stop(), Some(0));
}

#[test]
fn a_rule_is_data_that_is_shown_changed_and_applied_again() {
    let stage = Stage::fresh();
    stage.noting("note.sh");
    let engine = stage.start();
    let act = r#"{"command":{"run":"note.sh"}}"#;
    let add = ["trigger", "add", "note", "--type", "measured", "--model", "i*", "--do", act, "--reason", "why not", "--json"];
    let added = said(&engine, &add);
    assert!(added["changed"] == true && added["revision"] == 1 && added["state"] == "active", "{added}");
    let again = said(&engine, &add);
    assert!(again["changed"] == false && again["revision"] == 1, "{again}");
    let rule = |name: &str, more: &str| {
        format!("- trigger: {name}\n  when: {{model: 'i*', type: [measured]}}\n  do: {{command: {{run: note.sh}}}}\n{more}")
    };
    let results = |applied: &Value| applied["items"].as_array().unwrap().iter().map(|item| item["result"].clone()).collect::<Vec<_>>();
    assert_eq!(results(&stage.apply(&engine, &rule("note", ""))), ["unchanged"], "the order of members says nothing");
    let both = rule("note", "  cooldown_s: 9\n") + &rule("other", "");
    assert_eq!(results(&stage.apply(&engine, &both)), ["changed", "added"]);
    let told = text(&engine.annals(&["trigger", "apply", stage.path("rules.yaml").to_str().unwrap()]).stdout);
    assert_eq!(told, "note: unchanged\nother: unchanged\n");
    let shown = engine.get("/v1/triggers/note").ok(200);
    assert_eq!((&shown["revision"], &shown["cooldown_s"], &shown["when"]["model"]), (&json!(2), &json!(9), &json!("i*")));
    let list = text(&engine.annals(&["trigger", "list"]).stdout);
    assert!(list.contains("note") && list.contains("other") && list.contains("command"), "{list}");
    let all = events(&engine);
    let recorded = of(&all, "trigger.changed");
    let first = recorded[0];
    assert_eq!((recorded.len(), &first["subject"], &first["data"]["data"]["reason"]), (3, &json!("default/_system"), &json!("why not")));
    said(&engine, &["trigger", "remove", "other", "--json"]);
    engine.get("/v1/triggers/other").problem(404, "unknown-trigger");
    assert_eq!(engine.get("/v1/triggers").ok(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(engine.annals(&["trigger", "pause", "other"]).status.code(), Some(1), "it is no more");
}

/// Puts a rule over HTTP, whatever comes of it.
pub fn put(engine: &Engine, name: &str, body: &Value) -> crate::stage::Response {
    engine.put(&format!("/v1/triggers/{name}"), body.to_string().as_bytes())
}
