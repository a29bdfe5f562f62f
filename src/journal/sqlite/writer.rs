//! Group commit: whoever commits first writes for all who wait, in one transaction with one fsync.
//!
//! There is no writer thread. A committing thread that finds nobody writing *leads*: it takes every
//! waiting batch of every partition, writes them, and tells the others. So a single client pays no
//! extra hop, and many clients share an fsync.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::reader::{keep_plans, number};
use super::schema::Sql;
use crate::journal::ring::Ring;
use crate::journal::{AppendError, Chunk, Located};

/// Most bytes of the newest records of one partition that are kept in memory.
const RECENT_BYTES_MAX: usize = 512 * 1024;
/// How long another program may hold the file.
pub const BUSY_MAX: Duration = Duration::from_secs(5);

/// A record's row.
pub struct RecordRow {
    pub seq: u64,
    pub key: String,
    pub recorded: i64,
    pub record: annals_events::record::Record,
}

/// The row of a proposal that was not accepted: an accepted one is in its record.
pub struct VerdictRow {
    pub src: u64,
    pub at: i64,
    pub name: Option<i64>,
    pub verdict: String,
    pub submission: Vec<u8>,
}

/// What one claim wants to commit.
#[derive(Default)]
pub struct Rows {
    pub records: Vec<RecordRow>,
    pub verdicts: Vec<VerdictRow>,
}

/// See the module.
pub struct Writer {
    dir: PathBuf,
    file: PathBuf,
    sql: Vec<Sql>,
    connection: Mutex<Connection>,
    state: Mutex<State>,
    /// One for each partition: its committer's batch is decided, or it is its turn to lead.
    turns: Vec<Condvar>,
    /// The lead has ended.
    ended: Condvar,
    written: AtomicU64,
    /// By partition the offset behind the last proposal whose verdict is stored, or may be.
    told: Vec<AtomicU64>,
    /// By partition the newest of the records that were stored here.
    recent: Vec<Mutex<Ring<Located>>>,
}

struct State {
    epochs: Vec<u64>,
    waiting: Vec<Pending>,
    /// Partitions of the batches that are being written; empty if nobody leads.
    in_flight: Vec<u32>,
    leading: bool,
    /// Others than committers who wait for the lead; they go first, or they would starve.
    guests: usize,
    outcomes: HashMap<u64, Result<(), AppendError>>,
    next_ticket: u64,
    /// A COMMIT failed so that nobody knows whether it would be there after a crash.
    undecided: bool,
    /// Partitions in which a verdict's place was taken that only we may take, and what was found.
    intruders: HashMap<u32, String>,
}

struct Pending {
    ticket: u64,
    partition: u32,
    epoch: u64,
    rows: Rows,
}

impl Writer {
    /// Opens the writing connection of the journal in `dir`.
    pub fn open(dir: &Path, file: &Path, partitions: u32) -> rusqlite::Result<Self> {
        let connection = connect(file)?;
        let sql: Vec<_> = (0..partitions).map(Sql::of).collect();
        let told = |sql: &Sql| {
            let last: Option<i64> = connection.query_row(&sql.verdicts_end, [], |row| row.get(0))?;
            Ok(AtomicU64::new(last.map_or(0, |last| last.unsigned_abs() + 1)))
        };
        let told = sql.iter().map(told).collect::<rusqlite::Result<_>>()?;
        let state = State {
            epochs: vec![0; partitions as usize],
            waiting: Vec::new(),
            in_flight: Vec::new(),
            leading: false,
            guests: 0,
            outcomes: HashMap::new(),
            next_ticket: 0,
            undecided: false,
            intruders: HashMap::new(),
        };
        Ok(Self {
            dir: dir.to_owned(),
            file: file.to_owned(),
            sql,
            connection: Mutex::new(connection),
            state: Mutex::new(state),
            turns: (0..partitions).map(|_| Condvar::new()).collect(),
            ended: Condvar::new(),
            written: AtomicU64::new(0),
            told,
            recent: (0..partitions).map(|_| Mutex::new(Ring::new(u64::MAX, RECENT_BYTES_MAX))).collect(),
        })
    }

    /// Whether there may be verdicts from offset `from` on.
    pub fn has_told(&self, partition: u32, from: u64) -> bool {
        self.told[partition as usize].load(Ordering::Acquire) > from
    }

