//! One question has one answer: SQLite, PostgreSQL, Elasticsearch and OpenSearch beside one another; and the official clients.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Index, found, home, indexed, plain, search, version};
use crate::services::{self, said};
use crate::stage::{Engine, event, program};

const WORDS: [&str; 10] = ["forest", "Forêt", "random", "churn", "fraud-detection", "über", "東京", "v2.1", "ГРАДИЕНТ", "a\"b\\c"];

/// Small numbers that look random and are the same each time.
fn dice(seed: &mut u64, sides: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from((*seed >> 33) % sides as u64).unwrap()
}

fn pick(seed: &mut u64) -> &'static str {
    WORDS[dice(seed, WORDS.len())]
}

/// The same story for each engine.
fn story() -> Vec<Value> {
    let (mut seed, mut events) = (28, Vec::new());
    for n in 0..60 {
        let subject = format!("default/{} {}", pick(&mut seed).replace(['"', '\\'], ""), n % 5);
        let text = |seed: &mut u64| format!("{} {} {}", pick(seed), pick(seed), n);
        let data = json!({"artifact": {"uri": format!("s3://bucket/{n}")}, "description": text(&mut seed), "algorithm": pick(&mut seed),
            "label": format!("L{n}"), "labels": {"team": pick(&mut seed)}, "performance": [{"name": pick(&mut seed), "value": 0.97}]});
        events.push(event("version.registered", &subject, data));
        if dice(&mut seed, 3) == 0 {
            let channel = ["dev", "staging", "production"][dice(&mut seed, 3)];
            events.push(event("version.promoted", &format!("{subject}/1"), json!({"channel": channel})));
        }
    }
    events
}

fn questions() -> Vec<String> {
    let mut seed = 11;
    let mut questions: Vec<String> =
        ["channel:production", "forest -channel:dev", "l1*", "name:東*", "uri:bucket", "kind:model", "-kind:model churn"]
            .map(Into::into)
            .into();
    for _ in 0..25 {
        let mut terms = vec![pick(&mut seed).to_owned()];
        for _ in 0..dice(&mut seed, 3) {
            let word = pick(&mut seed);
            terms.push(match dice(&mut seed, 4) {
                0 => format!("-{word}"),
                1 => format!("description:{word}"),
                2 => word.chars().take(2).collect::<String>() + "*",
                _ => word.to_owned(),
            });
        }
        questions.push(terms.join(" "));
    }
    questions
}

#[test]
fn every_engine_has_the_same_answer_to_a_question() {
    let [elastic, open] = Index::both();
    let database = services::database();
    let homes = [home(), home(), home()];
    let mut on_postgres = program();
    on_postgres.args(["serve", "--listen", "127.0.0.1:0", "--database", &database.url, "--data"]).arg(homes[2].path().join("data"));
    let (_dir, sqlite) = plain();
    let engines: [(&str, Engine); 4] = [
        ("sqlite", sqlite),
        ("postgresql", Engine::spawn(on_postgres)),
        ("elasticsearch 8", elastic.engine(&homes[0], &[])),
        ("opensearch 2", open.engine(&homes[1], &[])),
    ];
    for (_, engine) in &engines {
        for event in story() {
            let status = engine.publish(&event).status;
            assert!(status == 201 || status == 409, "{status}"); // promoted already is no change
        }
    }
    engines[2..].iter().for_each(|(_, engine)| indexed(engine));
    let mut some = 0;
    for question in questions() {
        let mut answers = Vec::new();
        for (name, engine) in &engines {
            let answer = search(engine, &question).ok(200);
            assert!(answer["engine"].as_str().unwrap().starts_with(name), "{question}: {answer}");
            answers.push(found(&answer).into_iter().collect::<BTreeSet<_>>());
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "{question}: {answers:#?}");
        some += usize::from(!answers[0].is_empty());
    }
    assert!(some > 15, "only {some} questions had an answer");
}

