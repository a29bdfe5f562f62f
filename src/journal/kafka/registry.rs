//! The event schemas in a Confluent-compatible schema registry: registered in the background, named in each record's header.
//!
//! Nothing waits for it. Doors and arbiters check with the schemas that are compiled in; the
//! schema registry only lets other people's tools find them. While it is away, records carry the
//! ids that are known, or none.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use annals_events::kind::Kind;
use tokio::sync::watch;

use self::client::{CallError, Client};
use self::form::{FORMS, Form};

mod client;
pub mod form;

/// The header that names the schema of a record's value. It lies outside the hash.
pub const HEADER: &str = "__value_schema_id";

/// How long to wait after a failure, and between two looks whether all is still there.
const PAUSE: Duration = Duration::from_secs(5);

/// How it stands with the schema registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first round is not done yet.
    Registering,
    /// It has every schema.
    Registered,
    /// It does not answer as it should; this goes on trying.
    Away,
    /// It refused at least one schema: a person has to look.
    Refused,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Registering, Self::Registered, Self::Away, Self::Refused];

    /// The word for metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Registered => "registered",
            Self::Away => "away",
            Self::Refused => "refused",
        }
    }
}

/// How it stands, for `/readyz`, `annals doctor` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Schemas whose id is known, of [`Status::schemas`].
    pub known: usize,
    /// Schemas that there are: two for each kind.
    pub schemas: usize,
    /// What is wrong and what to do, for a person; empty when nothing is.
    pub reasons: Vec<String>,
}

impl Status {
    /// What is wrong, in a sentence; `None` while all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        matches!(self.state, State::Away | State::Refused).then(|| format!("the schema registry: {self}"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, known, schemas, reasons } = self;
        match state {
            State::Registering => write!(f, "registering: {known} of {schemas} schemas so far")?,
            State::Registered => write!(f, "registered: all {schemas} schemas")?,
            State::Away => write!(f, "away, {known} of {schemas} schemas known; events are taken all the same, it is tried again")?,
            State::Refused => write!(f, "refused, {known} of {schemas} schemas known; events are taken all the same")?,
        }
        for reason in reasons {
            write!(f, "; {reason}")?;
        }
        Ok(())
    }
}

/// See the module.
pub struct Registry {
    client: Client,
    /// By kind and form; 0 is none, since ids begin at 1.
    ids: Vec<[AtomicU32; FORMS]>,
    status: Mutex<Status>,
    pause: Duration,
}

impl Registry {
    /// Starts to register every schema, in a task of its own, until `stopping` says so.
    ///
    /// # Errors
    /// If `url` is none.
    pub fn start(url: &str, stopping: watch::Receiver<bool>) -> Result<Arc<Self>, BadUrl> {
        Self::start_with(url, form::PREFIX, PAUSE, stopping)
    }

    /// As [`Registry::start`], with other subjects and another pause: tests share one server.
    ///
    /// # Errors
    /// If `url` is none.
    pub fn start_with(url: &str, prefix: &str, pause: Duration, mut stopping: watch::Receiver<bool>) -> Result<Arc<Self>, BadUrl> {
        let schemas = Kind::ALL.len() * FORMS;
        let registry = Arc::new(Self {
            client: Client::new(url, prefix)?,
            ids: Kind::ALL.iter().map(|_| Default::default()).collect(),
            status: Mutex::new(Status { state: State::Registering, known: 0, schemas, reasons: Vec::new() }),
            pause,
        });
        let task = registry.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
        Ok(registry)
    }

    /// The value of [`HEADER`] for a record of this kind, once its schema's id is known: `0x00` and
    /// the id as four big-endian bytes, which Confluent's deserializers read from the header as
    /// from before a value. (Their other framing, `0x01` and a GUID, needs a server of version 8.)
    #[must_use]
    pub fn header(&self, kind: Kind) -> Option<Vec<u8>> {
        let id = self.ids[kind as usize][Form::Value as usize].load(Ordering::Relaxed);
        (id != 0).then(|| [&[0][..], &id.to_be_bytes()].concat())
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn run(&self) {
        loop {
            self.tell(self.round().await);
            // Once all is registered, one schema after the other is looked at: a server that was
            // emptied or put back gives another id, and then all are registered again.
            let mut looks = all().cycle();
            while self.status().state == State::Registered {
                tokio::time::sleep(self.pause).await;
                let Some((kind, form)) = looks.next() else { break };
                match self.client.register(kind, form).await {
                    Ok(id) if id == self.ids[kind as usize][form as usize].load(Ordering::Relaxed) => {}
                    Ok(_) => break,
                    Err(e) => self.tell(Err(e)),
                }
            }
            if self.status().state != State::Registered {
                tokio::time::sleep(self.pause).await;
            }
        }
    }

    /// Registers every schema; those that are refused do not keep the others from it.
    ///
    /// # Errors
    /// The first failure of another kind; it would only come again for each.
    async fn round(&self) -> Result<Vec<String>, CallError> {
        let mut refused = Vec::new();
        for (kind, form) in all() {
            self.client.demand_compatibility(kind, form).await?;
            match self.client.register(kind, form).await {
                Ok(id) => self.ids[kind as usize][form as usize].store(id, Ordering::Relaxed),
                Err(CallError::Refused(reason)) => refused.push(reason),
                Err(e) => return Err(e),
            }
        }
        Ok(refused)
    }

    /// Sets the status, and logs it when the state is another.
    fn tell(&self, outcome: Result<Vec<String>, CallError>) {
        let (state, reasons) = match outcome {
            Ok(refused) if refused.is_empty() => (State::Registered, refused),
            Ok(refused) => (State::Refused, refused),
            Err(CallError::Refused(reason)) => (State::Refused, vec![reason]),
            Err(CallError::Away(reason)) => (State::Away, vec![reason]),
        };
        let known = self.ids.iter().flatten().filter(|id| id.load(Ordering::Relaxed) != 0).count();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = status.state != state;
        *status = Status { state, known, reasons, ..status.clone() };
        match state {
            _ if !is_news => {}
            State::Registering | State::Registered => tracing::info!("schema registry: {status}"),
            State::Away => tracing::warn!("schema registry: {status}"),
            State::Refused => tracing::error!("schema registry: {status}"),
        }
    }
}

fn all() -> impl Iterator<Item = (Kind, Form)> + Clone {
    Kind::ALL.iter().flat_map(|kind| Form::ALL.map(|form| (*kind, form)))
}

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("--schema-registry is no usable URL: {0}; give one such as http://127.0.0.1:8081")]
pub struct BadUrl(String);

/// The last cause of an error, which says most: "connection refused", not "error sending request".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
