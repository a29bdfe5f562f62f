//! Who has jobs on repositories done: one at a time for each repository, each by a process that is ended when nothing moves
//! any longer.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{OnceCell, Semaphore};

use super::Trouble;
use super::lookup::{Code, Found, Outcome, named};
use super::place::{Allowed, Place};
use super::put::{Put, Wanted};
use super::work::{Answer, Job, Todo, WRITE_MAX};

/// Most jobs at once.
const JOBS_MAX: usize = 4;
/// Most repositories whose trouble is told.
const TROUBLES_MAX: usize = 100;
/// Longest answer, in bytes, with all signs of life before it.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// How long a job may take, however much moves: as long as the first copy of a large repository over a slow line.
pub const JOB_MAX: Duration = Duration::from_secs(2 * 3600);
/// What the engine may have been told, and others need not know.
const SECRETS: [&str; 3] = ["ANNALS_DATABASE_URL", "ANNALS_KAFKA_PROPERTIES", "ANNALS_SCHEMA_REGISTRY_URL"];
/// What would lead git elsewhere.
const ELSEWHERE: [&str; 4] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"];

/// See the module.
pub struct Worker {
    copies: PathBuf,
    credentials: Option<PathBuf>,
    allowed: Vec<Allowed>,
    /// How long a repository may give no sign.
    silence_max: Duration,
    places: Arc<Semaphore>,
    /// Who works on a repository.
    busy: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<()>>>>,
    /// Who looks a run's commit up, for all that ask the same at once.
    looks: Mutex<HashMap<Code, Arc<OnceCell<Found>>>>,
    /// By repository what was wrong the last time.
    troubles: Mutex<BTreeMap<String, String>>,
}

impl Worker {
    /// Works on these repositories only; copies of those behind URLs are kept in a directory. One that gives no sign for
    /// `silence_max` is given up.
    #[must_use]
    pub fn new(copies: PathBuf, credentials: Option<PathBuf>, allowed: Vec<Allowed>, silence_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            copies,
            credentials,
            allowed,
            silence_max,
            places: Arc::new(Semaphore::new(JOBS_MAX)),
            busy: Mutex::default(),
            looks: Mutex::default(),
            troubles: Mutex::default(),
        })
    }

    /// A repository that it may touch.
    ///
    /// # Errors
    /// Why it may not.
    pub fn place(&self, repository: &str) -> Result<Place, Trouble> {
        let place = Place::parse(repository).map_err(|e| Trouble::Unfit(e.to_string()))?;
        if self.allowed.iter().any(|allowed| allowed.allows(&place)) {
            return Ok(place);
        }
        Err(Trouble::Denied(format!("this engine may not touch {place}: start it with --git-allow {place}")))
    }

    /// By repository what was wrong when it was worked on last; those with which nothing is wrong are not named.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<String, String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, place: &Place, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) if troubles.len() < TROUBLES_MAX || troubles.contains_key(&place.to_string()) => {
                troubles.insert(place.to_string(), trouble);
            }
            Some(_) => {}
            None => drop(troubles.remove(&place.to_string())),
        }
    }

    /// Looks a run's commit up, within a time if there is one. With `fresh`, the repository itself is asked in any case; without,
    /// one look answers all that ask for the same commit meanwhile.
    pub async fn look_up(&self, code: &Code, fresh: bool, within: Option<Duration>) -> Found {
        if fresh {
            return self.look(code, fresh, within).await;
        }
        let look = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.retain(|_, look| Arc::strong_count(look) > 1);
            Arc::clone(looks.entry(code.clone()).or_default())
        };
        look.get_or_init(|| self.look(code, fresh, within)).await.clone()
    }

    async fn look(&self, code: &Code, fresh: bool, within: Option<Duration>) -> Found {
        let (_, id) = match named(code) {
            Ok(named) => named,
            Err(found) => return *found,
        };
        let place = match self.place(code.repository.as_deref().unwrap_or_default()) {
            Ok(place) => place,
            Err(trouble) => return Found::of_trouble(&trouble, code),
        };
        let todo = Todo::LookUp { code: code.clone(), id, fresh };
        let found = match self.work(&place, todo, within.unwrap_or(JOB_MAX)).await {
            Ok(Answer::Found(found)) => *found,
            Ok(other) => Found::only(Outcome::Unreachable, code, format!("the process answered something else: {other:?}")),
            Err(why) => Found::only(Outcome::Unreachable, code, why),
        };
        let is_open = matches!(found.outcome, Outcome::Unreachable | Outcome::Denied);
        self.note(&place, found.reason.clone().filter(|_| is_open));
        found
    }

    /// Puts a manifest into a repository.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn put(&self, repository: &str, wanted: Wanted) -> Result<Put, Trouble> {
        let place = self.place(repository)?;
        let result = match self.work(&place, Todo::Put(Box::new(wanted)), JOB_MAX).await {
            Ok(Answer::Put(result)) => result,
            Ok(other) => Err(Trouble::Away(format!("the process answered something else: {other:?}"))),
            Err(why) => Err(Trouble::Away(why)),
        };
        self.note(&place, result.as_ref().err().map(ToString::to_string));
        result
    }

    async fn work(&self, place: &Place, todo: Todo, within: Duration) -> Result<Answer, String> {
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(busy.entry(place.clone()).or_default())
        };
        let done = async {
            let turn = turn.lock_owned().await;
            let permit = Arc::clone(&self.places).acquire_owned().await.map_err(|e| e.to_string())?;
            let job = Job { repository: place.to_string(), copies: self.copies.clone(), credentials: self.credentials.clone(), todo };
            let silence_max = self.silence_max;
            // what has begun goes on if nobody waits any longer: else the first copy of a large repository would begin anew each time
            let begun = tokio::spawn(async move {
                let _held = (turn, permit);
                do_job(&job, silence_max).await
            });
            begun.await.map_err(|e| format!("the process was left alone: {e}"))?
        };
        tokio::time::timeout(within, done).await.unwrap_or_else(|_| Err(late(within)))
    }
}

