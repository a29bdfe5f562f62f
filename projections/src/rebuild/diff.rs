//! Whether a live view is what the journal says: a rebuilt one beside it, compared row by row.

use serde::Serialize;

use super::{Mark, Source};
use crate::database::{Connection, Row, Statement};
use crate::error::Error;
use crate::position::{Entry, Position};
use crate::store::{self, STAGING};
use crate::table::{Cell, Projection, Table};
use crate::views::{BATCH_MAX, Views, drop_staging};

/// Most rows of a table that are shown for each side.
const SHOWN_MAX: usize = 10;

/// How a view compares with the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The view.
    pub view: &'static str,
    /// Where both were when they were compared.
    pub positions: Vec<Position>,
    /// How many rows the live view has.
    pub rows: u64,
    /// Rows that only one side has; none if the view is right. At most ten a table and side.
    pub differences: Vec<Difference>,
}

/// A row that only one side has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// `live` or `rebuilt`.
    pub only: &'static str,
    /// The row, column by column.
    pub row: String,
}

impl Views {
    /// Compares a view with what the journal makes of it, at the same position. Writing waits while
    /// the rows are compared; the view is not changed.
    ///
    /// # Errors
    /// As [`Views::rebuild`].
    pub async fn diff<S: Source>(&self, view: &str, source: S, mut progress: impl FnMut(u64) + Send) -> Result<Diff, Error> {
        let projection = self.projection(view)?;
        let _mark = Mark::set(self, projection.name()).await?;
        let first = self.positions(view).await?;
        let (Until { mut source, .. }, _) = self.load(projection, Until { source, positions: first }, &mut progress).await?;
        // from here on the live view stands still
        let mut writer = self.database.standstill(projection.name()).await.map_err(|e| self.fault(e))?;
        let live = store::positions(&mut *writer, projection.name()).await.map_err(|e| self.fault(e))?;
        let new = format!("{STAGING}{}", projection.name());
        for position in &live {
            let mut rest = Until { source, positions: vec![position.clone()] };
            let mut from = offset_behind(&mut *writer, &new, position.partition).await.map_err(|e| self.fault(e))?;
            loop {
                let (returned, entries) = super::read(rest, position.partition, from).await?;
                rest = returned;
                let Some(last) = entries.last() else { break };
                from = last.offset + 1;
                for batch in entries.chunks(BATCH_MAX) {
                    self.apply_batch(&mut *writer, projection, STAGING, batch).await?;
                }
            }
            source = rest.source;
        }
        let compared = compare(&mut *writer, projection, live).await;
        drop_staging(&mut *writer, projection).await.map_err(|e| self.fault(e))?;
        compared.map_err(|e| self.fault(e))
    }
}

async fn offset_behind(connection: &mut dyn Connection, view: &str, partition: u32) -> Result<u64, sqlx::Error> {
    let positions = store::positions(connection, view).await?;
    Ok(positions.into_iter().find(|p| p.partition == partition).map_or(0, |p| p.offset + 1))
}

async fn compare(connection: &mut dyn Connection, projection: &dyn Projection, live: Vec<Position>) -> Result<Diff, sqlx::Error> {
    let (mut rows, mut differences) = (0, Vec::new());
    let new = store::positions(connection, &format!("{STAGING}{}", projection.name())).await?;
    for (only, these, others) in [("live", &live, &new), ("rebuilt", &new, &live)] {
        let different = these.iter().filter(|p| !others.contains(p));
        differences.extend(different.map(|p| Difference { table: "positions", only, row: format!("{p:?}") }));
    }
    for table in projection.tables() {
        let counts = format!("SELECT (SELECT count(*) FROM {0}) AS live, (SELECT count(*) FROM {STAGING}{0}) AS new", table.name);
        let counts = connection.rows(Statement::once(counts)).await?;
        let counts = counts.first().ok_or(sqlx::Error::RowNotFound)?;
        let (live_rows, new_rows) = (counts.number("live")?, counts.number("new")?);
        rows += store::count_of(live_rows);
        let found = differences.len();
        for (only, this, other) in [("live", "", STAGING), ("rebuilt", STAGING, "")] {
            differences.extend(only_in(connection, table, this, other).await?.into_iter().map(|row| Difference {
                table: table.name,
                only,
                row,
            }));
        }
        if live_rows != new_rows && differences.len() == found {
            // the same rows, but one of them more than once
            let row = format!("{live_rows} rows in the live view, {new_rows} in the rebuilt one");
            differences.push(Difference { table: table.name, only: if live_rows > new_rows { "live" } else { "rebuilt" }, row });
        }
    }
    Ok(Diff { view: projection.name(), positions: live, rows, differences })
}

async fn only_in(connection: &mut dyn Connection, table: &Table, this: &str, other: &str) -> Result<Vec<String>, sqlx::Error> {
    let (name, columns) = (table.name, table.columns.join(","));
    let sql = format!("SELECT {columns} FROM {this}{name} EXCEPT SELECT {columns} FROM {other}{name} LIMIT {SHOWN_MAX}");
    let rows = connection.rows(Statement::once(sql)).await?;
    Ok(rows.iter().map(text_of).collect())
}

fn text_of(row: &Row) -> String {
    let cell = |(i, cell): (usize, &Cell)| match (&*row.names[i], cell) {
        (name, Cell::Null) => format!("{name}=-"),
        (name, Cell::Int(n)) => format!("{name}={n}"),
        (name, Cell::Text(text)) => format!("{name}={text}"),
    };
    row.cells.iter().enumerate().map(cell).collect::<Vec<_>>().join(" ")
}

/// A source that ends at given positions.
struct Until<S> {
    source: S,
    positions: Vec<Position>,
}

impl<S: Source> Source for Until<S> {
    fn partitions(&self) -> u32 {
        self.source.partitions()
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        let Some(last) = self.positions.iter().find(|p| p.partition == partition) else { return Ok(Vec::new()) };
        let mut entries = self.source.read(partition, from, max)?;
        // offsets grow with the sequence, so this needs no look into the records
        entries.retain(|entry| entry.offset <= last.offset);
        Ok(entries)
    }
}
