//! The first subscription: server-sent events that can be resumed.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::stage::{DEADLINE, Engine, fresh, register};

/// An open stream.
struct Stream {
    lines: Box<dyn BufRead + Send>,
}

struct Message {
    id: String,
    event: String,
    data: Value,
}

impl Stream {
    fn open(engine: &Engine, query: &str, last: Option<&str>) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_recv_body(Some(DEADLINE)).build().into();
        let mut request = agent.get(format!("{}/v1/events/stream{query}", engine.url));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { lines: Box::new(BufReader::new(response.into_body().into_reader())) }
    }

    fn next(&mut self) -> Message {
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
