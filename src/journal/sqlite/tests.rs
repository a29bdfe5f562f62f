//! The suite on SQLite, and what only a file can suffer.

mod bad_days;
mod copies;
mod directory;
mod group;

use std::path::PathBuf;
use std::sync::Arc;

use annals_events::record::Record;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{FILE, SqliteJournal};
use crate::journal::suite::{Kit, create, judge, key_in, propose, suite};
use crate::journal::{AppendError, Journal};

/// A journal in a temporary directory.
pub struct OnDisk {
    dir: TempDir,
    journal: Option<Arc<SqliteJournal>>,
}

impl OnDisk {
    fn sqlite(&self) -> &SqliteJournal {
        self.journal.as_ref().unwrap()
    }

    /// Ends the engine; what was in the write-ahead log is in the file then.
    fn close(mut self) -> TempDir {
        drop(self.journal.take());
        self.dir
    }

    /// Proposes `n` new models and judges them.
    fn fill(&self, p: u32, n: usize) {
        let journal = self.sqlite();
        for i in 0..n {
            let src = propose(journal, p, create(&key_in(journal, p, i), &format!("{p}-{i}")));
            assert!(src < 1_000_000);
        }
        settle(journal, p).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }
}

impl Kit for OnDisk {
    fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Some(Arc::new(SqliteJournal::open_with(dir.path(), 3).unwrap()));
        Self { dir, journal }
    }

    fn journal(&self) -> Arc<dyn Journal> {
        self.journal.clone().unwrap()
    }

    fn restart(&mut self) {
        drop(Arc::into_inner(self.journal.take().unwrap()).expect("the test has dropped the journal"));
        self.journal = Some(Arc::new(SqliteJournal::open(self.dir.path()).unwrap()));
    }

    fn forge(&self, p: u32, record: &Record) {
        let view = record.view().unwrap();
        let sql = format!("INSERT INTO records_{p} VALUES (?1, ?2, ?3, ?4, ?5)");
        let row = params![view.seq as i64, view.key, view.recorded.0, record.frame(), record.hash().0];
        Connection::open(self.file()).unwrap().execute(&sql, row).unwrap();
    }

    fn empty(&self, p: u32) {
        Connection::open(self.file()).unwrap().execute(&format!("DELETE FROM records_{p}"), []).unwrap();
    }
}

suite!(OnDisk);

/// Claims the partition and decides what waits.
fn settle(journal: &dyn Journal, p: u32) -> Result<(), AppendError> {
    let mut claim = journal.claim(p).map_err(|e| AppendError::Failed(e.to_string()))?;
    let queued = journal.proposals(p, 0, 10_000).unwrap();
    claim.append(judge(journal, p, &queued))?;
    claim.commit()
}