    /// Records from offset `from` on, if they are the newest that were stored: every view and every arbiter that keeps
    /// up reads them, and need not have the file read and hashed for it. `None` sends to the file, also at the end:
    /// what somebody else has written is only there.
    pub fn recent(&self, partition: u32, from: u64, max: usize) -> Option<Chunk<Located>> {
        let ring = self.recent[partition as usize].lock().unwrap_or_else(PoisonError::into_inner);
        ring.from(from, max).filter(|chunk| !chunk.items.is_empty())
    }

    fn remember(&self, partition: u32, rows: Vec<RecordRow>) {
        let mut ring = self.recent[partition as usize].lock().unwrap_or_else(PoisonError::into_inner);
        for RecordRow { seq, record, .. } in rows {
            if seq != ring.end() {
                *ring = Ring::new(seq, RECENT_BYTES_MAX); // what lies between is only in the file
            }
            ring.push(seq, record.frame().len(), Located { offset: seq, record });
        }
    }

    /// Rows written since the start: the keeper looks at it.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Fences earlier claims of the partition and waits until what they had left is decided.
    pub fn claim(&self, partition: u32) -> Result<u64, String> {
        let mut state = self.lock();
        state.epochs[partition as usize] += 1;
        let epoch = state.epochs[partition as usize];
        while state.in_flight.contains(&partition) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let undecided = state.undecided;
        drop(state);
        if undecided {
            self.turn(|_| Ok(())).map_err(|e| explain(&self.dir, &e))?;
        }
        Ok(epoch)
    }

    /// Whether a claim is still the newest of its partition.
    pub fn holds(&self, partition: u32, epoch: u64) -> bool {
        self.lock().epochs[partition as usize] == epoch
    }

    /// What was found where somebody else has written a verdict to the partition. It stays until a restart.
    pub fn intruder(&self, partition: u32) -> Option<String> {
        self.lock().intruders.get(&partition).cloned()
    }

