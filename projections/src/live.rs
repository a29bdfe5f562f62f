//! New entries into a view: rows and position in one transaction, each event exactly once.

use std::collections::BTreeMap;

use annals_events::rule::{Judged, Rule};

use crate::database::Connection;
use crate::error::Error;
use crate::position::{Entry, Event, Position};
use crate::store;
use crate::table::{Changes, Fold, Needs, Projection};

/// Why entries could not be applied; the caller knows the file's path.
#[derive(Debug)]
pub(crate) enum Failure {
    Database(sqlx::Error),
    View(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::View(e)
    }
}

/// Applies entries within the caller's transaction and returns how many were new.
///
/// Entries that the view has already are skipped. The position is read in the transaction, so a
/// view that was switched or reset meanwhile is judged by what it is now.
pub(crate) async fn apply(
    transaction: &mut dyn Connection,
    projection: &dyn Projection,
    prefix: &str,
    entries: &[Entry],
) -> Result<u64, Failure> {
    let view = format!("{prefix}{}", projection.name());
    let mut chain = Chain::new(projection.name(), store::positions(transaction, &view).await?);
    let mut events = Vec::with_capacity(entries.len());
    for entry in entries {
        events.extend(chain.judge(entry)?);
    }
    if events.is_empty() {
        return Ok(0);
    }
    let (mut fold, mut needs) = (projection.fold(), Needs::default());
    events.iter().for_each(|event| fold.needs(event, &mut needs));
    load(transaction, projection, prefix, fold.as_mut(), needs).await?;
    let mut more = Needs::default();
    events.iter().for_each(|event| fold.needs_then(event, &mut more));
    load(transaction, projection, prefix, fold.as_mut(), more).await?;
    let mut changes = Changes::new(projection.tables().len());
    events.iter().for_each(|event| fold.apply(event, &mut changes));
    fold.settle(&mut changes);
    store::write(transaction, projection.tables(), prefix, changes).await?;
    store::set_positions(transaction, &view, chain.moved()).await?;
    Ok(events.len() as u64)
}

async fn load(
    transaction: &mut dyn Connection,
    projection: &dyn Projection,
    prefix: &str,
    fold: &mut dyn Fold,
    needs: Needs,
) -> Result<(), Failure> {
    for row in store::load(transaction, projection.tables(), prefix, needs).await? {
        fold.load(row).map_err(|source| Error::Corrupt { view: projection.name(), source })?;
    }
    Ok(())
}

/// Where a view is in each partition, and rule R over what comes next.
pub(crate) struct Chain {
    view: &'static str,
    links: BTreeMap<u32, Link>,
}

#[derive(Default)]
struct Link {
    rule: Rule,
    moved: Option<Position>,
}

impl Chain {
    pub(crate) fn new(view: &'static str, positions: Vec<Position>) -> Self {
        let link = |p: Position| (p.partition, Link { rule: Rule::after(p.seq, p.hash), moved: None });
        Self { view, links: positions.into_iter().map(link).collect() }
    }

    /// Reads an entry if it is the next one of its partition; `None` if the view has it.
    pub(crate) fn judge<'a>(&mut self, entry: &'a Entry) -> Result<Option<Event<'a>>, Error> {
        let (view, partition) = (self.view, entry.partition);
        let corrupt = |source| Error::Corrupt { view, source };
        let link = self.links.entry(partition).or_default();
        let parts = entry.record.view().map_err(corrupt)?;
        let expected = link.rule.next_seq();
        match link.rule.judge(parts.seq, parts.prevhash, entry.record.hash()) {
            Err(source) => Err(Error::Broken { view, partition, source }),
            Ok(Judged::Orphan) => Err(Error::Gap { view, partition, expected, found: parts.seq }),
            Ok(Judged::Duplicate) => Ok(None),
            Ok(Judged::Accepted) => {
                let event = Event::of(entry, parts).map_err(corrupt)?;
                link.moved = Some(Position {
                    partition,
                    seq: event.view.seq,
                    hash: event.hash,
                    offset: entry.offset,
                    recorded: event.view.recorded,
                });
                Ok(Some(event))
            }
        }
    }

    /// The new positions.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &Position> {
        self.links.values().filter_map(|link| link.moved.as_ref())
    }
}
