//! A cluster: one object read, applied or deleted, and what can go wrong with that.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::fields;
use super::template::{KSERVE, Made, Manifest};
use crate::config::kubernetes::{Access, Cluster as Configured};

/// Our one field manager.
pub const MANAGER: &str = "annals";
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Why a request did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody of that name was configured.
    #[error("the engine knows no cluster `{0}`: start it with --kubernetes {0}=KUBECONFIG")]
    Unknown(String),
    /// It does not answer, or how to reach it cannot be read: it may by itself be well again.
    #[error("the cluster does not answer: {0}")]
    Away(String),
    /// It does not know who asks: credentials that ended, perhaps. They are read again.
    #[error("the cluster does not know who asks: {0}; renew the credentials in its kubeconfig, which is read again")]
    Stranger(String),
    /// It refuses us.
    #[error("the cluster denies it: {0}; give the account that right (examples/operations/kubernetes/deployer.yaml)")]
    Denied(String),
    /// Somebody else owns fields that we would change: by field, whom.
    #[error("somebody else owns fields of the object: {}; let them go, leave them out of the template, or take the object over with `annals adopt`", list(.0))]
    Owned(BTreeMap<String, String>),
    /// The object changed since it was read.
    #[error("the object changed meanwhile")]
    Moved,
    /// The cluster does not know this kind of object.
    #[error("the cluster has no such kind of object: {0}")]
    NotServed(String),
    /// The object is wrong.
    #[error("the cluster refuses the object: {0}")]
    Invalid(String),
}

fn list(fields: &BTreeMap<String, String>) -> String {
    fields.iter().map(|(field, who)| format!("{who} owns {field}")).collect::<Vec<_>>().join(", ")
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// As events and views name it: `kubernetes/cluster/namespace/name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("kubernetes/{}/{}/{}", self.cluster, self.namespace, self.name)
    }

    /// Reads what [`Target::path`] wrote; `None` for a target that is none of Kubernetes.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("kubernetes/")?.splitn(3, '/').map(str::to_owned);
        Some(Self { cluster: parts.next()?, namespace: parts.next()?, name: parts.next()? })
    }

    /// As the data of events has it.
    #[must_use]
    pub fn data(&self) -> Value {
        json!({"platform": "kubernetes", "cluster": self.cluster, "namespace": self.namespace, "name": self.name})
    }
}

/// How objects of a kind are asked for.
#[must_use]
pub fn resource(made: Made, api_version: Option<&str>) -> ApiResource {
    let (kind, plural, usual) = match made {
        Made::Deployment => ("Deployment", "deployments", "apps/v1".to_owned()),
        Made::InferenceService => ("InferenceService", "inferenceservices", format!("{KSERVE}/v1beta1")),
    };
    let api_version = api_version.map_or(usual, str::to_owned);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    ApiResource { group: group.into(), version: version.into(), kind: kind.into(), plural: plural.into(), api_version: api_version.clone() }
}

/// A cluster that the engine was told of; it is reached when it is needed.
pub struct Cluster {
    configured: Configured,
    client: Mutex<Option<Client>>,
}

impl Cluster {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(configured: Configured) -> Self {
        Self { configured, client: Mutex::default() }
    }

