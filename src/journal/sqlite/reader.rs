//! Reads of `journal.db`: connections that do not wait for the writer, nor for one another.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use annals_events::record::{Hash, Record};
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::schema::Sql;
use crate::journal::{Chunk, Located, ReadError};

/// A chunk ends early when it holds so many bytes: 2,000 large records must not fill the memory.
const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Connections that are kept open when nobody reads.
const KEPT_MAX: usize = 32;

/// See the module.
pub struct Reader {
    file: PathBuf,
    sql: Vec<Sql>,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    /// A reader of the journal in this file.
    pub fn new(file: &Path, partitions: u32) -> Self {
        Self { file: file.to_owned(), sql: (0..partitions).map(Sql::of).collect(), idle: Mutex::default() }
    }

    /// Runs a read on a connection of its own.
    pub fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.file).map_err(|e| self.error(&e))?,
        };
        let result = read(&connection);
        // a connection that saw an error is closed rather than trusted
        if result.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT_MAX {
                idle.push(connection);
            }
        }
        result
    }

    /// Records from `from` on, each compared with the hash that was stored beside it.
    pub fn records(&self, p: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        let found = self.with(|connection| {
            let mut statement = connection.prepare_cached(&self.sql[p as usize].records).map_err(|e| self.error(&e))?;
            let mut rows = statement.query(params![number(from), count(max)]).map_err(|e| self.error(&e))?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next().map_err(|e| self.error(&e))? {
                let (seq, record) = self.record(p, row)?;
                bytes += record.frame().len();
                found.push(Located { offset: seq, record });
                if bytes > CHUNK_BYTES_MAX {
                    break;
                }
            }
            Ok(found)
        })?;
        let next = found.last().map_or(from, |last| last.offset + 1);
        Ok(Chunk { items: found, next })
    }

    fn record(&self, p: u32, row: &rusqlite::Row<'_>) -> Result<(u64, Record), ReadError> {
        let seq = place(row).map_err(|e| self.error(&e))?;
        let damaged = |what: &str| ReadError::Corrupt(format!("{what} at seq {seq} of partition {p} in {}", self.file.display()));
        let frame = row.get_ref(1).ok().and_then(|v| v.as_blob().ok()).ok_or_else(|| damaged("there is no frame"))?;
        let hash: [u8; 32] = row.get(2).map_err(|_| damaged("there is no hash"))?;
        let record = Record::from_frame(frame.into());
        if record.hash() != Hash(hash) {
            return Err(damaged("the record does not have the hash that was stored with it"));
        }
        Ok((seq, record))
    }

    /// The place behind the last record.
    pub fn end(&self, p: u32) -> Result<u64, ReadError> {
        self.behind_last(&self.sql[p as usize].end)
    }

    /// The offset behind the last proposal that has a verdict.
    pub fn verdicts_end(&self, p: u32) -> Result<u64, ReadError> {
        self.behind_last(&self.sql[p as usize].verdicts_end)
    }

    fn behind_last(&self, sql: &str) -> Result<u64, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql).map_err(|e| self.error(&e))?;
            let last: Option<i64> = statement.query_row([], |row| row.get(0)).map_err(|e| self.error(&e))?;
            Ok(last.map_or(0, |last| last.unsigned_abs() + 1))
        })
    }

    /// When the newest judged proposal was appended.
    pub fn last_at(&self, p: u32) -> Result<Timestamp, ReadError> {
        self.with(|connection| {
            let found = connection.query_row(&self.sql[p as usize].last_at, [], |row| row.get(0)).optional().map_err(|e| self.error(&e))?;
            Ok(Timestamp(found.unwrap_or(0)))
        })
    }

    /// Verdicts from `from` on.
    pub fn verdicts(&self, p: u32, from: u64, max: usize) -> Result<Chunk<Verdict>, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&self.sql[p as usize].verdicts).map_err(|e| self.error(&e))?;
            let mut rows = statement.query(params![number(from), count(max)]).map_err(|e| self.error(&e))?;
            let mut chunk = Chunk { items: Vec::new(), next: from };
            while let Some(row) = rows.next().map_err(|e| self.error(&e))? {
                let src = place(row).map_err(|e| self.error(&e))?;
                chunk.items.push(self.verdict_of(p, row)?);
                chunk.next = src + 1;
            }
            Ok(chunk)
        })
    }

    fn verdict_of(&self, p: u32, row: &rusqlite::Row<'_>) -> Result<Verdict, ReadError> {
        let text = row.get_ref(1).ok().and_then(|v| v.as_str().ok()).unwrap_or_default();
        serde_json::from_str(text).map_err(|e| {
            let file = self.file.display();
            ReadError::Corrupt(format!("a verdict of partition {p} in {file} cannot be read ({e})"))
        })
    }

    /// The last verdict on a proposal, whichever partition it is in.
    pub fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        let Some(name) = name_of(source, id) else { return Ok(None) };
        self.with(|connection| {
            let mut found: Option<(i64, u32, Verdict)> = None;
            for (p, sql) in (0..).zip(&self.sql) {
                let mut statement = connection.prepare_cached(&sql.verdict).map_err(|e| self.error(&e))?;
                let mut rows = statement.query(params![name]).map_err(|e| self.error(&e))?;
                while let Some(row) = rows.next().map_err(|e| self.error(&e))? {
                    let at: i64 = row.get(0).map_err(|e| self.error(&e))?;
                    let verdict = self.verdict_of(p, row)?;
                    // the name is 64 bits of a digest: the text decides
                    if verdict.source == source && verdict.id == id {
                        if found.as_ref().is_none_or(|(before, ..)| at > *before) {
                            found = Some((at, p, verdict));
                        }
                        break;
                    }
                }
            }
            Ok(found.map(|(_, p, verdict)| (p, verdict)))
        })
    }

    fn error(&self, error: &rusqlite::Error) -> ReadError {
        let file = self.file.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Corrupt(format!("{file}: {error}")),
            _ => ReadError::Unavailable(format!("{file} cannot be read: {error}")),
        }
    }
}

/// Opens a connection that can only read.
pub fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(super::writer::BUSY_MAX)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection)?;
    // after each commit of the writer it is empty anyway, and to make a large one again costs more
    // than the read
    connection.pragma_update(None, "cache_size", 12)?; // pages
    Ok(connection)
}

/// Without it, SQLite (built with STAT4) compiles a cached statement again whenever another value
/// is bound to it: a tenth of the time of an accept.
pub fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// What a proposal is found by: 64 bits of SHA-256 over source, a zero byte and id.
pub fn name_of(source: &str, id: &str) -> Option<i64> {
    if source.is_empty() && id.is_empty() {
        return None; // not even that could be read
    }
    let digest = Hash::of(&[source.as_bytes(), &[0], id.as_bytes()].concat());
    digest.0.first_chunk().map(|first| i64::from_be_bytes(*first))
}

/// SQLite's integers are signed; no journal comes near the difference.
pub fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The first column: a `seq` or a `src`.
fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::unsigned_abs)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
