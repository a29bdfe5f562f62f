//! Pipelines with their own Kafka client: the documented examples as they stand, and what nobody should send.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, bootstrap};
use crate::stage::directory;

fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `tests/run`, which provides it"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lines(command: &mut Command) -> Vec<String> {
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}\n{out}{err}");
    out.lines().map(str::to_owned).collect()
}

/// What both examples must print: two accepted, one refused with its remedy, and the promotion.
fn is_the_example(lines: &[String], model: &str) {
    let verdict = |n: usize| serde_json::from_str::<Value>(&lines[n]).unwrap();
    assert_eq!((&verdict(0)["outcome"], &verdict(0)["version"]), (&"accepted".into(), &1.into()), "{lines:?}");
    assert_eq!(verdict(1)["outcome"], "accepted", "{lines:?}");
    assert_eq!((&verdict(2)["outcome"], &verdict(2)["code"]), (&"refused".into(), &"unknown-version".into()), "{lines:?}");
    assert!(verdict(2)["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    assert!(lines[3].contains("dev.annals.version.promoted.v1"), "{lines:?}");
    assert!(lines[3].contains(model) || lines[3].contains("\"channel\":\"staging\""), "{lines:?}");
}

#[test]
fn the_python_example_publishes_and_hears_of_the_promotion() {
    let cluster = Cluster::fresh();
    let engine = cluster.start("a");
    let script = root().join("examples/clients/pipeline.py");
    let said = lines(Command::new(required("ANNALS_TEST_PYTHON")).arg(script).args([&bootstrap(), &cluster.prefix, "snake"]));
    is_the_example(&said, "snake");
    // the same facts at the other doors
    assert_eq!(engine.get("/v1/models/snake/channels/staging").ok(200)["version"], 1);
}

#[test]
fn the_java_example_publishes_and_hears_of_the_promotion() {
    let cluster = Cluster::fresh();
    let engine = cluster.start("a");
    let script = root().join("examples/clients/Pipeline.java");
    let mut java = Command::new("java");
    java.args(["-cp", &required("ANNALS_TEST_JAVA_CLASSPATH")]).arg(script).args([&bootstrap(), &cluster.prefix, "bean"]);
    is_the_example(&lines(&mut java), "bean");
    assert_eq!(engine.get("/v1/models/bean/channels/staging").ok(200)["version"], 1);
}

#[test]
fn whatever_is_sent_gets_a_verdict_and_blocks_nobody() {
    let (cluster, dir) = (Cluster::fresh(), directory());
    let _engine = cluster.start("a");
    let mut odd = Command::new(required("ANNALS_TEST_PYTHON"));
    odd.current_dir(dir.path()).arg(root().join("tests/it/odd_messages.py")).args([&bootstrap(), &cluster.prefix]);
    let said: BTreeMap<String, Value> = lines(&mut odd)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|verdict| (verdict["name"].as_str().unwrap().to_owned(), verdict))
        .collect();
    let wanted = [
        ("right", "accepted", ""),
        ("structured", "accepted", ""),
        ("no-key", "malformed", "malformed"),
        ("no-headers", "malformed", "malformed"),
        ("not-json", "malformed", "malformed"),
        ("null", "malformed", "malformed"),
        ("framed", "accepted", ""),
        ("too-large", "malformed", "too-large"),
        ("unknown-type", "malformed", "unknown-type"),
        ("engines-own", "malformed", "unknown-type"),
    ];
    for (name, outcome, code) in wanted {
        let verdict = &said[name];
        assert_eq!((verdict["outcome"].as_str(), verdict["code"].as_str().unwrap_or_default()), (Some(outcome), code), "{verdict}");
        assert!(outcome == "accepted" || verdict["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{verdict}");
    }
    let misplaced: Vec<_> =
        said.iter().filter(|(name, verdict)| name.starts_with("crc-") && verdict["code"] == "wrong-partition").collect();
    assert!(misplaced.len() >= 3, "librdkafka's own partitioner mostly misses: {said:?}");
    assert!(misplaced.iter().all(|(_, verdict)| verdict["remedy"].as_str().unwrap().contains("murmur2_random")));
}
