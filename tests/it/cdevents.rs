//! The bridge to tools of continuous delivery: what was released and deployed, as the CDEvents project's own SDK reads it.

use cdevents_sdk::CDEvent;
use serde_json::{Value, json};

use crate::stage::{Engine, digest, fresh, register};
use crate::stream::Stream;

pub const FORMAT: &str = "format=cdevents";

fn wanted(id: &str, name: &str) -> Value {
    json!({"deployment": id, "target": {"platform": "kubernetes", "cluster": "kind", "namespace": "ml", "name": name}})
}

/// Two versions through a life with every event that has a counterpart, and some that have none.
pub fn live(engine: &Engine) {
    register(engine, "iris", 1);
    register(engine, "iris", 2);
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production", "reason": "first"}));
    engine.accept("deployment.requested", "default/iris/1", wanted("d1", "iris"));
    engine.accept("deployment.succeeded", "default/iris", json!({"deployment": "d1"}));
    engine.accept("deployment.requested", "default/iris/2", wanted("d2", "iris"));
    engine.accept("deployment.succeeded", "default/iris", json!({"deployment": "d2"}));
    engine.accept("deployment.rolled_back", "default/iris", json!({"deployment": "d2", "reason": "slow"}));
    engine.accept("deployment.removed", "default/iris", json!({"deployment": "d1", "reason": "over"}));
    engine.accept("deployment.requested", "default/iris/2", wanted("d3", "other"));
    engine.accept("deployment.failed", "default/iris", json!({"deployment": "d3", "error": "no such image"}));
    engine.accept("deployment.rolled_back", "default/iris", json!({"deployment": "d3", "reason": "never came up"}));
}

/// What the life is in the words of CDEvents: predicate, subject, version of the artifact.
const TOLD: [(&str, &str, Option<u64>); 6] = [
    ("artifact.published", "", Some(1)),
    ("service.deployed", "kubernetes/kind/ml/iris", Some(1)),
    ("service.upgraded", "kubernetes/kind/ml/iris", Some(2)),
    ("service.rolledback", "kubernetes/kind/ml/iris", Some(1)),
    ("service.removed", "kubernetes/kind/ml/iris", None),
    ("service.removed", "kubernetes/kind/ml/other", None),
];

pub fn replayed(engine: &Engine, query: &str) -> Vec<Value> {
    let answer = engine.get(&format!("/v1/events?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the binding to CloudEvents demands, and what the SDK makes of the event.
#[track_caller]
pub fn read(event: &Value) -> CDEvent {
    let data = &event["data"];
    let context = &data["context"];
    assert_eq!(event["specversion"], "1.0");
    for (theirs, ours) in [("id", "id"), ("source", "source"), ("type", "type"), ("time", "timestamp")] {
        assert_eq!(event[theirs], context[ours], "{theirs} of {event}");
    }
    assert_eq!((&event["subject"], &event["datacontenttype"]), (&data["subject"]["id"], &json!("application/json")));
    let read: CDEvent = serde_json::from_value(data.clone()).unwrap_or_else(|e| panic!("the SDK refuses it: {e}: {data}"));
    let mut again = serde_json::to_value(&read).unwrap();
    again["context"]["timestamp"] = context["timestamp"].clone(); // it writes the same time otherwise
    assert_eq!(again, *data, "the SDK has read all of it");
    read
}

fn artifact(version: u64) -> String {
    format!("pkg:generic/default/iris@{version}?checksum={}", digest(version))
}

#[test]
fn releases_and_deployments_are_cdevents_as_their_sdk_reads_them() {
    let (_dir, engine) = fresh();
    live(&engine);
    let events = replayed(&engine, FORMAT);
    assert_eq!(events.len(), TOLD.len(), "{events:#?}");
    for (event, (predicate, service, version)) in events.iter().zip(TOLD) {
        let told = read(event);
        assert_eq!((told.version(), told.source().as_str()), ("0.5.1", "/annals/default"));
        assert!(told.ty().starts_with(&format!("dev.cdevents.{predicate}.")), "{} is no {predicate}", told.ty());
        let content = &event["data"]["subject"]["content"];
        let (subject, named) = if predicate == "artifact.published" {
            (artifact(1), &event["subject"])
        } else {
            assert_eq!(content["environment"]["id"], "kubernetes/kind/ml");
            (service.to_owned(), &content["artifactId"])
        };
        assert_eq!(event["subject"], *subject, "{event}");
        assert_eq!(named.as_str(), version.map(artifact).as_deref(), "{event}");
    }
    let ours = replayed(&engine, "type=promoted");
    let custom = &events[0]["data"]["customData"]["annals"];
    assert_eq!((&custom["id"], &custom["channel"], &custom["reason"]), (&ours[0]["id"], &json!("production"), &json!("first")));
    assert_eq!(events[0]["id"], ours[0]["hash"]);
    assert_eq!(replayed(&engine, FORMAT), events, "told twice in the same words");
}

#[test]
fn a_stream_of_cdevents_goes_on_where_it_was_cut_off() {
    let (_dir, engine) = fresh();
    live(&engine);
    let all = replayed(&engine, FORMAT);
    let mut stream = Stream::open(&engine, &format!("?from=beginning&{FORMAT}"), None);
    let first = [stream.next(), stream.next()];
    for (message, event) in first.iter().zip(&all) {
        assert_eq!((&message.data, message.event.as_str()), (event, event["type"].as_str().unwrap()));
    }
    drop(stream);
    let mut stream = Stream::open(&engine, &format!("?{FORMAT}"), Some(&first[1].id));
    for event in &all[2..] {
        assert_eq!(stream.next().data, *event);
    }
    // and what happens from then on
    engine.accept("version.promoted", "default/iris/2", json!({"channel": "production"}));
    let next = stream.next();
    read(&next.data);
    assert_eq!(next.data["subject"], artifact(2));
}

#[test]
fn what_has_no_word_in_cdevents_is_refused_and_not_waited_for() {
    let (_dir, engine) = fresh();
    live(&engine);
    for path in ["/v1/events", "/v1/events/stream"] {
        let problem = engine.get(&format!("{path}?{FORMAT}&type=promoted,drifted")).problem(400, "bad-query");
        assert!(problem["detail"].as_str().unwrap().contains("drifted"), "{problem}");
        engine.get(&format!("{path}?format=xml")).problem(400, "bad-query");
    }
    let deployed = replayed(&engine, &format!("{FORMAT}&type=deployed&model=ir*"));
    assert_eq!(
        deployed.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dev.cdevents.service.deployed.0.3.0", "dev.cdevents.service.upgraded.0.3.0"]
    );
    assert_eq!(replayed(&engine, "format=cloudevents&type=promoted"), replayed(&engine, "type=promoted"));
}
