//! Deployments on Kubernetes: a real API server and real controllers; a stand-in for the kubelet says that pods run.

mod bad;
mod by_hand;
mod manifests;
mod rollout;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::services::{kubeconfig, script};
use crate::stage::{Engine, data_of, digest, directory, eventually, program};

/// A namespace for one test, and how to look into it as an administrator.
pub struct Kube {
    pub kubeconfig: String,
    pub namespace: String,
}

impl Kube {
    /// A new namespace on the cluster that all tests share.
    pub fn new() -> Self {
        Self::on(kubeconfig())
    }

    pub fn on(kubeconfig: String) -> Self {
        let kube = Self { kubeconfig, namespace: format!("t-{}", uuid::Uuid::now_v7().simple()) };
        kube.kubectl(&["create", "namespace", &kube.namespace]);
        // Pods are refused until a controller has made the account.
        eventually("the namespace has its account", || kube.find("serviceaccount", "default").is_some());
        kube
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = script("kubernetes");
        command.arg("kubectl").args(["--namespace", &self.namespace]).args(args).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        crate::services::said(&mut self.command(args))
    }

    /// Applies manifests.
    #[track_caller]
    pub fn apply(&self, manifests: &str, args: &[&str]) {
        use std::io::Write;
        let mut child = self.command(&[&["apply", "-f", "-"], args].concat()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "kubectl apply: {manifests}");
    }

    /// The cluster knows KServe's kind from now on.
    #[track_caller]
    pub fn knows_kserve(&self) {
        let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/kubernetes-server/inferenceservice.yaml");
        self.kubectl(&["apply", "--server-side", "-f", crd]);
        self.kubectl(&["wait", "--for=condition=Established", "crd/inferenceservices.serving.kserve.io"]);
    }

    /// An object, if there is one.
    pub fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.command(&["get", kind, name, "-o", "json", "--show-managed-fields"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// The image that a Deployment asks for.
    pub fn image(&self, name: &str) -> String {
        let object = self.find("deployment", name).unwrap_or_default();
        object.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        let _ =
            self.command(&["delete", "namespace", &self.namespace, "--wait=false"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// An engine that knows a cluster by the name `test`.
pub fn serve(data: &std::path::Path, kubeconfig: &str) -> Engine {
    let mut command = program();
    command.args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--kubernetes", &format!("test={kubeconfig}")]);
    Engine::spawn(command)
}

/// An engine on an empty directory and a namespace of its own.
pub fn stage() -> (TempDir, Kube, Engine) {
    let (dir, kube) = (directory(), Kube::new());
    let engine = serve(&data_of(&dir), &kube.kubeconfig);
    (dir, kube, engine)
}

/// A rule: what is promoted to production goes to the test's namespace; `act` says the rest.
#[track_caller]
pub fn rule(engine: &Engine, kube: &Kube, act: &Value) {
    rule_named("serve", engine, kube, act);
}

#[track_caller]
pub fn rule_named(name: &str, engine: &Engine, kube: &Kube, act: &Value) {
    let mut kubernetes = json!({"cluster": "test", "namespace": kube.namespace, "deadline_s": 4});
    kubernetes.as_object_mut().unwrap().extend(act.as_object().unwrap().clone());
    let body = json!({"when": {"type": ["promoted", "demoted"], "channel": "production"}, "do": {"kubernetes": kubernetes}});
    let path = format!("{}/v1/triggers/{name}", engine.url);
    let answer = ureq::put(path).header("content-type", "application/json").send(body.to_string().as_bytes());
    assert!(answer.is_ok(), "{answer:?}");
}

/// A Deployment that runs the image which the version's artifact names: so a version decides its pods' fate.
pub const BY_URI: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: {name}}
spec:
  replicas: 2
  selector: {matchLabels: {app: {name}}}
  template:
    metadata: {labels: {app: {name}}}
    spec:
      containers:
      - {name: model, image: {uri}, env: [{name: VERSION, value: {version}}]}
";

/// Registers version `n` of a model with an artifact at `uri`.
pub fn version(engine: &Engine, model: &str, n: u64, uri: &str) {
    let data = json!({"artifact": {"uri": uri, "digest": digest(n)}});
    engine.accept("version.registered", &format!("default/{model}"), data);
}

pub fn promote(engine: &Engine, model: &str, version: u64) -> Value {
    engine.accept("version.promoted", &format!("default/{model}/{version}"), json!({"channel": "production", "reason": "test"}))
}

/// The deployments of a model, by id: version and state.
pub fn deployments(engine: &Engine, model: &str) -> Vec<(u64, String, Value)> {
    let all = engine.get(&format!("/v1/models/{model}/deployments")).json();
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<_> =
        items.into_iter().map(|d| (d["version"].as_u64().unwrap(), d["state"].as_str().unwrap().to_owned(), d)).collect();
    found.sort_by_key(|(_, _, d)| d["requested"].as_str().unwrap_or_default().to_owned());
    found
}

/// Waits until the deployments of a model are of these versions in these states, oldest first.
#[track_caller]
pub fn expect(engine: &Engine, model: &str, wanted: &[(u64, &str)]) {
    let mut last = Vec::new();
    let mut looks = 0;
    eventually(&format!("{model} is deployed as {wanted:?}"), || {
        last = deployments(engine, model).into_iter().map(|(version, state, _)| (version, state)).collect();
        looks += 1;
        if looks % 500 == 0 {
            eprintln!("{model}: {last:?}, tasks {}", tasks(engine));
        }
        last.iter().map(|(version, state)| (*version, state.as_str())).eq(wanted.iter().copied())
    });
}

/// The rule's tasks, newest first.
pub fn tasks(engine: &Engine) -> Value {
    engine.get("/v1/triggers/serve/history").json()["items"].clone()
}

/// Events of a type, oldest first: `data` is what was proposed, `decided` what the arbiter added.
pub fn events(engine: &Engine, kind: &str) -> Vec<Value> {
    let answer = engine.get(&format!("/v1/events?type={kind}"));
    let told = answer.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.map(|mut event| {
        let both = event["data"].take();
        (event["data"], event["decided"]) = (both["data"].clone(), both["decided"].clone());
        event
    })
    .collect()
}

/// Waits for the one event of this type that fits.
#[track_caller]
pub fn one(engine: &Engine, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut found = Vec::new();
    eventually(&format!("{kind} is recorded"), || {
        found = events(engine, kind).into_iter().filter(&fits).collect();
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// A kubeconfig for an account of the namespace, which may do what `rules` say.
pub fn account(kube: &Kube, dir: &TempDir, rules: &str) -> PathBuf {
    let namespace = &kube.namespace;
    kube.apply(
        &format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: deployer, namespace: {namespace}}}}}\n---\n\
             {{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: deployer, namespace: {namespace}}}, rules: {rules}}}\n---\n\
             {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: deployer, namespace: {namespace}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}}, \
             subjects: [{{kind: ServiceAccount, name: deployer, namespace: {namespace}}}]}}"
        ),
        &[],
    );
    let token = kube.kubectl(&["create", "token", "deployer"]);
    let file = dir.path().join("deployer.kubeconfig");
    let admin = std::fs::read_to_string(&kube.kubeconfig).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for line in admin.lines() {
        let is_user = line.trim_start().starts_with("user: {client-certificate-data");
        lines.push(if is_user { format!("  user: {{token: {token}}}") } else { line.to_owned() });
    }
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}
