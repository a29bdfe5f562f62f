//! The command line: asks a running engine over HTTP, or works on a directory or a file of its own.

mod adopt;
mod client;
mod deployments;
mod doctor;
mod drift;
mod emit;
mod follow;
mod git;
mod import;
mod lineage;
mod offline;
mod output;
mod partition;
mod progress;
mod read;
mod rebuild;
mod replay;
mod schemas;
mod topics;
mod trigger;
mod webhook;

use std::process::ExitCode;

use crate::config::ask::Drift;
use crate::config::{Audit, Command, Config};
use crate::git::place::Allowed;
use crate::serve;
use output::Output;

/// How a command that could do its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As hoped for: accepted, a duplicate, whole.
    Done,
    /// Not: refused, not whole, not well.
    No,
    /// Not known yet.
    Unsettled,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine said no, or there is no such thing.
    #[error("{0}")]
    Refused(String),
    /// It was asked in a way that cannot be answered.
    #[error("{0}")]
    Usage(String),
    /// The engine cannot be reached, or not now.
    #[error("{0}")]
    Unavailable(String),
    /// It is not known whether it happened.
    #[error("{0}")]
    Unsettled(String),
    /// Whoever read our output has enough.
    #[error("the output was closed")]
    Closed,
    /// Something here failed: a file, a directory.
    #[error("{}", told_once(.0))]
    Failed(#[from] anyhow::Error),
}

/// An error and its causes, without those that the text before them tells already.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
        text
    })
}

impl Failure {
    /// The exit code: `annals --help` lists them.
    fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Refused(_) | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 69,
            Self::Unsettled(_) => 75,
        }
    }
}

/// Does what was asked for, and says what the program ends with.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    let mut out = Output::stdout();
    let result = dispatch(config.command, &mut out).and_then(|exit| out.flush().map(|()| exit));
    match result {
        Ok(Exit::Done) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Ok(Exit::No) => ExitCode::from(1),
        Ok(Exit::Unsettled) => ExitCode::from(75),
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: Command, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve(args),
        Command::Emit(args) => emit::run(&args, out),
        Command::Drift(Drift::Report(args)) => drift::report(&args, out),
        Command::Get(args) => read::get(&args, out),
        Command::List(args) => read::list(&args, out),
        Command::Timeline(args) => read::timeline(&args, out),
        Command::Deployments(args) => deployments::run(&args, out),
        Command::Lineage(args) => lineage::run(&args, out),
        Command::At(args) => read::at(&args, out),
        Command::Replay(args) => replay::run(&args, out),
        Command::Subscribe(args) => follow::run(&args, out),
        Command::Webhook(args) => webhook::run(&args, out),
        Command::Trigger(args) => trigger::run(&args, out),
        Command::Adopt(args) => adopt::run(&args, out),
        Command::Git(args) => git::run(&args, out),
        Command::Audit(Audit::Verify(args)) => offline::verify(&args, out),
        Command::Export(args) => offline::export(&args, out),
        Command::Import(args) => import::run(&args, out),
        Command::Partition(args) => partition::run(&args, out),
        Command::Backup(args) => offline::backup(&args, out),
        Command::Rebuild(args) => rebuild::run(&args, out),
        Command::Schemas(args) => schemas::run(&args, out),
        Command::Topics(args) => topics::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, out),
    }
}

fn serve(args: crate::config::Serve) -> Result<Exit, Failure> {
    args.check().map_err(Failure::Usage)?;
    args.git
        .git_allow
        .iter()
        .try_for_each(|pattern| Allowed::parse(pattern).map(|_| ()))
        .map_err(|e| Failure::Usage(format!("--git-allow: {e}")))?;
    // half of the processors for the door: the arbiters need the rest, and a worker more than that
    // costs a client that is alone a hand-over for each request
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(anyhow::Error::from)?;
    match runtime.block_on(serve::run(args)) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::Unavailable(told_once(&error))),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_that_an_error_names_itself_is_told_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = crate::journal::sqlite::SqliteJournal::open(&file.path().join("data")).err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        let told = Failure::from(anyhow::Error::from(error)).to_string();
        assert_eq!(told.matches(&cause).count(), 1, "{told}");
    }

    #[test]
    fn a_cause_that_an_error_does_not_name_is_told() {
        let error = Err::<(), _>(std::io::Error::other("the disk is gone")).context("out.ndjson cannot be written").unwrap_err();
        assert_eq!(Failure::from(error).to_string(), "out.ndjson cannot be written: the disk is gone");
    }
}
