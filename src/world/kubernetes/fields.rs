//! Who owns the fields of an object. What we created we own by an update, since only a plain create fails where something is
//! already; before it is applied for the first time, what we own so is made what we own by applying. Else a field that a later
//! template leaves out would stay, kept for us ourselves.
//! (Kubernetes: Server-Side Apply, *Field management* and *Upgrading from client-side apply*.)

use serde_json::{Map, Value};

use super::cluster::MANAGER;

/// The `managedFields` that an object is to have so that what we own is owned by applying; `None` if that is so already.
#[must_use]
pub fn claimed(object: &Value) -> Option<Vec<Value>> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    if !entries.iter().any(|entry| is_ours(entry) && entry["operation"] == "Update") {
        return None;
    }
    let (ours, mut others): (Vec<Value>, Vec<Value>) = entries.iter().cloned().partition(is_ours);
    let mut claim = ours.last()?.clone();
    claim["operation"] = "Apply".into();
    claim["fieldsV1"] = Value::Object(owned(object));
    others.push(claim);
    Some(others)
}

fn is_ours(entry: &Value) -> bool {
    entry["manager"] == MANAGER && entry["subresource"].is_null()
}

/// What we own of an object, as a set of fields.
#[must_use]
pub fn owned(object: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten().filter(|entry| is_ours(entry)) {
        if let Value::Object(fields) = entry.get("fieldsV1").cloned().unwrap_or_default() {
            join(&mut all, fields);
        }
    }
    all
}

/// Which of these fields an object does not have, as the server writes them in conflicts: somebody removed them. Of what is
/// gone with all that is in it, only the whole is named.
#[must_use]
pub fn missing(fields: &Map<String, Value>, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look_for(fields, object, "", &mut found);
    found
}

/// `f:` is a member, `k:` the element of a list that has these keys, `v:` an element that is this value; `.` is the thing itself.
fn look_for(fields: &Map<String, Value>, there: &Value, at: &str, missing: &mut Vec<String>) {
    let elements = || there.as_array().into_iter().flatten();
    for (name, below) in fields {
        let (path, here) = match name.split_once(':') {
            Some(("f", member)) => (format!("{at}.{member}"), there.get(member)),
            Some(("k", text)) => {
                let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
                let named = keys.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
                let has_keys = |element: &&Value| keys.iter().all(|(name, value)| element.get(name) == Some(value));
                (format!("{at}[{named}]"), elements().find(has_keys))
            }
            Some(("v", text)) => {
                let value: Option<Value> = serde_json::from_str(text).ok();
                (format!("{at}[={text}]"), elements().find(|element| Some(*element) == value.as_ref()))
            }
            _ => continue,
        };
        match (here, below) {
            (None, _) => missing.push(path),
            (Some(here), Value::Object(below)) => look_for(below, here, &path, missing),
            (Some(_), _) => {}
        }
    }
}

/// Fields of both: a set of fields is a tree whose leaves are empty objects.
fn join(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, below) in more {
        match (into.get_mut(&name), below) {
            (Some(Value::Object(there)), Value::Object(below)) => join(there, below),
            (_, below) => drop(into.insert(name, below)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn what_we_created_is_claimed_together_with_what_we_applied() {
        let created = entry(MANAGER, "Update", json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}}));
        let applied = entry(MANAGER, "Apply", json!({"f:spec": {"f:template": {".": {}}}, "f:metadata": {}}));
        let mut status = entry(MANAGER, "Update", json!({"f:status": {}}));
        status["subresource"] = json!("status");
        let theirs = entry("kubectl-edit", "Update", json!({"f:spec": {"f:paused": {}}}));
        let both = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}, ".": {}}}, "f:metadata": {}});
        assert_eq!(
            claimed(&object(&[created, status.clone(), theirs.clone(), applied])),
            Some(vec![status, theirs, entry(MANAGER, "Apply", both)])
        );
    }

    #[test]
    fn what_is_ours_and_not_there_is_named() {
        let container = json!({".": {}, "f:image": {}, "f:resources": {"f:limits": {"f:cpu": {}, "f:memory": {}}}});
        let ours = json!({"f:spec": {
            "f:containers": {"k:{\"name\":\"model\"}": container, "k:{\"name\":\"gone\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"a\"": {}, "v:\"b\"": {}},
            "f:replicas": {},
        }});
        let mut status = entry(MANAGER, "Update", json!({"f:status": {"f:phase": {}}}));
        status["subresource"] = json!("status");
        let theirs = entry("kubectl-edit", "Update", json!({"f:spec": {"f:paused": {}}}));
        let owned = owned(&object(&[entry(MANAGER, "Apply", ours.clone()), status, theirs]));
        assert_eq!(Value::Object(owned.clone()), ours);
        let containers = json!([{"name": "model", "image": "another", "resources": {"limits": {"cpu": 1}}}]);
        let found = missing(&owned, &json!({"spec": {"containers": containers, "finalizers": ["b"], "replicas": null}}));
        let limit = ".spec.containers[name=\"model\"].resources.limits.memory";
        assert_eq!(found, [".spec.containers[name=\"gone\"]", limit, ".spec.finalizers[=\"a\"]"]);
    }

    #[test]
    fn what_is_owned_by_applying_stays_as_it_is() {
        let theirs = entry("kubectl-edit", "Update", json!({"f:spec": {}}));
        assert_eq!(claimed(&object(&[entry(MANAGER, "Apply", json!({})), theirs])), None);
        assert_eq!(claimed(&json!({"metadata": {}})), None);
    }
}
