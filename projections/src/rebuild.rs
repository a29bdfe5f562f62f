//! A view made again from the whole journal: new tables beside the old, and a switch at the end.
//!
//! ```text
//!  source ─▶ fold, partition by partition ─▶ bulk loads into new_* ─▶ indexes ─▶ catch up ─▶ switch
//!  (one thread reads and folds)               (another one writes)                 (as live)   (one transaction)
//! ```
//!
//! Readers and the live view go on with the old tables until the switch. If the process dies, the
//! old view is untouched and the next start removes what was left.

mod diff;
mod staging;

pub use diff::{Diff, Difference};

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::database::Held;
use crate::error::Error;
use crate::live::Chain;
use crate::position::{Entry, Position};
use crate::store::{self, STAGING};
use crate::table::{Changes, Projection};
use crate::views::{BATCH_MAX, Views, drop_staging};

/// Entries that are asked for at once.
const READ_MAX: usize = 2_000;
/// Cells of one bulk transaction: some ten thousand rows.
const CELLS_MAX: usize = 100_000;
/// Folded batches that may wait for the writer.
const WAITING_MAX: usize = 8;

/// Where a rebuild reads the journal. It runs on a thread that may block.
pub trait Source: Send + 'static {
    /// How many partitions there are.
    fn partitions(&self) -> u32;

    /// Entries of a partition that rule R accepted, from offset `from` on, in order; none only at
    /// the end.
    ///
    /// # Errors
    /// A sentence; the rebuild ends with [`Error::Source`].
    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String>;
}

/// What a rebuild has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// How many entries it read.
    pub entries: u64,
    /// Where the view is now.
    pub positions: Vec<Position>,
}

/// What the folding thread hands to the writer.
struct Folded {
    changes: Changes,
    entries: u64,
    /// Where the partition is when it was read to its end.
    position: Option<Position>,
}

impl Views {
    /// Makes a view again from a journal, and switches to it when it is at least as far as the live
    /// one. `progress` is told how many entries are done.
    ///
    /// # Errors
    /// [`Error::Rebuilding`], [`Error::Source`], those of [`Views::apply`]; the old view is as it was.
    pub async fn rebuild<S: Source>(&self, view: &str, source: S, mut progress: impl FnMut(u64) + Send) -> Result<Rebuilt, Error> {
        let projection = self.projection(view)?;
        let mut mark = Mark::set(self, projection.name()).await?;
        let (mut source, mut entries) = self.load(projection, source, &mut progress).await?;
        let mut required = BTreeMap::new();
        loop {
            let (returned, found) = self.catch_up(projection, source).await?;
            source = returned;
            entries += found;
            progress(entries);
            // what the live view had before the journal was read to its end must be in the new one,
            // unless it is not in the journal at all: then the journal is right
            match self.switch(projection, &required).await? {
                Switch::Done(positions) => {
                    mark.switched = true;
                    return Ok(Rebuilt { entries, positions });
                }
                Switch::Behind(live) => required = live,
            }
        }
    }

    /// Fills new tables from the whole source and gives them their indexes.
    async fn load<S: Source>(
        &self,
        projection: &dyn Projection,
        source: S,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<(S, u64), Error> {
        {
            let mut writer = self.builder(projection).await?;
            drop_staging(&mut *writer, projection).await.map_err(|e| self.fault(e))?;
            staging::create(&mut *writer, projection).await.map_err(|e| self.fault(e))?;
        }
        let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
        let folder = Folder { name: projection.name(), tables: projection.tables().len(), sender };
        let new_fold = self.folds(projection);
        let reading = tokio::task::spawn_blocking(move || folder.run(source, new_fold));
        let mut entries = 0;
        while let Some(folded) = receiver.recv().await {
            entries += folded.entries;
            self.write(projection, folded).await?;
            progress(entries);
        }
        let source = reading.await.map_err(|e| Error::Source(format!("the reading thread ended: {e}")))??;
        let mut writer = self.builder(projection).await?;
        staging::index(&mut *writer, projection).await.map_err(|e| self.fault(e))?;
        Ok((source, entries))
    }

    async fn write(&self, projection: &dyn Projection, folded: Folded) -> Result<(), Error> {
        let view = format!("{STAGING}{}", projection.name());
        let mut writer = self.builder(projection).await?;
        let write = async {
            let mut transaction = writer.begin(&view).await?;
            store::write(transaction.on(), projection.tables(), STAGING, folded.changes).await?;
            store::set_positions(transaction.on(), &view, folded.position.iter()).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| self.fault(e))
    }

    /// Applies what the journal has beyond the new tables, as the live view does.
    async fn catch_up<S: Source>(&self, projection: &dyn Projection, mut source: S) -> Result<(S, u64), Error> {
        let view = format!("{STAGING}{}", projection.name());
        let positions = {
            let mut writer = self.builder(projection).await?;
            store::positions(&mut *writer, &view).await.map_err(|e| self.fault(e))?
        };
        let mut next: BTreeMap<u32, u64> = positions.into_iter().map(|p| (p.partition, p.offset + 1)).collect();
        let mut applied = 0;
        for partition in 0..source.partitions() {
            let from = next.entry(partition).or_default();
            loop {
                let (returned, entries) = read(source, partition, *from).await?;
                source = returned;
                let Some(last) = entries.last() else { break };
                *from = last.offset + 1;
                for batch in entries.chunks(BATCH_MAX) {
                    let mut writer = self.builder(projection).await?;
                    applied += self.apply_batch(&mut *writer, projection, STAGING, batch).await?;
                }
            }
        }
        Ok((source, applied))
    }

    /// Puts the new tables in the place of the old ones, if they are as far as those were.
    async fn switch(&self, projection: &dyn Projection, required: &BTreeMap<u32, u64>) -> Result<Switch, Error> {
        let mut writer = self.builder(projection).await?;
        let switch = async {
            let mut transaction = writer.begin(projection.name()).await?;
            let live = store::positions(transaction.on(), projection.name()).await?;
            let new = store::positions(transaction.on(), &format!("{STAGING}{}", projection.name())).await?;
            let reached = |p: &&Position| new.iter().any(|n| n.partition == p.partition && n.seq >= p.seq);
            let seen = |p: &&Position| required.get(&p.partition).is_some_and(|seq| *seq >= p.seq);
            if !live.iter().all(|p| reached(&p) || seen(&p)) {
                return Ok(Switch::Behind(live.into_iter().map(|p| (p.partition, p.seq)).collect()));
            }
            staging::switch(transaction.on(), projection).await?;
            transaction.commit().await?;
            Ok(Switch::Done(new))
        };
        switch.await.map_err(|e| self.fault(e))
    }

    async fn builder(&self, projection: &dyn Projection) -> Result<Held<'_>, Error> {
        self.database.builder(projection.name()).await.map_err(|e| self.fault(e))
    }

