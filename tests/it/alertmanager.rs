//! What Alertmanager sends becomes drifts and their ends: each alert once, and what cannot be is said clearly.

use std::slice::from_ref;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::services::Server;
use crate::stage::{Engine, caught_up, data_of, directory, eventually, fresh, program, register};
use crate::surface::promtool_is_content;
use crate::triggers::{events, of};

const STARTED: &str = "2026-03-01T12:00:00.5Z";

/// An alert on a model, as Alertmanager sends it; `n` makes it another one.
fn alert(model: &str, status: &str, n: usize) -> Value {
    json!({"status": status, "labels": {"alertname": "ModelAccuracyLow", "model": model, "metric": "accuracy", "severity": "high", "n": n.to_string()},
        "annotations": {"value": "0.82", "threshold": "0.9", "summary": "accuracy is 0.82"}, "startsAt": STARTED, "endsAt": "2026-03-01T12:10:00Z",
        "generatorURL": "http://prometheus:9090/graph", "fingerprint": format!("{n:016x}")})
}

fn notice(alerts: &[Value]) -> Value {
    json!({"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "annals", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "alerts": alerts})
}

#[track_caller]
fn results(engine: &Engine, notice: &Value) -> Vec<Value> {
    engine.notify(notice).ok(200)["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|item| item["status"].as_u64().unwrap()).collect()
}

fn metric(engine: &Engine, line: &str) -> u64 {
    let metrics = engine.get("/metrics").text;
    metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok()).unwrap_or_else(|| panic!("no {line} in {metrics}"))
}

#[test]
fn an_alert_is_one_drift_however_often_it_comes() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let mut firing = alert("iris", "firing", 1);
    firing["labels"]["version"] = "1".into();
    let first = results(&engine, &notice(from_ref(&firing)));
    assert_eq!(
        (&first[0]["status"], &first[0]["outcome"], &first[0]["version"]),
        (&json!(201), &json!("accepted"), &json!(1)),
        "{first:?}"
    );
    assert_eq!(results(&engine, &notice(from_ref(&firing)))[0]["position"], first[0]["position"], "the same again");
    // Prometheus evaluates the annotations each time, and the fingerprint is of the labels alone
    firing["annotations"]["value"] = "0.79".into();
    for _ in 0..2 {
        let again = results(&engine, &notice(from_ref(&firing)));
        assert_eq!((&again[0]["status"], &again[0]["outcome"]), (&json!(200), &json!("duplicate")), "{again:?}");
    }
    caught_up(&engine);
    let drifts = engine.get("/v1/models/iris/drifts").ok(200)["items"].clone();
    assert_eq!(
        (drifts.as_array().unwrap().len(), &drifts[0]["observed"], &drifts[0]["severity"]),
        (1, &json!(0.82), &json!("high")),
        "{drifts}"
    );
    assert_eq!(engine.get("/v1/models/iris").ok(200)["health"], "drifted");

    firing["status"] = "resolved".into();
    assert_eq!(statuses(&results(&engine, &notice(from_ref(&firing)))), [201]);
    firing["annotations"]["value"] = "0.95".into();
    assert_eq!(statuses(&results(&engine, &notice(from_ref(&firing)))), [200]);
    // the same alert, begun anew
    firing["status"] = "firing".into();
    firing["startsAt"] = "2026-03-02T12:00:00Z".into();
    assert_eq!(statuses(&results(&engine, &notice(&[firing]))), [201]);
    let all = events(&engine);
    assert_eq!((of(&all, "drift.detected").len(), of(&all, "drift.resolved").len()), (2, 1), "{all:?}");
    for (outcome, count) in [("accepted", 3), ("duplicate", 4), ("refused", 0), ("unreadable", 0), ("pending", 0)] {
        assert_eq!(metric(&engine, &format!("annals_alerts_total{{outcome=\"{outcome}\"}}")), count, "{outcome}");
    }
}

#[test]
fn each_alert_of_a_notice_has_an_outcome_of_its_own() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let mut strange = alert("", "firing", 5);
    strange["labels"].as_object_mut().unwrap().remove("model");
    let mut wordy = alert("iris", "firing", 6);
    wordy["annotations"]["value"] = "rather low".into();
    let mut later = alert("iris", "firing", 7);
    later["labels"]["version"] = "9".into();
    let sent = [
        alert("iris", "firing", 1),
        alert("rose", "firing", 2),
        alert("iris", "resolved", 3),
        alert("iris", "firing", 4),
        strange,
        wordy,
        later,
    ];
    let found = results(&engine, &notice(&sent));
    assert_eq!(statuses(&found), [201, 404, 409, 201, 400, 400, 404], "{found:?}");
    let code = |n: usize| found[n]["problem"]["code"].as_str().unwrap().to_owned();
    let codes = [1, 2, 4, 5, 6].map(code);
    assert_eq!(codes, ["unknown-model", "illegal-transition", "malformed", "malformed", "unknown-version"]);
    assert!(
        found.iter().filter_map(|item| item.get("problem")).all(|problem| problem["remedy"].as_str().is_some_and(|text| !text.is_empty()))
    );

    // what was judged has a verdict, which outlives the notice
    for (n, ending, code) in [(2, "firing", "unknown-model"), (3, "resolved", "illegal-transition")] {
        let asked = format!("/v1/proposals/{n:016x}-2026-03-01T12:00:00.500Z-{ending}?source=/alertmanager");
        eventually("the verdict can be asked for", || engine.get(&asked).status == 200);
        let verdict = engine.get(&asked).ok(200);
        assert_eq!((&verdict["state"], &verdict["problem"]["code"]), (&json!("refused"), &json!(code)), "{verdict}");
    }
    assert_eq!(of(&events(&engine), "drift.detected").len(), 2);
    assert_eq!(metric(&engine, "annals_alerts_total{outcome=\"refused\"}"), 3);
    assert_eq!(metric(&engine, "annals_alerts_total{outcome=\"unreadable\"}"), 2);
    assert!(engine.said().contains("5 of 7 alerts were refused, the first one: "), "{}", engine.said());

    // once the model is there, the alert that comes again is an event
    register(&engine, "rose", 1);
    assert_eq!(statuses(&results(&engine, &notice(&[alert("rose", "firing", 2)]))), [201]);
    // of another workspace, as the label says or the address
    let told = engine.post("/v1/hooks/alertmanager?workspace=other", &[], notice(&[alert("iris", "firing", 8)]).to_string().as_bytes());
    assert_eq!(told.ok(200)["results"][0]["problem"]["code"], "unknown-model");
}

