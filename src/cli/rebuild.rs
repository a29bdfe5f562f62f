//! `annals rebuild`: a view made again, by a running engine or in a directory on which none runs.

use std::path::Path as FilePath;
use std::sync::Arc;

use annals_projections::{NAMES, Views};
use anyhow::anyhow;
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Path};
use super::output::Output;
use super::progress::Progress;
use super::replay::copy_lines;
use super::{Exit, Failure};
use crate::config::Rebuild;
use crate::journal::Journal;
use crate::journal::sqlite::SqliteJournal;
use crate::runner::JournalSource;

/// A line of the engine's answer.
#[derive(Debug, Deserialize)]
struct Step {
    state: String,
    #[serde(default)]
    entries: u64,
    #[serde(default)]
    of: u64,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    remedy: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]; the old view is as it was.
pub fn run(args: &Rebuild, out: &mut Output) -> Result<Exit, Failure> {
    let entries = match &args.data {
        Some(dir) => offline(dir, args.database.as_deref(), &args.name)?,
        None => remote(args)?,
    };
    if args.remote.json {
        out.json(&json!({"view": args.name, "entries": entries}))?;
    } else {
        out.line(&format!("{}: made again from {entries} events", args.name))?;
    }
    Ok(Exit::Done)
}

fn remote(args: &Rebuild) -> Result<u64, Failure> {
    let client = Client::new(&args.remote.url);
    let progress = Progress::records("rebuilding", Some(0));
    let mut last = None;
    let stream = client.post_stream(&Path::new(&["v1", "views", &args.name, "rebuild"]))?;
    let read = copy_lines(stream, &mut |line| {
        let step: Step = serde_json::from_slice(line).map_err(|e| anyhow!("the engine's answer cannot be read: {e}"))?;
        progress.set(step.entries, step.of.max(step.entries));
        last = Some(step);
        Ok(())
    });
    progress.finish();
    read?;
    match last {
        Some(step) if step.state == "done" => Ok(step.entries),
        Some(step) if step.state == "failed" => Err(Failure::Refused(format!("{}\nwhat to do: {}", step.detail, step.remedy))),
        _ => Err(Failure::Unsettled("the answer broke off: the rebuild goes on, and `annals doctor` shows it".into())),
    }
}

/// Takes the directory's lock first: two writers of one view would spoil it.
fn offline(dir: &FilePath, database: Option<&str>, name: &str) -> Result<u64, Failure> {
    if !NAMES.contains(&name) {
        return Err(Failure::Usage(format!("there is no view `{name}`: there are {}", NAMES.join(", "))));
    }
    // opening it for good would make a journal where there is none
    SqliteJournal::open_read_only(dir).map_err(anyhow::Error::from)?;
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(dir).map_err(anyhow::Error::from)?);
    let total = (0..journal.partitions()).map(|p| journal.end(p).ok()).sum();
    let progress = Progress::records("rebuilding", total);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let rebuilt = runtime.block_on(async {
        let views = match database {
            Some(url) => Views::connect(url, journal.id()).await?,
            None => Views::open(dir, journal.id()).await?,
        };
        let (bar, mut before) = (&progress, 0);
        let rebuilt = views.rebuild(name, JournalSource::new(journal.clone()), |entries| {
            bar.add(entries.saturating_sub(before));
            before = entries;
        });
        rebuilt.await
    });
    progress.finish();
    Ok(rebuilt.map_err(anyhow::Error::from)?.entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_makes_no_journal_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(offline(dir.path(), None, "registry").unwrap_err().code(), 1);
        assert_eq!(offline(dir.path(), None, "nonsense").unwrap_err().code(), 2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_view_of_a_directory_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(SqliteJournal::open(dir.path()).unwrap());
        for name in NAMES {
            assert_eq!(offline(dir.path(), None, name).unwrap(), u64::from(crate::journal::PARTITIONS), "{name}");
        }
        let running = SqliteJournal::open(dir.path()).unwrap();
        let failure = offline(dir.path(), None, "registry").unwrap_err().to_string();
        assert!(failure.contains("another engine"), "{failure}");
        drop(running);
    }
}
