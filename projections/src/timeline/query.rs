//! The timeline's questions, and how a time becomes positions.

use annals_events::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Line, NAME};
use crate::as_of::AsOf;
use crate::error::Error;
use crate::page::{Listing, Page};
use crate::store::{self, arguments, count_of};
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
        let query = sqlx::query("SELECT t.* FROM timeline t WHERE t.event = $1 AND t.source = $2 AND t.refused IS NULL LIMIT 1")
            .bind(id)
            .bind(source);
        let row = query.fetch_optional(&mut *reader).await.map_err(|e| self.database(e))?;
        row.as_ref().map(line).transpose().map_err(|e| self.database(e))
    }

    /// For each partition the last event that was recorded at or before a time.
    pub(crate) async fn as_of_time(&self, time: Timestamp) -> Result<AsOf, Error> {
        let mut reader = self.reader().await?;
        let positions = store::positions(&mut reader, NAME).await.map_err(|e| self.database(e))?;
        let mut at = Vec::new();
        for position in positions {
            let sql = "SELECT seq FROM timeline WHERE partition = $1 AND recorded <= $2 ORDER BY recorded DESC, seq DESC LIMIT 1";
            let found = sqlx::query_scalar(sql).bind(position.partition).bind(time.0).fetch_optional(&mut *reader).await;
            let seq: Option<i64> = found.map_err(|e| self.database(e))?;
            let index = usize::try_from(position.partition).unwrap_or(usize::MAX - 1);
            at.resize(at.len().max(index + 1), None);
            at[index] = seq.map(count_of);
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
        let arguments = arguments(cells.into_iter()).map_err(|e| self.database(e))?;
        let mut reader = self.reader().await?;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(*as_of == AsOf::Now);
        let rows = query.fetch_all(&mut *reader).await.map_err(|e| self.database(e))?;
        let lines = rows.iter().map(line).collect::<Result<_, _>>().map_err(|e| self.database(e))?;
        Ok(Listing::cut(lines, page, cursor))
    }
}

/// `recorded.partition.seq`, as a cursor of the whole timeline has it.
fn place(cursor: &str) -> Result<[i64; 3], Error> {
    let parts: Option<Vec<i64>> = cursor.splitn(3, '.').map(|part| part.parse().ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| Error::Cursor(cursor.into()))
}

fn line(row: &SqliteRow) -> Result<Line, sqlx::Error> {
    Ok(Line {
        partition: row.try_get("partition")?,
        seq: count_of(row.try_get("seq")?),
        key: row.try_get("key")?,
        version: row.try_get::<Option<i64>, _>("version")?.map(count_of),
        modelseq: count_of(row.try_get("modelseq")?),
        kind: row.try_get("kind")?,
        recorded: Timestamp(row.try_get("recorded")?).to_string(),
        occurred: row.try_get("occurred")?,
        actor: row.try_get("actor")?,
        refused: row.try_get("refused")?,
        summary: row.try_get("summary")?,
        reason: row.try_get("reason")?,
        event: row.try_get("event")?,
        source: row.try_get("source")?,
        hash: row.try_get("hash")?,
    })
}