    /// Writes rows durably, together with whatever else is waiting.
    pub fn commit(&self, partition: u32, epoch: u64, rows: Rows) -> Result<(), AppendError> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push(Pending { ticket, partition, epoch, rows });
        loop {
            if let Some(outcome) = state.outcomes.remove(&ticket) {
                return outcome;
            }
            if state.leading || state.guests > 0 {
                state = self.turns[partition as usize].wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.lead(state);
            }
        }
    }

    /// Runs something on the writing connection between two groups, in a transaction of its own.
    ///
    /// Its commit also decides what an earlier failed COMMIT may have left behind: frames of that
    /// one lie behind the write-ahead log's end and would count after a crash. Ours replace them.
    pub fn turn<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.alone(|connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let result = work(connection)?;
            barrier(connection)?;
            connection.execute_batch("COMMIT")?;
            Ok(result)
        })
    }

    /// Runs something on the writing connection while nobody writes.
    pub fn alone<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut state = self.lock();
        state.guests += 1;
        while state.leading {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.guests -= 1;
        state.leading = true;
        drop(state);
        let result = {
            let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let result = self.clean(&mut connection).and_then(|()| work(&connection));
            self.clean(&mut connection).and(result)
        };
        let mut state = self.lock();
        if result.is_ok() {
            state.undecided = false;
        }
        self.end_lead(&mut state);
        result
    }

    /// Writes everything that waits. Comes back with the state locked and the outcomes told.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (group, fenced): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|w| state.epochs[w.partition as usize] == w.epoch);
        for pending in fenced {
            state.outcomes.insert(pending.ticket, Err(AppendError::Fenced));
            self.turns[pending.partition as usize].notify_all();
        }
        state.leading = true;
        state.in_flight = group.iter().map(|w| w.partition).collect();
        drop(state);

        let written = catch_unwind(AssertUnwindSafe(|| self.write(&group)));
        let mut state = self.lock();
        let outcomes = written.unwrap_or_else(|_| {
            state.undecided = true;
            group.iter().map(|_| Err(AppendError::Unknown("the writing thread panicked; see the log".into()))).collect()
        });
        if outcomes.iter().any(|o| matches!(o, Err(AppendError::Unknown(_)))) {
            state.undecided = true;
        } else if outcomes.iter().any(Result::is_ok) {
            state.undecided = false;
        }
        for (pending, outcome) in group.into_iter().zip(outcomes) {
            if outcome.is_ok() {
                self.remember(pending.partition, pending.rows.records);
            }
            state.outcomes.insert(pending.ticket, outcome);
            self.turns[pending.partition as usize].notify_all();
        }
        self.end_lead(&mut state);
        state
    }

    fn end_lead(&self, state: &mut State) {
        state.leading = false;
        state.in_flight.clear();
        self.ended.notify_all();
        if state.guests == 0
            && let Some(next) = state.waiting.first()
        {
            self.turns[next.partition as usize].notify_all();
        }
    }

    /// One transaction for the whole group; if it fails before its COMMIT, one for each batch, so
    /// that a bad one harms itself only.
    fn write(&self, group: &[Pending]) -> Vec<Result<(), AppendError>> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match self.write_together(&mut connection, group) {
            Ok(()) => group.iter().map(|_| Ok(())).collect(),
            Err(AppendError::Failed(_)) if group.len() > 1 => {
                group.iter().map(|one| self.write_together(&mut connection, std::slice::from_ref(one))).collect()
            }
            Err(AppendError::Unknown(why)) => group.iter().map(|_| Err(AppendError::Unknown(why.clone()))).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    fn write_together(&self, connection: &mut Connection, group: &[Pending]) -> Result<(), AppendError> {
        let inserted = self.clean(connection).and_then(|()| insert(connection, &self.sql, group));
        if let Err(error) = inserted {
            let why = explain(&self.dir, &error);
            // a record in our place is the arbiter's to judge, when it reads it
            let is_record = error.to_string().contains(": records_");
            if let ([alone], Some(ErrorCode::ConstraintViolation), false) = (group, error.sqlite_error_code(), is_record) {
                self.lock().intruders.insert(alone.partition, why.clone());
            }
            return match self.clean(connection) {
                Ok(()) => Err(AppendError::Failed(why)),
                Err(e) => Err(AppendError::Unknown(format!("{why}; and it could not be undone: {e}"))),
            };
        }
        for pending in group {
            if let Some(last) = pending.rows.verdicts.last() {
                self.told[pending.partition as usize].fetch_max(last.src + 1, Ordering::AcqRel);
            }
        }
        let Err(error) = commit(connection) else {
            let rows = group.iter().map(|w| w.rows.records.len() + w.rows.verdicts.len()).sum::<usize>();
            self.written.fetch_add(rows as u64, Ordering::Relaxed);
            return Ok(());
        };
        // SQLite has rolled back for everybody who reads now, but not for who would recover the
        // log after a crash: a commit that goes through afterwards settles it
        let why = explain(&self.dir, &error);
        let settled = self.clean(connection).and_then(|()| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            barrier(connection)?;
            commit(connection)
        });
        match settled.and_then(|()| self.clean(connection)) {
            Ok(()) => Err(AppendError::Failed(why)),
            Err(_) => Err(AppendError::Unknown(why)),
        }
    }

    /// Makes sure that no transaction is open: rolled back, or the connection is replaced.
    fn clean(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        if connection.is_autocommit() {
            return Ok(());
        }
        let _ = connection.execute_batch("ROLLBACK"); // what counts is the state behind it
        if !connection.is_autocommit() {
            *connection = connect(&self.file)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches wait for a leader.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The writing connection, for tests that make it fail.
    #[cfg(test)]
    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.set_prepared_statement_cache_capacity(256);
    keep_plans(&connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", -32_768)?; // KiB
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    // the keeper's thread does that: here it would stall whoever commits
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

fn insert(connection: &Connection, sql: &[Sql], group: &[Pending]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for pending in group {
        let sql = &sql[pending.partition as usize];
        let mut statement = connection.prepare_cached(&sql.insert_record)?;
        for row in &pending.rows.records {
            statement.execute(params![number(row.seq), row.key, row.recorded, row.record.frame(), row.record.hash().0])?;
        }
        let mut statement = connection.prepare_cached(&sql.insert_verdict)?;
        for row in &pending.rows.verdicts {
            statement.execute(params![number(row.src), row.at, row.name, row.verdict, row.submission])?;
        }
    }
    Ok(())
}

fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(|_| ())
}

/// A write that certainly changes a page.
fn barrier(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'barrier'", []).map(|_| ())
}

/// What went wrong, and what to do.
pub fn explain(dir: &Path, error: &rusqlite::Error) -> String {
    let dir = dir.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!("the disk is full: make room for {dir}; nothing is lost, and it goes on by itself ({error})")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            format!("{dir} cannot be written: check its permissions and how it is mounted ({error})")
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk reports an error: look at the system's log and at the free space of {dir} ({error})")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program holds journal.db in {dir}: end it ({error})")
        }
        Some(ErrorCode::ConstraintViolation) => {
            format!("the place is taken: something else has written to journal.db in {dir}; find it before going on ({error})")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("journal.db in {dir} is damaged: restore it from a backup ({error})")
        }
        _ => format!("writing journal.db in {dir} failed: {error}"),
    }
}