#[test]
fn alerts_that_were_left_out_are_counted_and_noted_on_those_that_came() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let mut cut = notice(&[alert("iris", "firing", 1)]);
    cut["truncatedAlerts"] = 12.into();
    let told = engine.notify(&cut).ok(200);
    assert_eq!((&told["truncated_alerts"], &told["results"][0]["outcome"]), (&json!(12), &json!("accepted")), "{told}");
    assert_eq!(metric(&engine, "annals_alerts_truncated_total"), 12);
    let all = events(&engine);
    assert_eq!(of(&all, "drift.detected")[0]["data"]["data"]["labels"]["truncated_alerts"], "12");
    assert!(engine.said().contains("left 12 alerts out"), "{}", engine.said());
    // all of them, now: the same drift, and nothing is in conflict
    assert_eq!(statuses(&results(&engine, &notice(&[alert("iris", "firing", 1), alert("iris", "firing", 2)]))), [200, 201]);
}

#[test]
fn what_alertmanager_does_not_send_is_not_guessed_at() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let mut other = notice(&[alert("iris", "firing", 1)]);
    other["version"] = "5".into();
    let problem = engine.notify(&other).problem(422, "unsupported-version");
    assert!(problem["detail"].as_str().unwrap().contains("version \"5\""), "{problem}");
    other["version"] = 4.into();
    engine.notify(&other).problem(422, "unsupported-version");
    other.as_object_mut().unwrap().remove("version");
    engine.notify(&other).problem(400, "malformed");
    for body in [&b"not json"[..], b"[]", b"{}", b"", br#"{"version":"4"}"#, br#"{"version":"4","alerts":{}}"#, b"\xff"] {
        engine.post("/v1/hooks/alertmanager", &[], body).problem(400, "malformed");
    }
    assert_eq!(engine.get("/v1/hooks/alertmanager").status, 405);
    assert!(engine.said().contains("a notice to /v1/hooks/alertmanager was not read"), "{}", engine.said());
    assert!(of(&events(&engine), "drift.detected").is_empty());
    assert!(results(&engine, &notice(&[])).is_empty(), "a notice of nothing says nothing");
    promtool_is_content(&engine.get("/metrics").text);
}

#[test]
fn a_notice_that_nobody_has_judged_is_to_be_sent_again() {
    let on = Cluster::fresh();
    let serve = |name: &str, roles: &str| {
        let mut command = on.command(name);
        command.args(["--roles", roles]);
        Engine::spawn(command)
    };
    let judging = serve("a", "door,arbiter,projector,publisher");
    register(&judging, "iris", 1);
    assert_eq!(judging.stop(), Some(0));
    let engine = serve("b", "door,projector");
    let sent = notice(&[alert("iris", "firing", 1)]);
    let problem = engine.notify(&sent).problem(503, "not-settled");
    assert!(problem["detail"].as_str().unwrap().contains("1 of 1 alerts"), "{problem}");
    assert_eq!(metric(&engine, "annals_alerts_total{outcome=\"pending\"}"), 1);
    let _judging = serve("c", "arbiter");
    eventually("it is settled", || engine.notify(&sent).status == 200);
    assert_eq!(of(&events(&engine), "drift.detected").len(), 1, "sent several times, and an event once");
}

