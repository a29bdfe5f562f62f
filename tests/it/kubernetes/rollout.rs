//! Promotions that reach a cluster, those that do not come up there, and what is taken away again.

use serde_json::{Value, json};

use super::{BY_URI, Kube, deployments, events, expect, one, promote, rule, rule_named, serve, stage, tasks, version};
use crate::services::Server;
use crate::stage::{data_of, directory, eventually, register};

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][format!("annals.dev/{name}")].as_str().unwrap_or_default()
}

#[test]
fn a_promotion_is_deployed_and_a_newer_one_goes_over_it() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"image": "server:1", "replicas": 2}));
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    let promoted = promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    let object = kube.get("deployment", "iris-production");
    assert_eq!((annotation(&object, "version"), annotation(&object, "model")), ("1", "default/iris"));
    assert_eq!(annotation(&object, "position"), promoted["position"].as_str().unwrap());
    assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "annals");
    let pod = object["spec"]["template"]["metadata"].to_string();
    assert!(!pod.contains("annals.dev"), "an annotation of the pods would restart them with each event: {pod}");
    let (_, _, deployment) = deployments(&engine, "iris").remove(0);
    assert_eq!(deployment["observed"]["replicas_ready"], 2);
    let requested = one(&engine, "deployment-requested", |_| true);
    assert_eq!(requested["causationid"], promoted["id"], "{requested}");

    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "superseded"), (2, "active")]);
    let newer = kube.get("deployment", "iris-production");
    let count = |object: &Value| annotation(object, "modelseq").parse::<u64>().unwrap();
    assert!(count(&newer) > count(&object) && annotation(&newer, "version") == "2", "{newer:#}");
    assert!(tasks(&engine).as_array().unwrap().iter().all(|task| task["state"] == "done"), "{}", tasks(&engine));
}

#[test]
fn what_does_not_come_up_is_rolled_back_to_the_last_good_version() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"template": BY_URI, "rollback": true}));
    version(&engine, "iris", 1, "registry/iris:1");
    version(&engine, "iris", 2, "registry/iris:image-missing");
    version(&engine, "iris", 3, "registry/iris:crash");
    version(&engine, "iris", 4, "registry/iris:unready");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    for (number, said) in [(2, "ImagePullBackOff"), (3, "CrashLoopBackOff"), (4, "runs and is not ready")] {
        promote(&engine, "iris", number);
        let back = one(&engine, "rolled-back", |event| event["decided"]["version"] == number);
        assert!(back["data"]["error"].as_str().unwrap().contains(said), "{back}");
        assert_eq!(back["decided"]["restored"], deployments(&engine, "iris")[0].2["deployment"], "{back}");
        assert_eq!(kube.image("iris-production"), "registry/iris:1");
        let failed = one(&engine, "deployment-failed", |event| event["decided"]["version"] == number);
        assert!(failed["data"]["error"].as_str().unwrap().contains("ProgressDeadlineExceeded"), "{failed}");
    }
    expect(&engine, "iris", &[(1, "active"), (2, "rolled_back"), (3, "rolled_back"), (4, "rolled_back")]);
}

#[test]
fn what_does_not_come_up_fails_where_no_roll_back_is_wanted() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"template": BY_URI}));
    version(&engine, "iris", 1, "registry/iris:crash");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "failed")]);
    eventually("the task is parked", || tasks(&engine)[0]["state"] == "parked");
    assert!(tasks(&engine)[0]["note"].as_str().unwrap().contains("CrashLoopBackOff"), "{}", tasks(&engine));
}

#[test]
fn a_newer_promotion_does_not_wait_for_an_older_one() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"template": BY_URI, "deadline_s": 3600}));
    version(&engine, "iris", 1, "registry/iris:unready");
    version(&engine, "iris", 2, "registry/iris:2");
    promote(&engine, "iris", 1);
    eventually("the first one is on its way", || kube.image("iris-production") == "registry/iris:unready");
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "failed"), (2, "active")]);
    let failed = one(&engine, "deployment-failed", |_| true);
    assert_eq!(failed["data"]["error"], "superseded by version 2 before it was up");
    assert_eq!(kube.image("iris-production"), "registry/iris:2");
}

#[test]
fn what_a_later_template_leaves_out_goes_from_what_was_created_too() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"template": BY_URI}));
    version(&engine, "iris", 1, "registry/iris:1");
    version(&engine, "iris", 2, "registry/iris:2");
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    let ours = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let ours = entries.filter(|entry| entry["manager"] == "annals" && entry["subresource"].is_null());
        ours.map(|entry| entry["operation"].as_str().unwrap().to_owned()).collect()
    };
    let env = |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let kubectl = |args: &[&str]| serde_json::from_str::<Value>(&kube.kubectl(args)).unwrap();
    let fields = ["get", "deployment", "iris-production", "--output=json", "--show-managed-fields"];
    let created = kubectl(&fields);
    assert_eq!((ours(&created), env(&created).is_array()), (vec!["Update".to_owned()], true), "{created:#}");

    rule(&engine, &kube, &json!({"template": BY_URI.replace(", env: [{name: VERSION, value: {version}}]", "")}));
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "superseded"), (2, "active")]);
    let applied = kubectl(&fields);
    assert_eq!((ours(&applied), env(&applied)), (vec!["Apply".to_owned()], Value::Null), "{applied:#}");
    assert_eq!(kube.image("iris-production"), "registry/iris:2");
    assert_eq!(events(&engine, "deployment.observed"), Vec::<Value>::new(), "what we do ourselves is no finding");
}