    /// Someone who speaks to it.
    ///
    /// # Errors
    /// [`Trouble::Away`] if the configuration cannot be read: it is read again the next time.
    pub async fn client(&self) -> Result<Client, Trouble> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let away = |e: &dyn std::error::Error| Trouble::Away(format!("its configuration cannot be used: {}", chain(e)));
        let mut config = match &self.configured.access {
            Access::InCluster => Config::incluster().map_err(|e| away(&e))?,
            Access::File { path, context } => {
                let file = Kubeconfig::read_from(path).map_err(|e| away(&e))?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| away(&e))?
            }
        };
        config.connect_timeout = Some(REQUEST_MAX / 2);
        // Tasks are tried again by their own policy, which says so where people look.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|e| away(&e))?;
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Begins anew with what the configuration says by then.
    pub async fn forget(&self) {
        *self.client.lock().await = None;
    }

    async fn within<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
        let answer = match tokio::time::timeout(REQUEST_MAX, request).await {
            Ok(answer) => answer.map_err(|e| trouble(&e)),
            Err(_) => Err(Trouble::Away(format!("no answer within {} s", REQUEST_MAX.as_secs()))),
        };
        if let Err(Trouble::Stranger(_)) = &answer {
            self.forget().await;
        }
        answer
    }

    async fn api(&self, namespace: &str, resource: &ApiResource) -> Result<Api<DynamicObject>, Trouble> {
        Ok(Api::namespaced_with(self.client().await?, namespace, resource))
    }

    /// Whether it answers; with its version.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn version(&self) -> Result<String, Trouble> {
        let client = self.client().await?;
        Ok(self.within(client.apiserver_version()).await?.git_version)
    }

    /// The object, if there is one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn get(&self, target: &Target, resource: &ApiResource) -> Result<Option<Value>, Trouble> {
        let api = self.api(&target.namespace, resource).await?;
        self.within(api.get_opt(&target.name)).await?.map(|object| as_json(&object)).transpose()
    }

    /// The object of a kind that a rule may have made there. Not to be allowed to see what was never made does no harm, nor
    /// does a cluster without InferenceServices.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn may_have(&self, target: &Target, made: Made) -> Result<Option<Value>, Trouble> {
        match self.get(target, &resource(made, None)).await {
            Err(Trouble::NotServed(_)) => Ok(None),
            Err(Trouble::Denied(_)) if made == Made::InferenceService => Ok(None),
            answer => answer,
        }
    }

    /// Applies the manifest, server-side, and answers what the object is then. `over` is the object as
    /// it was read: if it changed since, nothing is applied.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn apply(&self, target: &Target, manifest: &Manifest, over: Option<&Value>, how: &Applying) -> Result<Value, Trouble> {
        let api = self.api(&target.namespace, &resource(manifest.made, Some(&manifest.api_version))).await?;
        let mut object = manifest.object.clone();
        let lock = over.and_then(|found| found.pointer("/metadata/resourceVersion")).filter(|_| !how.dry_run);
        if let Some(version) = lock {
            super::template::member(&mut object, "metadata").insert("resourceVersion".into(), version.clone());
        }
        let params = PatchParams { dry_run: how.dry_run, force: how.force, ..PatchParams::apply(MANAGER) };
        as_json(&self.within(api.patch(&target.name, &params, &Patch::Apply(&object))).await?)
    }

    /// Creates the object, and answers what it is then; [`Trouble::Moved`] if there is one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn create(&self, target: &Target, manifest: &Manifest) -> Result<Value, Trouble> {
        let api = self.api(&target.namespace, &resource(manifest.made, Some(&manifest.api_version))).await?;
        let object = serde_json::from_value(Value::Object(manifest.object.clone())).map_err(|e| Trouble::Invalid(e.to_string()))?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        as_json(&self.within(api.create(&params, &object)).await?)
    }

    /// Applies the manifest over the object as it was read, which may have been created by us.
    ///
    /// # Errors
    /// [`Trouble`]; [`Trouble::Moved`] if it changed since.
    pub async fn apply_over(&self, target: &Target, manifest: &Manifest, found: Value, force: bool) -> Result<Value, Trouble> {
        let found = match fields::claimed(&found) {
            None => found,
            Some(owners) => {
                let patch = json!({"metadata": {"managedFields": owners, "resourceVersion": found.pointer("/metadata/resourceVersion")}});
                let resource = resource(manifest.made, Some(&manifest.api_version));
                self.merge(target, &resource, patch.as_object().cloned().unwrap_or_default()).await?
            }
        };
        self.apply(target, manifest, Some(&found), &Applying { force, dry_run: false }).await
    }

    /// Writes members of the object over, by a merge patch.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn merge(&self, target: &Target, resource: &ApiResource, patch: Map<String, Value>) -> Result<Value, Trouble> {
        let api = self.api(&target.namespace, resource).await?;
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        as_json(&self.within(api.patch(&target.name, &params, &Patch::Merge(&patch))).await?)
    }

    /// Deletes the object as it was read, with what hangs on it; one that is gone is deleted.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn delete(&self, target: &Target, resource: &ApiResource, found: &Value) -> Result<(), Trouble> {
        let api = self.api(&target.namespace, resource).await?;
        let text = |name: &str| found.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).map(str::to_owned);
        let exactly = kube::api::Preconditions { resource_version: text("resourceVersion"), uid: text("uid") };
        match self.within(api.delete(&target.name, &DeleteParams::background().preconditions(exactly))).await {
            Ok(_) | Err(Trouble::NotServed(_)) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// The pods that a Deployment selects; none if we may not see them, since they only explain.
    pub async fn pods(&self, namespace: &str, deployment: &Value) -> Vec<Value> {
        let Some(labels) = deployment.pointer("/spec/selector/matchLabels").and_then(Value::as_object) else { return Vec::new() };
        let selector: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        let resource =
            ApiResource { group: String::new(), version: "v1".into(), kind: "Pod".into(), plural: "pods".into(), api_version: "v1".into() };
        let Ok(api) = self.api(namespace, &resource).await else { return Vec::new() };
        let params = ListParams::default().labels(&selector.join(",")).limit(50);
        let found = self.within(api.list(&params)).await;
        found.map(|list| list.items.iter().filter_map(|pod| as_json(pod).ok()).collect()).unwrap_or_default()
    }
}

