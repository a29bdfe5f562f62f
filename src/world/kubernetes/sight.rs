//! What the watchers see of objects that jobs wait for: so a job is looked at again when there is news of it, and need not
//! ask the cluster for what it just told.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::mark::Mark;
use super::registry::Version;
use super::standing::{self, Standing};
use super::template::Made;

/// How long what was seen is as good as what is there.
const FRESH_MAX: Duration = Duration::from_secs(2);
/// Most objects that are waited for here; about others the cluster is asked.
const AWAITED_MAX: usize = 10_000;

/// What jobs of this process wait for, by the target's path. Nothing in it is needed: whatever is not here is asked for.
#[derive(Debug, Default)]
pub struct Sight(Mutex<HashMap<String, Awaited>>);

/// An object that this process applies or has applied.
#[derive(Debug)]
struct Awaited {
    deployment: String,
    version: u64,
    details: Version,
    seen: Option<(Instant, Value)>,
}

impl Sight {
    /// This process is about to apply a deployment that was requested.
    pub fn expect(&self, path: &str, deployment: &str, version: u64, details: &Version) {
        let awaited = Awaited { deployment: deployment.into(), version, details: details.clone(), seen: None };
        self.with(|all| {
            if all.len() < AWAITED_MAX || all.contains_key(path) {
                all.insert(path.into(), awaited);
            }
        });
    }

    /// Whether this process applied what an object says that it is: then the journal knows of it.
    pub fn knows(&self, path: &str, mark: &Mark) -> bool {
        self.with(|all| all.get(path).is_some_and(|awaited| awaited.deployment == mark.deployment && awaited.version == mark.version))
    }

    /// What the registry said of the version when it was applied.
    pub fn details(&self, path: &str, deployment: &str) -> Option<Version> {
        self.with(|all| all.get(path).filter(|awaited| awaited.deployment == deployment).map(|awaited| awaited.details.clone()))
    }

    /// Keeps what was seen if somebody waits for it and it says how it ended; whether it does.
    pub fn saw(&self, path: &str, made: Made, object: &Value) -> bool {
        let Some(mark) = Mark::of(object) else { return false };
        if !self.knows(path, &mark) || matches!(standing::of(made, object), Standing::Coming(_)) {
            return false;
        }
        self.with(|all| match all.get_mut(path) {
            Some(awaited) => {
                awaited.seen = Some((Instant::now(), object.clone()));
                true
            }
            None => false,
        })
    }

    /// Takes what was seen a moment ago.
    pub fn take(&self, path: &str) -> Option<Value> {
        let seen = self.with(|all| all.get_mut(path)?.seen.take());
        seen.filter(|(at, _)| at.elapsed() < FRESH_MAX).map(|(_, object)| object)
    }

    /// Nobody waits any more.
    pub fn forget(&self, path: &str) {
        self.with(|all| drop(all.remove(path)));
    }

    fn with<T>(&self, what: impl FnOnce(&mut HashMap<String, Awaited>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)) // it is whole between any two statements
    }
}
