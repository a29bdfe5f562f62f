//! Git: what a channel holds becomes a manifest in a repository, and the commit of a run is looked up where it should be.
//!
//! Woken by an event, it acts by state: what the channel holds now. What is written, and how it stays so when others write at
//! the same time, is the business of [`crate::git::put`].

mod fill;
pub mod manifest;

use std::sync::Arc;
use std::time::Duration;

use annals_events::kind::Kind;
use serde_json::{Value, json};

pub use self::manifest::{MORE, author, check_path};
use super::kubernetes::registry::Registry;
use super::propose::{Proposer, Wanted};
use super::rule::{self, Do};
use super::{Acting, Actor, Done, Job, Retry};
use crate::git::Trouble;
use crate::git::lookup::{Code, Found, Outcome};
use crate::git::place::Place;
use crate::git::put::{self, Put};
use crate::git::worker::Worker;

/// How soon it is tried again when a repository or the registry is away: first, doubled up to the last.
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Failed tries after which it is told that a commit is not there, or that a repository gives no answer.
const TELL_BEHIND: u32 = 2;
/// Failed tries after which a commit is not looked for any more, some four minutes: it may be told of before it is pushed.
const MISSING_TRIES_MAX: u32 = 8;
/// Longest reason that an event says, in characters.
const REASON_MAX: usize = 2000;

/// Puts manifests into repositories.
pub struct GitOps {
    /// Does what must be done there.
    pub worker: Arc<Worker>,
    /// Says what a channel holds.
    pub registry: Registry,
    /// The journal, by its name.
    pub journal: String,
}

/// Looks commits up.
pub struct Lookups {
    /// Does it.
    pub worker: Arc<Worker>,
    /// Tells what was found.
    pub proposer: Proposer,
}

/// A repository, as rules name it.
///
/// # Errors
/// What it must be instead.
pub fn place(repository: &str) -> Result<Place, String> {
    Place::parse(repository).map_err(|e| e.to_string())
}

/// Whether git takes a name for a branch.
#[must_use]
pub fn is_branch(name: &str) -> bool {
    put::is_branch(name)
}

/// It may pass by itself: an outage uses up no tries.
fn wait(job: &Job, note: impl Into<String>) -> Done {
    let before = job.task.progress.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let tries = before.and_then(|progress| progress["away"].as_u64()).unwrap_or(0);
    let doubled = AWAY_MIN.saturating_mul(2_u32.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX)));
    Done::Again { after: doubled.min(AWAY_MAX), progress: json!({"away": tries + 1}).to_string(), note: Some(note.into()) }
}

/// A person must look.
fn never(note: impl Into<String>) -> Done {
    Done::Failed { note: note.into(), retry: Retry::Never }
}

impl GitOps {
    /// Puts what the channel holds there. An error is how the job ends before its end, too.
    async fn put(&self, job: &Job, rule: &rule::Git) -> Result<Done, Done> {
        let event = &job.event;
        let Some(channel) = &event.channel else { return Err(never("the event names no channel")) };
        let known = self.registry.model(&event.key).await.map_err(|why| wait(job, why))?;
        let content = match (event.kind, known.held(channel)) {
            (Kind::VersionPromoted, Some(held)) if held.modelseq == event.modelseq => {
                let version = self.registry.version(&event.key, held.version).await.map_err(|why| wait(job, why))?;
                Some(version)
            }
            (Kind::VersionDemoted, None) => None,
            (_, Some(held)) => return Ok(Done::Skipped { note: format!("superseded by version {}", held.version) }),
            (_, None) => return Ok(Done::Skipped { note: "superseded by the channel's being empty".into() }),
        };
        let wanted = manifest::wanted(rule, event, channel, content.as_ref(), &self.journal).map_err(never)?;
        let branch = wanted.branch.clone();
        match self.worker.put(&rule.repository, wanted).await {
            Ok(Put::Done { commit, tag, before }) => {
                let commit = commit.map_or_else(|| "nothing was there to take away".into(), |id| format!("commit {id} on {branch}"));
                let tag = tag.map(|tag| format!(", tag {tag}")).unwrap_or_default();
                let before = if before { " (it was there already)" } else { "" };
                Ok(Done::Succeeded { note: Some(format!("{commit}{tag} in {}{before}", rule.repository)), outcome: None })
            }
            Ok(Put::Newer { commit }) => {
                Ok(Done::Skipped { note: format!("superseded by what a newer event put there (commit {commit})") })
            }
            Err(trouble) => Err(done(job, &trouble)),
        }
    }
}

/// What trouble with a repository means for a task: what may pass by itself is tried again, and what somebody must see to only
/// so many times.
fn done(job: &Job, trouble: &Trouble) -> Done {
    if trouble.passes() { wait(job, trouble.to_string()) } else { Done::Failed { note: trouble.to_string(), retry: Retry::Schedule } }
}

impl Actor for GitOps {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            let Do::Git(rule) = &job.rule.act else { return never("the rule has nothing to do with repositories any more") };
            self.put(job, rule).await.unwrap_or_else(|ended| ended)
        })
    }
}

impl Lookups {
    async fn look_up(&self, job: &Job, rule: &rule::Lookup) -> Done {
        let event = &job.event;
        let Some(run) = event.decided.get("run").and_then(Value::as_str) else { return never("the event names no run") };
        let said: Code = event.data.get("code").and_then(|code| serde_json::from_value(code.clone()).ok()).unwrap_or_default();
        let code = Code { repository: rule.repository.clone().or(said.repository), ..said };
        let found = self.worker.look_up(&code, true, None).await;
        let is_open = match found.outcome {
            Outcome::Unreachable | Outcome::Denied => true,
            Outcome::Missing => job.task.attempts < MISSING_TRIES_MAX,
            Outcome::Found | Outcome::Dirty | Outcome::Ambiguous | Outcome::Shallow | Outcome::Unnamed => false,
        };
        let why = format!("{}: {}", found.outcome, found.reason.as_deref().unwrap_or_default());
        if is_open && job.task.attempts < TELL_BEHIND {
            return Done::Failed { note: why, retry: Retry::Schedule };
        }
        let wanted = Wanted {
            kind: Kind::RunChecked,
            subject: event.key.clone(),
            data: told(run, &found),
            // what is found later is another event
            tag: format!("checked {}", found.outcome),
        };
        match self.proposer.propose(job, &wanted).await {
            Ok(_) if is_open => Done::Failed { note: why, retry: Retry::Schedule },
            Ok(proposed) => Done::Succeeded { note: Some(format!("the commit is {}", found.outcome)), outcome: Some(proposed.outcome()) },
            Err(not) => not.done(),
        }
    }
}

/// The data of `run.checked`.
fn told(run: &str, found: &Found) -> serde_json::Map<String, Value> {
    let reason = found.reason.as_deref().map(|reason| reason.chars().take(REASON_MAX).collect::<String>());
    let mut data = json!({"run": run, "code": found.code, "outcome": found.outcome, "branches": found.branches, "tags": found.tags});
    let Some(members) = data.as_object_mut() else { return serde_json::Map::new() };
    if found.code == Code::default() {
        members.remove("code");
    }
    if found.truncated {
        members.insert("truncated".into(), true.into());
    }
    members.extend(reason.filter(|reason| !reason.is_empty()).map(|reason| ("reason".to_owned(), reason.into())));
    std::mem::take(members)
}

impl Actor for Lookups {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            let Do::Lookup(rule) = &job.rule.act else { return never("the rule looks nothing up any more") };
            self.look_up(job, rule).await
        })
    }
}
