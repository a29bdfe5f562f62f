//! What holds a rule back: a pause, its cool-down, its dedup text, a store that was lost; and the rehearsal of all that.

use serde_json::{Value, json};

use super::{Stage, counts, events, history, measured, of, on_measured, said};
use crate::stage::{Engine, data_of, event, eventually, exported};

#[test]
fn what_comes_while_a_trigger_is_paused_is_done_in_order_when_it_goes_on() {
    let stage = Stage::fresh();
    stage.noting("note.sh");
    let engine = stage.start();
    stage.apply(&engine, &on_measured("note", "note.sh", ""));
    measured(&engine, "iris", 0);
    eventually("it acts", || stage.noted().len() == 1);
    let paused = said(&engine, &["trigger", "pause", "note", "--reason", "holiday", "--json"]);
    assert_eq!((&paused["state"], &paused["changed"]), (&json!("paused"), &json!(true)), "{paused}");
    for n in 1..=5 {
        measured(&engine, "iris", n);
    }
    eventually("they wait", || counts(&engine, "note", &["pending"]) == [5]);
    assert_eq!((stage.noted().len(), &engine.get("/v1/triggers/note").ok(200)["pending"]), (1, &json!(5)));
    said(&engine, &["trigger", "resume", "note", "--json"]);
    eventually("they are done", || counts(&engine, "note", &["done"]) == [6]);
    let seqs: Vec<_> = stage.noted().into_iter().map(|(_, seq)| seq).collect();
    assert!(seqs.is_sorted() && seqs.len() == 6, "{seqs:?}");
    // one that is removed while something waits skips it
    said(&engine, &["trigger", "pause", "note", "--json"]);
    measured(&engine, "iris", 6);
    eventually("it waits", || counts(&engine, "note", &["pending"]) == [1]);
    said(&engine, &["trigger", "remove", "note", "--json"]);
    assert_eq!(stage.noted().len(), 6);
    // made again it finds that nothing waits
    stage.apply(&engine, &on_measured("note", "note.sh", ""));
    assert_eq!(counts(&engine, "note", &["done", "pending", "skipped"]), [6, 0, 1]);
}

#[test]
fn a_rule_that_cools_down_or_knows_the_text_does_not_act_again() {
    let stage = Stage::fresh();
    stage.noting("note.sh");
    stage.script("wait.sh", &format!("while [ ! -e {} ]; do sleep 0.05; done\n", stage.path("go").display()));
    let engine = stage.start();
    let rules = on_measured("cool", "note.sh", "  cooldown_s: 3600\n") + &on_measured("dedup", "wait.sh", "  dedup: one at a time\n");
    stage.apply(&engine, &rules);
    for (model, n) in [("iris", 0), ("iris", 1), ("wine", 2)] {
        measured(&engine, model, n);
    }
    eventually("the cool one has acted once per model", || counts(&engine, "cool", &["done", "skipped"]) == [2, 1]);
    let notes =
        |name: &str| history(&engine, name).iter().filter(|t| t["state"] == "skipped").map(|t| t["note"].to_string()).collect::<Vec<_>>();
    assert!(notes("cool")[0].contains("cooling down") && notes("cool")[0].contains("3600 s"), "{:?}", notes("cool"));
    assert_eq!(counts(&engine, "dedup", &["skipped"]), [2]);
    assert!(notes("dedup")[0].contains("one at a time"), "{:?}", notes("dedup"));
    // a restart forgets neither
    assert_eq!(engine.stop(), Some(0));
    let engine = stage.start();
    measured(&engine, "iris", 3);
    eventually("both hold it back", || counts(&engine, "cool", &["skipped"]) == [2] && counts(&engine, "dedup", &["skipped"]) == [3]);
    std::fs::write(stage.path("go"), "").unwrap();
    eventually("the one that was under way is done", || counts(&engine, "dedup", &["done"]) == [1]);
    measured(&engine, "iris", 4);
    eventually("the next one is begun", || counts(&engine, "dedup", &["done"]) == [2]);
    assert_eq!(stage.noted().len(), 2, "{:?}", stage.noted());
}

