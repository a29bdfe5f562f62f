//! With the real Prometheus and Alertmanager: what is measured is watched, and what is watched comes back as an event.

use serde_json::{Value, json};

use crate::services::{Server, said, script};
use crate::stage::{Engine, caught_up, data_of, eventually, fresh, register};
use crate::surface::promtool_is_content;
use crate::triggers::{events, of};

/// The ready-made file, with other addresses and less patience.
fn made(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no `{from}` in {text}");
        text.replace(from, to)
    })
}

/// Both, as `examples/operations/prometheus` sets them up.
fn monitors(engine: &Engine) -> (Server, Server) {
    let alertmanager = made(
        include_str!("../../examples/operations/prometheus/alertmanager.yml"),
        &[("http://annals:8400", &engine.url), ("group_wait: 5s", "group_wait: 1s"), ("group_interval: 30s", "group_interval: 1s")],
    );
    let alertmanager = Server::configured("alertmanager", &[("alertmanager.yml", &alertmanager)]);
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let prometheus = made(
        include_str!("../../examples/operations/prometheus/prometheus.yml"),
        &[
            ("annals:8400", &address(&engine.url)),
            ("alertmanager:9093", &address(&alertmanager.address)),
            ("scrape_interval: 5s", "scrape_interval: 1s"),
            ("evaluation_interval: 5s", "evaluation_interval: 1s"),
        ],
    );
    let models = made(include_str!("../../examples/operations/prometheus/models.yml"), &[("for: 5m", "for: 1s")]);
    let alerts = include_str!("../../examples/operations/prometheus/alerts.yml");
    let files = [("prometheus.yml", prometheus.as_str()), ("models.yml", &models), ("alerts.yml", alerts)];
    (Server::configured("prometheus", &files), alertmanager)
}

/// What Prometheus has for a series: labels and the value as text.
fn query(prometheus: &Server, series: &str) -> Vec<(Value, String)> {
    let found = ureq::get(format!("{}/api/v1/query", prometheus.address)).query("query", series).call();
    let found: Value = found.unwrap().body_mut().read_json().unwrap();
    let result = found["data"]["result"].as_array().unwrap();
    result.iter().map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().to_owned())).collect()
}

fn measure(engine: &Engine, subject: &str, metric: &str, value: f64) -> Value {
    engine.accept("model.measured", subject, json!({"metric": metric, "value": value}))
}

const RULE: &str = r#"{"propose":{"type":"retrain-requested","data":{"cause":{"kind":"drift","drift":"{drift}"}}}}"#;

#[test]
fn accuracy_falls_and_a_retraining_is_requested_and_when_it_is_back_the_drift_ends() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    said(crate::stage::program().env("ANNALS_URL", &engine.url).args(["trigger", "add", "retrain", "--type", "drifted", "--do", RULE]));
    let (prometheus, _alertmanager) = monitors(&engine);
    let gauge = |value: &str| {
        let found = query(&prometheus, "model_accuracy");
        found.len() == 1 && found[0].1 == value
    };
    measure(&engine, "default/iris/1", "accuracy", 0.97);
    eventually("Prometheus has what was measured", || gauge("0.97"));
    eventually("it is recorded once for all instances", || query(&prometheus, "annals:model_accuracy").len() == 1);
    let labels = query(&prometheus, "annals:model_accuracy").remove(0).0;
    let wanted =
        json!({"__name__": "annals:model_accuracy", "workspace": "default", "model": "iris", "version": "1", "channel": "production"});
    assert_eq!(labels, wanted);
    assert!(of(&events(&engine), "drift.detected").is_empty());

    measure(&engine, "default/iris/1", "accuracy", 0.82);
    eventually("Prometheus sees it fall", || gauge("0.82"));
    eventually("a retraining is requested", || of(&events(&engine), "retrain.requested").len() == 1);
    let all = events(&engine);
    let [drifted] = of(&all, "drift.detected")[..] else { panic!("{all:?}") };
    let data = &drifted["data"]["data"];
    assert_eq!((&drifted["source"], &drifted["subject"]), (&json!("/alertmanager"), &json!("default/iris/1")), "{drifted}");
    assert_eq!((&data["metric"], &data["observed"], &data["threshold"]), (&json!("accuracy"), &json!(0.82), &json!(0.9)), "{drifted}");
    assert_eq!((&data["kind"], &data["severity"]), (&json!("performance"), &json!("high")), "{drifted}");
    assert_eq!(data["reason"], "accuracy of iris version 1 in production is 0.82");
    assert!(data["source"]["uri"].as_str().unwrap().contains("/graph?g0.expr="), "{drifted}");
    let asked = of(&all, "retrain.requested")[0];
    assert_eq!((&asked["causationid"], &asked["data"]["data"]["cause"]["drift"]), (&drifted["id"], &data["drift"]), "{asked}");
    caught_up(&engine);
    assert_eq!(engine.get("/v1/models/iris").ok(200)["health"], "drifted");

    measure(&engine, "default/iris/1", "accuracy", 0.96);
    eventually("the drift ends", || of(&events(&engine), "drift.resolved").len() == 1);
    let all = events(&engine);
    assert_eq!(of(&all, "drift.resolved")[0]["data"]["decided"], json!({"drift": data["drift"], "version": 1}));
    assert_eq!((of(&all, "drift.detected").len(), of(&all, "retrain.requested").len()), (1, 1), "{all:?}");
    caught_up(&engine);
    assert_eq!(engine.get("/v1/models/iris").ok(200)["health"], "healthy");

    // the same alert, some time later, is another drift
    measure(&engine, "default/iris/1", "accuracy", 0.5);
    eventually("it drifts again", || of(&events(&engine), "drift.detected").len() == 2);
}

