//! The event schemas in a real schema registry: registered once, compared, found again, read by Confluent's own clients.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::journal::kafka::registry::{Registry, State, Status};
use annals_events::kind::Kind;
use annals_events::proposal::Proposal;
use annals_events::submission::Submission;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::forwarder::Forwarder;
use crate::stage::{event, eventually};

/// Schemas that are registered: the whole value and the data of each kind.
const ALL: usize = Kind::ALL.len() * 2;
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two tries; the engine itself waits longer.
const PAUSE: Duration = Duration::from_millis(200);

fn setting(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `tests/run`, which provides it"))
}

fn url() -> String {
    setting("ANNALS_TEST_SCHEMA_REGISTRY")
}

/// Tests share one server: each has subjects of its own.
fn prefix() -> String {
    format!("t-{}.", uuid::Uuid::now_v7())
}

/// A registration that runs until it is dropped.
struct Running {
    registry: Arc<Registry>,
    _stop: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

fn running(url: &str, prefix: &str) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (stop, stopping) = watch::channel(false);
    let registry = runtime.block_on(async { Registry::start_with(url, prefix, PAUSE, stopping) }).unwrap();
    Running { registry, _stop: stop, _runtime: runtime }
}

impl Running {
    fn until(&self, state: State) -> Status {
        let began = Instant::now();
        loop {
            let status = self.registry.status();
            if status.state == state {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "wanted {state:?}, and it stays {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn headers(&self) -> Vec<Option<Vec<u8>>> {
        Kind::ALL.iter().map(|kind| self.registry.header(*kind)).collect()
    }
}

/// Asks the server; the status and the answer, which may be an error.
fn ask(method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let url = format!("{}/{path}", url());
    let mut answer = match (method, body) {
        ("GET", _) => agent.get(url).call(),
        ("DELETE", _) => agent.delete(url).call(),
        ("PUT", Some(body)) => agent.put(url).send_json(body),
        (_, body) => agent.post(url).send_json(body.unwrap_or(&Value::Null)),
    }
    .unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap_or_default())
}

fn schema_of(subject: &str) -> Value {
    let (status, latest) = ask("GET", &format!("subjects/{subject}/versions/latest"), None);
    assert_eq!(status, 200, "{latest}");
    serde_json::from_str(latest["schema"].as_str().unwrap()).unwrap()
}

fn register(subject: &str, schema: &Value) -> (u16, Value) {
    ask("POST", &format!("subjects/{subject}/versions"), Some(&json!({"schemaType": "JSON", "schema": schema.to_string()})))
}

#[test]
fn every_schema_is_registered_once_and_is_given_the_same_id_again() {
    let prefix = prefix();
    let first = running(&url(), &prefix);
    let status = first.until(State::Registered);
    assert_eq!((status.known, status.schemas, status.reasons.len()), (ALL, ALL, 0), "{status}");
    let headers = first.headers();
    for header in &headers {
        let header = header.as_ref().unwrap();
        assert!(header.len() == 5 && header[0] == 0, "{header:?}");
    }
    drop(first);
    let second = running(&url(), &prefix);
    second.until(State::Registered);
    assert_eq!(second.headers(), headers);
    for kind in Kind::ALL {
        for name in [kind.name().to_owned(), format!("{}.data", kind.name())] {
            let subject = name.replacen("dev.annals.", &prefix, 1);
            assert_eq!(ask("GET", &format!("config/{subject}"), None).1["compatibilityLevel"], "BACKWARD_TRANSITIVE", "{subject}");
            assert_eq!(ask("GET", &format!("subjects/{subject}/versions"), None).1, json!([1]), "{subject}");
            assert_eq!(schema_of(&subject)["title"], name);
        }
    }
}

#[test]
fn the_server_takes_what_is_added_and_refuses_what_breaks() {
    let prefix = prefix();
    running(&url(), &prefix).until(State::Registered);
    let subject = format!("{prefix}version.promoted.v1");
    let schema = schema_of(&subject);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut schema = schema.clone();
        change(&mut schema["properties"]["data"]);
        register(&subject, &schema).0
    };
    assert_eq!(changed(&|data| data["properties"]["channel"]["type"] = "integer".into()), 409);
    assert_eq!(changed(&|data| data["required"] = json!(["channel", "reason"])), 409);
    assert_eq!(changed(&|data| drop(data["properties"].as_object_mut().unwrap().remove("strategy"))), 409);
    assert_eq!(changed(&|data| data["properties"]["mood"] = json!({"type": "string"})), 200);
}

#[test]
fn a_schema_that_the_server_refuses_is_told_and_mended_and_keeps_no_other_from_it() {
    let prefix = prefix();
    let subject = format!("{prefix}run.trained.v1");
    let foreign =
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"data": {"type": "integer"}}});
    assert_eq!(register(&subject, &foreign).0, 200);
    let running = running(&url(), &prefix);
    let status = running.until(State::Refused);
    assert_eq!((status.known, status.reasons.len()), (ALL - 1, 1), "{status}");
    assert!(status.reasons[0].contains(&subject) && status.reasons[0].contains("Incompatible"), "{status}");
    assert!(status.reasons[0].contains("delete what is not ours"), "{status}");
    assert_eq!(running.registry.header(Kind::RunTrained), None);
    assert!(running.registry.header(Kind::VersionPromoted).is_some());
    assert_eq!(ask("DELETE", &format!("subjects/{subject}"), None).0, 200);
    assert_eq!(running.until(State::Registered).known, ALL);
    assert!(running.registry.header(Kind::RunTrained).is_some());
}

