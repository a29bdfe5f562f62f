//! Joining what acts on the world: its store, its actors, and a runtime of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use annals_projections::Ops;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::arbiter::door::Door;
use crate::config::{self, kafka::Role};
use crate::git::place::Allowed;
use crate::git::worker::Worker;
use crate::http::{Operating, Viewing};
use crate::metrics::Metrics;
use crate::world::command::Commands;
use crate::world::git::{GitOps, Lookups};
use crate::world::kubernetes::registry::Registry;
use crate::world::kubernetes::{self, Deployer};
use crate::world::life::{Actors, World};
use crate::world::propose::{Proposer, Proposing};
use crate::world::rule::State;
use crate::world::search::Searcher;
use crate::world::search::cluster::Cluster;
use crate::world::webhook::Webhooks;
use crate::world::webhook::send::Sender;
use crate::world::{Actor, RunnerNow};

/// What actors need of this instance.
#[derive(Clone)]
pub struct Means {
    /// Its address.
    pub address: SocketAddr,
    /// Who sends.
    pub sender: Arc<Sender>,
    /// Whether there are views to ask.
    pub viewing: watch::Receiver<Viewing>,
    /// Who deploys, if the engine was told of clusters.
    pub deployer: Option<Arc<Deployer>>,
    /// Who works on repositories, if the engine may touch any.
    pub repositories: Option<Arc<Worker>>,
    /// Who indexes, if the engine was told of a search cluster.
    pub searcher: Option<Arc<Searcher>>,
}

impl Means {
    /// What the configuration says; nobody is asked yet.
    ///
    /// # Errors
    /// What of it cannot be meant.
    pub fn of(
        config: &config::Serve,
        address: SocketAddr,
        door: &Arc<Door>,
        viewing: &watch::Receiver<Viewing>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let sender = Sender::new(config.delivery.allow.clone().into(), config.delivery.ca.as_deref()).map_err(anyhow::Error::msg)?;
        Ok(Self {
            address,
            sender: Arc::new(sender),
            viewing: viewing.clone(),
            deployer: deployer(config, door, viewing),
            repositories: repositories(config)?,
            searcher: searcher(config, door, viewing, metrics)?,
        })
    }
}

/// Threads of those who act: they wait, mostly.
const THREADS: usize = 2;
/// How soon the clusters' watchers hear of a rule, or that another instance acts now.
const RULES_EVERY: Duration = Duration::from_secs(1);
/// How long they may take to end.
const END_MAX: Duration = Duration::from_secs(5);

/// What acts, or stands by.
pub struct Acting {
    world: watch::Receiver<Option<Arc<World>>>,
    life: JoinHandle<()>,
    runtime: Runtime,
}

/// Waits for the store, and then acts if that is this instance's task.
///
/// # Errors
/// If there are no threads for it.
pub fn start(
    config: &config::Serve,
    door: &Arc<Door>,
    metrics: &Arc<Metrics>,
    ops: watch::Receiver<Operating>,
    means: Means,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<Acting> {
    let (tell, world) = watch::channel(None);
    // a runtime of its own: what is done outside must not keep the door from answering
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("world").enable_all().build()?;
    let (config, door, metrics, stopping) = (config.clone(), Arc::clone(door), Arc::clone(metrics), stopping.clone());
    let life = runtime.spawn(live(config, door, metrics, ops, means, tell, stopping));
    Ok(Acting { world, life, runtime })
}

impl Acting {
    /// What others may ask of it, once there is a store.
    pub fn world(&self) -> watch::Receiver<Option<Arc<World>>> {
        self.world.clone()
    }

    /// Waits until it has ended, and leaves nothing running; `stopping` must be true.
    pub async fn ended(self) {
        if tokio::time::timeout(END_MAX, self.life).await.is_err() {
            tracing::warn!("what acts did not end within {} s; it is begun again", END_MAX.as_secs());
        }
        let runtime = self.runtime;
        // jobs that are cut off end what they started
        let _ = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(END_MAX)).await;
    }
}