/// The lines of measured values, sorted.
fn gauges(engine: &Engine) -> Vec<String> {
    caught_up(engine);
    let metrics = engine.get("/metrics").text;
    promtool_is_content(&metrics);
    let mut lines: Vec<_> = metrics.lines().filter(|line| line.starts_with("model_")).map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

fn line(name: &str, model: &str, version: u64, channel: &str, value: &str) -> String {
    format!("{name}{{channel=\"{channel}\",model=\"{model}\",version=\"{version}\",workspace=\"default\"}} {value}")
}

#[test]
fn measured_values_of_versions_in_use_are_gauges_and_outlive_a_restart() {
    let (dir, engine) = fresh();
    for n in [1, 2] {
        register(&engine, "iris", n);
    }
    measure(&engine, "default/iris/1", "accuracy", 0.97);
    measure(&engine, "default/iris/1", "ROC AUC", 0.5);
    measure(&engine, "default/iris/2", "accuracy", 0.25);
    measure(&engine, "default/iris", "accuracy", 0.125);
    assert_eq!(gauges(&engine), [""; 0], "none of them is in use");
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "staging"}));
    let target = json!({"deployment": "d1", "target": {"platform": "local", "name": "scorer \"a\""}});
    engine.accept("deployment.requested", "default/iris/2", target);
    engine.accept("deployment.succeeded", "default/iris/2", json!({"deployment": "d1"}));
    let all = [
        line("model_accuracy", "iris", 2, "", "0.25"),
        line("model_accuracy", "iris", 1, "production", "0.97"),
        line("model_accuracy", "iris", 1, "staging", "0.97"),
        line("model_roc_auc", "iris", 1, "production", "0.5"),
        line("model_roc_auc", "iris", 1, "staging", "0.5"),
    ];
    assert_eq!(gauges(&engine), all);
    measure(&engine, "default/iris/1", "accuracy", 0.75);
    assert_eq!(gauges(&engine)[1], line("model_accuracy", "iris", 1, "production", "0.75"));
    engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));
    engine.accept("deployment.removed", "default/iris", json!({"deployment": "d1", "reason": "moved"}));
    let now = [
        line("model_accuracy", "iris", 2, "production", "0.25"),
        line("model_accuracy", "iris", 1, "staging", "0.75"),
        line("model_roc_auc", "iris", 1, "staging", "0.5"),
    ];
    assert_eq!(gauges(&engine), now);
    assert_eq!(engine.stop(), Some(0));
    let engine = Engine::start(&data_of(&dir));
    assert_eq!(gauges(&engine), now);
    assert_eq!(engine.annals(&["rebuild", "registry"]).status.code(), Some(0));
    assert_eq!(gauges(&engine), now);
}

#[test]
fn the_number_of_series_is_bounded_and_what_is_left_out_is_counted() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    for from in (0..1_010).step_by(101) {
        let one = |n: usize| crate::stage::event("model.measured", "default/iris/1", json!({"metric": format!("metric {n}"), "value": n}));
        let batch: Vec<_> = (from..from + 101).map(one).collect();
        let sent = json!(batch).to_string();
        let answer = engine.post("/v1/events", &[("content-type", "application/cloudevents-batch+json")], sent.as_bytes()).ok(200);
        assert!(answer["results"].as_array().unwrap().iter().all(|item| item["status"] == 201), "{answer}");
    }
    assert_eq!(gauges(&engine).len(), 1_000);
    assert!(engine.get("/metrics").text.contains("\nannals_model_series_left_out 10\n"));
    // none that Prometheus can have a name for, and one with the name of another
    measure(&engine, "default/iris/1", "точность", 0.5);
    measure(&engine, "default/iris/1", "METRIC 9", 0.5);
    let now = gauges(&engine);
    assert_eq!(now.len(), 1_000);
    assert!(now.contains(&line("model_metric_9", "iris", 1, "production", "0.5")), "the newest is exported");
    assert!(engine.get("/metrics").text.contains("\nannals_model_series_left_out 12\n"));
}

#[test]
fn a_monitor_that_was_killed_comes_back() {
    for name in ["prometheus", "alertmanager"] {
        let server = Server::up(name);
        let pid = server.pid();
        server.kill();
        assert!(ureq::get(format!("{}/-/ready", server.address)).call().is_err(), "it answers after kill -9");
        server.back();
        assert_ne!(server.pid(), pid);
        assert_eq!(ureq::get(format!("{}/-/ready", server.address)).call().unwrap().status().as_u16(), 200);
    }
    assert!(said(script("alertmanager").arg("amtool")).ends_with("amtool"));
}
