//! Rules that cannot be meant, programs that fail, hang, are missing: each a clear state, and nothing lost.

use serde_json::{Value, json};

use super::{Stage, counts, history, measured, on_measured, said, text};
use crate::stage::{Response, eventually};

#[test]
fn a_rule_that_cannot_be_meant_is_refused_with_field_and_remedy() {
    let stage = Stage::fresh();
    let engine = stage.start();
    let put = |name: &str, body: Value| -> Response { super::put(&engine, name, &body) };
    let act = json!({"command": {"run": "x"}});
    for (body, field) in [
        (json!({"when": {"type": ["promotd"]}, "do": act}), "when.type"),
        (json!({"when": {"type": ["promoted"], "channel": "prodution"}, "do": act}), "when.channel"),
        (json!({"when": {"type": ["promoted"]}, "do": {"command": {"run": "../../bin/sh"}}}), "do.command.run"),
        (json!({"when": {"type": ["promoted"]}, "do": {"mail": {}}}), "do"),
        (json!({"when": {"type": ["promoted"]}, "do": act, "dedup": "{nothing}"}), "dedup"),
    ] {
        let problem = put("t", body).problem(422, "schema-violation");
        assert!(problem["detail"].as_str().unwrap().starts_with(&format!("`{field}`: ")), "{problem}");
    }
    put("_t", json!({"when": {"type": ["promoted"]}, "do": act})).problem(422, "schema-violation");
    put("t", json!({"do": act})).problem(422, "schema-violation");
    put("t", json!({"when": {"type": ["promoted"]}, "do": act, "odd": 1})).problem(400, "bad-body");
    put("t", json!([])).problem(422, "schema-violation");
    put("t", json!("nonsense")).problem(400, "bad-body");
    engine.get("/v1/triggers/t/history").problem(404, "unknown-trigger");
    engine.post("/v1/triggers/t/replay", &[], b"[").problem(400, "bad-body");
    engine.post("/v1/triggers/t/pause", &[], b"").problem(404, "unknown-trigger");
    assert!(engine.get("/v1/triggers").ok(200)["items"].as_array().unwrap().is_empty());
    let file = "- {trigger: a, when: {type: [promoted]}, do: {command: {run: x}}}\n- {trigger: t, when: {type: [promotd]}, do: {command: {run: x}}}\n";
    std::fs::write(stage.path("rules.yaml"), file).unwrap();
    let refused = engine.annals(&["trigger", "apply", stage.path("rules.yaml").to_str().unwrap()]);
    let told = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && told.contains("`promotd`") && told.contains("annals schemas"), "{told}");
    assert!(engine.get("/v1/triggers").ok(200)["items"].as_array().unwrap().is_empty(), "all of a file, or nothing");
}

#[test]
fn what_nobody_here_can_do_is_parked_and_told() {
    let stage = Stage::fresh();
    std::fs::write(stage.path("commands").join("plain.sh"), "#!/bin/sh\n").unwrap();
    let engine = stage.start();
    let rules = on_measured("missing", "none.sh", "")
        + &on_measured("plain", "plain.sh", "")
        + "- trigger: cluster\n  when: {type: [measured]}\n  do: {kubernetes: {cluster: prod}}\n"
        + "- trigger: nobody\n  when: {type: [measured]}\n  do: {webhook: {subscription: nobody}}\n"
        + "- trigger: unfit\n  when: {type: [measured]}\n  do: {propose: {type: promoted, version: event, data: {channel: production}}}\n"
        + "- trigger: refused\n  when: {type: [measured]}\n  do: {propose: {type: promoted, version: '9', data: {channel: production}}}\n";
    stage.apply(&engine, &rules);
    measured(&engine, "iris", 0);
    for (name, told) in [
        ("missing", "no `none.sh` in the directory of commands"),
        ("plain", "chmod +x"),
        ("cluster", "knows no cluster `prod`: start it with --kubernetes prod=FILE"),
        ("nobody", "no subscription `nobody`"),
        ("unfit", "has no version"),
        ("refused", "unknown-version"),
    ] {
        eventually("it is parked", || counts(&engine, name, &["parked"]) == [1]);
        let note = history(&engine, name)[0]["note"].as_str().unwrap().to_owned();
        assert!(note.contains(told), "{name}: {note}");
    }
    let doctor = engine.annals(&["doctor"]);
    let told = text(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1));
    for line in [
        "the trigger missing has 1 task parked",
        "annals trigger replay missing --parked",
        "the trigger cluster can do nothing: this instance knows no cluster",
    ] {
        assert!(told.contains(line), "no `{line}` in {told}");
    }
    let metrics = engine.get("/metrics").text;
    for line in [
        "annals_actor_leader 1",
        "annals_tasks{rule=\"trigger/default/missing\",state=\"parked\"} 1",
        "annals_task_attempts_total{outcome=\"parked\",rule=\"trigger/default/missing\"} 1",
        "annals_dispatcher_lag_events 0",
    ] {
        assert!(metrics.contains(line), "no `{line}` in {metrics}");
    }
    // mended and replayed
    stage.noting("none.sh");
    assert_eq!(said(&engine, &["trigger", "replay", "missing", "--parked", "--json"])["replayed"], 1);
    eventually("it is done", || counts(&engine, "missing", &["done"]) == [1] && stage.noted().len() == 1);
}

