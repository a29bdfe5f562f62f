//! Programs that rules run: out of one directory only, in a process group of their own, with the event
//! on standard input, and never longer than they may.
//!
//! Exit 0: done. Exit 75 (`EX_TEMPFAIL`): not yet, tried again without counting. Anything else: failed.

mod process;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::process::{Ended, Process};
use super::rule::{Command, Do, Pipeline, render};
use super::{Acting, Actor, Done, Job, Retry};
use crate::arbiter::door::Door;
use crate::journal::Journal;

/// How a program says that it is too early.
const TEMPFAIL: i32 = 75;
/// Pauses behind such a try: the first, doubled up to the last.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Records that are looked through for what a program caused.
const CAUSED_SCAN_MAX: usize = 20_000;
/// Records of one read.
const CHUNK_MAX: usize = 1_000;
/// Events that are named as caused.
const CAUSED_MAX: usize = 50;

/// Runs the programs of `command` and `pipeline` rules.
pub struct Commands {
    directory: Option<PathBuf>,
    /// What they find in `ANNALS_URL`.
    url: String,
    door: Arc<Door>,
}

impl Commands {
    /// Programs out of this directory, if there is one.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, url: String, door: Arc<Door>) -> Self {
        Self { directory, url, door }
    }

    async fn run(&self, command: &Command, job: &Job) -> Done {
        let never = |note: String| Done::Failed { note, retry: Retry::Never };
        let program = match program(self.directory.as_deref(), &command.run) {
            Ok(program) => program,
            Err(note) => return never(note),
        };
        let args = match command.args.iter().map(|arg| render::text(arg, &job.event)).collect::<Result<Vec<_>, _>>() {
            Ok(args) => args,
            Err(note) => return never(note),
        };
        // what it causes comes behind what is there now
        let before = self.end_of(job.event.partition).await;
        let process = match Process::start(&program, &args, &self.variables(job), self.directory.as_deref()) {
            Ok(process) => process,
            Err(e) => return not_started(&program, &e),
        };
        let ended = process.finish(&job.event.cloudevent, command.timeout).await;
        let run = &command.run;
        match ended {
            Ended::Exit { code: 0, said, .. } => {
                Done::Succeeded { note: Some(told(run, "done", &said)), outcome: self.caused(job, before).await }
            }
            Ended::Exit { code: TEMPFAIL, complained, .. } => again(job, told(run, "asks to be called again", &complained)),
            Ended::Exit { code, complained, .. } => {
                Done::Failed { note: told(run, &format!("exited with {code}"), &complained), retry: Retry::Schedule }
            }
            Ended::Signal { signal, complained } => {
                Done::Failed { note: told(run, &format!("was ended by signal {signal}"), &complained), retry: Retry::Schedule }
            }
            Ended::Timeout { complained } => {
                let late = format!("was killed after {} s (timeout_s)", command.timeout.as_secs());
                Done::Failed { note: told(run, &late, &complained), retry: Retry::Schedule }
            }
            Ended::Lost(e) => Done::Failed { note: format!("{run} was lost: {e}"), retry: Retry::Schedule },
        }
    }

    /// What a program may know; `annals emit` in it takes cause, chain and engine from here.
    fn variables(&self, job: &Job) -> Vec<(&'static str, String)> {
        let event = &job.event;
        vec![
            ("ANNALS_EVENT_ID", event.id.clone()),
            ("ANNALS_EVENT_SOURCE", event.source.clone()),
            ("ANNALS_CORRELATION_ID", event.correlation().to_owned()),
            ("ANNALS_HOPS", event.hops.saturating_add(1).to_string()),
            ("ANNALS_TYPE", event.kind.short().to_owned()),
            ("ANNALS_MODEL", event.model.clone()),
            ("ANNALS_WORKSPACE", event.workspace.clone()),
            ("ANNALS_VERSION", event.version.map(|version| version.to_string()).unwrap_or_default()),
            ("ANNALS_CHANNEL", event.channel.clone().unwrap_or_default()),
            ("ANNALS_POSITION", event.position()),
            ("ANNALS_TRIGGER", job.rule.name.clone()),
            ("ANNALS_ATTEMPT", job.task.attempts.saturating_add(1).to_string()),
            ("ANNALS_ACTOR", format!("trigger:{}", job.rule.name)),
            ("ANNALS_URL", self.url.clone()),
        ]
    }

    async fn end_of(&self, partition: u32) -> Option<u64> {
        let journal = Arc::clone(self.door.journal());
        tokio::task::spawn_blocking(move || journal.end(partition).ok()).await.ok().flatten()
    }

    /// The events that name the job's event as their cause and came since: as [`Done::Succeeded`] has them.
    async fn caused(&self, job: &Job, before: Option<u64>) -> Option<String> {
        let (journal, partition, cause) = (Arc::clone(self.door.journal()), job.event.partition, job.event.id.clone());
        let from = before?;
        let found = tokio::task::spawn_blocking(move || scan(&*journal, partition, from, &cause)).await.ok()?;
        let event = |(id, source, position): &(String, String, String)| json!({"id": id, "source": source, "position": position});
        let events: Vec<Value> = found.iter().map(event).collect();
        (!events.is_empty()).then(|| json!({"events": events}).to_string())
    }
}

