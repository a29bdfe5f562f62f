//! How long a promotion takes to reach those who asked for it, beside the accept itself; on Kafka beside a bare message.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::client::{Client, Engine};
use crate::{bench_dir, figure, quantile};

const PROMOTIONS: usize = 400;
const WARM_UP: usize = 20;
const MODELS: usize = 16;
/// When somebody had an event, one after the other.
type Seen = Receiver<Instant>;

/// The embedded engine: an SSE client and a webhook receiver, beside the accept.
pub fn run() {
    let dir = bench_dir("downstream");
    let engine = Engine::start_with(&dir.join("data"), &["--webhook-allow", "127.0.0.0/8"]);
    let hook = webhook(&engine);
    measure(&engine, &[("SSE client", sse(&engine.address)), ("webhook receiver", hook)], None);
    engine.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Promotes one version after the other, and waits until each listener has it. `bare` is what it is compared with, in place
/// of the accept.
pub fn measure(engine: &Engine, listeners: &[(&str, Seen)], bare: Option<(&str, &[Duration])>) {
    let mut client = Client::connect(&engine.address, "promoter");
    let digest = |n: usize| format!(r#"{{"artifact":{{"digest":"sha256:{n:064x}"}}}}"#);
    for model in 0..MODELS {
        for version in 0..2 {
            assert_eq!(client.publish("version.registered", &format!("default/model-{model}"), &digest(version)), 201);
        }
    }
    let (mut accepts, mut late) = (Vec::new(), vec![Vec::new(); listeners.len()]);
    for n in 0..WARM_UP + PROMOTIONS {
        let subject = format!("default/model-{}/{}", n % MODELS, n / MODELS % 2 + 1);
        let began = Instant::now();
        assert_eq!(client.publish("version.promoted", &subject, r#"{"channel":"production"}"#), 201);
        let accepted = began.elapsed();
        for ((name, seen), late) in listeners.iter().zip(&mut late) {
            let at = seen.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("the {name} did not get promotion {n}"));
            if n >= WARM_UP {
                late.push(at.saturating_duration_since(began));
            }
        }
        if n >= WARM_UP {
            accepts.push(accepted);
        }
    }
    accepts.sort_unstable();
    let (reference, times) = bare.unwrap_or(("the accept itself", &accepts));
    for ((name, _), mut late) in listeners.iter().zip(late) {
        late.sort_unstable();
        for (which, q) in [("p50", 0.5), ("p99", 0.99)] {
            let (ours, theirs) = (quantile(&late, q), quantile(times, q));
            let what = format!("promotion sent -> {name} has it, {which} / {reference}");
            figure(&what, &format!("{ours:.0} us"), &format!("{theirs:.0} us"), ours / theirs, "stated", true);
        }
    }
}

/// A subscriber of promotions, connected.
pub fn sse(address: &str) -> Seen {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /v1/events/stream?type=promoted HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    // the first message says that the stream is there
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("id:")), "the stream did not begin");
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(event) = line.strip_prefix("data:") {
                let at = Instant::now();
                if event.contains("version.promoted") && sender.send(at).is_err() {
                    return;
                }
            }
        }
    });
    seen
}

/// A webhook receiver that has subscribed to promotions.
pub fn webhook(engine: &Engine) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || deliveries(stream, &sender));
        }
    });
    let body = serde_json::json!({"url": url, "when": {"type": ["promoted"]}});
    let made = ureq::put(format!("http://{}/v1/webhooks/bench", engine.address)).send_json(body).unwrap();
    assert!(made.status().is_success(), "{made:?}");
    seen
}

/// Answers what comes on one connection.
fn deliveries(stream: TcpStream, sender: &Sender<Instant>) {
    let mut answers = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue; // the request line
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let at = Instant::now();
        answers.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        if sender.send(at).is_err() {
            return;
        }
    }
}
