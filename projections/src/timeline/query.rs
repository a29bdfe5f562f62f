//! The timeline's questions, and how a time becomes positions.

use annals_events::time::Timestamp;

use super::{Line, NAME};
use crate::as_of::AsOf;
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::page::{Listing, Page};
use crate::store;
use crate::table::Cell;
use crate::views::Views;

/// In which order lines are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    #[default]
    Oldest,
    /// The newest first.
    Newest,
}

impl Order {
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Oldest => ("ASC", ">"),
            Self::Newest => ("DESC", "<"),
        }
    }
}

impl Views {
    /// A model's events, in their order. The cursor is a sequence number.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn timeline_of(&self, key: &str, order: Order, as_of: &AsOf, page: &Page) -> Result<Listing<Line>, Error> {
        let (direction, behind) = order.sql();
        let mut cells = vec![Cell::from(key)];
        let after = page.after_number()?.map(|seq| {
            cells.push(Cell::Int(seq));
            format!("AND t.seq {behind} ?")
        });
        let rest = format!("t.key = ? {} ORDER BY t.seq {direction}", after.unwrap_or_default());
        self.lines(rest, as_of, cells, page, |line| line.seq.to_string()).await
    }

    /// All events of all models, by the time they were recorded. The cursor names time and place.
    ///
    /// Partitions write side by side: ask all pages with one [`Views::pinned`] point, and what is
    /// written meanwhile is on none of them.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn timeline(&self, order: Order, as_of: &AsOf, page: &Page) -> Result<Listing<Line>, Error> {
        let (direction, behind) = order.sql();
        let mut cells = Vec::new();
        let after = page.after.as_deref().map(place).transpose()?.map(|place| {
            cells.extend(place.map(Cell::Int));
            format!("(t.recorded, t.partition, t.seq) {behind} (?, ?, ?)")
        });
        let rest =
            format!("{} ORDER BY t.recorded {direction}, t.partition {direction}, t.seq {direction}", after.unwrap_or("1 = 1".into()));
        let cursor = |line: &Line| {
            let recorded = Timestamp::parse(&line.recorded).map_or(0, |t| t.0);
            format!("{recorded}.{}.{}", line.partition, line.seq)
        };
        self.lines(rest, as_of, cells, page, cursor).await
    }

    /// The event of a source and id, if it was accepted.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn timeline_event(&self, source: &str, id: &str) -> Result<Option<Line>, Error> {
        let mut reader = self.reader().await?;
        let sql = "SELECT t.* FROM timeline t WHERE t.event = ? AND t.source = ? AND t.refused IS NULL LIMIT 1";
        let rows = reader.rows(Statement::new(sql, [id.into(), source.into()])).await;
        rows.and_then(|rows| rows.first().map(line).transpose()).map_err(|e| self.fault(e))
    }

    /// For each partition the last event that was recorded at or before a time.
    pub(crate) async fn as_of_time(&self, time: Timestamp) -> Result<AsOf, Error> {
        let mut reader = self.reader().await?;
        let positions = store::positions(&mut *reader, NAME).await.map_err(|e| self.fault(e))?;
        let mut at = Vec::new();
        for position in positions {
            let sql = "SELECT seq FROM timeline WHERE partition = ? AND recorded <= ? ORDER BY recorded DESC, seq DESC LIMIT 1";
            let rows = reader.rows(Statement::new(sql, [Cell::Int(position.partition.into()), Cell::Int(time.0)])).await;
            let seq = rows.and_then(|rows| rows.first().map(|row| row.count("seq")).transpose()).map_err(|e| self.fault(e))?;
            let index = usize::try_from(position.partition).unwrap_or(usize::MAX - 1);
            at.resize(at.len().max(index + 1), None);
            at[index] = seq;
        }
        Ok(AsOf::At(at))
    }

    async fn lines(
        &self,
        rest: String,
        as_of: &AsOf,
        cells: Vec<Cell>,
        page: &Page,
        cursor: impl Fn(&Line) -> String,
    ) -> Result<Listing<Line>, Error> {
        let sql = format!("SELECT t.* FROM timeline t WHERE {} AND {rest} LIMIT {}", as_of.seen("t"), page.fetch());
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, cells).kept(*as_of == AsOf::Now)).await;
        let lines = rows.and_then(|rows| rows.iter().map(line).collect()).map_err(|e| self.fault(e))?;
        Ok(Listing::cut(lines, page, cursor))
    }
}

/// `recorded.partition.seq`, as a cursor of the whole timeline has it.
fn place(cursor: &str) -> Result<[i64; 3], Error> {
    let parts: Option<Vec<i64>> = cursor.splitn(3, '.').map(|part| part.parse().ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| Error::Cursor(cursor.into()))
}

fn line(row: &Row) -> Result<Line, sqlx::Error> {
    Ok(Line {
        partition: row.partition()?,
        seq: row.count("seq")?,
        key: row.text("key")?,
        version: row.maybe_number("version")?.map(store::count_of),
        modelseq: row.count("modelseq")?,
        kind: row.text("kind")?,
        recorded: Timestamp(row.number("recorded")?).to_string(),
        occurred: row.maybe_text("occurred")?,
        actor: row.text("actor")?,
        refused: row.maybe_text("refused")?,
        summary: row.text("summary")?,
        reason: row.maybe_text("reason")?,
        event: row.text("event")?,
        source: row.text("source")?,
        hash: row.text("hash")?,
    })
}
