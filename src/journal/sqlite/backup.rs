//! Copies the journal of a running engine into another directory, and the operational store that lies beside it.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::home::{self, FILE, OpenError};
use super::reader;

/// What the journal cannot give back; nothing is known of it here but its name.
const OPS: &str = "ops.db";
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

/// Copies the journal in `dir`, which an engine may be writing, into `target`, and the operational
/// store if there is one; afterwards an engine can start on `target`. `progress` is told (pages
/// copied, pages in all).
///
/// # Errors
/// [`BackupError`]; there is nothing in `target` then.
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
    // the store first: what it has done must not lie behind the end of the journal
    if dir.join(OPS).try_exists().map_err(io)? {
        copy_file(dir, target, OPS, progress)?;
    }
    copy_file(dir, target, FILE, progress).inspect_err(|_| {
        let _ = fs::remove_file(target.join(OPS)); // half a backup is of no use
    })?;
    home::sync(target)?;
    home::check(target)?;
    Ok(())
}

/// Copies one file, under another name until it is whole.
fn copy_file(dir: &Path, target: &Path, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<(), BackupError> {
    let unfinished = target.join(format!("{name}.new"));
    copy(&dir.join(name), &unfinished, progress)
        .map_err(|e| BackupError::Copy { target: target.to_owned(), why: super::writer::explain(target, &e) })
        .and_then(|()| {
            let permissions = fs::metadata(dir.join(name)).map(|of| of.permissions());
            let kept = permissions.and_then(|as_it_was| fs::set_permissions(&unfinished, as_it_was));
            kept.and_then(|()| fs::rename(&unfinished, target.join(name)))
                .map_err(|source| BackupError::Io { path: target.to_owned(), source })
        })
        .inspect_err(|_| {
            let _ = fs::remove_file(&unfinished); // an incomplete copy is of no use
        })
}

fn copy(source: &Path, unfinished: &Path, progress: &mut dyn FnMut(u64, u64)) -> rusqlite::Result<()> {
    // for its owner only, until it has the permissions of what it is a copy of
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished);
    made.map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let source = reader::open(source)?;
    // one read transaction: the copy is of one moment, and is not begun again when the engine writes
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master")?;
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
