//! Drives the publisher on a thread of its own, while the group lets this instance publish.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::super::connect::{Connection, Topic};
use super::super::owners::Owners;
use super::super::topics;
use super::{Publisher, Start, Step};
use crate::journal::Journal;
use crate::journal::publishing::{Publishing, State};

/// How soon a release is seen, and how long others may gather with it before the next transaction.
const GATHER: Duration = Duration::from_millis(20);
/// How long states gather of which none is of a release: a transaction takes the brokers' time from whoever proposes.
const GATHER_STATES: Duration = Duration::from_millis(500);
/// Pause after a trouble; doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A running publisher. Dropping it stops it and leaves the group, so that another takes over at once.
pub struct Running {
    stop: Arc<AtomicBool>,
    publishing: watch::Receiver<Publishing>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the thread. What goes wrong on it is told by [`Running::publishing`], and is tried again.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn start(connection: Connection, journal: Arc<dyn Journal>, start: Start) -> std::io::Result<Self> {
        let (told, publishing) = watch::channel(Publishing::default());
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = Publisher::new(connection.clone(), journal, start);
        let mut driver = Driver { connection, publisher, told, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("publisher".into()).spawn(move || driver.run())?;
        Ok(Self { stop, publishing, thread: Some(thread) })
    }

    /// How far it is.
    #[must_use]
    pub fn publishing(&self) -> watch::Receiver<Publishing> {
        self.publishing.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // a panic was caught and logged in it
        }
    }
}

struct Driver {
    connection: Connection,
    publisher: Publisher,
    told: watch::Sender<Publishing>,
    stop: Arc<AtomicBool>,
}

impl Driver {
    /// A panic is a bug, but the topics must not stand still in silence: it begins again from the progress.
    fn run(&mut self) {
        let mut pause = PAUSE_MIN;
        while !self.stopped() {
            let reason = match catch_unwind(AssertUnwindSafe(|| self.live())) {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                Err(_) => "it panicked and begins again: this is a bug, see the log".into(),
            };
            tracing::error!("the publisher does not run: {reason}");
            self.publisher.want(false);
            self.told.send_replace(Publishing { state: State::Troubled(reason), ..self.publisher.publishing() });
            self.sleep(pause);
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    /// One membership in the group.
    fn live(&mut self) -> Result<(), String> {
        let away = |e: KafkaError| format!("the cluster cannot be asked: {e}");
        let existing = topics::existing(&self.connection).map_err(away)?;
        for name in [Topic::Promotions, Topic::Models, Topic::Progress].map(|topic| self.connection.topic(topic)) {
            if !existing.contains_key(&name) {
                return Err(format!("the topic {name} is missing: run `annals topics create`"));
            }
        }
        // the group shares out a single partition: whoever gets it publishes
        let owners = Owners::join(&self.connection, "publisher", Topic::Progress, 1, Box::new(|_| ())).map_err(away)?;
        let mut pause = PAUSE_MIN;
        while !self.stopped() {
            self.publisher.want(owners.has(0));
            let step = self.publisher.step();
            self.told.send_if_modified(|told| {
                let now = self.publisher.publishing();
                let changed = *told != now;
                *told = now;
                changed
            });
            match step {
                Step::Worked => pause = PAUSE_MIN,
                Step::Idle => {
                    pause = PAUSE_MIN;
                    self.gather();
                }
                Step::Troubled => {
                    self.sleep(pause);
                    pause = PAUSE_MAX.min(pause * 2);
                }
            }
        }
        self.publisher.want(false);
        Ok(())
    }

    fn gather(&self) {
        let since = Instant::now();
        self.sleep(GATHER);
        while !self.stopped() && since.elapsed() < GATHER_STATES && !self.publisher.is_pressed() {
            self.sleep(GATHER);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stopped()
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left); // dropping it ends it early
        }
    }
}
