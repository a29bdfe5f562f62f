//! What alerts are read as, and what is not read.

use annals_events::proposal::Proposal;
use serde_json::{Value, json};

use super::{ALERTS_MAX, Unread, read};

/// As Alertmanager 0.25 sent it.
fn alert(change: impl FnOnce(&mut Value)) -> Value {
    let mut alert = json!({
        "status": "firing",
        "labels": {"alertname": "ModelAccuracyLow", "model": "iris", "version": "2", "channel": "production", "metric": "accuracy", "severity": "high"},
        "annotations": {"value": "0.82", "threshold": "0.9", "summary": "accuracy of iris is 0.82"},
        "startsAt": "2026-03-01T12:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=model_accuracy+%3C+0.9",
        "fingerprint": "c0ffee0123456789"
    });
    change(&mut alert);
    alert
}

fn notice(alerts: &[Value], truncated: u64) -> String {
    json!({"version": "4", "groupKey": "{}:{alertname=\"ModelAccuracyLow\"}", "truncatedAlerts": truncated, "status": "firing",
        "receiver": "annals", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": alerts})
    .to_string()
}

fn one(change: impl FnOnce(&mut Value)) -> Result<Proposal, (String, String)> {
    let read = read(notice(&[alert(change)], 0).as_bytes(), "default").unwrap().alerts.remove(0);
    read.map_err(|refusal| (refusal.message, refusal.remedy))
}

fn data(proposal: &Proposal) -> Value {
    serde_json::from_str(&proposal.data).unwrap()
}

#[test]
fn a_firing_alert_is_a_drift_with_all_that_it_says() {
    let drifted = one(|_| ()).unwrap();
    assert_eq!((drifted.kind.short(), drifted.subject().as_str()), ("drifted", "default/iris/2"));
    assert_eq!((drifted.source.as_str(), drifted.id.as_str()), ("/alertmanager", "c0ffee0123456789-2026-03-01T12:00:00.123Z-firing"));
    assert_eq!(drifted.time.as_deref(), Some("2026-03-01T12:00:00.123456789Z"));
    let mut data = data(&drifted);
    let source = data.as_object_mut().unwrap().remove("source").unwrap();
    assert!(source["digest"].as_str().unwrap().starts_with("sha256:") && source["uri"].as_str().unwrap().starts_with("http://prometheus"));
    let wanted = json!({"drift": "alert-c0ffee0123456789-2026-03-01T12:00:00.123Z", "kind": "performance", "metric": "accuracy", "observed": 0.82,
        "threshold": 0.9, "severity": "high", "detector": "alert ModelAccuracyLow", "reason": "accuracy of iris is 0.82",
        "labels": {"alertname": "ModelAccuracyLow", "model": "iris", "version": "2", "channel": "production", "metric": "accuracy", "severity": "high"}});
    assert_eq!(data, wanted);
}

#[test]
fn its_end_names_the_same_drift_however_its_beginning_is_written() {
    let drifted = one(|_| ()).unwrap();
    let resolved = one(|alert| {
        alert["status"] = "resolved".into();
        alert["startsAt"] = "2026-03-01T13:00:00.123+01:00".into();
        alert["endsAt"] = "2026-03-01T12:30:00Z".into();
        alert["annotations"] = json!({"value": "0.95"});
    });
    let resolved = resolved.unwrap();
    assert_eq!((resolved.kind.short(), resolved.time.as_deref()), ("drift-resolved", Some("2026-03-01T12:30:00Z")));
    assert_eq!(data(&resolved)["drift"], data(&drifted)["drift"]);
    assert_ne!(resolved.id, drifted.id);
}

#[test]
fn labels_and_annotations_say_the_rest() {
    let drifted = one(|alert| {
        alert["labels"] =
            json!({"alertname": "PsiHigh", "model": "fraud", "workspace": "bank", "version": "", "severity": "page", "kind": "data"});
        alert["annotations"] = json!({"value": "2.5e-1", "baseline": "0.1", "description": "x".repeat(5_000)});
        alert["generatorURL"] = "".into();
    });
    let drifted = drifted.unwrap();
    assert_eq!(drifted.subject(), "bank/fraud");
    let data = data(&drifted);
    assert_eq!((&data["metric"], &data["kind"], &data["observed"]), (&json!("PsiHigh"), &json!("data"), &json!(0.25)));
    assert_eq!((&data["baseline"], &data["severity"], &data["labels"]["severity"]), (&json!(0.1), &Value::Null, &json!("page")));
    assert_eq!(data["reason"].as_str().unwrap().len(), 4_096);
    assert!(data["source"].get("uri").is_none());
}

#[test]
fn what_an_alert_does_not_say_is_not_made_up() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str, &str); 11] = [
        (|a| a["labels"]["model"] = "".into(), "has no label `model`", "label `model`"),
        (|a| a["labels"]["model"] = "a/b".into(), "must not contain `/`", "label `model`"),
        (|a| a["labels"]["version"] = "0".into(), "must be a number from 1", ""),
        (|a| a["annotations"] = json!({}), "no annotation `value`", "{{ $value }}"),
        (|a| a["annotations"]["value"] = "82%".into(), "`82%`, which is no number", "value: \"{{ $value }}\""),
        (|a| a["annotations"]["value"] = "NaN".into(), "`NaN`, which is no number", "bare number"),
        (|a| a["annotations"]["threshold"] = "high".into(), "the annotation `threshold`", "threshold: \"{{ $value }}\""),
        (|a| a["labels"]["kind"] = "Pod".into(), "kind", ""),
        (|a| a["status"] = "suppressed".into(), "the status `suppressed`", "`firing` or `resolved`"),
        (|a| a["startsAt"] = "yesterday".into(), "`startsAt`", ""),
        (|a| a["fingerprint"] = "".into(), "no proper fingerprint", ""),
    ];
    for (change, message, remedy) in cases {
        let (said, todo) = one(change).unwrap_err();
        assert!(said.contains(message) && todo.contains(remedy) && !todo.is_empty(), "{said}; {todo}");
    }
    let mixed = notice(&[json!(7), alert(|_| ())], 0);
    let mixed = read(mixed.as_bytes(), "default").unwrap().alerts;
    assert!(mixed[0].as_ref().is_err_and(|refusal| refusal.message.contains("not as Alertmanager sends it")) && mixed[1].is_ok());
}

#[test]
fn alerts_that_were_left_out_are_told_with_those_that_were_sent() {
    let read = read(notice(&[alert(|_| ())], 12).as_bytes(), "default").unwrap();
    assert_eq!(read.truncated, 12);
    assert_eq!(data(read.alerts[0].as_ref().unwrap())["labels"]["truncated_alerts"], "12");
}

#[test]
fn only_what_alertmanager_sends_is_a_notice() {
    let unread = |body: &str| read(body.as_bytes(), "default").map(|notice| notice.alerts.len()).unwrap_err();
    assert!(matches!(unread("[]"), Unread::Malformed(_)));
    assert!(matches!(unread("{\"version\":\"4\"}"), Unread::Malformed(why) if why.contains("alerts")));
    assert!(matches!(unread("{\"alerts\":[]}"), Unread::Malformed(why) if why.contains("version")));
    assert_eq!(unread("{\"version\":\"5\",\"alerts\":7}"), Unread::Version("\"5\"".into()));
    assert_eq!(unread("{\"version\":4,\"alerts\":[]}"), Unread::Version("4".into()));
    let many = notice(&vec![json!(0); ALERTS_MAX + 1], 0);
    assert_eq!(unread(&many), Unread::TooMany(ALERTS_MAX + 1));
}
