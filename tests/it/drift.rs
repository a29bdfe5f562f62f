//! Drift reports: files that the real libraries wrote of shifted iris become events, or are refused with what to do.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use annals::drift::{self, Tool};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::services::{drift_python, said};
use crate::stage::{Engine, Response, caught_up, exported, fresh, program, register};

/// The reports, and what their libraries say of them.
struct Reports {
    dir: PathBuf,
    told: Value,
}

/// Written once for all tests of a run.
fn reports() -> &'static Reports {
    static REPORTS: OnceLock<Reports> = OnceLock::new();
    REPORTS.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("drift-reports");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/drift_reports.py");
        let told = said(drift_python().arg(script).arg(&dir));
        Reports { dir, told: serde_json::from_str(told.lines().last().unwrap()).unwrap() }
    })
}

fn path(name: &str) -> String {
    reports().dir.join(name).to_str().unwrap().to_owned()
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn tool(name: &str) -> Tool {
    Tool::named(name.split('-').next().unwrap()).unwrap()
}

#[track_caller]
fn found(name: &str) -> Option<drift::Drift> {
    drift::read(tool(name), &file(name)).unwrap_or_else(|e| panic!("{name}: {e}")).drift
}

fn post(engine: &Engine, name: &str, query: &str) -> Response {
    engine.post(&format!("/v1/hooks/drift?from={}&{query}", tool(name).name()), &[], &file(name))
}

fn records(engine: &Engine) -> usize {
    exported(engine).iter().filter(|l| l.get("seq").is_some()).count()
}

/// `data` of the drifts of a model, oldest first.
fn drifts(engine: &Engine) -> Vec<Value> {
    let replay = engine.get("/v1/events?type=drifted");
    replay.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["data"].clone()).collect()
}

#[test]
fn a_report_of_evidently_becomes_one_event_with_its_figures() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let taken = post(&engine, "evidently-drift.json", "model=iris&version=1&actor=monitor&detector=evidently%200.7.23").ok(201);
    assert_eq!((&taken["type"], &taken["subject"]), (&json!("dev.annals.drift.detected.v1"), &json!("default/iris/1")));
    let data = &drifts(&engine)[0];
    assert_eq!((&data["kind"], &data["metric"]), (&json!("data"), &json!("share of drifted columns")));
    // three of seven columns: the two that were shifted, and the prediction
    let written: Value = serde_json::from_slice(&file("evidently-drift.json")).unwrap();
    assert_eq!(data["observed"], written["metrics"][0]["value"]["share"]);
    assert_eq!((&data["threshold"], &data["detector"]), (&json!(0.3), &json!("evidently 0.7.23")));
    let features: Vec<&str> = data["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert!(features.contains(&"petal length (cm)") && features.contains(&"petal width (cm)"), "{features:?}");
    assert!(!features.iter().any(|feature| feature.starts_with("sepal")), "{features:?}");
    let digest = drift::digest(&file("evidently-drift.json"));
    assert_eq!(data["evidence"], json!([{"kind": "report", "digest": digest}]));
    let shown = engine.annals(&["list", "drifts", "iris"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("share of drifted columns"), "{shown:?}");
}

#[test]
fn the_same_file_is_one_event_through_whatever_door_it_comes() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    register(&engine, "lily", 1);
    let first = post(&engine, "nannyml-drift.csv", "model=iris").ok(201);
    let again = post(&engine, "nannyml-drift.csv", "model=iris").ok(200);
    assert_eq!((&again["outcome"], &again["position"], &again["id"]), (&json!("duplicate"), &first["position"], &first["id"]));
    let by_hand = engine.annals(&["drift", "report", "--from", "nannyml", "--model", "iris", "--json", &path("nannyml-drift.csv")]);
    let by_hand: Value = serde_json::from_slice(&by_hand.stdout).unwrap();
    assert_eq!((&by_hand["outcome"], &by_hand["position"]), (&json!("duplicate"), &first["position"]));
    let other = post(&engine, "nannyml-drift.csv", "model=lily").ok(201);
    assert_ne!(other["id"], first["id"]);
    // the same file about another version is another claim, not a copy
    post(&engine, "nannyml-drift.csv", "model=iris&version=1").problem(422, "id-conflict");
    assert_eq!(drifts(&engine).len(), 2);
}

#[test]
fn what_a_library_finds_is_found_and_what_it_does_not_find_is_not() {
    for (name, kind, metric) in [
        ("evidently-tests.json", "performance", "Accuracy"),
        ("evidently-column.json", "data", "wasserstein"),
        ("evidently-chosen.json", "data", "K-S p_value"),
        ("evidently-quality.json", "quality", "MissingValueCount share"),
        ("nannyml-drift.csv", "data", "kolmogorov_smirnov"),
        ("nannyml-performance.csv", "performance", "accuracy"),
        ("nannyml-estimated.csv", "performance", "accuracy"),
        ("nannyml-together.csv", "data", "reconstruction_error"),
    ] {
        let drift = found(name).unwrap_or_else(|| panic!("no drift in {name}"));
        assert_eq!((serde_json::to_value(drift.head.moved).unwrap(), drift.head.metric.as_str()), (json!(kind), metric), "{name}");
    }
    // three of seven columns moved in the second one, and it was told that half of them may not
    for name in
        ["evidently-clean.json", "evidently-below.json", "evidently-tests-clean.json", "evidently-methods-same.json", "nannyml-clean.csv"]
    {
        assert_eq!(found(name), None, "{name}");
    }
    let accuracy = found("evidently-tests.json").unwrap();
    assert_eq!(accuracy.head.threshold, Some(0.9));
    assert!(accuracy.reason.contains("share of drifted columns"), "all that failed is told: {}", accuracy.reason);
}

