//! How a deployment stands, read from what the controllers say of its object.

use serde_json::{Map, Value, json};

use super::template::Made;

/// How it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It is up; with what `deployment.succeeded` says was observed.
    Up(Map<String, Value>),
    /// Not yet.
    Coming(String),
    /// The controllers gave up.
    Failed(String),
}

/// How the object stands.
#[must_use]
pub fn of(made: Made, object: &Value) -> Standing {
    match made {
        Made::Deployment => deployment(object),
        Made::InferenceService => inference_service(object),
    }
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// A condition's status, and what it says.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, String, &'a str)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|c| c["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default();
    let said = [text("reason"), text("message")].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(": ");
    Some((text("status"), said, text("reason")))
}

fn deployment(object: &Value) -> Standing {
    let generation = number(object, "/metadata/generation");
    // What is said of an older generation says nothing about this one.
    if number(object, "/status/observedGeneration") < generation {
        return Standing::Coming("the controller has not seen it yet".into());
    }
    if let Some(("False", said, "ProgressDeadlineExceeded")) = condition(object, "Progressing") {
        return Standing::Failed(said);
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let [replicas, updated, available] =
        ["replicas", "updatedReplicas", "availableReplicas"].map(|n| number(object, &format!("/status/{n}")));
    if [replicas, updated, available] == [wanted; 3] {
        return Standing::Up(json!({"replicas_ready": available}).as_object().cloned().unwrap_or_default());
    }
    let refused = condition(object, "ReplicaFailure").filter(|(status, ..)| *status == "True").map(|(_, said, _)| format!("; {said}"));
    Standing::Coming(format!("{updated} of {wanted} updated, {available} available{}", refused.unwrap_or_default()))
}

fn inference_service(object: &Value) -> Standing {
    let generation = number(object, "/metadata/generation");
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_u64);
    // Without the number, only the first generation cannot be mistaken for an older one.
    if observed.map_or(generation > 1, |observed| observed < generation) {
        return Standing::Coming("KServe has not seen it yet".into());
    }
    let transition = object.pointer("/status/modelStatus/transitionStatus").and_then(Value::as_str).unwrap_or_default();
    if let "InvalidSpec" | "BlockedByFailedLoad" = transition {
        let why = object.pointer("/status/modelStatus/lastFailureInfo/message").and_then(Value::as_str).unwrap_or_default();
        return Standing::Failed([transition, why].join(": ").trim_end_matches(": ").into());
    }
    match condition(object, "Ready") {
        Some(("True", ..)) => {
            let mut observed = Map::new();
            if let Some(url) = object.pointer("/status/url").and_then(Value::as_str).filter(|url| !url.is_empty()) {
                observed.insert("endpoint".into(), json!(url));
            }
            Standing::Up(observed)
        }
        Some((_, said, _)) if !said.is_empty() => Standing::Coming(said),
        _ => Standing::Coming("it is not ready yet".into()),
    }
}

/// Why its pods are not ready, in a few words, if they say so.
#[must_use]
pub fn trouble(pods: &[Value]) -> Option<String> {
    let newest_first = {
        let mut pods: Vec<&Value> = pods.iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none()).collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str)));
        pods
    };
    newest_first.into_iter().find_map(|pod| {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let containers = pod.pointer("/status/containerStatuses")?.as_array()?;
        let said = containers.iter().find_map(|container| {
            let waiting = container.pointer("/state/waiting").filter(|w| w["reason"] != "ContainerCreating");
            let state = waiting.or_else(|| container.pointer("/state/terminated"));
            let image = container["image"].as_str().unwrap_or_default();
            match state {
                Some(state) => Some(format!("{} ({image})", state["reason"].as_str()?)),
                None if container["ready"] == false && container.pointer("/state/running").is_some() => {
                    Some(format!("the container runs and is not ready ({image})"))
                }
                None => None,
            }
        });
        said.map(|said| format!("{said} in pod {name}"))
    })
}

/// The digest of the image that the pods run, if they all say the same.
#[must_use]
pub fn image_digest(pods: &[Value]) -> Option<String> {
    let mut digests = pods.iter().filter_map(|pod| {
        let id = pod.pointer("/status/containerStatuses/0/imageID")?.as_str()?;
        Some(&id[id.find("sha256:")?..])
    });
    let first = digests.next()?;
    digests.all(|digest| digest == first).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(generation: u64, status: Value) -> Value {
        json!({"metadata": {"generation": generation}, "spec": {"replicas": 2}, "status": status})
    }

    #[test]
    fn a_deployment_is_up_when_all_replicas_are_of_this_generation() {
        let up = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(matches!(of(Made::Deployment, &object(2, up.clone())), Standing::Up(o) if o["replicas_ready"] == 2));
        assert!(matches!(of(Made::Deployment, &object(3, up)), Standing::Coming(_)), "said of an older generation");
        let old = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(matches!(of(Made::Deployment, &object(2, old)), Standing::Coming(_)), "an old pod is left");
    }

    #[test]
    fn a_passed_deadline_counts_once_the_generation_is_seen() {
        let passed = json!({"observedGeneration": 2, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}]});
        assert_eq!(of(Made::Deployment, &object(2, passed.clone())), Standing::Failed("ProgressDeadlineExceeded: too late".into()));
        assert!(matches!(of(Made::Deployment, &object(3, passed)), Standing::Coming(_)));
    }

    #[test]
    fn an_inference_service_is_ready_when_kserve_says_so_of_this_generation() {
        let ready = json!({"observedGeneration": 2, "url": "http://m", "conditions": [{"type": "Ready", "status": "True"}]});
        assert!(matches!(of(Made::InferenceService, &object(2, ready.clone())), Standing::Up(o) if o["endpoint"] == "http://m"));
        assert!(matches!(of(Made::InferenceService, &object(3, ready)), Standing::Coming(_)));
        let failed = json!({"observedGeneration": 1, "modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"message": "no such file"}}});
        assert_eq!(of(Made::InferenceService, &object(1, failed)), Standing::Failed("BlockedByFailedLoad: no such file".into()));
        assert!(matches!(of(Made::InferenceService, &object(1, json!({}))), Standing::Coming(_)));
    }

    #[test]
    fn the_newest_pod_says_what_is_wrong() {
        let pod = |name: &str, at: &str, status: Value| json!({"metadata": {"name": name, "creationTimestamp": at}, "status": {"containerStatuses": [status]}});
        let fine = pod("a", "2026-01-01T00:00:00Z", json!({"ready": true, "state": {"running": {}}, "imageID": "r@sha256:aa"}));
        let broken = pod("b", "2026-01-02T00:00:00Z", json!({"image": "x:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}));
        assert_eq!(trouble(&[fine.clone(), broken]), Some("ImagePullBackOff (x:1) in pod b".into()));
        assert_eq!((trouble(std::slice::from_ref(&fine)), image_digest(&[fine])), (None, Some("sha256:aa".into())));
    }
}
