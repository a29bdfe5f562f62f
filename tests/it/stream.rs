//! Subscriptions: server-sent events and lines of JSON, filtered, resumed, with signs of life.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{DEADLINE, Engine, digest, eventually, fresh, register};

/// An open stream.
pub struct Stream {
    lines: Box<dyn BufRead + Send>,
}

/// What an SSE client gets of one.
pub struct Message {
    pub id: String,
    pub event: String,
    pub data: Value,
}

impl Stream {
    pub fn open(engine: &Engine, query: &str, last: Option<&str>) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_recv_body(Some(DEADLINE)).build().into();
        let mut request = agent.get(format!("{}/v1/events/stream{query}", engine.url));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { lines: Box::new(BufReader::new(response.into_body().into_reader())) }
    }

    pub fn next(&mut self) -> Message {
        let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream ended");
            match line.trim_end().split_once(':') {
                Some(("id", value)) => id = value.trim().into(),
                Some(("event", value)) => event = value.trim().into(),
                Some(("data", value)) => data.push_str(value.trim()),
                Some(_) => {}
                None if data.is_empty() => {}
                None => return Message { id, event, data: serde_json::from_str(&data).unwrap() },
            }
        }
    }
}

#[test]
fn a_subscriber_gets_each_event_once_and_goes_on_where_it_was_cut_off() {
    let (_dir, engine) = fresh();
    let mut stream = Stream::open(&engine, "?from=beginning&type=registered", None);
    (1..=3).for_each(|n| drop(register(&engine, "iris", n)));
    let first = stream.next();
    assert_eq!(first.event, "dev.annals.version.registered.v1");
    assert_eq!(first.data["subject"], "default/iris/1");
    assert_eq!(first.data["data"]["decided"]["version"], 1);
    let second = stream.next();
    drop(stream);
    register(&engine, "iris", 4);
    let mut resumed = Stream::open(&engine, "?type=registered", Some(&second.id));
    let subjects: Vec<_> = (0..2).map(|_| resumed.next().data["subject"].clone()).collect();
    assert_eq!(subjects, ["default/iris/3", "default/iris/4"]);
}

#[test]
fn filters_choose_by_model_and_channel() {
    let (_dir, engine) = fresh();
    for model in ["iris", "wine"] {
        register(&engine, model, 1);
    }
    let mut stream = Stream::open(&engine, "?from=beginning&type=promoted&model=ir*&channel=production", None);
    engine.accept("version.promoted", "default/wine/1", json!({"channel": "production"}));
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "staging"}));
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production"}));
    let message = stream.next();
    assert_eq!((&message.data["subject"], &message.data["data"]["decided"]["channel"]), (&json!("default/iris/1"), &json!("production")));
}

#[test]
fn a_cursor_that_cannot_be_is_refused_with_the_remedy() {
    let (_dir, engine) = fresh();
    let (_other_dir, other) = fresh();
    register(&other, "iris", 1);
    let foreign = Stream::open(&other, "?from=beginning&type=registered", None).next().id;
    let gone = engine.get_with("/v1/events/stream", &[("last-event-id", &foreign)]);
    assert_eq!(gone.status, 410, "{}", gone.text);
    assert!(gone.json()["remedy"].as_str().unwrap().contains("from=beginning"), "{}", gone.text);
    assert_eq!(engine.get_with("/v1/events/stream", &[("last-event-id", "nonsense")]).status, 400);
}

#[test]
fn a_subscriber_from_now_hears_only_what_comes() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let mut stream = Stream::open(&engine, "", None);
    register(&engine, "iris", 2);
    assert_eq!(stream.next().data["subject"], "default/iris/2");
}

/// Lines as they come, the empty ones too.
fn lines_of(engine: &Engine, query: &str) -> (String, impl Iterator<Item = String>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_recv_body(Some(DEADLINE)).build().into();
    let request = agent.get(format!("{}/v1/events/stream{query}", engine.url)).header("accept", "application/x-ndjson");
    let response = request.call().unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let cursor = response.headers()["annals-cursor"].to_str().unwrap().to_owned();
    (cursor, BufReader::new(response.into_body().into_reader()).lines().map(Result::unwrap))
}

