//! A thread that keeps `journal.db` small: moves the write-ahead log into it, and drops old verdicts.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annals_events::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::schema::Sql;
use super::writer::{BUSY_MAX, Writer};

/// How long a verdict can be asked for.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// The log is moved after so many rows, or when nothing has been written for a while.
const ROWS: u64 = 2_000;
/// A log of more pages than this (64 MiB) is emptied while the writers wait.
const PAGES_MAX: i64 = 16_384;
/// How long it may wait for readers meanwhile.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);
const PACE: Duration = Duration::from_millis(200);
/// How often old verdicts are looked for, and how many go at once.
const PRUNE_PACE: Duration = Duration::from_secs(60);
const PRUNE_MAX: i64 = 500;

/// See the module. Ends when it is dropped.
pub struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub fn start(file: &Path, writer: Arc<Writer>, partitions: u32) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (flag, file) = (Arc::clone(&stop), file.to_owned());
        let thread = std::thread::Builder::new().name("annals-keeper".into()).spawn(move || {
            let mut work = Work { connection: None, moved: 0, calm: 0, pruned: Instant::now(), pages_max: PAGES_MAX };
            while !stopped(&flag) {
                if let Err(e) = work.round(&file, &writer, partitions) {
                    tracing::warn!("the journal's log was not moved; it is tried again: {e}");
                    work.connection = None;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has told the log what it had to say
        }
    }
}

fn stopped(stop: &(Mutex<bool>, Condvar)) -> bool {
    let flag = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    *stop.1.wait_timeout_while(flag, PACE, |stop| !*stop).unwrap_or_else(PoisonError::into_inner).0
}

struct Work {
    connection: Option<Connection>,
    /// [`Writer::written`] when the log was last moved, and when it was last looked at.
    moved: u64,
    calm: u64,
    pruned: Instant,
    pages_max: i64,
}

impl Work {
    fn round(&mut self, file: &Path, writer: &Writer, partitions: u32) -> rusqlite::Result<()> {
        let written = writer.written();
        let calm = std::mem::replace(&mut self.calm, written) == written;
        if written - self.moved >= ROWS || (calm && written > self.moved) {
            self.moved = written;
            self.checkpoint(file, writer)?;
        }
        if self.pruned.elapsed() >= PRUNE_PACE {
            self.pruned = Instant::now();
            prune(writer, partitions, crate::journal::wall_clock())?;
        }
        Ok(())
    }

    /// `PASSIVE` waits for nobody and nobody waits for it.
    fn checkpoint(&mut self, file: &Path, writer: &Writer) -> rusqlite::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(file)?,
        };
        let pages: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        self.connection = Some(connection);
        if pages > self.pages_max {
            // under a steady load there is always something left, and the log would grow for ever
            let busy = writer.alone(|connection| {
                connection.busy_timeout(RESTART_PATIENCE)?;
                let busy = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
                connection.busy_timeout(BUSY_MAX).and(busy)
            })?;
            // somebody reads for long, a backup perhaps: not again at once
            self.pages_max = if busy { pages * 2 } else { PAGES_MAX };
        }
        Ok(())
    }
}

/// Deletes verdicts that are older than [`RETENTION`], in steps that nobody notices.
pub fn prune(writer: &Writer, partitions: u32, now: Timestamp) -> rusqlite::Result<usize> {
    let oldest = now.0 - i64::try_from(RETENTION.as_millis()).unwrap_or(i64::MAX);
    let mut pruned = 0;
    for p in 0..partitions {
        let sql = Sql::of(p).prune;
        let first = format!("SELECT at FROM proposals_{p} ORDER BY src LIMIT 1");
        loop {
            // an engine at rest must not write: look first
            let due = writer.alone(|connection| connection.prepare_cached(&first)?.query_row([], |row| row.get::<_, i64>(0)).optional())?;
            if due.is_none_or(|at| at >= oldest) {
                break;
            }
            let step = writer.turn(|connection| connection.prepare_cached(&sql)?.execute(params![oldest, PRUNE_MAX]))?;
            pruned += step;
            if step < usize::try_from(PRUNE_MAX).unwrap_or(usize::MAX) {
                break;
            }
        }
    }
    Ok(pruned)
}