/// Tells the real Alertmanager what Prometheus would: alerts that began now, or have ended.
fn tell(alertmanager: &Server, alerts: &[Value]) {
    let sent = ureq::post(format!("{}/api/v2/alerts", alertmanager.address)).content_type("application/json");
    assert_eq!(sent.send(json!(alerts).to_string()).unwrap().status().as_u16(), 200);
}

/// With groups as small as the ready-made ones, and less patience.
fn alertmanager(engine: &Engine) -> Server {
    let text = include_str!("../../examples/operations/prometheus/alertmanager.yml");
    let mut text = text.replace("http://annals:8400", &engine.url);
    for (from, to) in [("group_wait: 5s", "group_wait: 1s"), ("group_interval: 30s", "group_interval: 1s")] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    assert!(text.contains(&engine.url));
    Server::configured("alertmanager", &[("alertmanager.yml", &text)])
}

#[test]
fn a_storm_of_alerts_through_the_real_alertmanager_is_all_settled_once() {
    const ALERTS: usize = 1_000;
    const MODELS: usize = 20;
    let (_dir, engine) = fresh();
    (0..MODELS).for_each(|n| drop(register(&engine, &format!("m{n}"), 1)));
    let alertmanager = alertmanager(&engine);
    let alert = |n: usize| json!({"labels": {"alertname": "Low", "model": format!("m{}", n % MODELS), "n": n.to_string()}, "annotations": {"value": "0.5"}});
    let firing: Vec<_> = (0..ALERTS).map(alert).collect();
    tell(&alertmanager, &firing);
    tell(&alertmanager, &firing);
    eventually("all of them are events", || metric(&engine, "annals_alerts_total{outcome=\"accepted\"}") >= ALERTS as u64);
    let began = beginnings(&alertmanager);
    let ended = firing.into_iter().map(|mut alert| {
        let began = &began[alert["labels"]["n"].as_str().unwrap()];
        (alert["startsAt"], alert["endsAt"]) = (began.clone(), began.clone());
        alert
    });
    tell(&alertmanager, &ended.collect::<Vec<_>>());
    eventually("all have ended", || metric(&engine, "annals_alerts_total{outcome=\"accepted\"}") >= 2 * ALERTS as u64);
    let all = events(&engine);
    assert_eq!((of(&all, "drift.detected").len(), of(&all, "drift.resolved").len()), (ALERTS, ALERTS));
    for outcome in ["refused", "unreadable"] {
        assert_eq!(metric(&engine, &format!("annals_alerts_total{{outcome=\"{outcome}\"}}")), 0, "{outcome}");
    }
    caught_up(&engine);
    assert_eq!(engine.get("/v1/models/m0").ok(200)["health"], "healthy");
}

/// When each alert began, by its label `n`.
fn beginnings(alertmanager: &Server) -> serde_json::Map<String, Value> {
    let mut found = ureq::get(format!("{}/api/v2/alerts", alertmanager.address)).call().unwrap();
    let alerts: Vec<Value> = found.body_mut().read_json().unwrap();
    alerts.into_iter().map(|alert| (alert["labels"]["n"].as_str().unwrap().to_owned(), alert["startsAt"].clone())).collect()
}

#[test]
fn what_fires_while_the_engine_is_away_is_told_when_it_is_back() {
    let dir = directory();
    let serve = |listen: &str| {
        let mut command = program();
        command.args(["serve", "--listen", listen, "--data"]).arg(data_of(&dir));
        Engine::spawn(command)
    };
    let engine = serve("127.0.0.1:0");
    register(&engine, "iris", 1);
    let (alertmanager, listen) = (alertmanager(&engine), engine.url.trim_start_matches("http://").to_owned());
    engine.kill();
    tell(&alertmanager, &[json!({"labels": {"alertname": "Low", "model": "iris"}, "annotations": {"value": "0.5"}})]);
    let failed = || {
        let metrics = ureq::get(format!("{}/metrics", alertmanager.address)).call().unwrap().body_mut().read_to_string().unwrap();
        let mut lines =
            metrics.lines().filter(|line| line.starts_with("alertmanager_notification_requests_failed_total{integration=\"webhook\""));
        lines.any(|line| !line.ends_with(" 0"))
    };
    eventually("Alertmanager could not tell it", failed);
    let engine = serve(&listen);
    eventually("it is told", || of(&events(&engine), "drift.detected").len() == 1);
}
