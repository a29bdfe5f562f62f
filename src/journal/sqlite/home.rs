//! The data directory: who may use it, what must be in it, and how a journal is made there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use annals_events::record::{Hash, Record};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::schema::{self, APPLICATION, FORMAT};

/// The journal's file in the data directory.
pub const FILE: &str = "journal.db";
const LOCK: &str = "lock";
const UNFINISHED: &str = "journal.db.new";
/// What only an engine that had a journal leaves behind.
const REMAINS: [&str; 3] = ["views.db", "ops.db", "snapshots"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Stop the other engine, or choose another directory.
    #[error("another engine ({holder}) runs on {dir}: stop it, or choose another directory")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Its process, as far as known.
        holder: String,
    },
    /// Choose another directory.
    #[error("{dir} holds other files ({found}) and no journal: choose an empty directory")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Choose another directory.
    #[error("{dir} holds a journal: choose an empty directory; nothing was written")]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// There is nothing to read yet.
    #[error("{dir} holds no journal: name the directory of an engine, or start one on it with `annals serve --data`")]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// History is gone. Never taken for a new beginning.
    #[error("the journal in {dir} has been emptied ({what}): restore the directory from a backup; nothing was changed")]
    Emptied {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
    /// Restore a backup.
    #[error("the journal in {dir} is damaged ({what}): restore the directory from a backup")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// Start the build that wrote it, or a newer one.
    #[error("the journal in {dir} has format {found}, and this build knows {FORMAT}: start a newer build")]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: i32,
    },
    /// Mend the disk or the permissions.
    #[error("{path} cannot be used: {source}; check that it is a directory that may be written, and the free space")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else that SQLite says.
    #[error("the journal in {dir} cannot be opened: {why}")]
    Sqlite {
        /// The directory.
        dir: PathBuf,
        /// What and what to do.
        why: String,
    },
}

/// What `meta` says.
pub struct Meta {
    /// Names this very journal.
    pub id: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// Makes the directory if need be, locks it, and makes a journal if none was ever there.
///
/// # Errors
/// [`OpenError`]; nothing was changed but that the directory and its lock file may be there.
pub fn prepare(dir: &Path, partitions: u32) -> Result<(File, Meta), OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    refuse_foreign(dir)?;
    let lock = lock(dir)?;
    if !exists(dir)? {
        refuse_emptied(dir)?;
        create(dir, partitions)?;
    }
    let meta = check(dir)?;
    Ok((lock, meta))
}

/// Whether `journal.db` is there.
///
/// # Errors
/// [`OpenError::Io`] if that cannot be seen.
pub fn exists(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join(FILE);
    path.try_exists().map_err(|source| OpenError::Io { path, source })
}

/// Another's files are not ours to write among.
fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    if exists(dir)? {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let name = name.to_string_lossy();
        // a volume of its own may hold a lost+found
        let files = [FILE, "views.db", "ops.db"];
        let ours = name == LOCK || name == "lost+found" || files.iter().any(|file| name.starts_with(file));
        if !ours && !REMAINS.contains(&&*name) {
            return Err(OpenError::Foreign { dir: dir.to_owned(), found: name.into_owned() });
        }
    }
    Ok(())
}

fn refuse_emptied(dir: &Path) -> Result<(), OpenError> {
    match REMAINS.iter().find(|name| dir.join(name).exists()) {
        Some(name) => Err(OpenError::Emptied { dir: dir.to_owned(), what: format!("{name} is there and {FILE} is not") }),
        None => Ok(()),
    }
}

/// The system drops the lock when the process ends, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder); // only to name it
            let holder = if holder.trim().is_empty() { "its process is not known".into() } else { format!("process {}", holder.trim()) };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
    Ok(file)
}

/// As [`prepare`], for a journal that is filled before it is opened: it has no name yet.
///
/// # Errors
/// [`OpenError`], also if there is a journal.
pub fn prepare_unopened(dir: &Path, partitions: u32) -> Result<(File, PathBuf), OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    refuse_foreign(dir)?;
    let lock = lock(dir)?;
    if exists(dir)? {
        return Err(OpenError::Taken { dir: dir.to_owned() });
    }
    refuse_emptied(dir)?;
    Ok((lock, draft(dir, partitions, false)?))
}

/// Moves the write-ahead log into the file, so that it can be renamed.
///
/// # Errors
/// [`OpenError`].
pub fn settle(dir: &Path, unfinished: &Path) -> Result<(), OpenError> {
    let sqlite = |e: &rusqlite::Error| trouble(dir, e);
    let connection = Connection::open(unfinished).map_err(|e| sqlite(&e))?;
    connection.pragma_update(None, "synchronous", "extra").map_err(|e| sqlite(&e))?;
    connection.pragma_update(None, "journal_mode", "delete").map_err(|e| sqlite(&e))?;
    connection.close().map_err(|(_, e)| sqlite(&e))?;
    File::open(unfinished).and_then(|file| file.sync_all()).map_err(|source| OpenError::Io { path: unfinished.to_owned(), source })
}

