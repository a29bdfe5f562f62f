//! A run's commit looked up: flagged by a rule, refused by a door, and by hand.

use std::path::Path;

use serde_json::{Value, json};

use super::{Stage, git, rule, says, text};
use crate::stage::{Engine, data_of, digest, event, eventually};

fn trained(run: &str, code: &Value) -> Value {
    let mut trained = event("run.trained", "default/iris", json!({"run": {"id": run}, "code": code, "artifact": {"digest": digest(1)}}));
    trained["id"] = run.into();
    trained
}

/// What was said last of a run's commit.
fn told(engine: &Engine, run: &str) -> Option<Value> {
    let replay = engine.get("/v1/events?type=checked");
    let mut events = replay.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["data"].clone());
    events.rfind(|data| data["run"] == run)
}

#[track_caller]
fn eventually_told(engine: &Engine, run: &str, outcome: &str) -> Value {
    eventually(&format!("{run} is {outcome}"), || told(engine, run).is_some_and(|data| data["outcome"] == outcome));
    told(engine, run).unwrap()
}

#[test]
fn a_rule_tells_where_the_commit_of_each_run_stands() {
    let stage = Stage::fresh();
    let bare = stage.bare("iris.git");
    let clone = stage.clone_of(&bare, "iris");
    let engine = stage.engine();
    rule(&engine, "lookup", &["trained"], &json!({"lookup": {}}));
    let pushed = git(&clone, &["rev-parse", "HEAD"]);
    git(&clone, &["push", "--quiet", "origin", "main:release"]);
    git(&clone, &["tag", "v1"]);
    git(&clone, &["push", "--quiet", "origin", "v1"]);
    let code = |commit: &str| json!({"repository": bare, "commit": commit});
    engine.publish(&trained("found", &code(&pushed[..12]))).ok(201);
    let found = eventually_told(&engine, "found", "found");
    assert_eq!(
        (&found["branches"], &found["tags"], &found["code"]["commit"]),
        (&json!(["main", "release"]), &json!(["v1"]), &json!(pushed))
    );
    let mut dirty = code(&pushed);
    dirty["dirty"] = true.into();
    engine.publish(&trained("dirty", &dirty)).ok(201);
    eventually_told(&engine, "dirty", "dirty");
    // told of before it is pushed: missing, until it is
    git(&clone, &["commit", "--quiet", "--allow-empty", "--message", "not pushed"]);
    let ahead = git(&clone, &["rev-parse", "HEAD"]);
    engine.publish(&trained("ahead", &code(&ahead))).ok(201);
    let missing = eventually_told(&engine, "ahead", "missing");
    assert_eq!(missing["reason"], "no branch or tag leads to it");
    git(&clone, &["push", "--quiet", "origin", "main"]);
    eventually_told(&engine, "ahead", "found");
    engine.publish(&trained("unnamed", &json!({"repository": bare}))).ok(201);
    eventually_told(&engine, "unnamed", "unnamed");
    engine.publish(&trained("denied", &json!({"repository": "https://git.example/x.git", "commit": pushed}))).ok(201);
    says(&engine, "lookup", "this engine may not touch https://git.example/x.git");
    let denied = eventually_told(&engine, "denied", "denied");
    assert!(denied["reason"].as_str().unwrap().contains("--git-allow https://git.example/x.git"), "{denied}");
    // it is in the timeline and in the lineage
    let data = json!({"run": "found", "artifact": {"digest": digest(1)}});
    engine.accept("version.registered", "default/iris", data);
    let timeline = text(&engine.annals(&["timeline", "iris"]).stdout);
    assert!(
        timeline.contains(&format!("looked up the commit {pushed} of run found")) && timeline.contains("found (main, release, v1)"),
        "{timeline}"
    );
    let lineage = text(&engine.annals(&["lineage", "iris", "1"]).stdout);
    assert!(lineage.contains("commit_is=found, branches=main, release, tags=v1"), "{lineage}");
}

#[test]
fn a_repository_that_is_gone_is_told_and_looked_into_when_it_is_back() {
    let stage = Stage::fresh();
    let bare = stage.bare("iris.git");
    let commit = git(&stage.clone_of(&bare, "iris"), &["rev-parse", "HEAD"]);
    std::fs::rename(&bare, stage.path("away.git")).unwrap();
    let engine = stage.engine();
    rule(&engine, "lookup", &["trained"], &json!({"lookup": {"repository": bare}}));
    // the rule says where to look: the run knows another name
    engine.publish(&trained("run", &json!({"repository": "git@git.example:iris.git", "commit": commit}))).ok(201);
    let gone = eventually_told(&engine, "run", "unreachable");
    assert!(gone["reason"].as_str().unwrap().contains("is not there"), "{gone}");
    std::fs::rename(stage.path("away.git"), &bare).unwrap();
    eventually_told(&engine, "run", "found");
}

