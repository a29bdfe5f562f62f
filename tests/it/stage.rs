//! Starts the real program on port 0 and speaks to it as its users do.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test gives up: machines are shared and noisy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running engine; killed when it goes out of scope.
pub struct Engine {
    process: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

/// A response, read whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Asserts a problem document of this status and code, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail", "remedy"] {
            assert!(problem[member].as_str().is_some_and(|t| !t.is_empty()), "no {member}: {problem}");
        }
        problem
    }

    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annals"));
    command.env_remove("ANNALS_URL").env_remove("ANNALS_DATA");
    command
}

impl Engine {
    pub fn start(data: &Path) -> Self {
        let mut command = program();
        command.args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    /// Starts a command that ends in `annals serve … --listen 127.0.0.1:0`, and waits until it is ready.
    pub fn spawn(command: Command) -> Self {
        let engine = Self::spawn_unready(command);
        eventually("the engine is ready", || engine.get("/readyz").status == 200);
        engine
    }

    /// As [`Engine::spawn`], but waits only until it listens.
    pub fn spawn_unready(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(process.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut url = String::new();
        eventually("the engine says where it listens", || {
            let text = log.lock().unwrap().clone();
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the engine ended with {status}: {text}");
            }
            let Some((_, rest)) = text.split_once("http://127.0.0.1:") else { return false };
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            url = format!("http://127.0.0.1:{port}");
            !port.is_empty() && rest.len() > port.len()
        });
        Self { process, url, log }
    }

    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = agent().get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        response(request.call())
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut request = agent().post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        response(request.send(body))
    }

    pub fn put(&self, path: &str, body: &[u8]) -> Response {
        response(agent().put(format!("{}{path}", self.url)).header("content-type", "application/json").send(body))
    }

    /// Sends what Alertmanager sends.
    pub fn notify(&self, notice: &Value) -> Response {
        self.post("/v1/hooks/alertmanager", &[("content-type", "application/json")], notice.to_string().as_bytes())
    }

    /// What it said on standard error so far.
    pub fn said(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Publishes a structured CloudEvent.
    pub fn publish(&self, event: &Value) -> Response {
        self.post("/v1/events", &[("content-type", "application/cloudevents+json")], event.to_string().as_bytes())
    }

    /// Publishes and expects 201; returns the response's body.
    #[track_caller]
    pub fn accept(&self, kind: &str, subject: &str, data: Value) -> Value {
        self.publish(&event(kind, subject, data)).ok(201)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub fn stop(mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
        self.process.wait().unwrap().code()
    }

    /// Runs a client command against this engine.
    pub fn annals(&self, args: &[&str]) -> Output {
        program().env("ANNALS_URL", &self.url).args(args).output().unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the engine said:\n{}", self.log.lock().unwrap());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build().into()
}

fn response(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Response {
    match result {
        Ok(mut found) => Response {
            status: found.status().as_u16(),
            headers: found.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect(),
            text: found.body_mut().with_config().limit(1 << 30).read_to_string().unwrap(),
        },
        Err(e) => Response { status: 0, headers: Vec::new(), text: e.to_string() },
    }
}

/// A CloudEvent with an id of its own.
pub fn event(kind: &str, subject: &str, data: Value) -> Value {
    let id = uuid::Uuid::now_v7().to_string();
    json!({"specversion": "1.0", "id": id, "source": "/it", "type": format!("dev.annals.{kind}.v1"), "subject": subject, "data": data})
}

pub fn digest(n: u64) -> String {
    format!("sha256:{n:064x}")
}

/// A version of a model, registered with an artifact of its own.
pub fn register(engine: &Engine, model: &str, n: u64) -> Value {
    let data = json!({"artifact": {"uri": format!("file:///models/{model}/{n}.pkl"), "digest": digest(n), "format": "joblib"}});
    engine.accept("version.registered", &format!("default/{model}"), data)
}

/// Polls until it holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn directory() -> TempDir {
    TempDir::with_prefix("annals-it-").unwrap()
}

/// An engine on an empty directory.
pub fn fresh() -> (TempDir, Engine) {
    let dir = directory();
    let engine = Engine::start(&dir.path().join("data"));
    (dir, engine)
}

pub fn data_of(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

/// Where an event is: partition and seq, from a publish response.
pub fn place(response: &Value) -> (u64, u64) {
    let text = response["position"].as_str().unwrap();
    let (partition, seq) = text.split_once(':').unwrap();
    (partition.parse().unwrap(), seq.parse().unwrap())
}

/// Waits until the views have passed all that is in the journal, and returns the positions.
pub fn caught_up(engine: &Engine) -> String {
    let end = exported(engine).pop().unwrap();
    let positions: Vec<String> = end["end"].as_object().unwrap().iter().map(|(p, e)| format!("{p}:{}", e["seq"])).collect();
    let positions = positions.join(",");
    let behind = [("annals-min-position", positions.as_str())];
    eventually("the registry has caught up", || engine.get_with("/v1/models", &behind).status == 200);
    eventually("the timeline has caught up", || engine.get_with("/v1/timeline", &behind).status == 200);
    eventually("the lineage has caught up", || {
        // a model that is not there is answered, too, once the view has come so far
        matches!(engine.get_with("/v1/models/model-0/versions/1/lineage", &behind).status, 200 | 404)
    });
    eventually("the deployments have caught up", || engine.get_with("/v1/deployments", &behind).status == 200);
    positions
}

/// Every record of the journal, as `annals export` writes them.
pub fn exported(engine: &Engine) -> Vec<Value> {
    let export = engine.get("/v1/journal");
    assert_eq!(export.status, 200, "{}", export.text);
    export.text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}
