//! A file of ours in the data directory, in SQLite: written by one connection and read by many.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments, AssertSqlSafe, Column, ConnectOptions, Connection as _, Row as _, TypeInfo, ValueRef};
use tokio::sync::Mutex;

use super::kept::Kept;
use super::{Behind, Connection, Database, Held, Place, Row, Statement, Transaction, Work};
use crate::error::Error;
use crate::search::Query;
use crate::store::{ROWS, values};
use crate::table::{Cell, Table};

const READERS_MAX: u32 = 4;

/// The file.
pub(crate) struct Sqlite {
    place: Place,
    readers: SqlitePool,
    writer: Mutex<SqliteConnection>,
    /// How the writer is made anew.
    writing: SqliteConnectOptions,
}

impl Sqlite {
    pub(crate) async fn open(kept: &'static Kept, dir: &Path, journal: &str) -> Result<Self, Error> {
        let path = dir.join(kept.file);
        let place = Place::file(kept, path.clone());
        let fail = |e| fault(&place, e);
        if !kept.rebuildable {
            keep_private(&path).map_err(|e| fail(sqlx::Error::Io(e)))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(512)
            .disable_statement_logging();
        let synchronous = if kept.rebuildable { SqliteSynchronous::Normal } else { SqliteSynchronous::Full };
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .pragma("cache_size", "-65536") // 64 MiB, in KiB
            .pragma("wal_autocheckpoint", "4000"); // pages, 16 MiB: a page that changes all the time is copied and flushed less often
        let mut writer = writing.connect().await.map_err(fail)?;
        claim(&mut writer, &place, kept.application_id).await?;
        kept.sqlite.migrator().run(&mut writer).await.map_err(|e| migration(&place, e, fault))?;
        let found: Option<String> = sqlx::query_scalar(kept.sqlite_journal).fetch_optional(&mut writer).await.map_err(fail)?;
        match found {
            Some(found) if found != journal => return Err(Error::OtherJournal { place, found, wanted: journal.into() }),
            Some(_) => {}
            None => {
                sqlx::query(kept.sqlite_claim).bind(journal.to_owned()).execute(&mut writer).await.map_err(fail)?;
            }
        }
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options.read_only(true));
        Ok(Self { place, readers, writer: writer.into(), writing })
    }

    /// The connection that writes. An error that makes SQLite end a transaction by itself, such as a full disk, leaves sqlx
    /// believing that one is open: then what is written later would be inside of it, for nobody to see. Such a connection is
    /// made anew.
    async fn only(&self) -> Result<Held<'_>, sqlx::Error> {
        let mut writer = self.writer.lock().await;
        if writer.ping().await.is_err() || writer.is_in_transaction() {
            *writer = self.writing.connect().await?;
        }
        Ok(Box::new(Behind(writer)))
    }
}

impl Database for Sqlite {
    fn place(&self) -> &Place {
        &self.place
    }

    fn fault(&self, e: sqlx::Error) -> Error {
        fault(&self.place, e)
    }

    fn shared(&self) -> bool {
        false
    }

    fn full_text(&self, query: &Query) -> (&'static str, Cell) {
        ("SELECT rowid AS id FROM search_words(?)", query.fts5().into())
    }

    fn reader(&self) -> Work<'_, Held<'_>> {
        Box::pin(async { Ok(Box::new(Behind(self.readers.acquire().await?)) as Held<'_>) })
    }

    fn writer<'a>(&'a self, _: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(self.only())
    }

    fn doubt(&self, _: &str) {}

    fn lead<'a>(&'a self, _: &'a str) -> Work<'a, bool> {
        Box::pin(async { Ok(true) }) // the directory belongs to one engine
    }

    fn begin_rebuild<'a>(&'a self, _: &'static str) -> Work<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    fn end_rebuild(&self, _: &str) {}

    fn builder<'a>(&'a self, _: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(self.only())
    }

    fn standstill<'a>(&'a self, _: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(self.only())
    }

    fn close(self: Box<Self>) -> Work<'static, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.writer.into_inner().close().await
        })
    }
}

