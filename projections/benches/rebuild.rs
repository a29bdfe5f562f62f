//! Rebuilding the registry against bare multi-row inserts of the same rows: `cargo bench -p annals-projections`.
//!
//! `ANNALS_BENCH_EVENTS` says how many events (a million unless told otherwise).
#![allow(clippy::unwrap_used)] // a figure that cannot be taken is no figure

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals_events::kind::Kind;
use annals_events::ledger::{Ledger, opening};
use annals_events::names::partition_of;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_projections::rebuild::Source;
use annals_projections::{Entry, Views};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row};

const PARTITIONS: u32 = 12;
/// Rows of one reference insert, and of one reference transaction.
const ROWS: usize = 256;
const TRANSACTION: usize = 8192;

struct InMemory(Arc<Vec<Vec<Entry>>>);

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

fn journal(events: usize) -> Vec<Vec<Entry>> {
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

async fn connect(file: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let options = options.synchronous(SqliteSynchronous::Normal).pragma("cache_size", "-65536").disable_statement_logging();
    options.connect().await.unwrap()
}

/// Copies the registry's rows into tables of the same shape, and returns rows and the time that the inserts took.
async fn bare(dir: &std::path::Path, indexes: bool) -> (usize, Duration) {
    let mut from = connect(&dir.join("views.db")).await;
    let mut to = connect(&dir.join(if indexes { "indexed.db" } else { "bare.db" })).await;
    let schema = "SELECT name, type, sql FROM sqlite_master WHERE tbl_name LIKE 'registry%' AND sql IS NOT NULL ORDER BY type DESC";
    let mut tables = Vec::new();
    for row in sqlx::query(schema).fetch_all(&mut from).await.unwrap() {
        let (name, kind, sql): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if kind == "table" {
            tables.push(name);
        }
        if kind == "table" || indexes {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut to).await.unwrap();
        }
    }
    let (mut count, mut time) = (0, Duration::ZERO);
    for table in tables {
        let mut after = 0_i64;
        loop {
            let select = format!("SELECT rowid, t.* FROM {table} t WHERE rowid > {after} ORDER BY rowid LIMIT {TRANSACTION}");
            let rows = sqlx::query(AssertSqlSafe(select)).persistent(false).fetch_all(&mut from).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = last.get(0);
            count += rows.len();
            let width = last.columns().len() - 1;
            let value = format!("({})", vec!["?"; width].join(","));
            let mut statements = Vec::new();
            for some in rows.chunks(ROWS) {
                let mut arguments = SqliteArguments::default();
                for row in some {
                    for column in 1..=width {
                        match row.try_get::<Option<i64>, _>(column) {
                            Ok(n) => Arguments::add(&mut arguments, n).unwrap(),
                            Err(_) => Arguments::add(&mut arguments, row.get::<Option<String>, _>(column)).unwrap(),
                        }
                    }
                }
                statements.push((format!("INSERT INTO {table} VALUES {}", vec![value.as_str(); some.len()].join(",")), arguments));
            }
            let start = Instant::now();
            let mut transaction = to.begin().await.unwrap();
            for (sql, arguments) in statements {
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await.unwrap();
            }
            transaction.commit().await.unwrap();
            time += start.elapsed();
        }
    }
    (count, time)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let events = std::env::var("ANNALS_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut out = std::io::stdout();
    let entries = Arc::new(journal(events));
    let count: usize = entries.iter().map(Vec::len).sum();
    writeln!(out, "{count} events of {} models", events / 10).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(dir.path(), "bench").await.unwrap();
    for name in annals_projections::NAMES {
        let start = Instant::now();
        views.rebuild(name, InMemory(entries.clone()), |_| ()).await.unwrap();
        let time = start.elapsed();
        writeln!(out, "rebuild {name}: {time:.2?}, {:.0} events/s", count as f64 / time.as_secs_f64()).unwrap();
        if *name != "registry" {
            continue;
        }
        for indexes in [false, true] {
            let (rows, bare) = bare(dir.path(), indexes).await;
            let what = if indexes { "into tables with the indexes" } else { "without indexes" };
            let ratio = 100.0 * bare.as_secs_f64() / time.as_secs_f64();
            writeln!(out, "  bare inserts of its {rows} rows {what}: {bare:.2?}; the rebuild has {ratio:.0} % of that rate").unwrap();
        }
    }
    for name in annals_projections::NAMES {
        views.reset(name).await.unwrap();
        let some: Vec<Entry> = entries.iter().flat_map(|of| of.iter().take(4_000).cloned()).collect();
        let start = Instant::now();
        views.apply(name, &some).await.unwrap();
        let time = start.elapsed();
        writeln!(out, "live {name}: {:.0} events/s in batches of 500", some.len() as f64 / time.as_secs_f64()).unwrap();
    }
}
