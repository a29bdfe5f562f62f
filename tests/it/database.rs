//! Views in PostgreSQL: a server that dies, a database of somebody else, instances that share one.

use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::services::{Server, database};
use crate::stage::{Engine, caught_up, data_of, directory, event, eventually, program, register};

fn serve(data: &std::path::Path, url: &str) -> Command {
    let mut command = program();
    command.args(["serve", "--data", data.to_str().unwrap(), "--database", url, "--listen", "127.0.0.1:0"]);
    command
}

#[test]
fn while_the_database_is_away_reads_say_so_and_proposals_go_on() {
    let (server, dir) = (Server::up("postgres"), directory());
    let engine = Engine::spawn(serve(&data_of(&dir), &server.address));
    register(&engine, "iris", 1);
    caught_up(&engine);
    server.kill();
    let problem = engine.get("/v1/models/iris").problem(503, "view-unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("database"), "{problem}");
    let answer = register(&engine, "iris", 2); // proposals go on
    eventually("the engine says that it waits", || {
        let views = engine.get("/v1/views").ok(200);
        views["views"].as_array().unwrap().iter().all(|view| view["state"] == "waiting" && view["reason"].is_string())
    });
    let ready = engine.get("/readyz");
    assert!(ready.status == 503 && ready.text.contains("database"), "{}", ready.text);
    let doctor = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("WAIT  view registry waits") && said.contains("goes on by itself"), "{said}");
    server.back();
    let behind = [("annals-min-position", answer["position"].as_str().unwrap())];
    eventually("reads are answered again", || engine.get_with("/v1/models/iris/versions/2", &behind).status == 200);
    caught_up(&engine);
    eventually("it is ready again", || engine.get("/readyz").status == 200);
    let rebuilt = engine.annals(&["rebuild", "registry", "--json"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(engine.get("/v1/models/iris").ok(200)["versions"], 2);
    assert!(!data_of(&dir).join("views.db").exists(), "the views are in the database");
    assert_eq!(engine.stop(), Some(0));
}

/// As one does that was killed and does not flush what it commits, or whose copy has taken over.
#[test]
fn a_database_that_has_forgotten_the_newest_is_not_believed() {
    let (database, dir) = (database(), directory());
    let engine = Engine::spawn(serve(&data_of(&dir), &database.url));
    register(&engine, "iris", 1);
    caught_up(&engine);
    for round in 0..3 {
        database.run("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM annals.positions WHERE view = 'registry'");
        let key = format!("default/wine-{round}");
        let created = engine.accept("model.created", &key, json!({}));
        let behind = [("annals-min-position", created["position"].as_str().unwrap())];
        let path = format!("/v1/models/wine-{round}");
        eventually("it is there", || engine.get_with(&path, &behind).status == 200);
        let forget = |table: &str| format!("DELETE FROM annals.{table} WHERE key = '{key}'; ");
        database.run(&format!(
            "DELETE FROM annals.positions WHERE view = 'registry'; INSERT INTO annals.positions SELECT * FROM kept; {}{}
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            forget("registry_models"),
            forget("registry_steps")
        ));
        eventually("it is there again", || {
            let found = engine.get_with(&path, &behind);
            assert!(matches!(found.status, 200 | 503), "an answer from before what was asked for: {}", found.text);
            found.status == 200
        });
    }
    assert_eq!(engine.stop(), Some(0));
}

#[test]
fn an_engine_starts_without_its_database_and_finds_it_later() {
    let (server, dir) = (Server::up("postgres"), directory());
    server.kill();
    let engine = Engine::spawn_unready(serve(&data_of(&dir), &server.address));
    eventually("proposals are taken", || engine.publish(&event("model.created", "default/iris", json!({}))).status != 503);
    eventually("the reason is told", || engine.get("/v1/models").status == 503 && engine.get("/readyz").text.contains("the views wait"));
    server.back();
    eventually("the views are there", || engine.get("/v1/models/iris").status == 200);
    assert_eq!(engine.stop(), Some(0));
    // made again in the directory, with no engine on it
    let mut offline = program();
    offline.args(["rebuild", "timeline", "--data", data_of(&dir).to_str().unwrap(), "--database", &server.address, "--json"]);
    let rebuilt: Value = serde_json::from_slice(&offline.output().unwrap().stdout).unwrap();
    assert!(rebuilt["entries"].as_u64().unwrap() > 0, "{rebuilt}");
}

#[test]
fn the_views_of_another_journal_are_refused_with_what_to_do() {
    let (database, one, other) = (database(), directory(), directory());
    let first = Engine::spawn(serve(&data_of(&one), &database.url));
    register(&first, "iris", 1);
    caught_up(&first);
    let second = Engine::spawn_unready(serve(&data_of(&other), &database.url));
    eventually("it has looked", || second.get("/readyz").text.contains("cannot be opened"));
    let problem = second.get("/v1/models").problem(500, "no-views");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("belongs to the journal") && detail.contains("name another database"), "{detail}");
    assert_eq!(first.get("/v1/models/iris").ok(200)["versions"], 1, "and nothing was changed");
}

#[test]
fn instances_on_kafka_share_the_views_and_a_kill_loses_none() {
    let database = database();
    let cluster = Cluster::fresh().with(&["--database", &database.url]);
    let mut engines = vec![cluster.start("a"), cluster.start("b")];
    for round in 0..3_u64 {
        for n in 0..20 {
            let model = format!("m-{round}-{n}");
            let created = event("model.created", &format!("default/{model}"), json!({}));
            let mut answer = engines[1].publish(&created);
            eventually("somebody judges it", || {
                answer = engines[1].publish(&created);
                matches!(answer.status, 200 | 201)
            });
            let position = answer.json()["position"].as_str().unwrap().to_owned();
            for engine in &engines {
                let behind = [("annals-min-position", position.as_str())];
                eventually("any instance answers with it", || engine.get_with(&format!("/v1/models/{model}"), &behind).status == 200);
            }
        }
        // one of them has written the views until now
        engines.remove(0).kill();
        engines.push(cluster.start(&format!("next-{round}")));
    }
    caught_up(&engines[1]);
    let models = engines[1].get("/v1/models?limit=1000").ok(200);
    assert_eq!(models["models"].as_array().or(models["items"].as_array()).unwrap().len(), 60, "{models}");
    let before = engines[0].get("/v1/timeline?limit=1000").ok(200)["events"].clone();
    let rebuilt = engines[1].annals(&["rebuild", "timeline"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(engines[0].get("/v1/timeline?limit=1000").ok(200)["events"], before, "rebuilt by one, read by the other");
}