impl Connection for SqliteConnection {
    fn rows(&mut self, statement: Statement) -> Work<'_, Vec<Row>> {
        Box::pin(async move {
            let arguments = arguments(statement.cells)?;
            let query = sqlx::query_with(AssertSqlSafe(statement.sql), arguments).persistent(statement.keep);
            let rows = query.fetch_all(self).await?;
            let names: Arc<[Box<str>]> =
                rows.first().map(|row| row.columns().iter().map(|c| c.name().into()).collect()).unwrap_or_default();
            rows.iter().map(|row| Ok(Row { names: names.clone(), cells: cells(row)? })).collect()
        })
    }

    fn run(&mut self, statement: Statement) -> Work<'_, ()> {
        Box::pin(async move {
            let arguments = arguments(statement.cells)?;
            sqlx::query_with(AssertSqlSafe(statement.sql), arguments).persistent(statement.keep).execute(self).await?;
            Ok(())
        })
    }

    /// Statements have fixed shapes (so many rows at once), so that each is prepared once.
    fn insert<'a>(&'a mut self, prefix: &str, table: &'static Table, cells: Vec<Cell>) -> Work<'a, ()> {
        // OR FAIL: whoever meets an error drops the transaction, so no statement needs a journal of its own to be undone alone
        let insert = format!("INSERT OR FAIL INTO {prefix}{} ({}) VALUES ", table.name, table.columns.join(","));
        let width = table.columns.len();
        Box::pin(async move {
            let mut left = cells.len() / width;
            let mut cells = cells.into_iter();
            for rows in ROWS {
                if left < rows {
                    continue;
                }
                let sql: Arc<str> = format!("{insert}{}", values(rows, width)).into();
                while left >= rows {
                    let arguments = arguments(cells.by_ref().take(rows * width))?;
                    sqlx::query_with(AssertSqlSafe(sql.clone()), arguments).execute(&mut *self).await?;
                    left -= rows;
                }
            }
            Ok(())
        })
    }

    fn begin<'a>(&'a mut self, _: &str) -> Work<'a, Box<dyn Transaction + 'a>> {
        Box::pin(async move { Ok(Box::new(sqlx::Connection::begin(self).await?) as Box<dyn Transaction>) })
    }

    fn alike<'a>(&'a mut self, table: &'a str, name: &'a str) -> Work<'a, String> {
        Box::pin(async move {
            let select = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = $1";
            let sql: String = sqlx::query_scalar(select).bind(table).fetch_one(self).await?;
            // a full-text index is a table, too
            let kind = if sql.starts_with("CREATE VIRTUAL TABLE") { ("VIRTUAL TABLE", " USING fts5 ") } else { ("TABLE", " ") };
            Ok(format!("CREATE {} {name}{}{}", kind.0, kind.1, columns(&sql)?))
        })
    }

    fn filled<'a>(&'a mut self, _: &'a str) -> Work<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn indexes<'a>(&'a mut self, table: &'a str) -> Work<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let select = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = $1 AND sql IS NOT NULL";
            let found: Vec<(String, String)> = sqlx::query_as(select).bind(table).fetch_all(self).await?;
            found.into_iter().map(|(name, sql)| Ok((name, columns(&sql)?.to_owned()))).collect()
        })
    }
}

/// What follows the name in the statement that made a table or an index: columns and options.
fn columns(sql: &str) -> Result<&str, sqlx::Error> {
    sql.find('(').and_then(|at| sql.get(at..)).ok_or_else(|| sqlx::Error::Protocol(format!("`{sql}` has no columns")))
}

fn arguments(cells: impl IntoIterator<Item = Cell, IntoIter: ExactSizeIterator>) -> Result<SqliteArguments, sqlx::Error> {
    let (mut arguments, cells) = (SqliteArguments::default(), cells.into_iter());
    arguments.reserve(cells.len(), 0);
    for cell in cells {
        match cell {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Int(n) => arguments.add(n),
            Cell::Text(text) => arguments.add(String::from(text)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn cells(row: &SqliteRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |column: usize| {
        let raw = row.try_get_raw(column)?;
        Ok(match (raw.is_null(), raw.type_info().name()) {
            (true, _) => Cell::Null,
            (false, "INTEGER") => Cell::Int(row.try_get(column)?),
            (false, _) => Cell::Text(row.try_get(column)?),
        })
    };
    (0..row.columns().len()).map(cell).collect()
}

/// Tells a damaged file from one that cannot be used just now.
fn fault(place: &Place, source: sqlx::Error) -> Error {
    const CORRUPT: i64 = 11;
    const NOT_A_DATABASE: i64 = 26;
    let code = source.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<i64>().ok());
    let gone = source.as_database_error().is_some_and(|e| e.message().starts_with("no such table"));
    if gone || code.is_some_and(|c| [CORRUPT, NOT_A_DATABASE].contains(&(c & 0xff))) {
        return Error::Damaged { place: place.clone(), source };
    }
    Error::Unavailable(source)
}

/// Makes a file with secrets for its owner only, before anything is in it: what SQLite puts beside it
/// gets the same permissions.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).or_else(|e| if e.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })
}

/// Marks a new file as ours, and refuses one that is somebody else's.
async fn claim(connection: &mut SqliteConnection, place: &Place, application_id: i64) -> Result<(), Error> {
    let fail = |e| fault(place, e);
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(fail)?;
    if id == application_id {
        return Ok(());
    }
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(&mut *connection).await.map_err(fail)?;
    if id != 0 || tables != 0 {
        return Err(Error::Foreign { place: place.clone() });
    }
    let mark = AssertSqlSafe(format!("PRAGMA application_id = {application_id}"));
    sqlx::query(mark).execute(connection).await.map_err(fail)?;
    Ok(())
}

/// Why the tables could not be brought up to date.
pub(super) fn migration(place: &Place, e: MigrateError, fault: impl Fn(&Place, sqlx::Error) -> Error) -> Error {
    match e {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) | MigrateError::VersionTooNew(..) => {
            Error::Newer { place: place.clone() }
        }
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => fault(place, e),
        other => Error::Unavailable(sqlx::Error::Migrate(Box::new(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::kept::VIEWS;

    #[tokio::test]
    async fn a_transaction_that_the_database_ended_itself_hides_nothing_that_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = Sqlite::open(&VIEWS, dir.path(), "journal").await.unwrap();
        let insert = "INSERT INTO positions (view, partition, seq, hash, \"offset\", recorded) VALUES ('x', 0, 1, '', 1, 1)";
        for what in ["ROLLBACK", insert] {
            let mut held = file.writer("x").await.unwrap();
            let mut transaction = held.begin("x").await.unwrap();
            transaction.on().run(Statement::new(what.to_owned(), Vec::new())).await.unwrap(); // SQLite's own, and then ours
            drop(transaction);
        }
        let mut held = file.writer("x").await.unwrap();
        let mut transaction = held.begin("x").await.unwrap();
        transaction.on().run(Statement::new(insert.to_owned(), Vec::new())).await.unwrap();
        transaction.commit().await.unwrap();
        let found = file.reader().await.unwrap().rows(Statement::new("SELECT view FROM positions".to_owned(), Vec::new())).await.unwrap();
        assert_eq!(found.len(), 1);
    }
}