#[test]
fn what_fails_and_is_tried_again_is_told_and_tried_at_once_on_demand() {
    let stage = Stage::fresh();
    let mended = stage.path("mended");
    stage.script("stubborn.sh", &format!("test -e {} || {{ echo 'no luck' >&2; exit 3; }}\n", mended.display()));
    let engine = stage.start();
    stage.apply(&engine, &on_measured("stubborn", "stubborn.sh", ""));
    measured(&engine, "iris", 0);
    eventually("it failed", || history(&engine, "stubborn").first().is_some_and(|task| task["attempts"].as_u64() >= Some(3)));
    let told = text(&engine.annals(&["doctor"]).stdout);
    assert!(told.contains("the trigger stubborn has 1 task that failed and will be tried again") && told.contains("no luck"), "{told}");
    assert!(told.contains("annals trigger replay stubborn --waiting"), "{told}");
    std::fs::write(mended, "").unwrap();
    said(&engine, &["trigger", "replay", "stubborn", "--waiting", "--json"]);
    eventually("it is done", || counts(&engine, "stubborn", &["done"]) == [1]);
    assert!(!text(&engine.annals(&["doctor"]).stdout).contains("stubborn"), "nothing is left to say");
}

#[test]
fn a_program_that_fails_is_tried_again_and_one_that_hangs_is_killed() {
    let stage = Stage::fresh();
    let tries = stage.path("tries");
    // the first run fails, the second asks for a third
    stage.script(
        "moody.sh",
        &format!(
            "echo x >> {0}; case $(wc -l < {0}) in 1) echo 'no luck' >&2; exit 3;; 2) echo 'too early' >&2; exit 75;; *) echo fine;; esac\n",
            tries.display()
        ),
    );
    stage.script("hang.sh", &format!("echo $$ >> {}; exec sleep 1000\n", stage.path("hung").display()));
    stage.script("loud.sh", "head -c 30000000 /dev/zero | tr '\\0' x; head -c 30000000 /dev/zero >&2; exit 0\n");
    let engine = stage.start();
    let hang = "- trigger: hang\n  when: {type: [measured], model: wine}\n  do: {command: {run: hang.sh, timeout_s: 1}}\n";
    stage.apply(&engine, &(on_measured("moody", "moody.sh", "") + &on_measured("loud", "loud.sh", "") + hang));
    measured(&engine, "iris", 0);
    eventually("the moody one is done", || counts(&engine, "moody", &["done"]) == [1]);
    let task = history(&engine, "moody")[0].clone();
    assert_eq!((&task["attempts"], task["note"].as_str()), (&json!(1), Some("moody.sh done: fine")), "{task}");
    eventually("the loud one is done", || counts(&engine, "loud", &["done"]) == [1]);
    measured(&engine, "wine", 1);
    eventually("the hanging one was killed and tried again", || {
        let task = history(&engine, "hang").first().cloned().unwrap_or_default();
        task["attempts"].as_u64() >= Some(2) && task["note"].as_str().is_some_and(|note| note.contains("killed after 1 s"))
    });
    let first = std::fs::read_to_string(stage.path("hung")).unwrap().lines().next().unwrap().to_owned();
    eventually("nothing is left of it", || !std::path::Path::new("/proc").join(&first).exists());
}

#[test]
fn an_engine_that_stops_ends_what_it_runs_and_begins_it_again() {
    let stage = Stage::fresh();
    let pid = stage.path("pid");
    stage.script("long.sh", &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000\n", pid.display()));
    let engine = stage.start();
    stage.apply(&engine, &on_measured("long", "long.sh", ""));
    measured(&engine, "iris", 0);
    eventually("it runs", || pid.exists());
    assert_eq!(engine.stop(), Some(0));
    let first = std::fs::read_to_string(&pid).unwrap().trim().to_owned();
    eventually("it is ended", || !std::path::Path::new("/proc").join(&first).exists());
    std::fs::remove_file(&pid).unwrap();
    stage.script("long.sh", &format!("echo done > {}\n", pid.display()));
    let engine = stage.start();
    eventually("it is begun again", || counts(&engine, "long", &["done"]) == [1]);
}
