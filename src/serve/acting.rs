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
use crate::http::Operating;
use crate::metrics::Metrics;
use crate::world::command::Commands;
use crate::world::life::{Actors, World};
use crate::world::propose::{Proposer, Proposing};
use crate::world::webhook::Webhooks;
use crate::world::webhook::send::Sender;

/// Threads of those who act: they wait, mostly.
const THREADS: usize = 2;
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
    address: SocketAddr,
    sender: Arc<Sender>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<Acting> {
    let (tell, world) = watch::channel(None);
    // a runtime of its own: what is done outside must not keep the door from answering
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("world").enable_all().build()?;
    let (config, door, metrics, stopping) = (config.clone(), Arc::clone(door), Arc::clone(metrics), stopping.clone());
    let life = runtime.spawn(live(config, door, metrics, ops, (address, sender), tell, stopping));
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
    (address, sender): (SocketAddr, Arc<Sender>),
    tell: watch::Sender<Option<Arc<World>>>,
    mut stopping: watch::Receiver<bool>,
) {
    let opened = tokio::select! {
        opened = ops.wait_for(|now| matches!(now, Operating::Open(_) | Operating::Failed(_))) => opened.map(|now| now.clone()),
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let Ok(Operating::Open(ops)) = opened else { return };
    let acts = config.has(Role::Actor);
    let actors = if acts { actors(&config, &door, &ops, &metrics, address, sender) } else { Actors::default() };
    let world = World::new(ops, door, actors, Some(metrics));
    tell.send_replace(Some(Arc::clone(&world)));
    if acts {
        world.run(stopping).await;
    }
}

/// Who can do what here: the table of all that a rule can have done.
fn actors(config: &config::Serve, door: &Arc<Door>, ops: &Ops, metrics: &Arc<Metrics>, address: SocketAddr, sender: Arc<Sender>) -> Actors {
    let url = format!("http://{}", reachable(address));
    Actors {
        webhook: Some(Arc::new(Webhooks::new(sender, ops.clone(), Arc::clone(metrics)))),
        command: Some(Arc::new(Commands::new(config.commands.clone(), url, Arc::clone(door)))),
        propose: Some(Arc::new(Proposing(Proposer::new(Arc::clone(door))))),
        kubernetes: None,
        clusters: Vec::new(),
        commands: config.commands.is_some(),
    }
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