async fn live(
    config: config::Serve,
    door: Arc<Door>,
    metrics: Arc<Metrics>,
    mut ops: watch::Receiver<Operating>,
    means: Means,
    tell: watch::Sender<Option<Arc<World>>>,
    mut stopping: watch::Receiver<bool>,
) {
    let opened = tokio::select! {
        opened = ops.wait_for(|now| matches!(now, Operating::Open(_) | Operating::Failed(_))) => opened.map(|now| now.clone()),
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let Ok(Operating::Open(ops)) = opened else { return };
    let acts = config.has(Role::Actor);
    let (deployer, searcher) = (means.deployer.clone(), means.searcher.clone());
    let actors = if acts { actors(&config, &door, &ops, &metrics, means) } else { Actors::default() };
    let world = World::new(ops, door, actors, Some(metrics));
    tell.send_replace(Some(Arc::clone(&world)));
    // whoever does not act looks at the index, too, and asks it
    let searching = searcher.map(|searcher| {
        let world = Arc::clone(&world);
        tokio::spawn(searcher.run(move || acts && world.standing().leads, stopping.clone()))
    });
    if acts {
        if let Some(deployer) = deployer {
            tokio::spawn(watched(Arc::clone(&world), deployer, stopping.clone()));
        }
        world.run(stopping).await;
    }
    if let Some(searching) = searching {
        let _ = searching.await; // it hears of the end, too
    }
}

/// Who can do what here: the table of all that a rule can have done.
fn actors(config: &config::Serve, door: &Arc<Door>, ops: &Ops, metrics: &Arc<Metrics>, means: Means) -> Actors {
    let Means { address, sender, viewing, deployer, repositories, .. } = means;
    let url = format!("http://{}", reachable(address));
    let git = repositories.clone().map(|worker| {
        let registry = Registry::new(Arc::clone(door), runner(viewing.clone()));
        Arc::new(GitOps { worker, registry, journal: door.journal().id().to_owned() }) as Arc<dyn Actor>
    });
    let lookup =
        repositories.clone().map(|worker| Arc::new(Lookups { worker, proposer: Proposer::new(Arc::clone(door)) }) as Arc<dyn Actor>);
    Actors {
        git,
        lookup,
        repositories,
        webhook: Some(Arc::new(Webhooks::new(sender, ops.clone(), Arc::clone(metrics), runner(viewing)))),
        command: Some(Arc::new(Commands::new(config.commands.clone(), url, Arc::clone(door)))),
        propose: Some(Arc::new(Proposing(Proposer::new(Arc::clone(door))))),
        clusters: deployer.iter().flat_map(|_| &config.kubernetes.clusters).map(|cluster| cluster.name.clone()).collect(),
        kubernetes: deployer.map(|deployer| deployer as Arc<dyn Actor>),
        commands: config.commands.is_some(),
    }
}

/// Who keeps the search cluster's index and asks it, if the engine was told of one.
///
/// # Errors
/// If that cannot be meant: the address, the file that says who we are, or that of the authorities.
fn searcher(
    config: &config::Serve,
    door: &Arc<Door>,
    viewing: &watch::Receiver<Viewing>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Arc<Searcher>>> {
    let search = &config.search;
    let Some(url) = &search.url else { return Ok(None) };
    let authorization = config::search::SearchCluster::authorization(search.auth_file.as_deref()).map_err(anyhow::Error::msg)?;
    let cluster = || Cluster::new(url, authorization.as_deref(), search.ca.as_deref());
    let cluster = || cluster().map_err(|e| anyhow::anyhow!("the search cluster cannot be used: {e}"));
    Ok(Some(Searcher::new([cluster()?, cluster()?], search.index.clone(), Arc::clone(door), runner(viewing.clone()), Arc::clone(metrics))))
}

/// Who deploys, if the engine was told of clusters. It asks the registry, once that is open.
fn deployer(config: &config::Serve, door: &Arc<Door>, viewing: &watch::Receiver<Viewing>) -> Option<Arc<Deployer>> {
    let clusters = &config.kubernetes.clusters;
    let registry = Registry::new(Arc::clone(door), runner(viewing.clone()));
    (!clusters.is_empty()).then(|| Deployer::new(clusters, registry, Proposer::new(Arc::clone(door))))
}

/// Who works on repositories, if the engine may touch any, or must look commits up.
///
/// # Errors
/// If it is not said how which may be touched.
fn repositories(config: &config::Serve) -> anyhow::Result<Option<Arc<Worker>>> {
    let allowed: Vec<_> =
        config.git.git_allow.iter().map(|text| Allowed::parse(text)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    if allowed.is_empty() && config.git.git_check == config::git::Policy::Off {
        return Ok(None);
    }
    let silence_max = Duration::from_secs(config.git.git_silence);
    Ok(Some(Worker::new(config.data.join("git"), config.git.git_credentials.clone(), allowed, silence_max)))
}

/// The views, once they are open.
fn runner(viewing: watch::Receiver<Viewing>) -> RunnerNow {
    Box::new(move || viewing.borrow().runner())
}

/// Watches the clusters by the rules that are in force, while this instance is the one that acts.
async fn watched(world: Arc<World>, deployer: Arc<Deployer>, mut stopping: watch::Receiver<bool>) {
    let (tell, rules) = watch::channel(kubernetes::watch::Rules::default());
    let roused = Arc::clone(&world);
    let news: kubernetes::watch::News = Arc::new(move |rule, lane| roused.rouse(rule, lane));
    let watching = tokio::spawn(kubernetes::watch::run(deployer, rules, news, stopping.clone()));
    loop {
        let leads = world.standing().leads;
        let book = world.book();
        let active = book.pages().filter_map(|(_, page)| page.rule.as_ref().ok()).filter(|rule| leads && rule.state == State::Active);
        let now: Vec<_> = active.cloned().collect();
        tell.send_if_modified(|before| {
            let is_new = **before != now;
            if is_new {
                *before = Arc::new(now);
            }
            is_new
        });
        tokio::select! {
            () = tokio::time::sleep(RULES_EVERY) => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    let _ = watching.await; // it hears of the end, too
}

/// Where programs on this machine find the engine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let local = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(local, address.port())
}