impl Actor for Commands {
    fn act<'a>(&'a self, job: &'a Job) -> Acting<'a> {
        Box::pin(async move {
            match &job.rule.act {
                Do::Command(command) | Do::Pipeline(Pipeline::Run(command)) => self.run(command, job).await,
                Do::Webhook(_)
                | Do::Pipeline(Pipeline::Subscription(_))
                | Do::Propose(_)
                | Do::Kubernetes(_)
                | Do::Git(_)
                | Do::Lookup(_) => Done::Failed { note: "the rule runs no program any more".into(), retry: Retry::Never },
            }
        })
    }
}

/// The file, if it is one that may be run.
fn program(directory: Option<&Path>, run: &str) -> Result<PathBuf, String> {
    let Some(directory) = directory else {
        return Err(format!(
            "this instance runs no programs: start it with --commands DIR, with `{run}` in the directory, and replay the task"
        ));
    };
    let path = directory.join(run);
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => {
            Err(format!("`{run}` in the directory of commands is no file: put the program there, and replay the task"))
        }
        Ok(found) if !is_executable(&found) => Err(format!("`{run}` is not executable: chmod +x it, and replay the task")),
        Ok(_) => Ok(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("there is no `{run}` in the directory of commands (--commands): put it there, and replay the task"))
        }
        Err(e) => Err(format!("`{run}` in the directory of commands cannot be looked at: {e}")),
    }
}

fn is_executable(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    found.permissions().mode() & 0o111 != 0
}

fn not_started(program: &Path, e: &std::io::Error) -> Done {
    let run = program.file_name().unwrap_or_default().to_string_lossy();
    let (note, retry) = match e.kind() {
        std::io::ErrorKind::PermissionDenied => (format!("`{run}` may not be run: {e}; chmod +x it, and replay the task"), Retry::Never),
        std::io::ErrorKind::NotFound => {
            (format!("`{run}`, or what its first line names, is not there: {e}; correct it, and replay the task"), Retry::Never)
        }
        // ENOEXEC has no kind of its own
        _ if e.raw_os_error() == Some(8) => {
            (format!("`{run}` is no program: begin it with `#!` and its interpreter, and replay the task"), Retry::Never)
        }
        _ => (format!("`{run}` could not be started: {e}"), Retry::Schedule),
    };
    Done::Failed { note, retry }
}

fn told(run: &str, what: &str, last_line: &str) -> String {
    if last_line.is_empty() { format!("{run} {what}") } else { format!("{run} {what}: {last_line}") }
}

/// Not a failure, and not a hot loop either.
fn again(job: &Job, note: String) -> Done {
    let tries = job.task.progress.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let tries = tries.and_then(|progress| progress["again"].as_u64()).unwrap_or(0);
    let after = AGAIN_MIN.saturating_mul(2_u32.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX).min(16))).min(AGAIN_MAX);
    Done::Again { after, progress: json!({"again": tries + 1}).to_string(), note: Some(note) }
}

type Caused = (String, String, String);

fn scan(journal: &dyn Journal, partition: u32, mut from: u64, cause: &str) -> Vec<Caused> {
    let (mut found, mut scanned) = (Vec::new(), 0);
    while scanned < CAUSED_SCAN_MAX && found.len() < CAUSED_MAX {
        let Ok(chunk) = journal.records(partition, from, CHUNK_MAX) else { break };
        if chunk.next <= from {
            break;
        }
        from = chunk.next;
        scanned += chunk.items.len().max(1);
        for located in &chunk.items {
            let Ok(view) = located.record.view() else { continue };
            if view.headers().any(|(name, value)| name == "ce_causationid" && value == cause) {
                found.push((view.id.to_owned(), view.source.to_owned(), format!("{partition}:{}", view.seq)));
            }
        }
    }
    found
}
