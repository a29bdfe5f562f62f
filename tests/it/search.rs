//! Search on real Elasticsearch and OpenSearch: the same questions, the same answers, whoever is asked.

mod anew;
mod away;
mod foreign;
mod hand;
mod same;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::services;
use crate::stage::{Engine, Response, data_of, directory, eventually, program};

/// A search cluster, and an index of one test on it; what was made there is removed at the end.
pub struct Index {
    pub cluster: String,
    pub name: String,
}

impl Index {
    pub fn on(cluster: String) -> Self {
        Self { cluster, name: format!("t-{}", uuid::Uuid::now_v7().simple()) }
    }

    /// One on each kind of cluster.
    pub fn both() -> [Self; 2] {
        [Self::on(services::elasticsearch()), Self::on(services::opensearch())]
    }

    /// An engine that keeps it, with these arguments more.
    pub fn engine(&self, dir: &TempDir, more: &[&str]) -> Engine {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--search", &self.cluster, "--search-index", &self.name, "--data"]);
        command.arg(data_of(dir)).args(more);
        Engine::spawn(command)
    }

    /// Asks the cluster itself.
    pub fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.cluster));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let sent = agent.run(agent.configure_request(request).allow_non_standard_methods(true).build());
        let mut answer = sent.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// As [`Index::ask`], and it must be good.
    #[track_caller]
    pub fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// The indexes that this test has made, also those that nobody reads.
    pub fn indexes(&self) -> Vec<String> {
        let found = self.done("GET", &format!("/{}*", self.name), Value::Null);
        found.as_object().unwrap().keys().cloned().collect()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the cluster may be what is broken; the run's end takes all of it away
        }
        for name in self.indexes() {
            self.ask("DELETE", &format!("/{name}"), Value::Null);
        }
    }
}

/// An engine without a search cluster.
pub fn plain() -> (TempDir, Engine) {
    crate::stage::fresh()
}

/// Asks the engine, behind all that it has accepted.
pub fn search(engine: &Engine, query: &str) -> Response {
    let positions = engine.get("/v1/partitions").json()["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{}:{}", p["partition"], p["seq"]))
        .collect::<Vec<_>>();
    let query: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
    engine.get_with(&format!("/v1/search?limit=1000&q={query}"), &[("annals-min-position", &positions.join(","))])
}

/// What was found, as `name` or `name/version`.
#[track_caller]
pub fn found(answer: &Value) -> Vec<String> {
    let subject = |item: &Value| {
        let name = item["name"].as_str().unwrap();
        item["version"].as_u64().map_or_else(|| name.to_owned(), |version| format!("{name}/{version}"))
    };
    answer["items"].as_array().unwrap_or_else(|| panic!("{answer}")).iter().map(subject).collect()
}

/// Waits until the index stands so, and returns how it stands.
#[track_caller]
pub fn stands(engine: &Engine, state: &str) -> Value {
    let mut index = Value::Null;
    eventually(&format!("the index is {state}"), || {
        index = engine.get("/v1/search/index").json();
        index["state"] == state
    });
    index
}

/// Waits until the cluster has what the engine has, and answers.
#[track_caller]
pub fn indexed(engine: &Engine) {
    eventually("the cluster answers for all there is", || {
        let answer = search(engine, "kind:version -nothing");
        let fits = answer.status == 200 && answer.json().get("instead").is_none();
        fits && engine.get("/v1/search/index").json()["lag_events"] == 0
    });
}

/// Registers a version that says all that is looked for.
pub fn version(engine: &Engine, model: &str, n: u64, description: &str) -> Value {
    let data = json!({
        "artifact": {"uri": format!("file:///models/{model}/{n}.pkl"), "digest": crate::stage::digest(n), "format": "joblib"},
        "label": format!("v{n}.0"), "description": description, "algorithm": "RandomForest", "data": [{"name": "petals.csv", "rows": 150}],
        "performance": [{"name": "accuracy", "value": 0.970}], "labels": {"team": "botany"},
    });
    engine.accept("version.registered", &format!("default/{model}"), data)
}

/// A directory for an engine.
pub fn home() -> TempDir {
    directory()
}