fn late(after: Duration) -> String {
    format!("it took longer than {} s", after.as_secs())
}

/// One job by one process. It ends when its standard input does, so also when this is dropped; it is killed only if it does not,
/// since it may be writing.
async fn do_job(job: &Job, silence_max: Duration) -> Result<Answer, String> {
    std::fs::create_dir_all(&job.copies).map_err(|e| format!("no copies can be kept in {}: {e}", job.copies.display()))?;
    let mut command = tokio::process::Command::new(program()?);
    command.args(["git", "work"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0);
    for name in SECRETS.iter().chain(&ELSEWHERE) {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|e| format!("no process could be started for it: {e}"))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else { return Err("the process has no pipes".into()) };
    let mut line = serde_json::to_vec(job).map_err(|e| e.to_string())?;
    line.push(b'\n');
    input.write_all(&line).await.map_err(|e| format!("the process did not take its job: {e}"))?;
    let mut lines = BufReader::new(output.take(ANSWER_BYTES_MAX)).lines();
    // its standard input stays open meanwhile: should we be no more, it ends
    let until = Instant::now() + JOB_MAX;
    let read = loop {
        let left = until.saturating_duration_since(Instant::now());
        break match tokio::time::timeout(silence_max.min(left), lines.next_line()).await {
            Ok(Ok(Some(sign))) if sign.is_empty() => continue,
            Ok(read) => read.map_err(|e| format!("the process's answer could not be read: {e}")),
            Err(_) if left < silence_max => Err(late(JOB_MAX)),
            Err(_) => Err(format!("nothing came for {} s", silence_max.as_secs())),
        };
    };
    drop(input);
    let ended = tokio::time::timeout(WRITE_MAX + Duration::from_secs(1), child.wait()).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    let answer = read?.unwrap_or_default();
    let status = ended.map_err(|_| "the process did not end".to_owned())?.map_err(|e| format!("the process was lost: {e}"))?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Unread(why)) => Err(format!("the process could not read its job: {why}")),
        Ok(answer) => Ok(answer),
        Err(_) => Err(format!("the process ended without an answer ({status})")),
    }
}

/// This program; under Linux also when its file was replaced meanwhile.
fn program() -> Result<PathBuf, String> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.into());
    }
    std::env::current_exe().map_err(|e| format!("this program's own file is not known: {e}"))
}
