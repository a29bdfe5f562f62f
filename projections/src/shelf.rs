//! Documents of one kind and their history: changing one closes the row that was valid until then.

use std::collections::BTreeMap;

use annals_events::record::Corrupt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::position::Event;
use crate::table::{Cell, Changes, OpenRow};

/// A document that has a row of its own.
pub trait Entity: Serialize + DeserializeOwned {
    /// Index of its table.
    const TABLE: usize;

    /// What tells it apart within its model.
    fn identity(&self) -> Cell;

    /// The typed columns between the identity and the document.
    fn columns(&self, row: &mut Vec<Cell>);
}

/// The open documents of one kind and one model.
#[derive(Debug)]
pub(crate) struct Shelf<D>(BTreeMap<Cell, Slot<D>>);

#[derive(Debug)]
struct Slot<D> {
    doc: D,
    since: u64,
    /// Whether the store has this very row.
    stored: bool,
}

impl<D> Default for Shelf<D> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<D: Entity> Shelf<D> {
    pub(crate) fn load(&mut self, row: &OpenRow) -> Result<(), Corrupt> {
        let doc: D =
            serde_json::from_str(&row.doc).map_err(|e| Corrupt(format!("a document of `{}` in the view is not readable: {e}", row.key)))?;
        self.0.insert(doc.identity(), Slot { doc, since: row.since, stored: true });
        Ok(())
    }

    pub(crate) fn get(&self, identity: &Cell) -> Option<&D> {
        self.0.get(identity).map(|slot| &slot.doc)
    }

    /// A new document, in place of the one that has its identity.
    pub(crate) fn put(&mut self, at: &Event<'_>, doc: D, changes: &mut Changes) {
        self.take(at, &doc.identity(), changes);
        self.0.insert(doc.identity(), Slot { doc, since: at.view.seq, stored: false });
    }

    /// Changes a document, if it is there.
    pub(crate) fn change(&mut self, at: &Event<'_>, identity: &Cell, changes: &mut Changes, change: impl FnOnce(&mut D)) {
        let Some(slot) = self.0.get_mut(identity) else { return };
        slot.end(at, changes);
        slot.since = at.view.seq;
        slot.stored = false;
        change(&mut slot.doc);
    }

    /// Removes a document, if it is there.
    pub(crate) fn take(&mut self, at: &Event<'_>, identity: &Cell, changes: &mut Changes) {
        if let Some(slot) = self.0.remove(identity) {
            slot.end(at, changes);
        }
    }

    /// Hands out the open rows that the store does not have.
    pub(crate) fn settle(self, partition: u32, key: &str, changes: &mut Changes) {
        for slot in self.0.into_values().filter(|slot| !slot.stored) {
            slot.row(partition, key, None, changes);
        }
    }
}

impl<D: Entity> Slot<D> {
    /// Ends the row that is valid until this event.
    fn end(&self, at: &Event<'_>, changes: &mut Changes) {
        let (key, seq) = (at.view.key, at.view.seq);
        if self.stored {
            changes.close(D::TABLE, key, self.doc.identity(), seq);
        } else if self.since < seq {
            self.row(at.partition, key, Some(seq), changes);
        } // else the same event changes it twice, and there is no row between
    }

    fn row(&self, partition: u32, key: &str, until: Option<u64>, changes: &mut Changes) {
        let mut row = Vec::with_capacity(10);
        row.extend([Cell::Int(partition.into()), key.into(), Cell::count(self.since), Cell::maybe_count(until), self.doc.identity()]);
        self.doc.columns(&mut row);
        // documents are strings, numbers and verbatim JSON: writing them cannot fail
        row.push(Cell::Text(serde_json::to_string(&self.doc).unwrap_or_default().into()));
        changes.add(D::TABLE, row);
    }
}
