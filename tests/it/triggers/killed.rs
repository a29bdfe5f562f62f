//! Engines that die: every event is acted on, in order per model, whoever is left.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{MODELS, Stage, counts, create, history, measured, on_measured, said};
use crate::cluster::Cluster;
use crate::services::database;
use crate::stage::{Engine, event, eventually, place};

/// Each event at least once, and per model never an older one behind a newer.
#[track_caller]
fn check(noted: &[(String, u64)], wanted: &BTreeMap<String, Vec<u64>>) {
    for (model, seqs) in wanted {
        let mut done: Vec<u64> = noted.iter().filter(|(m, _)| m == model).map(|(_, seq)| *seq).collect();
        assert!(done.is_sorted(), "{model}: an older event was acted on behind a newer one: {done:?}");
        done.dedup();
        assert_eq!(&done, seqs, "{model}");
    }
}

#[test]
fn kill_9_at_any_point_skips_nothing() {
    let stage = Stage::fresh();
    stage.noting("note.sh");
    let mut engine = stage.start();
    stage.apply(&engine, &on_measured("note", "note.sh", ""));
    let (mut wanted, mut n) = (BTreeMap::<String, Vec<u64>>::new(), 0);
    for round in 0..6 {
        for _ in 0..4 {
            for model in MODELS {
                n += 1;
                wanted.entry(model.into()).or_default().push(place(&measured(&engine, model, n)).1);
            }
        }
        let before = stage.noted().len();
        match round {
            // nothing may have been dispatched yet
            0 | 3 => {}
            // in the middle of it
            1 | 4 => eventually("some were acted on", || stage.noted().len() > before),
            // also when the last one is about to be written down
            _ => eventually("all were begun", || {
                wanted.values().map(Vec::len).sum::<usize>() <= {
                    let mut noted = stage.noted();
                    noted.sort();
                    noted.dedup();
                    noted.len()
                }
            }),
        }
        engine.kill();
        engine = stage.start();
    }
    eventually("all are done", || counts(&engine, "note", &["done", "pending", "running"]) == [n as usize, 0, 0]);
    check(&stage.noted(), &wanted);
    assert!(history(&engine, "note").iter().all(|task| task["state"] == "done"));
}

#[test]
fn what_a_rule_proposes_stays_one_event_however_often_it_dies() {
    let stage = Stage::fresh();
    let mut engine = stage.start();
    let rule = "trigger: ask\nwhen: {type: [measured]}\ndo: {propose: {type: retrain-requested, data: {cause: {kind: person}, dedup: '{event}'}}}\n";
    stage.apply(&engine, rule);
    let mut causes = Vec::new();
    for round in 0..4 {
        for n in 0..5 {
            causes.push(measured(&engine, MODELS[n % 3], round)["id"].clone());
        }
        engine.kill();
        engine = stage.start();
    }
    eventually("all are done", || counts(&engine, "ask", &["done"]) == [causes.len()]);
    // once more, all of them
    let again = said(&engine, &["trigger", "replay", "ask", "--since", "2000-01-01T00:00:00Z", "--json"]);
    assert_eq!(again["replayed"], causes.len());
    eventually("all are done again", || counts(&engine, "ask", &["done"]) == [causes.len()]);
    let all = super::events(&engine);
    let mut found: Vec<Value> = super::of(&all, "retrain.requested").iter().map(|event| event["causationid"].clone()).collect();
    let by_text = |value: &Value| value.to_string();
    found.sort_by_key(by_text);
    causes.sort_by_key(by_text);
    assert_eq!(found, causes, "one each");
}

/// Sends a proposal until it is an event; while nobody judges its partition it waits.
fn settle(engine: &Engine, proposal: &Value) -> Value {
    let mut answer = engine.publish(proposal);
    eventually("it is accepted", || {
        if !matches!(answer.status, 200 | 201) {
            assert!(answer.status == 202 || answer.status == 503, "{}", answer.text);
            answer = engine.publish(proposal);
        }
        matches!(answer.status, 200 | 201)
    });
    answer.json()
}

fn leads(engine: &Engine) -> bool {
    engine.get("/v1/acting").json()["leads"] == true
}

#[test]
fn on_kafka_another_instance_takes_over_from_the_one_that_acts() {
    let (stage, database) = (Stage::fresh(), database());
    stage.noting("note.sh");
    let commands = stage.path("commands");
    let cluster = Cluster::fresh().with(&["--database", &database.url, "--commands", commands.to_str().unwrap()]);
    let mut engines = vec![cluster.start("a"), cluster.start("b")];
    eventually("one of them acts", || engines.iter().filter(|engine| leads(engine)).count() == 1);
    for model in MODELS {
        settle(&engines[0], &create(model));
    }
    stage.apply(&engines[0], &on_measured("note", "note.sh", ""));
    let mut wanted = BTreeMap::<String, Vec<u64>>::new();
    let mut n = 0;
    for round in 0..3 {
        for _ in 0..4 {
            for model in MODELS {
                n += 1;
                let data = json!({"metric": "accuracy", "value": n});
                let answer = settle(&engines[0], &event("model.measured", &format!("default/{model}"), data));
                wanted.entry(model.into()).or_default().push(place(&answer).1);
            }
        }
        let acting = engines.iter().position(leads);
        let acting = acting.unwrap_or(0);
        engines.remove(acting).kill();
        engines.push(cluster.start(&format!("next-{round}")));
        eventually("another one acts", || engines.iter().filter(|engine| leads(engine)).count() == 1);
    }
    eventually("all are done", || counts(&engines[0], "note", &["done", "pending", "running"]) == [n, 0, 0]);
    check(&stage.noted(), &wanted);
}
