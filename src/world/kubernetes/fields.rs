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
    let is_ours = |entry: &Value| entry["manager"] == MANAGER && entry["subresource"].is_null();
    if !entries.iter().any(|entry| is_ours(entry) && entry["operation"] == "Update") {
        return None;
    }
    let (ours, mut others): (Vec<Value>, Vec<Value>) = entries.iter().cloned().partition(is_ours);
    let mut all = Map::new();
    let mut claim = ours.last()?.clone();
    for entry in ours {
        if let Value::Object(fields) = entry.get("fieldsV1").cloned().unwrap_or_default() {
            join(&mut all, fields);
        }
    }
    claim["operation"] = "Apply".into();
    claim["fieldsV1"] = Value::Object(all);
    others.push(claim);
    Some(others)
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
    fn what_is_owned_by_applying_stays_as_it_is() {
        let theirs = entry("kubectl-edit", "Update", json!({"f:spec": {}}));
        assert_eq!(claimed(&object(&[entry(MANAGER, "Apply", json!({})), theirs])), None);
        assert_eq!(claimed(&json!({"metadata": {}})), None);
    }
}
