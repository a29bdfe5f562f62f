//! TFX: what ML Metadata says of a run becomes a model's life. Read with the real `ml-metadata`, from a store that
//! `examples/tfx/run --record` recorded; TFX itself is too big for every run of the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::services::{mlmd_python, said as said_by};
use crate::stage::{Engine, event, eventually, place};
use crate::triggers::{Stage, events, history, of, said, text};

/// The runs of the store: of the event `first` one that is whole; of `second` one that failed, and one that is whole.
const FIRST: &str = "first-fb130dda.1";
const FAILED: &str = "second-fb130dda.1";
const SECOND: &str = "second-fb130dda.2";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tfx").join(name)
}

/// Lets a program find the Python, and the client of this tree.
fn equipped(command: &mut Command) -> &mut Command {
    let bin = mlmd_python().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/src");
    command.env("PATH", format!("{}:{path}", bin.display())).env("PYTHONPATH", client).env("PYTHONDONTWRITEBYTECODE", "1")
}

/// An engine with the example's rules and its program that registers.
fn start(stage: &Stage) -> Engine {
    stage.script("register", &format!("exec {}\n", example("commands/register").display()));
    let mut command = stage.command();
    let engine = Engine::spawn({
        equipped(&mut command).env("TFX_HOME", stage.path("home"));
        command
    });
    said(&engine, &["trigger", "apply", example("rules.yaml").to_str().unwrap(), "--json"]);
    engine
}

