//! What others read by machine: metrics, the API's description, health.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::stage::{fresh, register};

/// A tool that `tests/run` provides; its absence is a failure, not a skip.
pub fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `tests/run`, which provides it"))
}

/// Asserts that `promtool check metrics` has nothing to say.
#[track_caller]
pub fn promtool_is_content(metrics: &str) {
    let mut check = Command::new(tool("ANNALS_TEST_PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn metrics_are_clean_for_promtool() {
    let (_dir, engine) = fresh();
    register(&engine, "iris", 1);
    let metrics = engine.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    promtool_is_content(&metrics.text);
    for name in ["annals_http_request_duration_seconds", "annals_partition_seq", "process_resident_memory_bytes"] {
        assert!(metrics.text.contains(name), "no {name} in {}", metrics.text);
    }
}

#[test]
fn the_openapi_document_is_valid_and_names_every_path() {
    let (dir, engine) = fresh();
    let document = engine.get("/openapi.json");
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, &document.text).unwrap();
    let output = Command::new(tool("ANNALS_TEST_OPENAPI_VALIDATOR")).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let paths = document.json();
    for path in [
        "/v1/events",
        "/v1/events/stream",
        "/v1/hooks/alertmanager",
        "/v1/cursors",
        "/v1/cursors/{name}",
        "/v1/proposals/{id}",
        "/v1/models",
        "/v1/models/{model}/versions/{version}/lineage",
        "/v1/channels/{channel}",
        "/v1/deployments",
        "/v1/search",
        "/v1/search/index",
        "/v1/journal",
        "/healthz",
        "/readyz",
    ] {
        assert!(paths["paths"][path].is_object(), "no {path}");
    }
}

#[test]
fn health_says_alive_and_ready() {
    let (_dir, engine) = fresh();
    assert_eq!(engine.get("/healthz").status, 200);
    assert_eq!(engine.get("/readyz").status, 200);
}
