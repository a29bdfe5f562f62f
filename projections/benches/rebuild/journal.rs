//! A journal in memory: models that live the same life of ten events.

use std::sync::Arc;

use annals_events::kind::Kind;
use annals_events::ledger::{Ledger, opening};
use annals_events::names::partition_of;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_projections::Entry;
use annals_projections::rebuild::Source;
use serde_json::{Value, json};

const PARTITIONS: u32 = 12;

pub struct InMemory(pub Arc<Vec<Vec<Entry>>>);

impl Source for InMemory {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        let entries = &self.0[partition as usize];
        let from = usize::try_from(from).unwrap().min(entries.len());
        Ok(entries[from..(from + max).min(entries.len())].to_vec())
    }
}

/// Ten events in the life of a model.
fn life(model: usize) -> [(&'static str, &'static str, Value); 10] {
    let digest = format!("sha256:{model:064x}");
    let artifact = json!({"uri": format!("s3://models/{model}/model.pkl"), "digest": digest, "format": "joblib", "size": 20480});
    let target = json!({"platform": "kubernetes", "cluster": "eu-1", "namespace": "serving", "name": format!("scorer-{model}")});
    let measured = |v: f64| json!({"metric": "accuracy", "value": v, "deployment": "d1", "window": {"n": 500}});
    let run = json!({"run": {"system": "airflow", "id": format!("run-{model}"), "uri": "https://airflow.example.org"},
        "code": {"repository": "https://git.example.org/models", "commit": "0f3c2a9e", "dirty": false}, "artifact": artifact,
        "data": [{"name": "train", "digest": digest, "rows": 100_000, "role": "training"}], "metrics": [{"name": "accuracy", "value": 0.93}]});
    let version = json!({"label": "1.0", "run": format!("run-{model}"), "artifact": artifact, "algorithm": "LogisticRegression",
        "description": "a model of the benchmark", "performance": [{"name": "accuracy", "value": 0.93}, {"name": "f1", "value": 0.91}]});
    [
        ("trained", "", run),
        ("registered", "", version),
        (
            "evaluated",
            "/1",
            json!({"suite": "smoke", "verdict": "passed", "results": [{"metric": "accuracy", "value": 0.93, "passed": true}]}),
        ),
        ("promoted", "/1", json!({"channel": "staging", "reason": "tests passed"})),
        ("promoted", "/1", json!({"channel": "production", "reason": "release"})),
        ("deployment-requested", "/1", json!({"deployment": "d1", "target": target, "channel": "production"})),
        ("deployed", "/1", json!({"deployment": "d1", "observed": {"endpoint": "http://scorer/"}})),
        ("measured", "", measured(0.92)),
        ("measured", "", measured(0.91)),
        (
            "drifted",
            "/1",
            json!({"drift": "f1", "kind": "data", "metric": "accuracy", "baseline": 0.93, "observed": 0.71, "threshold": 0.8}),
        ),
    ]
}

pub fn journal(events: usize) -> Vec<Vec<Entry>> {
    let mut ledgers: Vec<Ledger> = (0..PARTITIONS).map(Ledger::new).collect();
    let mut entries: Vec<Vec<Entry>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
    let mut add = |ledger: &mut Ledger, record: annals_events::record::Record| {
        ledger.apply(&record).unwrap();
        let of = &mut entries[ledger.partition as usize];
        of.push(Entry { partition: ledger.partition, offset: of.len() as u64, record });
    };
    for ledger in &mut ledgers {
        add(ledger, opening(ledger.partition, PARTITIONS, Timestamp(0)));
    }
    for (n, model) in (0..events / 10).enumerate() {
        let key = format!("default/model-{model}");
        let ledger = &mut ledgers[partition_of(&key, PARTITIONS) as usize];
        for (i, (kind, version, data)) in life(model).into_iter().enumerate() {
            let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
            let headers = vec![
                header("ce_specversion", "1.0"),
                header("ce_id", &format!("{n}-{i}")),
                header("ce_source", "/bench"),
                header("ce_type", Kind::from_any(kind).unwrap().name()),
                header("ce_subject", &format!("{key}{version}")),
                header("ce_actor", "pipeline"),
            ];
            let submission = Submission { key: Some(key.clone().into_bytes()), headers, value: data.to_string().into_bytes() };
            let src = (n * 10 + i) as u64;
            let (verdict, record) = ledger.overlay().judge(src, Timestamp(1_772_366_400_000 + src as i64), &submission);
            add(ledger, record.unwrap_or_else(|| panic!("{verdict:?}")));
        }
    }
    entries
}