/// Runs `emit.py` with a home and more arguments.
fn emit(url: &str, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(mlmd_python());
    equipped(&mut command).arg(example("emit.py")).arg(home).args(arguments).env("ANNALS_URL", url).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn told(engine: &Engine, home: &Path, run: &str) -> String {
    let output = emit(&engine.url, home, &[run]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn recorded() -> PathBuf {
    example("recorded")
}

/// Copies what was recorded to where it may be bent.
fn copied(to: &Path) {
    said_by(Command::new("cp").arg("-r").arg(recorded()).arg(to));
}

fn wait_for_production(engine: &Engine, version: u64) {
    eventually(&format!("version {version} is in production"), || {
        let held = engine.get("/v1/models/iris/channels/production");
        held.status == 200 && held.json()["version"] == version
    });
}

fn count(engine: &Engine, kind: &str) -> usize {
    of(&events(engine), kind).len()
}

/// A folder's digest by the tools of the system.
fn tree_digest(folder: &str) -> String {
    let script = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum";
    let told = said_by(Command::new("sh").args(["-c", script]).current_dir(folder.strip_prefix("file://").unwrap()));
    format!("sha256:{}", told.split(' ').next().unwrap())
}

#[test]
fn a_run_of_tfx_becomes_a_version_in_production_once() {
    let stage = Stage::fresh();
    let engine = start(&stage);
    assert!(told(&engine, &recorded(), FIRST).starts_with("accepted: iris was trained by the run"));
    wait_for_production(&engine, 1);
    assert!(told(&engine, &recorded(), SECOND).starts_with("accepted"));
    wait_for_production(&engine, 2);

    let all = events(&engine);
    let [first, second] = of(&all, "run.trained").try_into().unwrap();
    for (trained, run, steps) in [(first, FIRST, "5"), (second, SECOND, "16")] {
        let data = &trained["data"]["data"];
        assert_eq!((&data["run"]["id"], &data["run"]["system"]), (&json!(run), &json!("tfx")));
        let described = ["/artifact", "/data/0", "/data/1", "/evidence/0", "/evidence/3"].map(|at| data.pointer(at).unwrap());
        for part in described {
            assert_eq!(part["digest"], tree_digest(part["uri"].as_str().unwrap()), "{part}");
        }
        let names: Vec<_> = data["data"].as_array().unwrap().iter().map(|d| (&d["name"], &d["role"])).collect();
        assert_eq!(json!(names), json!([["examples/train", "train"], ["examples/eval", "validation"]]));
        assert_eq!((&data["metrics"][0]["name"], &data["metrics"][0]["split"]), (&json!("accuracy"), &json!("eval")));
        assert!(data["metrics"][0]["value"].as_f64().unwrap() > 0.9, "{data}");
        assert_eq!((&data["labels"]["mlmd.execution.Trainer"], &data["params"]["train_args"]), (&json!(steps), &json!({"num_steps": 200})));
        assert_eq!(data["environment"]["framework"], "tfx 1.16.0");
        assert!(data["started"].as_str().unwrap() < data["ended"].as_str().unwrap(), "{data}");
    }
    assert_ne!(first["data"]["data"]["artifact"]["digest"], second["data"]["data"]["artifact"]["digest"]);
    let registered = of(&all, "version.registered");
    for (version, trained) in registered.iter().zip([first, second]) {
        let (made, from) = (&version["data"]["data"], &trained["data"]["data"]);
        assert_eq!(
            (&made["artifact"], &made["performance"], &version["causationid"]),
            (&from["artifact"], &from["metrics"], &trained["id"])
        );
    }
    let promoted = of(&all, "version.promoted");
    assert_eq!(promoted[1]["causationid"], of(&all, "version.evaluated")[1]["id"]);

    // told again, also from a copy elsewhere, and registered again: nothing new
    copied(&stage.path("elsewhere"));
    for home in [recorded(), stage.path("elsewhere")] {
        assert!(told(&engine, &home, FIRST).starts_with("duplicate"));
    }
    assert_eq!(said(&engine, &["trigger", "replay", "tfx-register", "--since", "2020-01-01T00:00:00Z", "--json"])["replayed"], 2);
    eventually("both are registered again", || history(&engine, "tfx-register").iter().all(|task| task["state"] == "done"));
    for kind in ["run.trained", "version.registered", "version.evaluated", "version.promoted"] {
        assert_eq!(count(&engine, kind), 2, "{kind}");
    }
}

#[test]
fn a_run_that_failed_half_way_is_said_and_tried_again_and_nothing_is_guessed() {
    let stage = Stage::fresh();
    std::fs::write(stage.path("run"), FAILED).unwrap();
    // stands for the pipeline, whose end is recorded; the rest is as it is in the example
    let pipeline = format!("--said='RuntimeError: the device is taken' \"$(cat {})\"", stage.path("run").display());
    stage.script("train", &format!("exec python3 {} {} {pipeline}\n", example("emit.py").display(), recorded().display()));
    let engine = start(&stage);
    engine.accept("model.created", "default/iris", json!({}));
    let asked = engine.accept("retrain.requested", "default/iris", json!({"cause": {"kind": "person"}}));
    eventually("it was tried", || history(&engine, "tfx-train").first().is_some_and(|task| task["attempts"].as_u64() > Some(0)));
    let task = &history(&engine, "tfx-train")[0];
    let note = task["note"].as_str().unwrap();
    for word in [FAILED, "failed in Trainer (execution 11): RuntimeError: the device is taken", "nothing was reported", "run it again"] {
        assert!(note.contains(word), "no `{word}` in: {note}");
    }
    assert!(task["state"] == "pending" && task["next"].is_string(), "{task}");
    assert_eq!(count(&engine, "run.trained"), 0);

    std::fs::write(stage.path("run"), SECOND).unwrap();
    wait_for_production(&engine, 1);
    let all = events(&engine);
    assert_eq!(of(&all, "run.trained").len(), 1);
    let trained = of(&all, "run.trained")[0];
    assert_eq!((&trained["causationid"], &trained["data"]["data"]["run"]["id"]), (&asked["id"], &json!(SECOND)));
    eventually("the task is done", || history(&engine, "tfx-train")[0]["state"] == "done");
}

#[test]
fn a_run_that_is_whole_is_not_run_again_for_its_event() {
    let stage = Stage::fresh();
    stage.script("train", &format!("exec {}\n", example("commands/train").display()));
    copied(&stage.path("home"));
    let engine = start(&stage);
    engine.accept("model.created", "default/iris", json!({}));
    // there is no TFX here: had it to be run, it would fail
    for (version, id, run) in [(1, "first", FIRST), (2, "second", SECOND)] {
        let mut asked = event("retrain.requested", "default/iris", json!({"cause": {"kind": "person"}}));
        (asked["id"], asked["source"]) = (id.into(), "/record".into());
        let (partition, seq) = place(&engine.publish(&asked).ok(201));
        eventually("it is reported", || {
            history(&engine, "tfx-train").iter().any(|task| task["position"] == format!("{partition}:{seq}") && task["state"] == "done")
        });
        assert_eq!(of(&events(&engine), "run.trained").last().unwrap()["data"]["data"]["run"]["id"], run);
        wait_for_production(&engine, version);
    }
    // and one that has to be run, and cannot even begin
    let mut asked = event("retrain.requested", "default/iris", json!({"cause": {"kind": "person"}}));
    asked["id"] = "third".into();
    engine.publish(&asked).ok(201);
    let noted = || history(&engine, "tfx-train").last().and_then(|task| Some(task["note"].as_str()?.to_owned()));
    eventually("it is said why not", || noted().is_some_and(|note| note.contains("ModuleNotFoundError: No module named 'tfx'")));
    assert_eq!(count(&engine, "run.trained"), 2);
}

/// What may happen to a store: what is done to the copy, the run that is asked for, and what is said.
const BENT: [(&str, &str, &str, &[&str]); 10] = [
    ("gone", "rm metadata.sqlite", FIRST, &["cannot be read", "name the file that the pipeline wrote"]),
    ("empty", ": > metadata.sqlite", FIRST, &["is no SQLite file: it was cut off"]),
    ("cut", "truncate -s 100000 metadata.sqlite", FIRST, &["no whole store", "malformed", "from a copy"]),
    ("older", "sql 'UPDATE MLMDEnv SET schema_version = 9'", FIRST, &["database version 9 is older than library version 10"]),
    ("newer", "sql 'UPDATE MLMDEnv SET schema_version = 11'", FIRST, &["database version 11 is greater", "the ml-metadata that wrote it"]),
    ("other", "rm metadata.sqlite; sql 'CREATE TABLE other(x)'", FIRST, &["no whole store"]),
    ("unknown", ":", "third", &["knows no run `third`", SECOND, "name one of those"]),
    (
        "killed",
        "sql 'UPDATE Execution SET last_known_state = 2 WHERE id = 5'",
        FIRST,
        &["has not ended in Trainer (execution 5)", "killed"],
    ),
    ("early", "sql 'DELETE FROM Association WHERE execution_id = 6'", FIRST, &["ended before Pusher", "nothing was reported"]),
    ("moved", "rm -r artifacts/Pusher", FIRST, &["the PushedModel of artifact 7 is not at", "put it back, or train again"]),
];

#[test]
fn a_store_that_is_cut_off_or_of_another_version_says_so_and_nothing_is_told() {
    let stage = Stage::fresh();
    let engine = start(&stage);
    std::thread::scope(|scope| {
        for (name, bend, run, words) in BENT {
            let (home, url) = (stage.path(name), &engine.url);
            scope.spawn(move || {
                copied(&home);
                let sql = r#"sql() { python3 -c 'import sqlite3, sys; c = sqlite3.connect("metadata.sqlite"); c.execute(sys.argv[1]); c.commit()' "$1"; }"#;
                said_by(Command::new("sh").args(["-ec", &format!("{sql}\n{bend}")]).current_dir(&home));
                let output = emit(url, &home, &[run]);
                let complaint = text(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{name}: {complaint}");
                let last = complaint.trim_end().rsplit('\n').next().unwrap();
                for word in words {
                    assert!(last.contains(word), "{name}: no `{word}` in: {complaint}");
                }
            });
        }
    });
    let none: Vec<Value> = of(&events(&engine), "run.trained").into_iter().cloned().collect();
    assert!(none.is_empty(), "{none:?}");
    // and an engine that is not there is another thing
    let url = engine.url.clone();
    assert_eq!(engine.stop(), Some(0));
    let output = emit(&url, &recorded(), &[FIRST]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
}