#[test]
fn a_rehearsal_tells_what_would_have_been_done_and_does_nothing() {
    let stage = Stage::fresh();
    let engine = stage.start();
    let first = measured(&engine, "iris", 0);
    for n in 1..4 {
        measured(&engine, "iris", n);
    }
    measured(&engine, "wine", 4);
    let rule =
        json!({"when": {"type": ["measured"]}, "do": {"propose": {"type": "retrain-requested", "data": {"cause": {"kind": "schedule"}}}}});
    let before = exported(&engine);
    let run = |body: Value| engine.post("/v1/triggers/dry-run", &[("content-type", "application/json")], body.to_string().as_bytes());
    let all = run(json!({"rule": rule})).ok(200);
    assert_eq!((&all["fired"], &all["skipped"]), (&json!(5), &json!(0)), "{all}");
    assert_eq!((&all["items"][0]["position"], &all["items"][0]["fires"]), (&first["position"], &json!(true)), "{all}");
    let mut cool = rule.clone();
    cool["cooldown_s"] = json!(3600);
    let found = run(json!({"rule": cool})).ok(200);
    assert_eq!((&found["fired"], &found["skipped"]), (&json!(2), &json!(3)), "{found}");
    assert!(found["items"][1]["note"].as_str().unwrap().contains("cooling down"), "{found}");
    let mut dedup = rule.clone();
    dedup["dedup"] = json!("same");
    let found = run(json!({"rule": dedup})).ok(200);
    assert!(found["items"][0]["note"].is_null() && found["items"][1]["note"].as_str().unwrap().contains("`same` (dedup)"), "{found}");
    let bounded = run(json!({"rule": rule, "until": "2000-01-01T00:00:00Z"})).ok(200);
    assert_eq!(bounded["fired"], 0, "{bounded}");
    run(json!({"rule": {"when": {"type": ["nonsense"]}, "do": {}}})).problem(422, "schema-violation");
    run(json!({"name": "none"})).problem(404, "unknown-trigger");
    run(json!({})).problem(400, "bad-body");
    assert_eq!(exported(&engine), before, "nothing is recorded");
    let file = stage.path("rule.yaml");
    std::fs::write(&file, "trigger: x\nwhen: {type: [measured], model: wine}\ndo: {command: {run: x, args: ['{model}']}}\n").unwrap();
    let told = engine.annals(&["trigger", "dry-run", "--file", file.to_str().unwrap()]);
    let (table, sum) = (super::text(&told.stdout), super::text(&told.stderr));
    assert!(told.status.success() && table.contains("default/wine") && sum.contains("it would have acted on 1"), "{table}{sum}");
}

#[test]
fn a_lost_store_runs_nothing_twice_and_forgets_no_rule() {
    let stage = Stage::fresh();
    stage.noting("note.sh");
    let engine = stage.start();
    stage.apply(&engine, &on_measured("note", "note.sh", ""));
    measured(&engine, "iris", 0);
    eventually("it acts", || counts(&engine, "note", &["done"]) == [1]);
    assert_eq!(engine.stop(), Some(0));
    for file in ["ops.db", "ops.db-wal", "ops.db-shm"] {
        let _ = std::fs::remove_file(data_of(&stage.dir).join(file));
    }
    let engine = stage.start();
    eventually("the rule is there, and the old event is known", || {
        engine.get("/v1/triggers/note").status == 200 && counts(&engine, "note", &["skipped"]) == [1]
    });
    let task = history(&engine, "note")[0].clone();
    assert!(task["note"].as_str().unwrap().contains("before this operational store was made"), "{task}");
    measured(&engine, "iris", 1);
    eventually("new events are acted on", || counts(&engine, "note", &["done"]) == [1]);
    assert_eq!(stage.noted().len(), 2);
    // who knows that it was not done says so
    said(&engine, &["trigger", "replay", "note", "--task", &task["id"].to_string(), "--json"]);
    eventually("it is done again", || counts(&engine, "note", &["done"]) == [2] && stage.noted().len() == 3);
}

#[test]
fn what_a_rule_causes_for_ever_is_ended() {
    let stage = Stage::fresh();
    let engine: Engine = stage.start();
    let rule = "trigger: echo\nwhen: {type: [measured]}\ndo: {propose: {type: measured, data: {metric: echo, value: 1}}}\n";
    stage.apply(&engine, rule);
    measured(&engine, "iris", 0);
    eventually("the chain is parked", || counts(&engine, "echo", &["parked"]) == [1]);
    assert_eq!(counts(&engine, "echo", &["done", "pending", "running"]), [8, 0, 0]);
    let all = events(&engine);
    let echoes = of(&all, "model.measured");
    assert_eq!((echoes.len(), &echoes[8]["annalshops"]), (9, &json!("8")));
    let parked = history(&engine, "echo").into_iter().find(|t| t["state"] == "parked").unwrap();
    assert!(parked["note"].as_str().unwrap().contains("narrower `when`"), "{parked}");
    let doctor = engine.annals(&["doctor"]);
    let said = super::text(&doctor.stdout);
    assert!(doctor.status.code() == Some(1) && said.contains("the trigger echo has 1 task parked"), "{said}");
    engine.publish(&event("model.measured", "default/wine", json!({"metric": "m", "value": 1}))).ok(201);
    eventually("another chain is as long", || counts(&engine, "echo", &["done", "parked"]) == [16, 2]);
}
