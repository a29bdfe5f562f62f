//! The suite on SQLite, and what only a file can suffer.

use std::path::PathBuf;
use std::sync::Arc;

use annals_events::record::Record;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{FILE, SqliteJournal};
use crate::journal::Journal;
use crate::journal::suite::{Kit, suite};

/// A journal in a temporary directory.
pub struct OnDisk {
    dir: TempDir,
    journal: Option<Arc<SqliteJournal>>,
}

impl OnDisk {
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
