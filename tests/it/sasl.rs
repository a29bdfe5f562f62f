//! The whole engine on a Kafka that asks who one is, and lets only the engine's principal write history.

use serde_json::json;

use crate::cluster::Cluster;
use crate::services::{SaslKafka, prefix};
use crate::stage::{event, program};

#[test]
fn the_engine_runs_as_its_principal_over_tls_and_a_pipeline_cannot_run_one() {
    let (kafka, prefix) = (SaslKafka::up(), prefix());
    kafka.grant(&prefix);
    let settings = |user: &str| kafka.properties(user).to_str().unwrap().to_owned();
    let cluster = Cluster::on(kafka.bootstrap(), &prefix, &["--kafka-properties", &settings("arbiter")]);
    let engine = cluster.start("a");
    let created = event("model.created", "default/iris", json!({}));
    let answer = engine.publish(&created).ok(201);
    assert_eq!(engine.publish(&created).ok(200)["position"], answer["position"]);
    assert_eq!(engine.get_with("/v1/models/iris", &[("annals-min-position", answer["position"].as_str().unwrap())]).status, 200);
    // with a pipeline's credentials nobody becomes an arbiter: the group, the journal and the
    // transactions are the engine's
    let mut intruder = program();
    let dir = crate::stage::directory();
    intruder.args(["partition", "resume", "0", "--skip-to", "1", "--kafka", kafka.bootstrap(), "--kafka-prefix", &prefix]);
    intruder.args(["--kafka-properties", &settings("pipeline"), "--data", dir.path().to_str().unwrap()]);
    let said = intruder.output().unwrap();
    assert!(!said.status.success(), "{said:?}");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.to_lowercase().contains("authoriz"), "it says why: {text}");
    // without credentials there is no answer at all, and the message says where to look
    let mut nobody = program();
    nobody.args(["topics", "check", "--kafka", kafka.bootstrap(), "--kafka-prefix", &prefix]);
    let said = nobody.output().unwrap();
    assert_eq!(said.status.code(), Some(69), "{}", String::from_utf8_lossy(&said.stderr));
}