#[test]
fn the_figures_of_a_nannyml_drift_are_those_of_the_newest_chunk_with_an_alert() {
    let told = &reports().told["files"]["nannyml-drift.csv"];
    let drift = found("nannyml-drift.csv").unwrap();
    let last = |name: &str| told["values"][name].as_array().unwrap().last().unwrap().as_f64().unwrap();
    assert_eq!(drift.head.observed.to_bits(), last("petal length (cm)_kolmogorov_smirnov").to_bits());
    assert_eq!(drift.head.feature.as_deref(), Some("petal length (cm)"));
    let alerts = told["alerts"].as_object().unwrap();
    for feature in &drift.features {
        let alerting = |(name, chunks): (&String, &Value)| name.starts_with(feature.as_str()) && chunks[2] == json!(true);
        assert!(alerts.iter().any(alerting), "{feature} has no alert in NannyML's own table");
    }
    assert_eq!(drift.features, ["petal length (cm)", "petal width (cm)"]);
    assert!(drift.reason.contains("3 of 3 chunks"), "{}", drift.reason);
    // bare dates are in no zone, so they are told and not turned into moments
    let window = drift.window.unwrap();
    assert_eq!((window.n, window.start), (Some(50), None));
    assert!(drift.reason.contains("2026-04-05 04:00:00"), "{}", drift.reason);
    let zoned = found("nannyml-zoned.csv").unwrap().window.unwrap();
    assert_eq!(zoned.start.as_deref(), Some("2026-04-05T04:00:00+02:00"));
}

#[test]
fn each_method_of_evidently_is_judged_as_evidently_judges_it() {
    let mut compared = 0;
    for name in ["evidently-methods-shifted.json", "evidently-methods-same.json"] {
        let written: Value = serde_json::from_slice(&file(name)).unwrap();
        for (metric, test) in written["metrics"].as_array().unwrap().iter().zip(written["tests"].as_array().unwrap()) {
            assert_eq!(test["metric_config"]["metric_id"], metric["id"]);
            // as if it had been run without tests: the score and the threshold alone
            let alone = json!({"metrics": [metric], "tests": []}).to_string();
            let report = drift::read(Tool::Evidently, alone.as_bytes()).unwrap_or_else(|e| panic!("{metric}: {e}"));
            assert_eq!(report.drift.is_some(), test["status"] == "FAIL", "{metric}");
            compared += 1;
        }
    }
    assert_eq!(compared, 136);
}

#[test]
fn a_report_without_drift_is_answered_as_such_and_records_nothing() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let before = records(&engine);
    for name in ["evidently-clean.json", "nannyml-clean.csv"] {
        let answer = post(&engine, name, "model=iris").ok(200);
        assert_eq!((&answer["outcome"], &answer["digest"]), (&json!("no-drift"), &json!(drift::digest(&file(name)))));
        let said = engine.annals(&["drift", "report", "--from", tool(name).name(), "--model", "iris", &path(name)]);
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stdout).starts_with("no drift in "), "{said:?}");
    }
    assert_eq!(records(&engine), before);
}

