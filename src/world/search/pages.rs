//! What the index lacks, as requests: the documents of each partition that changed behind its position.

use std::collections::BTreeMap;

use annals_projections::search::Changed;
use annals_projections::{Position, Views};

use super::bulk::{Bulk, DOCUMENTS_MAX};
use super::cluster::Trouble;
use super::index::Seal;

/// A walk over what changed, partition by partition.
pub(super) struct Pages<'a> {
    views: &'a Views,
    /// Partitions that are left: where the index is, and where the view was when the walk began.
    left: Vec<(u32, Option<u64>, Position)>,
    last: Option<Changed>,
    /// Read and in no request yet.
    waiting: std::vec::IntoIter<Changed>,
}

/// A request, and where the index is once it is acknowledged.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bulk: Bulk,
    pub(super) reached: BTreeMap<u32, u64>,
    /// The events that it is then known to have come to, if a partition ends with it.
    pub(super) sealed: BTreeMap<u32, Seal>,
}

impl<'a> Pages<'a> {
    /// From where the index is to where the view is now.
    ///
    /// # Errors
    /// [`Trouble::Views`].
    pub(super) async fn begin(views: &'a Views, indexed: &BTreeMap<u32, u64>) -> Result<Self, Trouble> {
        let positions = views.documented().await.map_err(|e| Trouble::Views(e.to_string()))?;
        let left = positions.into_iter().map(|p| (p.partition, indexed.get(&p.partition).copied(), p));
        let left = left.filter(|(_, from, until)| from.is_none_or(|from| from < until.seq)).rev().collect();
        Ok(Self { views, left, last: None, waiting: Vec::new().into_iter() })
    }

    /// The next request; `None` at the end.
    ///
    /// # Errors
    /// [`Trouble::Views`].
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Trouble> {
        let mut batch = Batch::default();
        while let Some((partition, from, until)) = self.left.last().cloned() {
            for changed in self.waiting.by_ref() {
                batch.bulk.add(&changed.doc)?;
                // what else this event has changed may be yet to come
                if let Some(before) = changed.seq.checked_sub(1).filter(|before| from.is_none_or(|from| from < *before)) {
                    batch.reached.insert(partition, before);
                }
                if batch.bulk.is_full() {
                    return Ok(Some(batch));
                }
            }
            let limit = u32::try_from(DOCUMENTS_MAX).unwrap_or(u32::MAX);
            let some = self.views.changed(partition, from, until.seq, self.last.as_ref(), limit).await;
            let some = some.map_err(|e| Trouble::Views(e.to_string()))?;
            self.last = some.last().cloned();
            if some.is_empty() {
                batch.reached.insert(partition, until.seq);
                let (seq, offset, hash) = (until.seq, until.offset, until.hash.to_string());
                batch.sealed.insert(partition, Seal { seq, offset, hash });
                self.left.pop();
            }
            self.waiting = some.into_iter();
        }
        Ok((!batch.bulk.is_empty() || !batch.reached.is_empty()).then_some(batch))
    }
}