#[test]
fn a_door_that_is_told_to_refuses_what_nobody_can_look_up() {
    let stage = Stage::fresh();
    let bare = stage.bare("iris.git");
    let clone = stage.clone_of(&bare, "iris");
    let commit = git(&clone, &["rev-parse", "HEAD"]);
    let engine = stage.start(&data_of(&stage.dir), &["--git-check", "refuse"]);
    let code = |commit: &str| json!({"repository": bare, "commit": commit});
    engine.publish(&trained("good", &code(&commit))).ok(201);
    let missing = engine.publish(&trained("missing", &code(&"a".repeat(40)))).problem(409, "commit-missing");
    assert!(missing["remedy"].as_str().unwrap().contains("push the branch"), "{missing}");
    let mut dirty = code(&commit);
    dirty["dirty"] = true.into();
    engine.publish(&trained("dirty", &dirty)).problem(409, "commit-dirty");
    for (run, code) in [
        ("unnamed", json!({"repository": bare})),
        ("elsewhere", json!({"repository": "https://git.example/x.git", "commit": commit})),
        ("gone", json!({"repository": stage.path("gone.git"), "commit": commit})),
        ("nothing", json!({"commit": "x"})),
    ] {
        engine.publish(&trained(run, &code)).problem(409, "commit-unknown");
    }
    // a batch is judged each by itself, and other kinds are none of it
    let batch = json!([
        trained("a", &code(&commit)),
        trained("b", &dirty),
        event("version.registered", "default/iris", json!({"artifact": {"digest": digest(2)}}))
    ]);
    let answer = engine.post("/v1/events", &[("content-type", "application/cloudevents-batch+json")], batch.to_string().as_bytes()).ok(200);
    let states: Vec<_> = answer["results"].as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!(states, [201, 409, 201], "{answer}");
    // what was taken stays taken, also when the repository is gone; and the command line says no
    std::fs::remove_dir_all(&bare).unwrap();
    assert_eq!(engine.publish(&trained("good", &code(&commit))).ok(200)["outcome"], "duplicate");
    let data = json!({"run": {"id": "late"}, "code": code(&commit), "artifact": {"digest": digest(3)}}).to_string();
    let emitted = engine.annals(&["emit", "trained", "--model", "iris", "--data", &data]);
    assert!(
        emitted.status.code() == Some(1) && text(&emitted.stderr).contains("nobody knows whether the commit"),
        "{}",
        text(&emitted.stderr)
    );
}

fn check(repository: &Path, commit: &str) -> (Option<i32>, Value) {
    let done = crate::stage::program().args(["git", "check", repository.to_str().unwrap(), commit, "--json"]).output().unwrap();
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_else(|_| json!(text(&done.stderr))))
}

#[test]
fn a_commit_is_looked_up_by_hand_and_a_history_that_is_cut_off_is_not_guessed() {
    let stage = Stage::fresh();
    let bare = stage.bare("iris.git");
    let clone = stage.clone_of(&bare, "iris");
    let first = git(&clone, &["rev-parse", "HEAD"]);
    git(&clone, &["commit", "--quiet", "--allow-empty", "--message", "second"]);
    git(&clone, &["push", "--quiet", "origin", "main"]);
    let second = git(&clone, &["rev-parse", "HEAD"]);
    git(stage.dir.path(), &["clone", "--quiet", "--depth", "1", &format!("file://{}", bare.display()), "shallow"]);
    let (code, found) = check(&bare, &first);
    assert_eq!((code, &found["outcome"], &found["branches"]), (Some(0), &json!("found"), &json!(["main"])), "{found}");
    let (code, cut) = check(&stage.path("shallow"), &first);
    assert_eq!((code, &cut["outcome"]), (Some(1), &json!("shallow")), "{cut}");
    let (code, there) = check(&stage.path("shallow"), &second[..8]);
    assert_eq!((code, &there["outcome"], &there["truncated"]), (Some(0), &json!("found"), &json!(true)), "{there}");
    let (code, missing) = check(&bare, &"b".repeat(40));
    assert_eq!((code, &missing["outcome"]), (Some(1), &json!("missing")));
    assert_eq!(check(&stage.path("nothing"), &first).1["outcome"], "unreachable");
    assert_eq!(check(&bare, "HEAD").0, Some(2));
    let shown = crate::stage::program().args(["git", "check", bare.to_str().unwrap(), &second]).output().unwrap();
    let wanted = format!("outcome   found\ncommit    {second}\nbranches  main\ntags      -");
    assert_eq!(text(&shown.stdout), wanted);
}