/// How a manifest is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applying {
    /// Take fields from others.
    pub force: bool,
    /// Only see what it would do.
    pub dry_run: bool,
}

/// An object as JSON.
///
/// # Errors
/// If it is none, which no server sends.
pub fn as_json(object: &DynamicObject) -> Result<Value, Trouble> {
    serde_json::to_value(object).map_err(|e| Trouble::Invalid(e.to_string()))
}

/// What an error of the client means for us.
#[must_use]
pub fn trouble(error: &kube::Error) -> Trouble {
    let kube::Error::Api(status) = error else { return Trouble::Away(chain(error)) };
    let said = status.message.clone();
    match status.code {
        401 => Trouble::Stranger(said),
        403 => Trouble::Denied(said),
        404 => Trouble::NotServed(said),
        409 => {
            let causes = status.details.iter().flat_map(|details| &details.causes).filter(|cause| cause.reason == "FieldManagerConflict");
            let owned: BTreeMap<String, String> = causes.map(|cause| (cause.field.clone(), owner(&cause.message))).collect();
            if owned.is_empty() { Trouble::Moved } else { Trouble::Owned(owned) }
        }
        400 | 413 | 415 | 422 => Trouble::Invalid(said),
        _ => Trouble::Away(format!("{} {said}", status.code)),
    }
}

/// Out of `conflict with "kubectl-edit" using apps/v1`.
fn owner(message: &str) -> String {
    message.split('"').nth(1).unwrap_or(message).to_owned()
}

fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Value) -> Trouble {
        trouble(&kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn a_conflict_of_managers_names_them_and_another_one_is_none() {
        let cause =
            json!({"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"});
        let owned = answer(json!({"code": 409, "reason": "Conflict", "message": "m", "details": {"causes": [cause]}}));
        assert_eq!(owned, Trouble::Owned([(".spec.replicas".into(), "kubectl-edit".into())].into()));
        assert!(owned.to_string().contains("kubectl-edit owns .spec.replicas") && owned.to_string().contains("annals adopt"), "{owned}");
        assert_eq!(answer(json!({"code": 409, "reason": "Conflict", "message": "modified"})), Trouble::Moved);
    }

    #[test]
    fn answers_are_told_apart_by_what_can_be_done() {
        assert!(matches!(answer(json!({"code": 403, "message": "deployments.apps is forbidden"})), Trouble::Denied(_)));
        assert!(matches!(answer(json!({"code": 401, "message": "Unauthorized"})), Trouble::Stranger(_)));
        assert!(matches!(answer(json!({"code": 422, "message": "immutable"})), Trouble::Invalid(_)));
        assert!(matches!(answer(json!({"code": 503, "message": "later"})), Trouble::Away(_)));
    }

    #[test]
    fn a_target_is_read_as_it_was_written() {
        let target = Target { cluster: "c".into(), namespace: "n".into(), name: "m".into() };
        assert_eq!((Target::parse(&target.path()), Target::parse("local///x")), (Some(target), None));
    }
}
