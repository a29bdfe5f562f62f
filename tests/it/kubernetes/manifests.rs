//! Annals itself on Kubernetes: the manifests of the examples, accepted and scheduled.

use serde_json::Value;

use super::Kube;
use crate::stage::eventually;

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("{}/examples/operations/kubernetes/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn an_embedded_engine_is_accepted_and_scheduled() {
    let kube = Kube::new();
    kube.apply(&example("deployer.yaml"), &[]);
    kube.apply(&example("embedded.yaml"), &[]);
    eventually("its pod runs", || kube.find("pod", "annals-0").is_some_and(|pod| pod["status"]["phase"] == "Running"));
    assert_eq!(kube.get("pod", "annals-0")["spec"]["serviceAccountName"], "annals");
    assert_eq!(kube.get("pvc", "data-annals-0")["spec"]["accessModes"][0], "ReadWriteOnce");
    kube.get("service", "annals");
}

#[test]
fn several_engines_on_kafka_are_accepted_and_scheduled() {
    let kube = Kube::new();
    kube.apply(&example("deployer.yaml"), &[]);
    kube.apply(&example("kafka.yaml"), &[]);
    eventually("three are available", || kube.find("deployment", "annals").is_some_and(|d| d["status"]["availableReplicas"] == 3));
    kube.get("poddisruptionbudget", "annals");
}

/// Least rights: what the account may do is what the tests' own account needs, and nothing else.
#[test]
fn the_account_may_deploy_and_do_nothing_else() {
    let kube = Kube::new();
    kube.knows_kserve();
    kube.apply(&example("deployer.yaml"), &[]);
    let may = |verb: &str, resource: &str| -> bool {
        let account = format!("--as=system:serviceaccount:{}:annals", kube.namespace);
        let output = kube.command(&["auth", "can-i", verb, resource, &account]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    for verb in ["get", "list", "watch", "create", "patch", "delete"] {
        assert!(may(verb, "deployments.apps") && may(verb, "inferenceservices.serving.kserve.io"), "{verb}");
    }
    assert!(may("list", "pods"));
    for (verb, resource) in [("get", "secrets"), ("create", "pods"), ("delete", "namespaces"), ("patch", "roles.rbac.authorization.k8s.io")]
    {
        assert!(!may(verb, resource), "{verb} {resource}");
    }
    let role: Value = kube.get("role", "annals-deployer");
    assert_eq!(role["rules"].as_array().map(Vec::len), Some(3));
}
