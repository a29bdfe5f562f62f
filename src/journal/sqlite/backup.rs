//! Copies the journal of a running engine into another directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::home::{self, FILE, OpenError};
use super::reader;

/// Pages copied in one step.
const STEP_PAGES: i32 = 1_024;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The journal or the copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Choose another target.
    #[error("{target} is not empty: choose an empty or new directory")]
    Taken {
        /// The directory.
        target: PathBuf,
    },
    /// Mend the disk or the permissions.
    #[error("{path} cannot be written: {source}; check that it is a directory that may be written, and the free space")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite could not copy.
    #[error("the copy into {target} failed: {why}")]
    Copy {
        /// The directory.
        target: PathBuf,
        /// What and what to do.
        why: String,
    },
}

/// Copies the journal in `dir`, which an engine may be writing, into `target`; afterwards an engine
/// can start on `target`. `progress` is told (pages copied, pages in all).
///
/// # Errors
/// [`BackupError`]; there is no `journal.db` in `target` then.
pub fn backup(dir: &Path, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), BackupError> {
    if !home::exists(dir)? {
        return Err(OpenError::Missing { dir: dir.to_owned() }.into());
    }
    home::check(dir)?;
    let io = |source| BackupError::Io { path: target.to_owned(), source };
    fs::create_dir_all(target).map_err(io)?;
    if fs::read_dir(target).map_err(io)?.next().is_some() {
        return Err(BackupError::Taken { target: target.to_owned() });
    }
    // under another name until it is whole
    let unfinished = target.join("journal.db.new");
    copy(dir, &unfinished, progress)
        .map_err(|e| BackupError::Copy { target: target.to_owned(), why: super::writer::explain(target, &e) })
        .inspect_err(|_| {
            let _ = fs::remove_file(&unfinished); // an incomplete copy is of no use
        })?;
    fs::rename(&unfinished, target.join(FILE)).map_err(io)?;
    home::sync(target)?;
    home::check(target)?;
    Ok(())
}

fn copy(dir: &Path, unfinished: &Path, progress: &mut dyn FnMut(u64, u64)) -> rusqlite::Result<()> {
    let source = reader::open(&dir.join(FILE))?;
    // one read transaction: the copy is of one moment, and is not begun again when the engine writes
    source.execute_batch("BEGIN; SELECT count(*) FROM meta")?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut target = Connection::open_with_flags(unfinished, flags)?;
    target.pragma_update(None, "synchronous", "extra")?;
    {
        let backup = Backup::new(&source, &mut target)?;
        loop {
            let step = backup.step(STEP_PAGES)?;
            let state = backup.progress();
            let all = u64::try_from(state.pagecount).unwrap_or(0);
            progress(all - u64::try_from(state.remaining).unwrap_or(0).min(all), all);
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(Duration::from_millis(20)), // locked for a moment
            }
        }
    }
    // the copy says that it has a write-ahead log; it must be whole without one
    target.pragma_update(None, "journal_mode", "delete")?;
    target.close().map_err(|(_, e)| e)
}
