//! Search: indexing beside bare bulk requests of the same documents, questions beside bare ones to the same engine, and the
//! database's own full-text search.

use std::time::{Duration, Instant};

use annals::world::search::bulk::Bulk;
use annals::world::search::cluster::{Body, Cluster, Verb};
use annals::world::search::find::question;
use annals::world::search::index::Meta;
use annals_projections::Page;
use annals_projections::search::Query;
use serde_json::{Value, json};

use crate::client::Engine;
use crate::{bench_dir, figure, quantile};

const MODELS: usize = 2_000;
const VERSIONS: usize = 50;
const TAGS: usize = 5;
/// Events of a request.
const BATCH: usize = 500;
/// Times that each question is asked.
const ROUNDS: usize = 40;
/// Documents of an answer.
const PAGE: u32 = 20;
const WORDS: [&str; 12] =
    ["churn", "fraud", "demand", "price", "image", "speech", "nightly", "baseline", "tuned", "shadow", "regional", "global"];
const ALGORITHMS: [&str; 5] = ["RandomForest", "LogisticRegression", "XGBoost", "ResNet50", "Transformer"];
/// Of many, some, few and no documents.
const QUESTIONS: [&str; 8] = [
    "team-3",
    "algorithm:xgboost churn",
    "tag:stage4 tuned shadow",
    "name:model-1234",
    "label:17 speech -nightly",
    "regional glob* demand",
    "label:v41 name:model-7",
    "nowhere",
];

pub fn run() {
    let dir = bench_dir("search");
    for (name, variable) in [("Elasticsearch", "ANNALS_TEST_ELASTICSEARCH"), ("OpenSearch", "ANNALS_TEST_OPENSEARCH")] {
        let url = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/bench/run search"));
        on(name, &url, &dir.join("data"));
    }
    embedded(&dir.join("data"));
    std::fs::remove_dir_all(dir).unwrap();
}

/// The second cluster gets the same journal as the first.
fn on(name: &str, url: &str, data: &std::path::Path) {
    let (is_first, index) = (!data.exists(), format!("bench-{}", std::process::id()));
    let engine = Engine::start_quietly(data, &["--search", url, "--search-index", &index]);
    if is_first {
        register(&engine);
    }
    engine.wait_for_views();
    whole(&engine);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = Cluster::new(url, None, None).unwrap();
    // what was indexed last is not visible by itself yet
    runtime.block_on(cluster.show(&index)).unwrap();
    let documents = documents(&engine);
    // in turns, the best of each: what else the machine does must not decide
    let (mut ours, mut bare) = (0_f64, 0_f64);
    for round in 0..2 {
        bare = bare.max(runtime.block_on(send(&cluster, &format!("{index}-bare{round}"), &documents)));
        ours = ours.max(reindexed(&engine));
    }
    let what = format!("{name}: documents indexed anew per second / bare bulk requests of the same");
    figure(&what, &format!("{ours:.0}/s"), &format!("{bare:.0}/s"), ours / bare, ">= 0.60", ours / bare >= 0.60);
    questions(name, &engine, url, &index);
    engine.stop();
    for left in ["", "-bare0", "-bare1"] {
        let gone = if left.is_empty() { format!("/{index}-0*?expand_wildcards=all") } else { format!("/{index}{left}") };
        runtime.block_on(remove(&cluster, &gone));
    }
}

/// A cluster may not let anybody delete by pattern: one by one.
async fn remove(cluster: &Cluster, path: &str) {
    let text = cluster.get(Verb::Get, path, Body::None).await.unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    for name in found.as_object().unwrap().keys() {
        cluster.remove(name).await.unwrap();
    }
}

fn version(model: usize, n: usize) -> Value {
    let word = |step: usize| WORDS[(model * 7 + n * step) % WORDS.len()];
    let tags: serde_json::Map<_, _> = (0..TAGS)
        .map(|tag| (format!("tag{tag}"), json!(format!("{}{}", ["team-", "stage", "cost", "tier", "site"][tag], (model + n * tag) % 17))))
        .collect();
    json!({
        "artifact": {"uri": format!("s3://models/model-{model}/{n}/model.onnx"), "digest": format!("sha256:{:064x}", model * VERSIONS + n), "format": "onnx"},
        "label": format!("v{n}.0"), "algorithm": ALGORITHMS[(model + n) % ALGORITHMS.len()],
        "description": format!("{} {} model for the {} forecast, {} run {n}", word(1), word(3), word(5), word(7)),
        "data": [{"name": format!("{}-{}.parquet", word(2), n % 9), "rows": 100_000 + n}],
        "performance": [{"name": "accuracy", "value": 0.9 + n as f64 / 1000.0}, {"name": "auc", "value": 0.93}], "labels": tags,
    })
}

fn register(engine: &Engine) {
    let began = Instant::now();
    let mut events = Vec::with_capacity(BATCH);
    for n in 0..VERSIONS {
        for model in 0..MODELS {
            events.push(
                json!({"specversion": "1.0", "id": format!("{model}-{n}"), "source": "/bench", "type": "dev.annals.version.registered.v1",
                "subject": format!("default/model-{model}"), "data": version(model, n)}),
            );
            if events.len() == BATCH {
                let answer = ureq::post(format!("http://{}/v1/events", engine.address))
                    .header("content-type", "application/cloudevents-batch+json")
                    .send(Value::Array(std::mem::take(&mut events)).to_string().as_bytes())
                    .unwrap();
                assert_eq!(answer.status(), 200);
            }
        }
    }
    assert!(events.is_empty());
    println!("       {MODELS} models with {VERSIONS} versions and {TAGS} tags each, registered in {:.0} s", began.elapsed().as_secs_f64());
}

