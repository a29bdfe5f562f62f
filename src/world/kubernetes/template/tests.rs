//! Templates: what they make, and what is wrong with them.

use super::*;

fn rule(template: Option<&str>) -> Kubernetes {
    serde_json::from_value(json!({"cluster": "c", "image": "server:1", "replicas": 3, "template": template})).unwrap()
}

fn values() -> Values {
    Values {
        model: "iris".into(),
        version: 7,
        channel: "production".into(),
        digest: Some("sha256:aa".into()),
        uri: Some("s3://models/iris/7".into()),
        name: "iris-production".into(),
        namespace: "serving".into(),
    }
}

fn made(template: &str) -> Result<Value, String> {
    manifest(&rule(Some(template)), &values()).map(|m| Value::Object(m.object)).map_err(|e| e.to_string())
}

#[test]
fn the_built_in_deployment_names_the_version_where_pods_must_restart() {
    let manifest = manifest(&rule(None), &values()).unwrap();
    let object = Value::Object(manifest.object);
    assert_eq!((manifest.made, &object["spec"]["replicas"]), (Made::Deployment, &json!(3)));
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "server:1");
    assert_eq!(container["env"][1], json!({"name": "MODEL_VERSION", "value": "7"}));
    assert_eq!(container["env"][3], json!({"name": "MODEL_DIGEST", "value": "sha256:aa"}));
    assert_eq!((&object["metadata"]["name"], &object["metadata"]["namespace"]), (&json!("iris-production"), &json!("serving")));
}

#[test]
fn a_version_without_digest_has_none_in_the_built_in_deployment() {
    let values = Values { digest: None, ..values() };
    let object = Value::Object(manifest(&rule(None), &values).unwrap().object);
    let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(env.iter().map(|e| e["name"].as_str().unwrap()).collect::<Vec<_>>(), ["MODEL_NAME", "MODEL_VERSION", "MODEL_URI"]);
}

#[test]
fn the_built_in_inference_service_has_a_predictor() {
    let mut rule = rule(None);
    rule.format = Some(Format::InferenceService);
    let manifest = manifest(&rule, &values()).unwrap();
    assert_eq!((manifest.made, manifest.api_version.as_str()), (Made::InferenceService, "serving.kserve.io/v1beta1"));
    assert_eq!(manifest.object["spec"]["predictor"]["model"]["storageUri"], "s3://models/iris/7");
}

#[test]
fn an_image_has_places_to_fill_in() {
    let image = |text: &str| {
        let rule = Kubernetes { image: Some(text.into()), ..rule(None) };
        manifest(&rule, &values())
            .map(|m| m.object["spec"]["template"]["spec"]["containers"][0]["image"].clone())
            .map_err(|e| e.to_string())
    };
    assert_eq!(image("r/{model}-{channel}:{version}").unwrap(), "r/iris-production:7");
    assert!(image("{image}").unwrap_err().contains("cannot stand in itself"));
    assert!(image("r/{tag}").unwrap_err().contains("in `image`, line 1: `{tag}` is not known"));
}

#[test]
fn json_and_flow_style_are_templates_too() {
    let json = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "m", "image": "r/{model}:{version}"}]}}}}"#;
    assert_eq!(made(json).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"], "r/iris:7");
    let flow = "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: {replicas}, template: {spec: {containers: [{name: m, image: '{image}'}]}}}}";
    assert_eq!(made(flow).unwrap()["spec"]["replicas"], 3);
}

#[test]
fn a_value_stays_one_string_whatever_it_holds() {
    let mut values = values();
    values.uri = Some("x\n        securityContext: {privileged: true} # \"'{name}".into());
    let object = Value::Object(manifest(&rule(None), &values).unwrap().object);
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"][2]["value"], *values.uri.as_ref().unwrap());
    assert_eq!(container.as_object().unwrap().keys().collect::<Vec<_>>(), ["env", "image", "name"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let head = "apiVersion: apps/v1\nkind: Deployment\n";
    for (template, said) in [
        ("", "it is empty"),
        ("a: [", "neither YAML nor JSON"),
        ("- a\n- b", "must be an object, not a list"),
        ("kind: Deployment", "`apiVersion` is missing"),
        ("apiVersion: v1\nkind: Pod", "it makes a Pod of v1"),
        (head, "spec.template.spec.containers is missing"),
        (&format!("{head}spec: {{template: {{spec: {{containers: [{{name: m}}]}}}}}}"), "containers[0].image is missing"),
        (&format!("{head}---\n{head}"), "several objects"),
        (&format!("{head}metadata: {{name: other}}"), "metadata.name is \"other\" and must be {name}"),
        (&format!("{head}spec:\n  x: {{modle}}"), "line 4: `{modle}` is not known; there are {model}"),
        ("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {}", "spec.predictor is missing"),
    ] {
        let wrong = made(template).unwrap_err();
        assert!(wrong.contains(said) && wrong.starts_with("the template cannot be used: "), "{template}: {wrong}");
    }
    let values = Values { digest: None, ..values() };
    let wrong = manifest(&rule(Some("a: {digest}")), &values).unwrap_err();
    assert_eq!(wrong.0, "line 1: version 7 has no digest");
}

#[test]
fn the_deadline_is_the_controllers_too() {
    let mut rule = rule(None);
    rule.deadline_s = Some(5);
    assert_eq!(manifest(&rule, &values()).unwrap().object["spec"]["progressDeadlineSeconds"], 5);
}
