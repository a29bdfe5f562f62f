//! Kubernetes: promotions that become objects of a cluster, beside bare server-side applies of the same objects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::world::kubernetes::cluster::resource;
use annals::world::kubernetes::mark::Mark;
use annals::world::kubernetes::template::Made;
use annals::world::kubernetes::{manifest, registry, target};
use annals::world::rule::Kubernetes;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::client::Engine;
use crate::{bench_dir, figure};

/// Promotions, each of a model of its own.
const PROMOTIONS: usize = 1_000;
/// Applies that are under way at once; as many tasks of one rule the engine does at once.
const AT_ONCE: usize = 16;
/// What the rate must be of the bare one.
const GOAL: f64 = 0.60;
const LONGEST: Duration = Duration::from_secs(600);

/// Without replicas: pods would keep both cores busy long after, and are the same on both sides.
fn rule(namespace: &str) -> Value {
    json!({"cluster": "bench", "namespace": namespace, "image": "server:1", "replicas": 0})
}

async fn client(kubeconfig: &str) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn namespace(client: &Client, name: &str) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let made = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    namespaces.create(&kube::api::PostParams::default(), &made).await.unwrap();
}

fn deployments(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(Made::Deployment, None))
}

fn object(namespace: &str, n: usize) -> Value {
    let rule: Kubernetes = serde_json::from_value(rule(namespace)).unwrap();
    let (model, digest) = (format!("model-{n}"), format!("sha256:{n:064x}"));
    let to = target(&rule, &model, "production");
    let version = registry::Version { digest: Some(digest.clone()), uri: Some(format!("file:///models/{model}/1.pkl")) };
    let mut made = manifest(&rule, &to, &model, "production", (1, &version)).unwrap();
    let mark = Mark {
        model: format!("default/{model}"),
        version: 1,
        digest: Some(digest),
        channel: Some("production".into()),
        deployment: "serve-2".into(),
        event: "0".repeat(36),
        position: "7:1234".into(),
        modelseq: 2,
        rolled_back: None,
    };
    mark.put_on(&mut made);
    Value::Object(made.object)
}

/// Applies per second, with nothing in between.
async fn bare(client: &Client, name: &str) -> f64 {
    namespace(client, name).await;
    let objects: Arc<Vec<Value>> = Arc::new((0..PROMOTIONS).map(|n| object(name, n)).collect());
    let begun = Instant::now();
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| {
            let (api, objects) = (deployments(client, name), Arc::clone(&objects));
            tokio::spawn(async move {
                for object in objects.iter().skip(worker).step_by(AT_ONCE) {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    api.patch(name, &PatchParams::apply("annals"), &Patch::Apply(object)).await.unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    PROMOTIONS as f64 / begun.elapsed().as_secs_f64()
}

fn send(engine: &Engine, kind: &str, subject: impl Fn(usize) -> String, data: impl Fn(usize) -> Value) {
    for from in (0..PROMOTIONS).step_by(50) {
        let events: Vec<Value> = (from..from + 50)
            .map(|n| json!({"specversion": "1.0", "id": format!("{kind}-{n}"), "source": "/bench", "type": format!("dev.annals.{kind}.v1"), "subject": subject(n), "data": data(n)}))
            .collect();
        let answer = ureq::post(format!("http://{}/v1/events", engine.address))
            .header("content-type", "application/cloudevents-batch+json")
            .send(Value::Array(events).to_string().as_bytes())
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// Promotions per second, from the first proposal until the last object is there.
async fn promoted(client: &Client, name: &str, kubeconfig: &str) -> f64 {
    namespace(client, name).await;
    let dir = bench_dir("kubernetes");
    let engine = Engine::start_quietly(&dir.join("data"), &["--kubernetes", &format!("bench={kubeconfig}")]);
    send(
        &engine,
        "version.registered",
        |n| format!("default/model-{n}"),
        |n| json!({"artifact": {"uri": format!("file:///models/model-{n}/1.pkl"), "digest": format!("sha256:{n:064x}")}}),
    );
    let body = json!({"when": {"type": ["promoted", "demoted"]}, "do": {"kubernetes": rule(name)}});
    ureq::put(format!("http://{}/v1/triggers/serve", engine.address))
        .header("content-type", "application/json")
        .send(body.to_string().as_bytes())
        .unwrap();
    engine.wait_for_views();
    let api = deployments(client, name);
    let begun = Instant::now();
    send(&engine, "version.promoted", |n| format!("default/model-{n}/1"), |_| json!({"channel": "production", "reason": "bench"}));
    loop {
        let page = api.list_metadata(&ListParams::default().limit(1)).await.unwrap();
        let there = page.items.len() + usize::try_from(page.metadata.remaining_item_count.unwrap_or(0)).unwrap();
        if there == PROMOTIONS {
            break;
        }
        assert!(begun.elapsed() < LONGEST, "only {there} of {PROMOTIONS} are there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rate = PROMOTIONS as f64 / begun.elapsed().as_secs_f64();
    drop(engine);
    let _ = std::fs::remove_dir_all(dir);
    rate
}

pub fn run() {
    let kubeconfig =
        std::env::var("ANNALS_TEST_KUBECONFIG").expect("ANNALS_TEST_KUBECONFIG is not set: start it with tests/bench/run kubernetes");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(&kubeconfig).await;
        let own = |part: &str| format!("bench-{part}-{}", std::process::id());
        // Before and after: the server slows down as it fills.
        let before = bare(&client, &own("before")).await;
        let ours = promoted(&client, &own("ours"), &kubeconfig).await;
        let after = bare(&client, &own("after")).await;
        let reference = f64::midpoint(before, after);
        let ratio = ours / reference;
        let what = format!("{PROMOTIONS} promotions applied to an API server, beside bare server-side applies of the same objects");
        figure(
            &what,
            &format!("{ours:.0}/s"),
            &format!("{reference:.0}/s ({before:.0} before, {after:.0} after)"),
            ratio,
            ">= 0.60",
            ratio >= GOAL,
        );
    });
}
