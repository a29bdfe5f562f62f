//! Opening what lies in a database beside the door, which takes proposals without it.

use std::sync::Arc;
use std::time::Duration;

use annals_projections::{Error, Ops, Views};
use tokio::sync::watch;

use crate::arbiter::door::Door;
use crate::config;
use crate::http::{Operating, Viewing};
use crate::runner::Runner;

/// Pause after which a database that is away is tried again.
const DATABASE_PAUSE: Duration = Duration::from_secs(2);

/// Opens the views. A failure is told by `/readyz` and by every read, and does not endanger the
/// journal. A database that is away is waited for.
pub async fn views(config: config::Serve, door: Arc<Door>, opened: watch::Sender<Viewing>, mut stopping: watch::Receiver<bool>) {
    let applies = config.has(config::kafka::Role::Projector);
    let viewing = loop {
        let journal = door.journal().id();
        let views = match &config.database {
            Some(url) => Views::connect(url, journal).await,
            None => Views::open(&config.data, journal).await,
        };
        match views {
            Ok(views) => break Viewing::Open(Runner::start(views, door, applies, stopping)),
            Err(e @ Error::Unavailable(_)) if config.database.is_some() => {
                let reason = e.to_string();
                if !matches!(&*opened.borrow(), Viewing::Waiting(known) if *known == reason) {
                    tracing::warn!("the views wait for their database: {reason}");
                    opened.send_replace(Viewing::Waiting(reason));
                }
                if !pause(&mut stopping).await {
                    return;
                }
            }
            Err(e) => {
                tracing::error!("the views cannot be opened: {e}");
                break Viewing::Failed(e.to_string());
            }
        }
    };
    opened.send_replace(viewing);
}

/// Opens the operational store, in the same place as the views. A failure is told by `/readyz` and by
/// whatever needs the store; proposals and reads go on.
pub async fn ops(config: config::Serve, journal: String, opened: watch::Sender<Operating>, mut stopping: watch::Receiver<bool>) {
    let operating = loop {
        let ops = match &config.database {
            Some(url) => Ops::connect(url, &journal).await,
            None => Ops::open(&config.data, &journal).await,
        };
        match ops {
            Ok(ops) => break Operating::Open(ops),
            Err(e @ Error::OpsUnavailable(_)) if config.database.is_some() => {
                let reason = e.to_string();
                if !matches!(&*opened.borrow(), Operating::Waiting(known) if *known == reason) {
                    tracing::warn!("the operational store waits for its database: {reason}");
                    opened.send_replace(Operating::Waiting(reason));
                }
                if !pause(&mut stopping).await {
                    return;
                }
            }
            Err(e) => {
                tracing::error!("the operational store cannot be opened: {e}");
                break Operating::Failed(e.to_string());
            }
        }
    };
    opened.send_replace(operating);
}

/// Waits before the next try; `false` if there is none.
async fn pause(stopping: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(DATABASE_PAUSE) => true,
        _ = stopping.wait_for(|stop| *stop) => false,
    }
}