#[test]
fn what_was_demoted_is_removed_and_a_new_name_displaces_the_old_object() {
    let (_dir, kube, engine) = stage();
    rule(&engine, &kube, &json!({"image": "server:1"}));
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    rule(&engine, &kube, &json!({"image": "server:1", "name": "serve-{model}"}));
    promote(&engine, "iris", 2);
    expect(&engine, "iris", &[(1, "removed"), (2, "active")]);
    assert!(kube.find("deployment", "iris-production").is_none() && kube.find("deployment", "serve-iris").is_some());
    engine.accept("version.demoted", "default/iris/2", json!({"channel": "production", "reason": "test"}));
    expect(&engine, "iris", &[(1, "removed"), (2, "removed")]);
    eventually("the object is gone", || kube.find("deployment", "serve-iris").is_none());
    assert_eq!(events(&engine, "deployment.observed"), Vec::<Value>::new(), "what we do ourselves is no finding");
}

#[test]
fn a_rule_leaves_alone_what_a_rule_with_a_longer_name_made() {
    let (_dir, kube, engine) = stage();
    rule_named("serve", &engine, &kube, &json!({"image": "server:1"}));
    rule_named("serve-eu", &engine, &kube, &json!({"image": "server:eu", "name": "iris-eu"}));
    register(&engine, "iris", 1);
    promote(&engine, "iris", 1);
    eventually("both are up", || deployments(&engine, "iris").iter().filter(|(_, state, _)| state == "active").count() == 2);
    register(&engine, "iris", 2);
    promote(&engine, "iris", 2);
    let up = |n: u64| deployments(&engine, "iris").iter().filter(|(number, state, _)| *number == n && state == "active").count();
    eventually("both have the second version", || up(2) == 2 && up(1) == 0);
    assert_eq!(events(&engine, "deployment-removed"), Vec::<Value>::new());
    assert_eq!((kube.image("iris-production").as_str(), kube.image("iris-eu").as_str()), ("server:1", "server:eu"));
}

#[test]
fn an_api_server_that_was_killed_gets_what_was_promoted_meanwhile() {
    let (server, dir) = (Server::up("kubernetes"), directory());
    let kube = Kube::on(server.address.clone());
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    rule(&engine, &kube, &json!({"image": "server:1"}));
    register(&engine, "iris", 1);
    register(&engine, "iris", 2);
    promote(&engine, "iris", 1);
    expect(&engine, "iris", &[(1, "active")]);
    server.kill();
    promote(&engine, "iris", 2);
    eventually("the task says why it waits", || {
        tasks(&engine)[0]["note"].as_str().is_some_and(|note| note.contains("the cluster does not answer"))
    });
    let doctor = engine.annals(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.code() == Some(1) && said.contains("the cluster test: the cluster does not answer"), "{said}");
    server.back();
    expect(&engine, "iris", &[(1, "superseded"), (2, "active")]);
}

/// What KServe's controller would write.
fn ready(kube: &Kube, name: &str) {
    let generation = kube.get("inferenceservice", name)["metadata"]["generation"].as_u64().unwrap();
    let status = json!({"status": {"observedGeneration": generation, "url": format!("http://{name}.example"), "conditions": [{"type": "Ready", "status": "True"}]}});
    kube.kubectl(&["patch", "inferenceservice", name, "--subresource=status", "--type=merge", "-p", &status.to_string()]);
}

#[test]
fn an_inference_service_is_deployed_when_kserve_says_so() {
    let (dir, kube, engine) = stage();
    kube.knows_kserve();
    rule(&engine, &kube, &json!({"format": "inferenceservice", "deadline_s": 600}));
    version(&engine, "iris", 1, "s3://models/iris/1");
    version(&engine, "iris", 2, "s3://models/iris/2");
    for number in [1, 2] {
        promote(&engine, "iris", number);
        let uri = format!("s3://models/iris/{number}");
        eventually("it is applied", || {
            kube.find("inferenceservice", "iris-production").is_some_and(|o| o["spec"]["predictor"]["model"]["storageUri"] == *uri)
        });
        let requested = deployments(&engine, "iris").pop().unwrap();
        assert_eq!((requested.0, requested.1.as_str()), (number, "requested"), "nobody said that it is ready");
        ready(&kube, "iris-production");
        eventually("it is up", || deployments(&engine, "iris").pop().is_some_and(|(n, state, _)| n == number && state == "active"));
    }
    assert_eq!(deployments(&engine, "iris")[1].2["endpoint"], "http://iris-production.example");
    // The same as a template of one's own: a start finds it where it is, and nothing missing.
    let template = "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, spec: {predictor: {model: {storageUri: {uri}}}}}";
    rule(&engine, &kube, &json!({"template": template, "heal": true}));
    drop(engine);
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    kube.kubectl(&["create", "deployment", "beside", "--image=x"]);
    one(&engine, "deployment.observed", |event| event["data"]["finding"] == "created");
    assert_eq!(events(&engine, "deployment.observed").len(), 1);
}
