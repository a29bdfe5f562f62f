//! Rules and clusters that cannot do it: each says so on the task and on the deployment.

use serde_json::json;

use super::{account, deployments, expect, promote, rule, serve, stage, tasks};
use crate::stage::{data_of, directory, eventually, register};

#[test]
fn a_bad_template_is_said_where_people_look() {
    let (_dir, kube, engine) = stage();
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    rule(&engine, &kube, &json!({"template": "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1}"}));
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "failed")]);
    let (_, _, failed) = deployments(&engine, "iris").remove(0);
    assert!(failed["error"].as_str().unwrap().contains("spec.template.spec.containers is missing"), "{failed}");
    eventually("the task is parked", || tasks(&engine)[0]["state"] == "parked");
    // What the API server refuses is as clear.
    let refused = "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: m, image: i}]}}}}";
    rule(&engine, &kube, &json!({"template": refused}));
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "failed"), (2, "failed")]);
    let (_, _, failed) = deployments(&engine, "iris").remove(1);
    assert!(failed["error"].as_str().unwrap().contains("selector"), "{failed}");
}

#[test]
fn a_cluster_that_denies_is_tried_again_until_it_allows() {
    const NONE: &str = "[]";
    const LEAST: &str = "[{apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, patch, delete]}, \
                         {apiGroups: [''], resources: [pods], verbs: [list]}]";
    let (dir, kube) = (directory(), super::Kube::new());
    let kubeconfig = account(&kube, &dir, NONE);
    let engine = serve(&data_of(&dir), kubeconfig.to_str().unwrap());
    rule(&engine, &kube, &json!({"image": "server:1"}));
    register(&engine, "iris", 1);
    promote(&engine, "iris", 1);
    eventually("the task says what is denied", || {
        tasks(&engine)[0]["note"]
            .as_str()
            .is_some_and(|note| note.contains("the cluster denies it") && note.contains("cannot get resource \"deployments\""))
    });
    eventually("doctor says what cannot be watched", || {
        let doctor = engine.annals(&["doctor"]);
        String::from_utf8_lossy(&doctor.stdout).contains("cannot be seen")
    });
    account(&kube, &dir, LEAST);
    expect(&engine, "iris", &[(1, "active")]);
}
