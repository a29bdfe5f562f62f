//! Bad days: the cluster is killed while it is indexed, red, foreign, changed; nothing is lost, and all of it is told.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Index, found, home, indexed, search, stands, version};
use crate::cluster::Cluster;
use crate::services::{Server, database};
use crate::stage::{data_of, eventually};

#[test]
fn a_cluster_that_is_killed_while_it_is_indexed_gets_the_rest_when_it_is_back() {
    let server = Server::up("opensearch");
    let index = Index::on(server.address.clone());
    let dir = home();
    let engine = index.engine(&dir, &[]);
    version(&engine, "iris", 0, "first");
    indexed(&engine);
    for n in 1..=300 {
        version(&engine, &format!("model-{}", n % 20), n, "flowers");
        if n == 150 {
            server.kill();
        }
    }
    // the same answer, by another one, and it says so
    let answer = search(&engine, "flowers").ok(200);
    assert_eq!((found(&answer).len(), &answer["engine"]), (300, &json!("sqlite")));
    for member in ["of", "reason", "remedy"] {
        assert!(answer["instead"][member].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    let index_state = stands(&engine, "away");
    assert!(index_state["reason"].as_str().unwrap().contains(&server.address) && index_state["remedy"].is_string(), "{index_state}");
    let doctor = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.code() == Some(1) && said.contains("does not answer"), "{said}");
    let metrics = engine.get("/metrics").text;
    assert!(metrics.contains("annals_search_state{state=\"away\"} 1"), "{metrics}");
    server.back();
    indexed(&engine);
    let answer = search(&engine, "flowers").ok(200);
    assert_eq!((found(&answer).len(), answer["engine"].as_str().unwrap().starts_with("opensearch")), (300, true), "{}", answer["engine"]);
    let count = index.done("GET", &format!("/{}/_count", index.name), Value::Null);
    assert_eq!(count["count"], 300 + 20 + 2, "versions and models, each once");
}

#[test]
fn a_red_index_is_waited_for_and_the_database_answers() {
    for index in Index::both() {
        let dir = home();
        let engine = index.engine(&dir, &[]);
        version(&engine, "iris", 1, "flowers");
        indexed(&engine);
        // in its place an empty one, whose only shard finds no node
        let (own, red) = (format!("{}-000001", index.name), format!("{}-000007", index.name));
        let mut mappings = index.done("GET", &format!("/{own}"), Value::Null)[&own]["mappings"].take();
        mappings["_meta"]["annals"]["positions"] = json!({});
        let settings = json!({"index.routing.allocation.require._name": "nobody", "number_of_replicas": 0});
        let made = json!({"settings": settings, "mappings": mappings});
        index.done("PUT", &format!("/{red}?wait_for_active_shards=0"), made);
        let switch = json!([{"add": {"index": red, "alias": index.name}}, {"remove_index": {"index": own}}]);
        index.done("POST", "/_aliases", json!({"actions": switch}));
        version(&engine, "iris", 2, "flowers");
        let answer = search(&engine, "flowers").ok(200);
        assert_eq!((found(&answer).len(), answer["instead"].is_object()), (2, true), "{answer}");
        let state = stands(&engine, "red");
        assert!(state["remedy"].as_str().unwrap().contains("bring the missing shards back"), "{state}");
        index.done("PUT", &format!("/{red}/_settings"), json!({"index.routing.allocation.require._name": null}));
        indexed(&engine);
        assert_eq!(found(&search(&engine, "flowers").ok(200)), ["iris/2", "iris/1"]);
    }
}

#[test]
fn an_index_that_was_deleted_is_made_and_filled_again() {
    let [index, _] = Index::both();
    let dir = home();
    let engine = index.engine(&dir, &[]);
    (1..=3).for_each(|n| drop(version(&engine, "iris", n, "flowers")));
    indexed(&engine);
    index.done("DELETE", &format!("/{}-000001", index.name), Value::Null);
    version(&engine, "iris", 4, "flowers");
    eventually("it is whole again", || {
        let (_, count) = index.ask("GET", &format!("/{}/_count", index.name), Value::Null);
        count["count"] == 5
    });
    // closed for a while: the index is unwell, not the documents
    let own = format!("/{}-000001", index.name);
    index.done("POST", &format!("{own}/_close"), Value::Null);
    version(&engine, "iris", 5, "flowers");
    stands(&engine, "refused");
    index.done("POST", &format!("{own}/_open"), Value::Null);
    indexed(&engine);
    assert_eq!(engine.get("/v1/search/index").json()["refused"], json!({}));
    let mapping = index.done("GET", &format!("/{}/_mapping", index.name), Value::Null);
    assert!(
        mapping[format!("{}-000001", index.name)]["mappings"]["_meta"]["annals"].is_object(),
        "it is ours, not one that made itself: {mapping}"
    );
    assert_eq!(found(&search(&engine, "flowers").ok(200)).len(), 5);
}

#[test]
fn of_several_instances_one_keeps_the_index_and_another_takes_over() {
    let [index, _] = Index::both();
    let database = database();
    let on = Cluster::fresh().with(&["--database", &database.url, "--search", &index.cluster, "--search-index", &index.name]);
    let (first, second) = (on.start("a"), on.start("b"));
    version(&first, "iris", 1, "flowers");
    let keeps = |engine: &crate::stage::Engine| engine.get("/v1/search/index").json()["state"] == "indexing";
    eventually("one keeps it", || keeps(&first) != keeps(&second));
    let (keeper, other) = if keeps(&first) { (first, second) } else { (second, first) };
    indexed(&keeper);
    eventually("the other one asks the cluster, too", || {
        let answer = other.get("/v1/search?q=flowers").ok(200);
        found(&answer) == ["iris/1"] && answer.get("instead").is_none()
    });
    // what must be behind a position only the keeper can promise of the cluster: the database answers, and says so
    assert!(search(&other, "flowers").ok(200)["instead"].is_object());
    other.post("/v1/search/reindex", &[], b"").problem(409, "search-standby");
    keeper.kill();
    let data = json!({"artifact": {"uri": "file:///models/iris/2.pkl"}, "description": "flowers"});
    let second = crate::stage::event("version.registered", "default/iris", data);
    eventually("another one judges", || [200, 201].contains(&other.publish(&second).status));
    indexed(&other);
    assert_eq!(found(&search(&other, "flowers").ok(200)), ["iris/2", "iris/1"]);
}

#[test]
fn a_journal_that_was_put_back_and_written_on_waits_for_a_reindex() {
    let [index, _] = Index::both();
    let dir = home();
    let (data, saved) = (data_of(&dir), dir.path().join("saved"));
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    let engine = index.engine(&dir, &[]);
    version(&engine, "iris", 1, "flowers");
    indexed(&engine);
    engine.stop();
    copy(&data, &saved);
    let engine = index.engine(&dir, &[]);
    version(&engine, "iris", 2, "flowers");
    indexed(&engine);
    engine.stop();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    // pipelines write on at once, and far beyond where the index is
    let mut engine = index.engine(&dir, &[]);
    (3..=9).for_each(|n| drop(version(&engine, "iris", n, "flowers")));
    for _ in 0..2 {
        let state = stands(&engine, "ahead");
        assert!(state["remedy"].as_str().unwrap().contains("annals search reindex"), "{state}");
        let answer = search(&engine, "flowers label:v9").ok(200);
        assert_eq!((found(&answer).len(), answer["instead"].is_object()), (1, true), "{answer}");
        engine.stop();
        engine = index.engine(&dir, &[]);
    }
    stands(&engine, "ahead");
    assert!(engine.annals(&["search", "reindex"]).status.success());
    indexed(&engine);
    assert_eq!(found(&search(&engine, "flowers").ok(200)).len(), 8);
}
