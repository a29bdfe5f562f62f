//! The process that does one job on a repository and ends: what it is told, and what it answers.

use std::cell::Cell;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::lookup::{self, Code, Found};
use super::opened::{Access, write_no_more};
use super::place::Place;
use super::put::{self, Put, Wanted};
use super::{Trouble, short};

/// Longest job, in bytes.
const JOB_BYTES_MAX: u64 = 1024 * 1024;
/// How long the end waits for a reference that is being written.
pub const WRITE_MAX: Duration = Duration::from_secs(10);
/// How often it is said that something moves.
const SIGN_PACE: Duration = Duration::from_millis(200);

/// A job: one line of JSON on standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The repository.
    pub repository: String,
    /// Where copies are kept.
    pub copies: PathBuf,
    /// The file with users and tokens.
    pub credentials: Option<PathBuf>,
    /// What to do.
    pub todo: Todo,
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Todo {
    /// Look a commit up.
    LookUp {
        /// As the run has it.
        code: Code,
        /// The id.
        id: String,
        /// Whether to ask the repository although its copy has the commit.
        fresh: bool,
    },
    /// Put a manifest there.
    Put(Box<Wanted>),
}

/// The answer: one line of JSON on standard output. Empty lines before it are signs that the repository's host moves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What was looked up.
    Found(Box<Found>),
    /// What came of it.
    Put(Result<Put, Trouble>),
    /// The job could not be read.
    Unread(String),
}

/// Does the job that standard input has, and answers. Standard input stays open for as long as somebody waits: when it ends
/// before, so does the process, whatever it is doing but writing a reference.
///
/// # Errors
/// If nobody reads the answer.
pub fn run() -> std::io::Result<()> {
    let mut input = std::io::BufReader::new(std::io::stdin());
    let mut line = String::new();
    let read = input.by_ref().take(JOB_BYTES_MAX).read_line(&mut line);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        write_no_more(WRITE_MAX);
        std::process::exit(1);
    });
    let job = read.map_err(|e| e.to_string()).and_then(|_| serde_json::from_str::<Job>(&line).map_err(|e| e.to_string()));
    let answer = job.map_or_else(Answer::Unread, |job| answer(&job));
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn answer(job: &Job) -> Answer {
    let place = match Place::parse(&job.repository) {
        Ok(place) => place,
        Err(e) => return Answer::Unread(short(&e.to_string())),
    };
    let access = Access { moves, ..Access::new(place, job.copies.clone(), job.credentials.clone()) };
    match &job.todo {
        Todo::LookUp { code, id, fresh } => Answer::Found(Box::new(lookup::look_up(&access, code, id, *fresh))),
        Todo::Put(wanted) => Answer::Put(put::put(&access, wanted, dice)),
    }
}

/// Says that we are alive, at most once in [`SIGN_PACE`]. Who does not read it any longer ends us.
fn moves() {
    thread_local! { static LAST: Cell<Option<Instant>> = const { Cell::new(None) } }
    if LAST.get().is_none_or(|last| last.elapsed() >= SIGN_PACE) {
        LAST.set(Some(Instant::now()));
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(b"\n").and_then(|()| out.flush());
    }
}

/// A number from 0 to 1, for pauses only.
fn dice() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
