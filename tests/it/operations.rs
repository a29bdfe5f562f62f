//! For whoever keeps it running: what the alerts and the dashboard ask for is there, and doctor tells what is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::services::{self, Server, said};
use crate::stage::{Engine, caught_up, data_of, digest, directory, event, eventually, fresh, program, register};
use crate::surface::{promtool_is_content, tool};

/// Exported only with a schema registry, which these engines do not have. It is looked for in the source.
const ELSEWHERE: &str = "annals_schema_registry_state";

fn operations(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operations").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(operations(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// An instance with these roles.
fn serve(cluster: &Cluster, name: &str, roles: &str) -> Engine {
    let mut command = cluster.command(name);
    command.args(["--roles", roles]);
    Engine::spawn(command)
}

fn owns_all(engine: &Engine) -> bool {
    engine.get("/v1/partitions").json()["partitions"].as_array().unwrap().iter().all(|p| p["state"] == "owner")
}

/// What names of metrics a text has.
fn names(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    let words = text.split(|c| !is_name(c));
    // recorded ones have a colon, and are made of the others
    words.filter(|word| (word.starts_with("annals_") || word.starts_with("process_")) && !word.contains(':')).collect()
}

/// What is asked for in the rules and on the dashboard: their expressions, not their words.
fn asked_for() -> String {
    let dashboard: Value = serde_json::from_str(&text("grafana/dashboards/annals.json")).unwrap();
    let mut asked = text("prometheus/alerts.yml");
    let mut left = vec![&dashboard];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                asked.extend(members.get("expr").and_then(Value::as_str).map(|expr| format!("\n{expr}")));
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    asked
}

#[test]
fn every_metric_that_is_asked_for_is_there_on_kafka_and_clean() {
    let on = Cluster::fresh();
    let engine = serve(&on, "a", "door,arbiter,projector,publisher,actor");
    eventually("it owns every partition", || owns_all(&engine));
    register(&engine, "iris", 1);
    // rules have metrics once there is one, and whoever acts exports them
    let rule = [
        "trigger",
        "add",
        "t",
        "--type",
        "retired",
        "--do",
        r#"{"propose":{"type":"retrain-requested","data":{"cause":{"kind":"schedule"}}}}"#,
    ];
    assert!(engine.annals(&rule).status.success());
    eventually("the rule's tasks are counted", || engine.get("/metrics").text.contains("\nannals_tasks{"));
    assert_eq!(engine.publish(&event("version.promoted", "default/iris/9", json!({"channel": "staging"}))).status, 404);
    caught_up(&engine);
    eventually("the cluster was asked, and the clocks compared", || {
        let metrics = engine.get("/metrics").text;
        metrics.contains("\nannals_arbiters 1\n") && metrics.contains("\nannals_cluster_clock_ahead_seconds ")
    });
    let metrics = engine.get("/metrics").text;
    promtool_is_content(&metrics);
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/operations.rs")).unwrap();
    assert!(source.contains(&format!("\"{ELSEWHERE}\"")));
    let asked = asked_for();
    let asked = names(&asked);
    assert!(asked.len() > 25, "{asked:?}");
    for name in asked {
        let exported = metrics.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(exported || name == ELSEWHERE, "{name} is asked for and not exported:\n{metrics}");
    }
    for line in [
        "annals_partition_owned{partition=\"2\"} 1",
        "annals_verdicts_total{outcome=\"refused\"} 1",
        "annals_refusals_total{code=\"unknown-version\"} 1",
        "annals_proposals_waiting{partition=\"0\"} 0",
        "annals_last_stable_offset_lag{log=\"journal\",partition=\"0\"} 0",
        "annals_claims_total{partition=\"0\"} 1",
        "annals_views_open 1",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("annals_journal_size_bytes"), "it is not in files of ours");
    assert!(!metrics.contains("annals_commit_duration_seconds_count 0\n"), "{metrics}");
    let well = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&well.stdout);
    assert!(well.status.success() && said.contains("the Kafka cluster answers"), "{said}");
}

#[test]
fn doctor_says_that_nobody_judges() {
    let on = Cluster::fresh();
    let engine = serve(&on, "a", "door,arbiter,projector,publisher");
    eventually("it owns every partition", || owns_all(&engine));
    assert_eq!(engine.stop(), Some(0));
    let engine = serve(&on, "b", "door,projector");
    let data = json!({"artifact": {"digest": digest(1)}});
    assert_eq!(engine.publish(&event("version.registered", "default/iris", data)).status, 202);
    let mut report = Value::Null;
    eventually("it is noticed", || {
        let output = engine.annals(&["doctor", "--json"]);
        report = serde_json::from_slice(&output.stdout).unwrap();
        output.status.code() == Some(1)
    });
    assert_eq!(report["well"], false);
    let found = report["findings"].as_array().unwrap();
    let ill: Vec<_> = found.iter().filter(|finding| finding["level"] == "act").collect();
    let [one] = ill[..] else { panic!("{report}") };
    assert!(one["what"].as_str().unwrap().contains(&format!("no instance judges: the group {}.arbiter has no member", on.prefix)), "{one}");
    assert!(one["todo"].as_str().unwrap().contains("arbiter role"), "{one}");
    eventually("the proposal is counted", || {
        let metrics = engine.get("/metrics").text;
        (0..4).any(|p| metrics.contains(&format!("annals_proposals_waiting{{partition=\"{p}\"}} 1\n")))
    });
}

