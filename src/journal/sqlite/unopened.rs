//! A journal that is being filled: it has another name until it is whole, so nobody takes it for one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::home::{self, FILE, OpenError};
use super::queue::Queue;
use super::reader::Reader;
use super::writer::Writer;
use super::{Engine, SqliteJournal};
use annals_events::time::Timestamp;

/// A journal without a single record, in a directory that has no other. Dropped before
/// [`Unopened::finish`], it leaves nothing that counts.
pub struct Unopened {
    journal: SqliteJournal,
    unfinished: PathBuf,
    /// The directory stays ours until the journal has its name.
    lock: File,
}

impl Unopened {
    /// Makes it.
    ///
    /// # Errors
    /// [`OpenError`] if the directory holds a journal or anything else, or cannot be written.
    pub fn new(dir: &Path, partitions: u32) -> Result<Self, OpenError> {
        let (lock, unfinished) = home::prepare_unopened(dir, partitions)?;
        let meta = home::unopened_meta(dir, &unfinished)?;
        let writer = Arc::new(Writer::open(dir, &unfinished, meta.partitions).map_err(|e| home::trouble(dir, &e))?);
        let queues = Arc::new((0..meta.partitions).map(|_| Queue::new(0, Timestamp(0))).collect());
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let engine = Engine { _keeper: None, writer, queues, _lock: lock.try_clone().map_err(io)? };
        let reader = Reader::new(&unfinished, meta.partitions);
        let journal = SqliteJournal { dir: dir.to_owned(), id: meta.id, partitions: meta.partitions, reader, engine: Some(engine) };
        Ok(Self { journal, unfinished, lock })
    }

    /// The journal, to be written.
    #[must_use]
    pub fn journal(&self) -> &SqliteJournal {
        &self.journal
    }

    /// It is whole: gives it the name by which engines know it.
    ///
    /// # Errors
    /// [`OpenError`], also if a partition has no beginning; then it has no name.
    pub fn finish(self) -> Result<(), OpenError> {
        let Self { journal, unfinished, lock } = self;
        let dir = journal.dir.clone();
        drop(journal);
        home::settle(&dir, &unfinished)?;
        fs::rename(&unfinished, dir.join(FILE)).map_err(|source| OpenError::Io { path: dir.clone(), source })?;
        home::sync(&dir)?;
        home::check(&dir)?;
        drop(lock);
        Ok(())
    }
}
