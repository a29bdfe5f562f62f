//! What is wrong with a request is said clearly, and nothing of it is kept.

use serde_json::{Value, json};

use crate::stage::{Engine, caught_up, digest, event, exported, fresh, register};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

fn records(engine: &Engine) -> usize {
    exported(engine).iter().filter(|l| l.get("seq").is_some()).count()
}

fn binary<'a>(kind: &'a str, subject: &'a str, id: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/it"),
        ("ce-type", kind),
        ("ce-subject", subject),
    ]
}

#[test]
fn what_cannot_be_read_is_refused_and_leaves_no_trace() {
    let (_dir, engine) = fresh();
    let before = records(&engine);
    let post = |headers: &[(&str, &str)], body: &[u8]| engine.post("/v1/events", headers, body);
    post(&[STRUCTURED], b"{\"specversion\":").problem(400, "malformed");
    post(&[STRUCTURED], b"[]").problem(400, "malformed");
    post(&[STRUCTURED], b"\xff\xfe").problem(400, "malformed");
    post(&[STRUCTURED], b"").problem(400, "malformed");
    post(&[STRUCTURED], br#"{"specversion":"1.0","specversion":"1.0"}"#).problem(400, "malformed");
    assert_eq!(post(&[("content-type", "text/plain")], b"hello").status, 415);
    assert_eq!(post(&[("content-type", "application/xml"), ("ce-id", "1")], b"<a/>").status, 415);
    let created = binary("dev.annals.model.created.v1", "default/iris", "1");
    post(&created, b"not json").problem(400, "malformed");
    post(&created, b"{\"owner\":\"a\0b\"}").problem(400, "malformed");
    post(&created, br#"{"owner":"a\u0000b"}"#).problem(400, "malformed");
    post(&created, b"{\"owner\":\"\xc3\x28\"}").problem(400, "malformed");
    post(&created, br#"{"owner":"a","owner":"b"}"#).problem(400, "malformed");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    post(&created, deep.as_bytes()).problem(400, "malformed");
    for subject in ["iris", "default/", "default/a:b", "default/_secret", "/x"] {
        post(&binary("dev.annals.model.created.v1", subject, "2"), b"{}").problem(400, "malformed");
    }
    post(&binary("dev.annals.model.painted.v1", "default/iris", "3"), b"{}").problem(422, "unknown-type");
    post(&binary("dev.annals.journal.opened.v1", "default/iris", "4"), b"{}").problem(422, "unknown-type");
    assert_eq!(records(&engine), before);
}

#[test]
fn an_oversized_payload_is_refused() {
    let (_dir, engine) = fresh();
    let big = json!({"description": "x".repeat(300 * 1024)});
    engine.publish(&event("model.created", "default/iris", big)).problem(413, "too-large");
    let endless = vec![b' '; 20 * 1024 * 1024];
    // the server may answer before it has read everything, and then the client sees a closed connection
    let answer = engine.post("/v1/events", &[STRUCTURED], &endless);
    assert!(answer.status == 413 || answer.status == 0, "{answer:?}");
    register(&engine, "iris", 1);
}

#[test]
fn a_schema_violation_names_every_field() {
    let (_dir, engine) = fresh();
    let data = json!({"artifact": {"uri": 7, "digest": "md5:1"}, "labl": "1.0"});
    let problem = engine.publish(&event("version.registered", "default/iris", data)).problem(422, "schema-violation");
    let violations = problem["violations"].as_array().unwrap();
    let fields: Vec<_> = violations.iter().map(|v| v["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"/artifact/uri") && fields.contains(&"/artifact/digest"), "{problem}");
    assert!(violations.iter().any(|v| v["message"].as_str().unwrap().contains("labl")), "{problem}");
}

#[test]
fn what_may_not_happen_is_refused_with_the_state_and_the_way_out() {
    let (_dir, engine) = fresh();
    let promote = |version: &str, channel: &str| {
        engine.publish(&event("version.promoted", &format!("default/iris/{version}"), json!({"channel": channel})))
    };
    promote("1", "production").problem(404, "unknown-model");
    register(&engine, "iris", 1);
    promote("2", "production").problem(404, "unknown-version");
    let problem = promote("1", "prodution").problem(404, "unknown-channel");
    assert_eq!(problem["allowed"], json!(["dev", "staging", "production"]));
    assert_eq!(promote("1", "production").status, 201);
    let problem = promote("1", "production").problem(409, "no-change");
    assert_eq!(problem["state"]["channels"], json!({"production": 1}));
    let retire = engine.publish(&event("version.retired", "default/iris/1", json!({"reason": "old"})));
    let problem = retire.problem(409, "version-held");
    assert_eq!(problem["allowed"], json!(["demote from production"]));
    // refusals that matter are history too, and do not move the model on
    let refused: Vec<Value> =
        exported(&engine).into_iter().filter(|r| r["headers"]["ce_type"] == "dev.annals.proposal.refused.v1").collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    caught_up(&engine);
    let model = engine.get("/v1/models/iris").ok(200);
    assert_eq!(model["modelseq"], 2);
}

#[test]
fn a_stale_if_match_changes_nothing() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    let body = event("version.promoted", "default/iris/1", json!({"channel": "production"})).to_string();
    let stale = engine.post("/v1/events", &[STRUCTURED, ("if-match", "\"1\"")], body.as_bytes());
    stale.problem(412, "stale-expectation");
    let fresh = engine.post("/v1/events", &[STRUCTURED, ("if-match", "\"2\"")], body.as_bytes());
    assert_eq!((fresh.status, fresh.header("etag")), (201, Some("\"3\"")));
    // the same request again is the same event, although the model has moved on
    let again = engine.post("/v1/events", &[STRUCTURED, ("if-match", "\"2\"")], body.as_bytes());
    assert_eq!((again.status, again.header("annals-position")), (200, fresh.header("annals-position")));
    let nonsense = engine.post("/v1/events", &[STRUCTURED, ("if-match", "yesterday")], body.as_bytes());
    nonsense.problem(400, "malformed");
}

#[test]
fn a_retry_gets_the_first_answer_and_other_content_is_a_conflict() {
    let (_dir, engine) = fresh();
    let mut sent = event("version.registered", "default/iris", json!({"artifact": {"digest": digest(1)}}));
    let first = engine.publish(&sent).ok(201);
    let again = engine.publish(&sent).ok(200);
    assert_eq!(again["position"], first["position"]);
    assert_eq!(again["version"], 1);
    sent["data"]["artifact"]["digest"] = digest(2).into();
    engine.publish(&sent).problem(422, "id-conflict");
    let position = first["position"].as_str().unwrap();
    let versions = engine.get_with("/v1/models/iris/versions", &[("annals-min-position", position)]).ok(200);
    assert_eq!(versions["items"].as_array().unwrap().len(), 1);
}

#[test]
fn one_bad_item_does_not_spoil_a_batch() {
    let (_dir, engine) = fresh();
    let batch = json!([
        event("version.registered", "default/iris", json!({"artifact": {"digest": digest(1)}})),
        event("version.registered", "default/iris", json!({"artefact": {}})),
        {"specversion": "0.3"},
        event("version.promoted", "default/iris/1", json!({"channel": "staging"})),
        event("version.promoted", "default/iris/7", json!({"channel": "staging"})),
    ]);
    let answer = engine.post("/v1/events", &[("content-type", "application/cloudevents-batch+json")], batch.to_string().as_bytes()).ok(200);
    let statuses: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 422, 400, 201, 404], "{answer}");
    let malformed = engine.post("/v1/events", &[("content-type", "application/cloudevents-batch+json")], b"{}");
    malformed.problem(400, "malformed");
}

#[test]
fn unknown_paths_methods_and_parameters_get_a_problem() {
    let (_dir, engine) = fresh();
    for (path, status) in [
        ("/v1/nothing", 404),
        ("/v1/models/unknown", 404),
        ("/v1/models?limit=x", 400),
        ("/v1/models?as_of=yesterday", 400),
        ("/v1/models?as_of=99:1", 400),
    ] {
        let answer = engine.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/problem+json")), "{path}: {}", answer.text);
        assert!(answer.json()["remedy"].is_string(), "{path}: {}", answer.text);
    }
    let wrong = engine.post("/v1/models", &[], b"");
    assert_eq!((wrong.status, wrong.header("content-type")), (405, Some("application/problem+json")));
}