/// Under another name first: a process that dies in the middle leaves no half journal.
fn create(dir: &Path, partitions: u32) -> Result<(), OpenError> {
    let unfinished = draft(dir, partitions, true)?;
    fs::rename(&unfinished, dir.join(FILE)).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    sync(dir)
}

/// A journal that has no name yet.
fn draft(dir: &Path, partitions: u32, open: bool) -> Result<PathBuf, OpenError> {
    let unfinished = dir.join(UNFINISHED);
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    for leftover in ["", "-journal", "-wal", "-shm"].map(|suffix| dir.join(format!("{UNFINISHED}{suffix}"))) {
        match fs::remove_file(&leftover) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    let sqlite = |e: &rusqlite::Error| trouble(dir, e);
    let mut connection = Connection::open(&unfinished).map_err(|e| sqlite(&e))?;
    connection.pragma_update(None, "synchronous", "extra").map_err(|e| sqlite(&e))?;
    let id = uuid::Uuid::now_v7().to_string();
    schema::create(&mut connection, &id, partitions, crate::journal::wall_clock(), open).map_err(|e| sqlite(&e))?;
    connection.close().map_err(|(_, e)| sqlite(&e))?;
    Ok(unfinished)
}

/// Makes names in a directory durable.
pub fn sync(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// Looks at what a start depends on: the format, and both ends of each partition. Every page is not
/// looked at (`PRAGMA quick_check` reads the whole file, minutes for a large journal): a damaged
/// record is found by its hash when it is read, and `annals audit verify` reads them all.
pub fn check(dir: &Path) -> Result<Meta, OpenError> {
    let sqlite = |e: &rusqlite::Error| trouble(dir, e);
    let emptied = |what: String| OpenError::Emptied { dir: dir.to_owned(), what };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(FILE), flags).map_err(|e| sqlite(&e))?;
    connection.busy_timeout(super::writer::BUSY_MAX).map_err(|e| sqlite(&e))?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(|e| sqlite(&e));
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION {
        return Err(emptied(format!("{FILE} is not a journal of ours, or has lost everything")));
    }
    if format > FORMAT {
        return Err(OpenError::Newer { dir: dir.to_owned(), found: format });
    }
    let meta = read_meta(&connection).map_err(|e| sqlite(&e))?.ok_or_else(|| emptied("its table `meta` has been emptied".into()))?;
    for p in 0..meta.partitions {
        let end = |order: &str| {
            let sql = format!("SELECT seq, frame, hash FROM records_{p} ORDER BY seq {order} LIMIT 1");
            let parts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 32]>(2)?));
            connection.query_row(&sql, [], parts).optional().map_err(|e| sqlite(&e))
        };
        let first = end("ASC")?.filter(|(seq, ..)| *seq == 0).ok_or_else(|| emptied(format!("partition {p} has lost its beginning")))?;
        for (seq, frame, hash) in [Some(first), end("DESC")?].into_iter().flatten() {
            let record = Record::from_frame(frame.into());
            if record.hash() != Hash(hash) || record.view().is_ok_and(|view| super::reader::number(view.seq) != seq) {
                let what = format!("the record at seq {seq} of partition {p} is not what was written");
                return Err(OpenError::Damaged { dir: dir.to_owned(), what });
            }
        }
    }
    Ok(meta)
}

/// What `meta` says of a journal that has no name yet.
///
/// # Errors
/// [`OpenError`].
pub fn unopened_meta(dir: &Path, unfinished: &Path) -> Result<Meta, OpenError> {
    let connection = Connection::open(unfinished).map_err(|e| trouble(dir, &e))?;
    let meta = read_meta(&connection).map_err(|e| trouble(dir, &e))?;
    meta.ok_or_else(|| OpenError::Damaged { dir: dir.to_owned(), what: "its table `meta` is empty".into() })
}

fn read_meta(connection: &Connection) -> rusqlite::Result<Option<Meta>> {
    let mut statement = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
    let id: Option<String> = statement.query_row(params!["id"], |row| row.get(0)).optional()?;
    let partitions: Option<u32> = statement.query_row(params!["partitions"], |row| row.get(0)).optional()?;
    Ok(id.zip(partitions).filter(|(_, partitions)| *partitions > 0).map(|(id, partitions)| Meta { id, partitions }))
}

/// Says which kind of trouble SQLite has.
pub fn trouble(dir: &Path, error: &rusqlite::Error) -> OpenError {
    let dir = dir.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { dir, what: error.to_string() },
        _ => OpenError::Sqlite { why: super::writer::explain(&dir, error), dir },
    }
}