#[test]
fn pages_and_documents_of_a_cluster_are_those_of_the_database() {
    for index in Index::both() {
        let dir = home();
        let engine = index.engine(&dir, &[]);
        (1..=7).for_each(|n| drop(version(&engine, "iris", n, "flowers")));
        indexed(&engine);
        let whole = search(&engine, "flowers").ok(200);
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let page = engine.get(&format!("/v1/search?q=flowers&limit=3{after}")).ok(200);
            paged.extend(found(&page));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={}", next.replace(' ', "%20"));
        }
        assert_eq!((paged.len(), paged), (7, found(&whole)));
        assert_eq!(engine.stop(), Some(0));
        // the same directory without the cluster: the database's own answer
        let bare = Engine::start(&dir.path().join("data"));
        let own = search(&bare, "flowers").ok(200);
        assert_eq!((&own["engine"], &own["items"]), (&json!("sqlite"), &whole["items"]));
    }
}

const CLIENT: &str = r#"
import sys
kind, url, index = sys.argv[1:4]
if kind == "elasticsearch":
    from elasticsearch import Elasticsearch
    client = Elasticsearch(url)
    search = lambda query: client.search(index=index, query=query)
else:
    from opensearchpy import OpenSearch
    client = OpenSearch(url)
    search = lambda query: client.search(index=index, body={"query": query})
client.indices.refresh(index=index)
for query in [{"match": {"name": "iris"}}, {"term": {"label": "v2.0"}}, {"match": {"description": "second FLOWERS"}}, {"term": {"channels": "production"}}]:
    hits = search(query)["hits"]["hits"]
    print(sorted(hit["_id"] for hit in hits if hit["_source"].get("kind") == "version"))
source = client.get(index=index, id="default/iris/2")
print(source["_version"], source["_source"]["algorithm"], source["_source"]["data"], source["_source"]["performance"], sorted(set(source["_source"]) & {"words", "subject"}))
"#;

#[test]
fn official_clients_find_what_was_indexed() {
    for (kind, index) in ["elasticsearch", "opensearch"].into_iter().zip(Index::both()) {
        let dir = home();
        let engine = index.engine(&dir, &[]);
        version(&engine, "iris", 1, "the first");
        version(&engine, "iris", 2, "the second, of flowers");
        let promoted = engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));
        indexed(&engine);
        let told = said(services::search_python().args(["-c", CLIENT, kind, &index.cluster, &index.name]));
        let expected = format!(
            "['default/iris/1', 'default/iris/2']\n['default/iris/2']\n['default/iris/2']\n['default/iris/2']\n\
             {} RandomForest [{{'name': 'petals.csv', 'rows': 150}}] [{{'name': 'accuracy', 'value': 0.97}}] []",
            promoted["modelseq"]
        );
        assert_eq!(told, expected);
    }
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_is_wrong() {
    let (_dir, engine) = plain();
    version(&engine, "iris", 1, "flowers");
    for (query, says) in [
        ("", "no word to look for"),
        ("q=", "no word to look for"),
        ("q=-iris", "only words that must not be there"),
        ("q=colour:red", "no field `colour`"),
        ("q=iris%20*", "no letter and no digit"),
        ("q=iris&limit=0", "not between 1 and 1000"),
        (&format!("q={}", "x".repeat(1001)), "more than 1000 bytes"),
    ] {
        let problem = engine.get(&format!("/v1/search?{query}")).problem(400, "bad-query");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    engine.get("/v1/search?q=iris&after=nonsense").problem(400, "bad-cursor");
    engine.get("/v1/search?q=iris&as_of=2026-03-01T12:00:00Z").problem(400, "no-past");
    assert_eq!(engine.annals(&["search", "colour:red"]).status.code(), Some(2));
    engine.post("/v1/search/reindex", &[], b"").problem(404, "no-search-cluster");
    assert_eq!(engine.get("/v1/search/index").json()["state"], "none");
    let told = engine.annals(&["search", "forest", "channel:production"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stderr).contains("nothing was found"));
    let told = engine.annals(&["search", "RandomForest", "flow*"]);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("iris  1        v1.0")), "{text}");
}