#[test]
fn a_cluster_that_is_away_is_told_and_hangs_nobody() {
    let (kafka, dir, prefix) = (Server::up("kafka"), directory(), services::prefix());
    let broker = kafka.address.as_str();
    let mut create = program();
    create.args(["topics", "create", "--kafka", broker, "--kafka-prefix", &prefix]);
    said(create.args(["--partitions", "2", "--replication-factor", "1", "--min-insync-replicas", "1"]));
    let mut serve = program();
    serve.args(["serve", "--kafka", broker, "--kafka-prefix", &prefix, "--listen", "127.0.0.1:0", "--data"]).arg(data_of(&dir));
    let engine = Engine::spawn(serve);
    register(&engine, "iris", 1);
    eventually("all is well", || engine.annals(&["doctor"]).status.success());
    kafka.kill();
    let mut report = String::new();
    eventually("doctor says that the cluster is away", || {
        let output = engine.annals(&["doctor"]);
        report = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.code() == Some(1) && report.contains("the Kafka cluster has not answered for")
    });
    assert!(report.contains("do not restart it for this"), "{report}");
    let silent = |engine: &Engine| {
        let metrics = engine.get("/metrics").text;
        metrics.lines().find_map(|line| line.strip_prefix("annals_cluster_silent_seconds ")?.parse::<f64>().ok()).unwrap()
    };
    // no scrape waits for a broker: if each did, not so many would be through
    let before = silent(&engine);
    (0..100).for_each(|_| assert!(silent(&engine) > 20.0));
    assert!(before > 20.0 && silent(&engine) - before < 60.0, "{before}");
    kafka.back();
    eventually("it goes on by itself", || silent(&engine) < 10.0 && engine.annals(&["doctor"]).status.success());
    register(&engine, "iris", 2);
}

#[test]
fn an_embedded_engine_exports_nothing_of_a_cluster() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let metrics = engine.get("/metrics").text;
    assert!(!metrics.contains("annals_cluster_") && !metrics.contains("annals_proposals_waiting"), "{metrics}");
    assert!(
        metrics.contains("\nannals_journal_size_bytes ") && metrics.contains("annals_verdicts_total{outcome=\"accepted\"} 1\n"),
        "{metrics}"
    );
    let count = metrics.lines().find_map(|line| line.strip_prefix("annals_commit_duration_seconds_count ")).unwrap();
    assert!(count.parse::<u64>().unwrap() >= 1, "{metrics}");
}

#[test]
fn the_alerts_fire_for_what_they_are_for_and_not_otherwise() {
    let promtool = tool("ANNALS_TEST_PROMTOOL");
    let amtool = tool("ANNALS_TEST_AMTOOL");
    for (tool, args) in [
        (&promtool, &["test", "rules", "alerts_test.yml", "models_test.yml"][..]),
        (&promtool, &["check", "config", "prometheus.yml"]),
        (&amtool, &["check-config", "alertmanager.yml"]),
    ] {
        let output = Command::new(tool).args(args).current_dir(operations("prometheus")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn every_alert_is_tested_and_explained_in_the_runbook() {
    let (rules, tests, runbook) = (text("prometheus/alerts.yml"), text("prometheus/alerts_test.yml"), text("runbook.md"));
    let headings: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts: BTreeSet<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        assert!(headings.contains(alert), "the runbook has no heading for {alert}");
        let anchor = format!("runbook: runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert} does not say where the runbook explains it");
        let (_, tested) =
            tests.split_once(&format!("alertname: {alert}\n        exp_alerts:\n")).unwrap_or_else(|| panic!("no test lets {alert} fire"));
        assert!(tested.trim_start().starts_with("- exp_labels"), "no test lets {alert} fire");
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts: []")),
            "no test shows that {alert} is silent when all is well"
        );
    }
    assert_eq!(rules.matches("summary:").count(), alerts.len());
    assert_eq!(rules.matches("severity:").count() - 1, alerts.len(), "once more in the opening comment");
}

#[test]
fn the_dashboard_can_be_loaded() {
    let dashboard: Value = serde_json::from_str(&text("grafana/dashboards/annals.json")).unwrap();
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&json!("annals"), &json!("Annals")));
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    let source = text("grafana/provisioning/datasources/prometheus.yml");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(!panel["description"].as_str().unwrap().is_empty() && !panel["targets"].as_array().unwrap().is_empty(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let uid = target["datasource"]["uid"].as_str().unwrap();
            assert!(source.contains(&format!("uid: {uid}\n")), "{title} asks a source that is not provisioned: {uid}");
        }
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{title} sticks out");
    }
    // what is asked by a recorded name must be recorded
    let rules = text("prometheus/alerts.yml");
    let asked = asked_for();
    let recorded: BTreeSet<_> =
        asked.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))).filter(|w| w.starts_with("annals:")).collect();
    for name in &recorded {
        assert!(rules.contains(&format!("- record: {name}\n")), "{name} is not recorded");
    }
    assert!(recorded.len() > 5, "{recorded:?}");
}
