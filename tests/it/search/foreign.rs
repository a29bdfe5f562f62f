//! What is in our place and is not ours, or is not as we make it: refused, told, never written to.

use serde_json::{Value, json};

use super::{Index, found, home, indexed, search, stands, version};
use crate::stage::{Engine, data_of, eventually, program};

#[test]
fn somebody_elses_index_is_left_alone() {
    for index in Index::both() {
        let record = json!({"name": "theirs", "version": "1"});
        index.done("PUT", &format!("/{}/_doc/1?refresh=true", index.name), record.clone());
        let dir = home();
        let engine = index.engine(&dir, &[]);
        version(&engine, "iris", 1, "flowers");
        let state = stands(&engine, "foreign");
        assert!(
            state["reason"].as_str().unwrap().contains("has not made") && state["remedy"].as_str().unwrap().contains("--search-index"),
            "{state}"
        );
        let answer = search(&engine, "flowers").ok(200);
        assert_eq!((found(&answer), answer["instead"].is_object()), (vec!["iris/1".to_owned()], true));
        let told = engine.annals(&["search", "reindex"]);
        assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
        let theirs = index.done("GET", &format!("/{}/_search", index.name), Value::Null);
        assert_eq!((theirs["hits"]["hits"].as_array().unwrap().len(), &theirs["hits"]["hits"][0]["_source"]), (1, &record));
        assert_eq!(index.indexes(), std::slice::from_ref(&index.name));
        // out of the way, and it goes on by itself
        index.done("DELETE", &format!("/{}", index.name), Value::Null);
        indexed(&engine);
    }
}

#[test]
fn the_index_of_another_journal_is_left_alone() {
    let [index, _] = Index::both();
    let (mine, yours) = (home(), home());
    let engine = index.engine(&mine, &[]);
    version(&engine, "iris", 1, "flowers");
    indexed(&engine);
    let other = index.engine(&yours, &[]);
    let state = stands(&other, "foreign");
    assert!(state["reason"].as_str().unwrap().contains("belongs to the journal"), "{state}");
    assert_eq!(found(&search(&engine, "flowers").ok(200)), ["iris/1"]);
}

#[test]
fn a_document_that_the_cluster_refuses_is_told_and_the_others_go_on() {
    for index in Index::both() {
        let dir = home();
        let engine = index.engine(&dir, &[]);
        version(&engine, "iris", 1, "flowers");
        indexed(&engine);
        // somebody adds a field that labels such as ours do not fit
        let more = json!({"properties": {"label": {"type": "keyword", "ignore_above": 8191, "fields": {"theirs": {"type": "integer"}}}}});
        index.done("PUT", &format!("/{}/_mapping", index.name), more);
        version(&engine, "tulip", 2, "flowers");
        engine.accept("version.registered", "default/rose", json!({"artifact": {"uri": "file:///r"}, "description": "flowers"}));
        eventually("it has come so far", || engine.get("/v1/search/index").json()["lag_events"] == 0);
        let state = stands(&engine, "indexing");
        assert!(state["refused"]["default/tulip/1"].as_str().is_some_and(|why| !why.is_empty()), "{state}");
        assert_eq!(state["refused"].as_object().unwrap().len(), 1, "{state}");
        eventually("the others go on", || index.done("GET", &format!("/{}/_count", index.name), Value::Null)["count"] == 5);
        let answer = search(&engine, "flowers").ok(200);
        assert_eq!(found(&answer), ["rose/1", "tulip/1", "iris/1"], "the database has it");
        assert!(answer["instead"]["reason"].as_str().is_some_and(|why| why.contains("did not take")), "{answer}");
        let doctor = engine.annals(&["doctor"]);
        assert!(doctor.status.code() == Some(1) && String::from_utf8_lossy(&doctor.stdout).contains("does not take default/tulip/1"));
        let told = engine.annals(&["search", "reindex", "--json"]);
        let made: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(made, json!({"index": format!("{}-000002", index.name), "documents": 6}));
        eventually("nothing is refused by the new one", || engine.get("/v1/search/index").json()["refused"] == json!({}));
        assert_eq!(found(&search(&engine, "flowers").ok(200)), ["rose/1", "tulip/1", "iris/1"]);
    }
}

#[test]
fn an_index_with_another_mapping_waits_for_a_reindex() {
    let [index, _] = Index::both();
    let dir = home();
    let engine = index.engine(&dir, &[]);
    version(&engine, "iris", 1, "flowers");
    indexed(&engine);
    index.done("PUT", &format!("/{}/_mapping", index.name), json!({"dynamic": true}));
    let state = stands(&engine, "changed");
    assert!(
        state["reason"].as_str().unwrap().contains("another mapping")
            && state["remedy"].as_str().unwrap().contains("annals search reindex"),
        "{state}"
    );
    version(&engine, "iris", 2, "flowers");
    assert_eq!(found(&search(&engine, "flowers").ok(200)).len(), 2, "the database answers");
    assert!(engine.annals(&["search", "reindex"]).status.success());
    indexed(&engine);
    assert_eq!(found(&search(&engine, "flowers").ok(200)), ["iris/2", "iris/1"]);
}

#[test]
fn what_cannot_be_meant_keeps_the_engine_from_starting() {
    let dir = home();
    std::fs::write(dir.path().join("auth"), "nonsense").unwrap();
    let auth = dir.path().join("auth");
    for (args, says) in [
        (vec!["--search", "localhost:9200"], "the search cluster cannot be used"),
        (vec!["--search", "http://h", "--search-auth-file", auth.to_str().unwrap()], "neither USER:PASSWORD nor"),
        (vec!["--search", "http://h", "--search-ca", auth.to_str().unwrap()], "cannot be read as PEM"),
    ] {
        let output = program().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data_of(&dir)).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(69) && said.contains(says), "{args:?}: {said}");
    }
    let engine: Engine = Index { cluster: "http://127.0.0.1:1".into(), name: "models".into() }.leaked(&dir);
    version(&engine, "iris", 1, "flowers");
    assert_eq!(found(&search(&engine, "flowers").ok(200)), ["iris/1"]);
    stands(&engine, "away");
}

impl Index {
    /// An engine of an index that never was: nothing is to be removed.
    fn leaked(self, dir: &tempfile::TempDir) -> Engine {
        let engine = self.engine(dir, &[]);
        std::mem::forget(self);
        engine
    }
}