/// Waits until the cluster has all documents.
fn whole(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(900);
    loop {
        let state: Value = ureq::get(format!("http://{}/v1/search/index", engine.address)).call().unwrap().into_body().read_json().unwrap();
        if state["state"] == "indexing" && state["lag_events"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "the index does not catch up: {state}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// All documents as requests, made in advance.
fn documents(engine: &Engine) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    for query in ["kind:version", "kind:model"] {
        loop {
            let url = format!("http://{}/v1/search?q={query}&limit=1000{after}", engine.address);
            let page: Value = ureq::get(url).call().unwrap().into_body().with_config().limit(1 << 30).read_json().unwrap();
            found.extend(page["items"].as_array().unwrap().iter().map(Value::to_string));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={}", next.replace(' ', "%20"));
        }
        after.clear();
    }
    assert_eq!(found.len(), MODELS * VERSIONS + MODELS);
    found
}

/// Documents per second of nothing but bulk requests, one after the other, until they can be found.
async fn send(cluster: &Cluster, index: &str, documents: &[String]) -> f64 {
    let alias = format!("{index}-alias");
    cluster.make(index, &alias, &Meta::empty("bench"), "-1").await.unwrap();
    let mut bulks = Vec::new();
    let mut bulk = Bulk::default();
    for doc in documents {
        bulk.add(doc).unwrap();
        if bulk.is_full() {
            bulks.push(std::mem::take(&mut bulk));
        }
    }
    bulks.push(bulk);
    let began = Instant::now();
    for bulk in bulks {
        assert_eq!(cluster.send(&alias, &bulk).await.unwrap().refused, []);
    }
    cluster.show(index).await.unwrap();
    documents.len() as f64 / began.elapsed().as_secs_f64()
}

/// Documents per second of a reindex: read from the view, sent, and put in the place of the old index.
fn reindexed(engine: &Engine) -> f64 {
    let began = Instant::now();
    let mut answer = ureq::post(format!("http://{}/v1/search/reindex", engine.address)).send_empty().unwrap();
    let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "done", "{text}");
    last["documents"].as_f64().unwrap() / began.elapsed().as_secs_f64()
}

fn questions(name: &str, engine: &Engine, url: &str, index: &str) {
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let page = Page { after: None, limit: PAGE };
    let asked: Vec<(String, String)> = QUESTIONS
        .iter()
        .map(|text| {
            let bare = question(Some("default"), &Query::parse(text).unwrap(), &page).unwrap().0;
            (format!("http://{}/v1/search?limit={PAGE}&q={}", engine.address, text.replace(' ', "%20").replace('*', "%2A")), bare)
        })
        .collect();
    let direct = format!("{url}/{index}/_search?allow_partial_search_results=false&filter_path=hits.hits._source,hits.hits.sort");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 5 {
        for (through, body) in &asked {
            let began = Instant::now();
            let said = agent.get(through).call().unwrap().into_body().read_to_string().unwrap();
            let took = began.elapsed();
            assert!(!said.contains("\"instead\""), "{said}");
            let began = Instant::now();
            agent.post(&direct).header("content-type", "application/json").send(body).unwrap().into_body().read_to_string().unwrap();
            if round >= 5 {
                ours.push(took);
                bare.push(began.elapsed());
            }
        }
    }
    ours.sort_unstable();
    bare.sort_unstable();
    for (which, q, goal) in [("p50", 0.5, 1.3), ("p99", 0.99, f64::INFINITY)] {
        let (ours, bare) = (quantile(&ours, q), quantile(&bare, q));
        let goal_text = if goal.is_finite() { "<= 1.3" } else { "stated" };
        let what = format!("{name}: search over {MODELS} x {VERSIONS} x {TAGS}, {which} / the bare question");
        figure(&what, &format!("{ours:.0} us"), &format!("{bare:.0} us"), ours / bare, goal_text, ours / bare <= goal);
    }
}

/// The same questions to the database's own full-text search.
fn embedded(data: &std::path::Path) {
    let engine = Engine::start_quietly(data, &[]);
    engine.wait_for_views();
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let mut times = Vec::new();
    for round in 0..ROUNDS + 5 {
        for text in QUESTIONS {
            let url = format!("http://{}/v1/search?limit={PAGE}&q={}", engine.address, text.replace(' ', "%20").replace('*', "%2A"));
            let began = Instant::now();
            let said = agent.get(url).call().unwrap().into_body().read_to_string().unwrap();
            if round >= 5 {
                times.push(began.elapsed());
            }
            assert!(said.contains("\"engine\":\"sqlite\""), "{said}");
        }
    }
    times.sort_unstable();
    println!("       embedded full-text search of the same: p50 {:.0} us, p99 {:.0} us", quantile(&times, 0.5), quantile(&times, 0.99));
    engine.stop();
}