    /// Makes folds on another thread, where the projection cannot be borrowed.
    fn folds(&self, projection: &dyn Projection) -> impl Fn() -> Box<dyn crate::table::Fold> + Send + 'static {
        let name = projection.name();
        let all = crate::all();
        let found = all.into_iter().find(|p| p.name() == name);
        move || found.as_ref().map_or_else(|| unreachable!("every view of Views is in all()"), |p| p.fold())
    }
}

enum Switch {
    Done(Vec<Position>),
    /// Where the live view is, which is further.
    Behind(BTreeMap<u32, u64>),
}

/// Reads and folds, partition by partition: only one partition's documents are in memory at a time.
struct Folder {
    name: &'static str,
    tables: usize,
    sender: mpsc::Sender<Folded>,
}

impl Folder {
    fn run<S: Source>(self, mut source: S, new_fold: impl Fn() -> Box<dyn crate::table::Fold>) -> Result<S, Error> {
        for partition in 0..source.partitions() {
            let (mut chain, mut fold) = (Chain::new(self.name, Vec::new()), new_fold());
            let (mut changes, mut entries, mut from) = (Changes::new(self.tables), 0, 0);
            loop {
                let some = source.read(partition, from, READ_MAX).map_err(Error::Source)?;
                let Some(last) = some.last() else { break };
                from = last.offset + 1;
                for entry in &some {
                    if let Some(event) = chain.judge(entry)? {
                        fold.apply(&event, &mut changes);
                        entries += 1;
                    }
                }
                if changes.cells() >= CELLS_MAX {
                    let changes = std::mem::replace(&mut changes, Changes::new(self.tables));
                    self.send(Folded { changes, entries: std::mem::take(&mut entries), position: None })?;
                }
            }
            fold.settle(&mut changes);
            let position = chain.moved().next().cloned();
            self.send(Folded { changes, entries, position })?;
        }
        Ok(source)
    }

    fn send(&self, folded: Folded) -> Result<(), Error> {
        self.sender.blocking_send(folded).map_err(|_| Error::Source("the rebuild was given up".into()))
    }
}

/// Reads on a thread that may block.
async fn read<S: Source>(mut source: S, partition: u32, from: u64) -> Result<(S, Vec<Entry>), Error> {
    let reading = tokio::task::spawn_blocking(move || {
        let entries = source.read(partition, from, READ_MAX);
        (source, entries)
    });
    let (source, entries) = reading.await.map_err(|e| Error::Source(format!("the reading thread ended: {e}")))?;
    Ok((source, entries.map_err(Error::Source)?))
}

/// While it lives, the view is marked as being rebuilt.
struct Mark<'a> {
    views: &'a Views,
    name: &'static str,
    switched: bool,
}

impl<'a> Mark<'a> {
    async fn set(views: &'a Views, name: &'static str) -> Result<Self, Error> {
        if !views.begin_rebuild(name) {
            return Err(Error::Rebuilding(name));
        }
        let mark = Self { views, name, switched: false };
        // from here on the mark is taken back however this ends
        match views.database.begin_rebuild(name).await {
            Ok(true) => Ok(mark),
            Ok(false) => Err(Error::Rebuilding(name)),
            Err(e) => Err(views.fault(e)),
        }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.views.database.end_rebuild(self.name);
        self.views.end_rebuild(self.name, self.switched);
    }
}
