//! The reference for an accept: one row of the same size, committed alone with `synchronous=FULL`.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Times of single-row commits, sorted.
pub fn single_row_commits(dir: &Path, count: usize, value: &[u8]) -> Vec<Duration> {
    let db = Connection::open(dir.join("reference.db")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, value BLOB NOT NULL)").unwrap();
    let mut insert = db.prepare("INSERT INTO row (value) VALUES (?1)").unwrap();
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let start = Instant::now();
            insert.execute([value]).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}