/// A command with a file on its standard input.
fn piped(engine: &Engine, args: &[&str], input: &[u8]) -> Output {
    let mut command = program();
    command.env("ANNALS_URL", &engine.url).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_channel_stands_for_the_version_that_it_holds() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    post(&engine, "evidently-drift.json", "model=iris&channel=production").problem(404, "unknown-channel");
    post(&engine, "evidently-drift.json", "model=iris&channel=prod").problem(404, "unknown-channel");
    post(&engine, "evidently-drift.json", "model=iris&channel=production&version=1").problem(400, "bad-query");
    engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));
    let taken = post(&engine, "evidently-drift.json", "model=iris&channel=production").ok(201);
    assert_eq!(taken["subject"], "default/iris/2");
    let args = ["drift", "report", "--from", "nannyml", "--model", "iris", "--channel", "production", "--json", "-"];
    let by_hand = piped(&engine, &args, &file("nannyml-drift.csv"));
    let by_hand: Value = serde_json::from_slice(&by_hand.stdout).unwrap_or_else(|e| panic!("{e}: {by_hand:?}"));
    assert_eq!((&by_hand["outcome"], &by_hand["subject"]), (&json!("accepted"), &json!("default/iris/2")));
    caught_up(&engine);
    assert_eq!(engine.get("/v1/models/iris/drifts").json()["items"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_no_whole_report_of_a_known_form_is_a_clear_state_and_records_nothing() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let before = records(&engine);
    for (name, status, code) in [
        ("evidently-legacy.json", 422, "report-unsupported"),
        ("evidently-snapshot.json", 422, "report-unsupported"),
        ("evidently-unjudged.json", 422, "report-undecided"),
        ("nannyml-drift.parquet", 422, "report-unsupported"),
        ("nannyml-missing.csv", 422, "report-undecided"),
    ] {
        let problem = post(&engine, name, "model=iris").problem(status, code);
        assert!(problem["remedy"].as_str().unwrap().contains("annals emit drifted"), "{problem}");
        let said = engine.annals(&["drift", "report", "--from", tool(name).name(), "--model", "iris", &path(name)]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("what to do: "), "{said:?}");
    }
    let version = reports().told["versions"]["evidently"].as_str().unwrap();
    let problem = post(&engine, "evidently-legacy.json", "model=iris").problem(422, "report-unsupported");
    assert!(problem["detail"].as_str().unwrap().contains(version), "it names the version that wrote it: {problem}");
    let hook = |from: &str, body: &[u8]| engine.post(&format!("/v1/hooks/drift?from={from}&model=iris"), &[], body);
    let whole = String::from_utf8(file("evidently-drift.json")).unwrap();
    hook("evidently", whole.replace("metric_v2", "metric_v3").as_bytes()).problem(422, "report-unsupported");
    hook("evidently", &whole.as_bytes()[..whole.len() / 2]).problem(400, "report-truncated");
    hook("evidently", b"").problem(400, "report-truncated");
    hook("evidently", &file("nannyml-drift.csv")).problem(400, "report-malformed");
    hook("nannyml", whole.as_bytes()).problem(422, "report-unsupported");
    let chunks = file("nannyml-drift.csv");
    hook("nannyml", &chunks[..chunks.len() - 9]).problem(400, "report-truncated");
    hook("whylogs", b"{}").problem(400, "unknown-tool");
    post(&engine, "evidently-drift.json", "model=a:b").problem(400, "bad-name");
    assert_eq!(records(&engine), before);
    post(&engine, "evidently-drift.json", "model=nobody").problem(404, "unknown-model");
    post(&engine, "evidently-drift.json", "model=iris&version=7").problem(404, "unknown-version");
    assert_eq!(drifts(&engine), Vec::<Value>::new());
}

/// Cut at any byte, a file of Evidently's is no whole one, and one of NannyML's is whole only up to the end of a row.
#[test]
fn a_file_that_is_cut_off_anywhere_is_never_taken_for_a_whole_one() {
    let json = file("evidently-tests.json");
    for end in 0..json.len() {
        assert_eq!(drift::read(Tool::Evidently, &json[..end]).map_err(|e| e.code()), Err("report-truncated"), "at byte {end}");
    }
    let csv = file("nannyml-drift.csv");
    let rows: Vec<&[u8]> = csv.split_inclusive(|byte| *byte == b'\n').collect();
    let before: usize = rows.iter().take(4).map(|row| row.len()).sum(); // the head and the reference period
    for end in 0..csv.len() {
        let read = drift::read(Tool::Nannyml, &csv[..end]).map_err(|e| e.code());
        match csv[..end].last() {
            Some(b'\n') if end > before => assert!(read.unwrap().drift.is_some(), "at byte {end}"),
            Some(b'\n') => assert_eq!(read, Err("report-undecided"), "at byte {end}"),
            _ => assert_eq!(read, Err("report-truncated"), "at byte {end}"),
        }
    }
}

#[test]
fn a_file_with_broken_bytes_never_panics_and_what_it_proposes_can_be_read() {
    let samples: Vec<(Tool, Vec<u8>)> = ["evidently-tests.json", "evidently-quality.json", "nannyml-drift.csv", "nannyml-performance.csv"]
        .map(|name| (tool(name), file(name)))
        .to_vec();
    let telling = prop::sample::select(vec!["\"", ",", "\n", "{", "}", "null", "1e999", "-", "True", "\u{0}", "é", "_alert", "NaN"]);
    let change = (any::<prop::sample::Index>(), 0..4_usize, telling);
    let strategy = (prop::sample::select(samples), prop::collection::vec(change, 0..5));
    let key = annals_events::names::Key::new("default", "iris").unwrap();
    let mut runner = TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() });
    let broken = runner.run(&strategy, |((tool, mut bytes), changes)| {
        for (at, removed, text) in changes {
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, text.bytes());
        }
        if let Ok(drift::Report { drift: Some(found), .. }) = drift::read(tool, &bytes) {
            let proposed = drift::propose(tool, &bytes, &key, &found, None).unwrap();
            prop_assert!(found.head.observed.is_finite());
            prop_assert!(serde_json::from_str::<Value>(&proposed.data).unwrap()["reason"].as_str().unwrap().len() <= 4096);
        }
        Ok(())
    });
    broken.unwrap();
}
