//! Webhooks in the words of CDEvents: the same events as the stream has, signed like all others, and nothing else.

use serde_json::{Value, json};

use super::receiver::Receiver;
use super::{deliveries, key_of, start, webhook};
use crate::cdevents::{FORMAT, live, read, replayed};
use crate::stage::{data_of, directory, eventually, exported, register};
use crate::triggers::{history, said};

const TYPES: &str = "promoted,deployed,rolled-back,deployment-removed";

#[test]
fn releases_and_deployments_are_delivered_as_the_stream_has_them() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    let (to, add) = (format!("{}/hook", receiver.url), ["--type", TYPES, "--format", "cdevents"]);
    let added = webhook(&engine, &[&["add", "delivery", "--to", &to], &add[..]].concat());
    let key = key_of(&added);
    receiver.know(&[&key]);
    live(&engine);
    let got = receiver.wait_for("/hook", 6);
    let told = replayed(&engine, FORMAT);
    assert_eq!(got.iter().map(|message| &message["body"]).collect::<Vec<_>>(), told.iter().collect::<Vec<_>>());
    for message in &got {
        read(&message["body"]);
        assert_eq!((&message["type"], &message["verified"]), (&json!("application/cloudevents+json"), &json!([key])));
        let ours = message["body"]["data"]["customData"]["annals"]["id"].as_str().unwrap();
        assert!(message["id"].as_str().unwrap().starts_with(&format!("{ours}_")), "{message}");
    }
    // delivered again they are the same
    eventually("all are noted", || deliveries(&engine, "delivery", "done").len() == 6);
    assert_eq!(webhook(&engine, &["replay", "delivery", "--since", "2020-01-01T00:00:00Z"])["replayed"], 6);
    let again = receiver.wait_for("/hook", 12);
    for (first, second) in got.iter().zip(&again[6..]) {
        assert_eq!((&first["id"], &first["body"]), (&second["id"], &second["body"]));
    }
    // tried out, it gets one that its reader takes
    assert_eq!(webhook(&engine, &["test", "delivery"])["delivered"], true);
    let tried = &receiver.wait_for("/hook", 13)[12];
    assert_eq!(read(&tried["body"]).ty(), "dev.cdeventsx.annals-webhook.tested.0.1.0");
    assert_eq!((&tried["body"]["id"], &tried["verified"]), (&tried["id"], &json!([key])));
}

#[test]
fn the_format_is_part_of_what_a_subscription_says() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let add = |more: &[&str]| webhook(&engine, &[&["add", "delivery", "--to", "http://127.0.0.1:9/", "--type", "promoted"], more].concat());
    let said = |at: usize| {
        let all = exported(&engine);
        let of: Vec<&Value> = all.iter().filter(|r| r["headers"]["ce_type"] == "dev.annals.subscription.changed.v1").collect();
        serde_json::from_str::<Value>(of[at]["value"].as_str().unwrap()).unwrap()["data"]["format"].clone()
    };
    let format = |webhook: &Value| (webhook["format"].as_str().unwrap().to_owned(), webhook["changed"] == true);
    assert_eq!(format(&add(&["--format", "cloudevents"])), ("cloudevents".into(), true));
    assert_eq!(format(&add(&[])), ("cloudevents".into(), false), "it is so unless said");
    assert_eq!(format(&add(&["--format", "cdevents"])), ("cdevents".into(), true));
    assert_eq!(format(&add(&["--format", "cdevents"])), ("cdevents".into(), false));
    assert_eq!(webhook(&engine, &["pause", "delivery"])["format"], "cdevents");
    assert_eq!(format(&add(&[])), ("cloudevents".into(), true));
    assert_eq!([said(0), said(1), said(3)], [Value::Null, json!("cdevents"), Value::Null]);
    assert_eq!(webhook(&engine, &["list"])["items"][0]["format"], "cloudevents");
}

#[test]
fn what_cdevents_has_no_word_for_is_refused_or_skipped() {
    let dir = directory();
    let engine = start(&data_of(&dir));
    let receiver = Receiver::python();
    let to = format!("{}/hook", receiver.url);
    let refused = engine.annals(&["webhook", "add", "delivery", "--to", &to, "--type", "promoted,drifted", "--format", "cdevents"]);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("CDEvents has no word for drift.detected") && complaint.contains(TYPES), "{complaint}");
    let body = json!({"url": to, "when": {"type": ["promoted"]}, "format": "xml"}).to_string();
    engine.put("/v1/webhooks/delivery", body.as_bytes()).problem(400, "bad-body");
    // by hand it can be recorded, and then it is said that nobody can mean it
    let odd = json!({"subscription": "odd", "state": "active", "url": to, "when": {"type": ["drifted"]}, "format": "cdevents"});
    engine.accept("subscription.changed", "default/_system", odd);
    eventually("it is said", || {
        let acting = engine.get("/v1/acting").text;
        acting.contains("it cannot be meant") && acting.contains("CDEvents has no word for drift.detected")
    });
    // a rule that tells it of something else has nothing to tell
    webhook(&engine, &["add", "delivery", "--to", &to, "--type", "promoted", "--format", "cdevents"]);
    let rule = ["--type", "drifted", "--do", r#"{"webhook": {"subscription": "delivery"}}"#];
    said(&engine, &[&["trigger", "add", "tell"], &rule[..], &["--json"]].concat());
    register(&engine, "iris", 1);
    engine.accept("drift.detected", "default/iris/1", json!({"drift": "d-1", "kind": "data", "metric": "share", "observed": 0.5}));
    engine.accept("version.promoted", "default/iris/1", json!({"channel": "production", "reason": "a test"}));
    eventually("it is skipped", || history(&engine, "tell").first().is_some_and(|task| task["state"] == "skipped"));
    assert!(history(&engine, "tell")[0]["note"].as_str().unwrap().contains("no word for drift.detected"));
    let got = receiver.wait_for("/hook", 1);
    assert_eq!((got.len(), &got[0]["body"]["type"]), (1, &json!("dev.cdevents.artifact.published.0.3.0")));
}
