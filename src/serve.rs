//! The wiring: opens what there is, joins it, runs it, and takes it down in order.

mod acting;
mod descriptors;
mod opening;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::arbiter::door::Door;
use crate::arbiter::drive::Arbiters;
use crate::arbiter::snapshot::{self, Directory};
use crate::config;
use crate::http::listen::Listener;
use crate::http::{self, Operating, Places, Shared, Viewing};
use crate::journal::Journal;
use crate::journal::kafka::derived::Running;
use crate::journal::kafka::registry::Registry;
use crate::journal::{open, sqlite};
use crate::metrics::Metrics;

/// How long requests may take to end once the engine stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Runs the engine until it is told to stop.
///
/// # Errors
/// If it cannot start: the data directory, the journal in it, or the address.
pub async fn run(config: config::Serve) -> anyhow::Result<()> {
    check_address(&config)?;
    descriptors::raise();
    let (stop, stopping) = watch::channel(false);
    let url = config.on_kafka().and_then(config::kafka::Kafka::schemas_url);
    let schemas = url.map(|url| Registry::start(url, stopping.clone())).transpose()?;
    let journal = open_journal(config.clone(), schemas.clone()).await?;
    let snapshots = Arc::new(Directory::open(&config.data.join("snapshots")).context("the snapshots' directory cannot be made")?);
    let (metrics, door) = (Arc::new(Metrics::new()?), Arc::new(Door::new(journal.clone())));
    door.count_in(metrics.clone());
    let listener =
        Listener::bind(config.listen).await.with_context(|| format!("cannot listen on {}: choose another --listen", config.listen))?;
    let address = listener.address()?;
    // what cannot be meant ends it here, before anything runs
    let (opened, viewing) = watch::channel(Viewing::Opening);
    let means = acting::Means::of(&config, address, &door, &viewing, &metrics)?;
    let mut arbiters = Arbiters::start(&journal, &door, snapshots.clone())?;
    let publisher = start_publisher(&config, &journal, snapshots, schemas)?;
    // a runtime of their own: while a view takes a batch, the door must go on answering
    let views = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("views").enable_all().build()?;
    let handle = views.handle().clone();
    let (for_views, its_door, stop_views) = (config.clone(), door.clone(), stopping.clone());
    let opening = views.spawn_blocking(move || handle.block_on(opening::views(for_views, its_door, opened, stop_views)));
    let (opened, ops) = watch::channel(Operating::Opening);
    let (handle, for_ops, its_journal, stop_ops) = (views.handle().clone(), config.clone(), journal.id().to_owned(), stopping.clone());
    views.spawn_blocking(move || handle.block_on(opening::ops(for_ops, its_journal, opened, stop_ops)));
    let acting = acting::start(&config, &door, &metrics, ops.clone(), means.clone(), &stopping)?;
    let data = config.data.clone();
    let shared = Arc::new(Shared {
        door,
        metrics,
        journal_bytes: Box::new(move || journal_bytes(&data)),
        counts: arbiters.counts(),
        publishing: publisher.as_ref().map(Running::publishing),
        viewing: viewing.clone(),
        ops,
        sender: means.sender,
        deployer: means.deployer,
        commits: means.repositories.filter(|_| config.git.git_check == config::git::Policy::Refuse),
        searcher: means.searcher,
        world: acting.world(),
        stopping,
        places: Places::default(),
    });
    let has_door = config.has(config::kafka::Role::Door);
    tracing::info!(journal = journal.id(), partitions = journal.partitions(), data = %config.data.display(), "serving");
    say(&format!("annals listens on http://{address}"));
    serve_until_told(listener, http::router(shared, has_door), stop).await?;
    opening.await?;
    // whoever acts proposes, too: nothing may be under way when the arbiters go
    acting.ended().await;
    // the journal first: what was accepted must be safe even if a view takes its time
    let stop = move || {
        arbiters.stop();
        drop(publisher);
    };
    tokio::task::spawn_blocking(stop).await?;
    let viewing = viewing.borrow().clone();
    if let Viewing::Open(runner) = viewing {
        runner.ended().await;
    }
    views.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

/// Opens the journal on a thread that may block: it asks a disk or a cluster.
async fn open_journal(config: config::Serve, schemas: Option<Arc<Registry>>) -> anyhow::Result<Arc<dyn Journal>> {
    let arbitrate = config.has(config::kafka::Role::Arbiter);
    let opening = tokio::task::spawn_blocking(move || open::open(&config.data, config.on_kafka(), arbitrate, schemas));
    Ok(opening.await??)
}

/// The publisher, if there are derived topics and they are this instance's task. Its folds begin at
/// the arbiters' snapshots.
fn start_publisher(
    config: &config::Serve,
    journal: &Arc<dyn Journal>,
    snapshots: Arc<Directory>,
    schemas: Option<Arc<Registry>>,
) -> anyhow::Result<Option<Running>> {
    let Some(kafka) = config.on_kafka().filter(|_| config.has(config::kafka::Role::Publisher)) else { return Ok(None) };
    let of = Arc::clone(journal);
    let start = move |partition, seq_max| {
        let kept = snapshot::load_up_to(&*of, &*snapshots, partition, seq_max)?;
        Some((kept.ledger, kept.offset?))
    };
    Ok(Some(open::publish(kafka, schemas, journal, Box::new(start))?))
}

/// Nobody is asked who they are, so nobody else may reach us unless somebody says so.
fn check_address(config: &config::Serve) -> anyhow::Result<()> {
    if config.listen.ip().is_loopback() || config.allow_unauthenticated {
        return Ok(());
    }
    anyhow::bail!(
        "{} can be reached from other machines, and requests are not authenticated yet: listen on 127.0.0.1 or [::1], \
         or set --allow-unauthenticated (ANNALS_ALLOW_UNAUTHENTICATED=true) if something before it keeps strangers out",
        config.listen
    )
}

/// One line to standard error, whatever the log's filter: scripts wait for it.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody may be reading
}

async fn serve_until_told(listener: Listener, router: axum::Router, stop: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut stopping = stop.subscribe();
    let told = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let mut serving = tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(told).into_future());
    tokio::select! {
        ended = &mut serving => return Ok(ended??),
        signal = signalled() => tracing::info!("{} received: finishing what was begun", signal?),
    }
    stop.send_replace(true);
    match tokio::time::timeout(DRAIN_MAX, serving).await {
        Ok(ended) => Ok(ended??),
        Err(_) => {
            tracing::warn!("some requests did not end within {} s and were cut off", DRAIN_MAX.as_secs());
            Ok(())
        }
    }
}

/// Waits for SIGTERM or SIGINT.
async fn signalled() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// `None` where the journal is not in files of ours.
fn journal_bytes(data: &Path) -> Option<u64> {
    let file = |suffix: &str| {
        let mut name = PathBuf::from(sqlite::FILE).into_os_string();
        name.push(suffix);
        std::fs::metadata(data.join(name)).map(|m| m.len()).ok()
    };
    Some(file("")? + file("-wal").unwrap_or(0))
}
