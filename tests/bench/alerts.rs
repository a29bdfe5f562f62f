//! A storm of alerts: whether all are settled once, and how long Alertmanager waits for an answer, beside plain proposals.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::client::{Client, Engine};
use crate::{bench_dir, figure, quantile};

/// Alerts of a storm, each of a model of its own.
const ALERTS: usize = 1_000;
/// Connections at once: Alertmanager tells each group of alerts by itself.
const CLIENTS: usize = 32;

/// A notice of these alerts, as Alertmanager sends it.
fn notice(alerts: impl Iterator<Item = usize>) -> String {
    let mut body = String::from(
        r#"{"version":"4","groupKey":"{}:{}","truncatedAlerts":0,"status":"firing","receiver":"annals","groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":["#,
    );
    for (n, alert) in alerts.enumerate() {
        let comma = if n > 0 { "," } else { "" };
        write!(
            body,
            r#"{comma}{{"status":"firing","labels":{{"alertname":"ModelAccuracyLow","model":"m{alert}","channel":"production","metric":"accuracy","severity":"high"}},"annotations":{{"value":"0.82","threshold":"0.9","summary":"accuracy of m{alert} in production is 0.82"}},"startsAt":"2026-03-01T12:00:00.5Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph?g0.expr=model_accuracy","fingerprint":"{alert:016x}"}}"#
        )
        .unwrap();
    }
    body + "]}"
}

/// An engine with the models.
fn engine(dir: &std::path::Path) -> Engine {
    let engine = Engine::start_quietly(dir, &[]);
    let mut client = Client::connect(&engine.address, "models");
    for from in (0..ALERTS).step_by(100) {
        assert_eq!(client.create_batch((from..from + 100).map(|n| format!("default/m{n}"))), 200);
    }
    engine.wait_for_views();
    engine
}

/// Sends one thing for each model from all clients at once: the sorted times to the answers, and how long all took.
fn storm(engine: &Engine, name: &str, send: impl Fn(&mut Client, usize) + Sync) -> (Vec<Duration>, Duration) {
    let began = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let client = |first: usize| {
            let (send, mut client) = (&send, Client::connect(&engine.address, &format!("{name}-{first}")));
            scope.spawn(move || {
                let timed = |n| {
                    let sent = Instant::now();
                    send(&mut client, n);
                    sent.elapsed()
                };
                (first..ALERTS).step_by(CLIENTS).map(timed).collect::<Vec<_>>()
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    times.sort_unstable();
    (times, began.elapsed())
}

fn drifts(engine: &Engine) -> usize {
    let replay = ureq::get(format!("http://{}/v1/events?type=drifted", engine.address)).call().unwrap();
    replay.into_body().read_to_string().unwrap().lines().count()
}

/// One alert by itself; it must be answered as settled.
fn tell(client: &mut Client, n: usize, outcome: &str) {
    let (status, body) = client.notify(&notice(std::iter::once(n)));
    let body = String::from_utf8(body).unwrap();
    assert!(status == 200 && body.contains(&format!(r#""outcome":"{outcome}""#)), "{status} {body}");
}

pub fn run() {
    let dirs = ["alerts", "alerts-reference", "alerts-one"].map(bench_dir);
    let (told, plain, whole) = (engine(&dirs[0]), engine(&dirs[1]), engine(&dirs[2]));
    let (ours, took) = storm(&told, "alerts", |client, n| tell(client, n, "accepted"));
    let settled = drifts(&told);
    let (again, took_again) = storm(&told, "alerts-again", |client, n| tell(client, n, "duplicate"));
    let once = settled == ALERTS && drifts(&told) == ALERTS;
    let (reference, _) = storm(&plain, "plain", |client, n| {
        let data =
            format!(r#"{{"drift":"d{n}","kind":"performance","metric":"accuracy","observed":0.82,"threshold":0.9,"severity":"high"}}"#);
        assert_eq!(client.publish("drift.detected", &format!("default/m{n}"), &data), 201);
    });
    for (what, times, took) in [("each settled", &ours, took), ("all of them again, each a duplicate", &again, took_again)] {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            let (ours, theirs) = (quantile(times, q), quantile(&reference, q));
            figure(
                &format!("{ALERTS} alerts in a storm, a notice each, {CLIENTS} at once, {what}, {name} / as plain proposals"),
                &format!("{:.1} ms (all in {:.2} s)", ours / 1e3, took.as_secs_f64()),
                &format!("{:.1} ms", theirs / 1e3),
                ours / theirs,
                "each an event, once",
                once,
            );
        }
    }
    let began = Instant::now();
    let (status, _) = Client::connect(&whole.address, "one").notify(&notice(0..ALERTS));
    let took = began.elapsed().as_secs_f64() * 1e3;
    let (each, settled) = (quantile(&reference, 0.5) * ALERTS as f64 / CLIENTS as f64 / 1e3, status == 200 && drifts(&whole) == ALERTS);
    figure(
        &format!("{ALERTS} alerts in one notice / as plain proposals, {CLIENTS} at once"),
        &format!("{took:.0} ms"),
        &format!("{each:.0} ms"),
        took / each,
        "each an event, once",
        settled,
    );
    [told, plain, whole].into_iter().for_each(Engine::stop);
    dirs.iter().for_each(|dir| drop(std::fs::remove_dir_all(dir)));
}