#[test]
fn while_the_server_is_away_the_status_says_so_and_the_ids_stay() {
    let address = url().strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let mut forwarder = Forwarder::to(&address);
    let through = url().replacen(&address, &forwarder.address(), 1);
    let running = running(&through, &prefix());
    let status = running.until(State::Away);
    assert_eq!((status.known, running.registry.header(Kind::RunTrained)), (0, None));
    assert!(status.to_string().contains(&forwarder.address()) && status.to_string().contains("refused"), "{status}");
    forwarder.start();
    running.until(State::Registered);
    let headers = running.headers();
    forwarder.stop();
    let status = running.until(State::Away);
    assert_eq!((status.known, running.headers()), (ALL, headers.clone()), "{status}");
    forwarder.start();
    running.until(State::Registered);
    assert_eq!(running.headers(), headers);
}

#[test]
fn an_address_that_answers_something_else_is_away_and_no_address_is_refused_at_once() {
    let elsewhere = running(&format!("{}/nothing-here", url()), &prefix());
    let status = elsewhere.until(State::Away);
    assert!(status.reasons[0].contains("404") && status.reasons[0].contains("--schema-registry"), "{status}");
    let (_stop, stopping) = watch::channel(false);
    for url in ["127.0.0.1:8081", "https://127.0.0.1", "schema registry"] {
        let error = Registry::start(url, stopping.clone()).err().unwrap().to_string();
        assert!(error.contains("http://"), "{error}");
    }
}

#[test]
fn a_password_in_the_address_is_not_told() {
    let running = running("http://annals:secret@127.0.0.1:1/apis", &prefix());
    let status = running.until(State::Away).to_string();
    assert!(status.contains("127.0.0.1:1/apis") && !status.contains("secret"), "{status}");
}

#[test]
fn what_somebody_deletes_is_registered_again() {
    let prefix = prefix();
    let running = running(&url(), &prefix);
    running.until(State::Registered);
    let path = format!("subjects/{prefix}model.created.v1");
    assert_eq!(ask("DELETE", &path, None).0, 200);
    let began = Instant::now();
    while ask("GET", &format!("{path}/versions"), None).0 != 200 {
        assert!(began.elapsed() < PATIENCE, "{path} stays deleted");
        std::thread::sleep(PAUSE);
    }
    running.until(State::Registered);
}

/// A golden record's value and the data within it.
fn golden(dotted: &str) -> (String, Value) {
    let path = format!("{}/events/golden/{dotted}.v1.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let value = file["value"].as_str().unwrap();
    (value.to_owned(), serde_json::from_str::<Value>(value).unwrap()["data"].clone())
}

#[test]
fn confluents_clients_read_our_records_and_write_what_we_read() {
    let prefix = prefix();
    let running = running(&url(), &prefix);
    running.until(State::Registered);
    let (value, data) = golden("version.promoted");
    let header: String = running.registry.header(Kind::VersionPromoted).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let record = json!({"type": Kind::VersionPromoted.name(), "value": value, "header": header, "data": data});
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/confluent.py");
    let mut python = Command::new(setting("ANNALS_TEST_PYTHON"))
        .args([script, &setting("ANNALS_TEST_KAFKA"), &url(), &prefix])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(record.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["read"], serde_json::from_str::<Value>(&value).unwrap());
    assert!(said["wrong"].as_str().unwrap().contains("'one' is not of type 'integer'"), "the schema is not looked at: {}", said["wrong"]);

    let framed: Vec<u8> = said["framed"]
        .as_str()
        .unwrap()
        .as_bytes()
        .chunks(2)
        .map(|hex| u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap())
        .collect();
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let submission = Submission {
        key: Some(b"default/iris".to_vec()),
        headers: vec![
            header("ce_specversion", "1.0"),
            header("ce_id", "1"),
            header("ce_source", "/p"),
            header("ce_type", Kind::VersionPromoted.name()),
            header("ce_subject", "default/iris/1"),
        ],
        value: framed,
    };
    let proposal = Proposal::read(&submission).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&proposal.data).unwrap(), data);
}

#[test]
fn an_engines_records_name_their_schema_and_fit_the_description_of_the_topics() {
    let cluster = Cluster::fresh().with(&["--schema-registry", &url()]);
    let engine = cluster.start("a");
    // the engine waits for no schema registry: what is recorded before the ids are known has no header
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/confluent_journal.py");
    let (python, kafka) = (setting("ANNALS_TEST_PYTHON"), setting("ANNALS_TEST_KAFKA"));
    let mut said = Value::Null;
    eventually("the journal's records name their schema", || {
        engine.publish(&event("model.measured", "default/iris", json!({"metric": "accuracy", "value": 0.9})));
        engine.publish(&event("model.created", &format!("default/m-{}", uuid::Uuid::now_v7()), json!({})));
        let output = Command::new(&python).args([script, &kafka, &url(), &cluster.prefix]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said = serde_json::from_slice(&output.stdout).unwrap();
        said["read"].as_u64().unwrap() > 0
    });
    assert_eq!(said["types"], json!(["dev.annals.model.created.v1"]), "{said}");
    // an unknown model: refused, and so in no topic but proposals and verdicts
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/asyncapi_check.py");
    let output = Command::new(&python).args([check, "--bootstrap", &kafka, "--prefix", &cluster.prefix]).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_engine_takes_events_while_the_schema_registry_is_away_and_says_so() {
    // by name: the stage looks for the engine's own port behind the first http://127.0.0.1 of its log
    let cluster = Cluster::fresh().with(&["--schema-registry", "http://localhost:1"]);
    let engine = cluster.start("a");
    engine.publish(&event("model.created", "default/iris", json!({}))).ok(201);
    eventually("it says so", || {
        let ready = engine.get("/readyz").ok(200);
        ready["notes"][0].as_str().is_some_and(|note| note.contains("schema registry: away") && note.contains("localhost:1"))
    });
    engine.publish(&event("model.created", "default/rose", json!({}))).ok(201);
}
