//! Webhooks: whether endpoints that hang are noticed by those beside them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Engine};
use crate::{bench_dir, figure, quantile};

/// Endpoints that answer.
const GOOD: usize = 90;
/// Endpoints that take a request and never answer.
const HANGING: usize = 10;
/// Promotions of each round, each of a model of its own.
const EVENTS: usize = 60;
/// Pause between two promotions: 90 deliveries each must be possible on two cores.
const PAUSE: Duration = Duration::from_millis(200);

/// When which event came to which endpoint.
type Arrivals = Arc<Mutex<HashMap<(String, String), Instant>>>;

/// A server with an endpoint for each path, of which those under `/hang/` never answer.
fn endpoints(arrivals: Arrivals) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let arrivals = Arc::clone(&arrivals);
            thread::spawn(move || answer(stream, &arrivals));
        }
    });
    url
}

fn answer(stream: TcpStream, arrivals: &Arrivals) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let at = Instant::now();
    let message: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let key = (message["data"]["subject"].as_str()?.to_owned(), path.clone());
    arrivals.lock().unwrap().entry(key).or_insert(at);
    let mut stream = stream;
    if path.starts_with("/hang/") {
        let _ = stream.read(&mut [0; 1]); // until the engine hangs up
        return None;
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").ok()
}

/// Delays from the accept to the arrival at each endpoint that answers, sorted.
fn round(hanging: usize) -> Vec<Duration> {
    let dir = bench_dir("webhooks");
    let arrivals = Arrivals::default();
    let url = endpoints(Arc::clone(&arrivals));
    let engine = Engine::start_quietly(&dir, &["--webhook-allow", "127.0.0.0/8"]);
    engine.wait_for_views();
    let paths: Vec<String> = (0..GOOD).map(|n| format!("/good/{n}")).chain((0..hanging).map(|n| format!("/hang/{n}"))).collect();
    for (n, path) in paths.iter().enumerate() {
        let body = serde_json::json!({"url": format!("{url}{path}"), "when": {"type": ["promoted"]}}).to_string();
        let answer = ureq::put(format!("http://{}/v1/webhooks/w{n}", engine.address)).content_type("application/json").send(body).unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }
    let mut client = Client::connect(&engine.address, "webhooks");
    let artifact = format!(r#"{{"artifact":{{"uri":"file:///m","digest":"sha256:{:064x}","format":"joblib"}}}}"#, 1);
    for model in 0..EVENTS {
        assert_eq!(client.publish("version.registered", &format!("default/m{model}"), &artifact), 201);
    }
    let mut accepted = HashMap::new();
    for model in 0..EVENTS {
        let subject = format!("default/m{model}/1");
        assert_eq!(client.publish("version.promoted", &subject, r#"{"channel":"production","reason":"figures"}"#), 201);
        accepted.insert(subject, Instant::now());
        thread::sleep(PAUSE);
    }
    let wanted: Vec<(String, String)> =
        accepted.keys().flat_map(|subject| paths.iter().take(GOOD).map(move |path| (subject.clone(), path.clone()))).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !{
        let arrived = arrivals.lock().unwrap();
        wanted.iter().all(|key| arrived.contains_key(key))
    } {
        assert!(Instant::now() < deadline, "not every event came to every endpoint");
        thread::sleep(Duration::from_millis(20));
    }
    engine.kill();
    let arrived = arrivals.lock().unwrap();
    let mut delays: Vec<Duration> = wanted.iter().map(|key| arrived[key].saturating_duration_since(accepted[&key.0])).collect();
    delays.sort();
    let _ = std::fs::remove_dir_all(&dir);
    delays
}

pub fn run() {
    let (without, with) = (round(0), round(HANGING));
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, reference) = (quantile(&with, q), quantile(&without, q));
        let ratio = ours / reference;
        figure(
            &format!("promotion accepted → {GOOD} webhook endpoints have it, {name}, while {HANGING} others hang"),
            &format!("{:.1} ms", ours / 1e3),
            &format!("{:.1} ms without those", reference / 1e3),
            ratio,
            "≤ 1.2",
            ratio <= 1.2,
        );
    }
}