#[test]
fn a_stream_of_lines_has_the_same_events_each_with_its_cursor() {
    let (_dir, engine) = fresh();
    let (begin, lines) = lines_of(&engine, "?from=beginning&type=registered&model=ir*");
    register(&engine, "wine", 1);
    (1..=3).for_each(|n| drop(register(&engine, "iris", n)));
    let events: Vec<Value> = lines.filter(|line| !line.is_empty()).take(3).map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert_eq!(
        events.iter().map(|e| e["subject"].as_str().unwrap()).collect::<Vec<_>>(),
        ["default/iris/1", "default/iris/2", "default/iris/3"]
    );
    // but for the cursor, a line is the message's data
    let mut stream = Stream::open(&engine, "?from=beginning&type=registered&model=iris", None);
    for event in &events {
        let message = stream.next();
        assert_eq!(message.id, event["cursor"].as_str().unwrap());
        let mut without = event.clone();
        without.as_object_mut().unwrap().remove("cursor");
        assert_eq!(without, message.data);
    }
    // either form goes on where the other was
    let after = format!("?type=registered&after={}", events[1]["cursor"].as_str().unwrap());
    let (_, mut lines) = lines_of(&engine, &after);
    let next = lines.find(|line| !line.is_empty()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&next).unwrap()["subject"], "default/iris/3");
    assert_eq!(Stream::open(&engine, "?type=registered&model=iris", Some(&begin)).next().data["subject"], "default/iris/1");
}

#[test]
fn a_silent_stream_shows_that_it_lives_and_how_far_it_is() {
    let (_dir, engine) = fresh();
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_recv_body(Some(DEADLINE)).build().into();
    let response = agent.get(format!("{}/v1/events/stream?type=promoted", engine.url)).call().unwrap();
    let begin = response.headers()["annals-cursor"].to_str().unwrap().to_owned();
    let (_, mut empty) = lines_of(&engine, "?type=promoted");
    assert_eq!(empty.next().as_deref(), Some(""), "the first one comes at once");
    register(&engine, "iris", 1); // not what was asked for, but the cursor moves
    let begun = Instant::now();
    let mut lines = BufReader::new(response.into_body().into_reader()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == ": heartbeat"));
    let told = lines.next().unwrap();
    let cursor = told.strip_prefix("id: ").unwrap_or_else(|| panic!("{told}"));
    assert_ne!(cursor, begin);
    assert_eq!(empty.next().as_deref(), Some(""));
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    // whoever goes on from there misses nothing, and gets nothing again
    let mut resumed = Stream::open(&engine, "", Some(cursor));
    register(&engine, "iris", 2);
    assert_eq!(resumed.next().data["subject"], "default/iris/2");
}

#[test]
fn a_reader_that_takes_nothing_is_disconnected() {
    let (_dir, engine) = fresh();
    let mut socket = TcpStream::connect(engine.url.strip_prefix("http://").unwrap()).unwrap();
    socket.write_all(b"GET /v1/events/stream HTTP/1.1\r\nhost: it\r\n\r\n").unwrap();
    let subscribers = |n: usize| engine.get("/metrics").text.lines().any(|line| line == format!("annals_subscribers {n}"));
    eventually("it is a subscriber", || subscribers(1));
    // more than the kernel keeps for both ends
    let text = "x".repeat(200 * 1024);
    for n in 0..100 {
        let run = json!({"system": "local", "id": format!("r{n}"), "uri": "file:///runs"});
        let trained = json!({"run": run, "code": {"repository": "file:///code", "commit": "abc123", "dirty": false}, "params": {"notes": text},
            "data": [{"name": "iris", "digest": digest(9), "rows": 150, "role": "training"}],
            "metrics": [{"name": "accuracy", "value": 0.97, "split": "test"}],
            "artifact": {"uri": "file:///model.pkl", "digest": digest(n), "size": 1024, "format": "joblib"}});
        engine.accept("run.trained", &format!("default/m{n}"), trained);
    }
    assert!(subscribers(1), "it was cut off at once");
    eventually("it is cut off", || subscribers(0));
    drop(socket);
    let mut other = Stream::open(&engine, "?from=beginning&type=trained", None);
    assert_eq!(other.next().data["subject"], "default/m0", "others go on");
}

#[test]
fn a_filter_that_nothing_can_match_is_refused() {
    let (_dir, engine) = fresh();
    for (query, code) in [
        ("type=painted", "unknown-type"),
        ("channel=kitchen", "unknown-channel"),
        ("model=a/b", "bad-pattern"),
        ("workspace=a:*", "bad-pattern"),
        ("model=%0a", "bad-pattern"),
        ("from=yesterday", "bad-query"),
        ("after=nonsense", "bad-cursor"),
    ] {
        engine.get(&format!("/v1/events/stream?{query}")).problem(400, code);
    }
}
