//! Statements and rows on one PostgreSQL connection; rows go in by COPY.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Postgres, Row as _, TypeInfo, ValueRef};

use super::within;
use crate::database::{Connection, Row, Statement, Transaction, Work};
use crate::store::STAGING;
use crate::table::{Cell, Table};

/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(30);
/// Bytes that are sent at once.
const PIECE: usize = 256 * 1024;
/// What COPY's binary format begins with: its signature, no flags, no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A connection of the pool: no question waits for ever on a database that fell silent.
pub(super) struct Reader(pub(super) PoolConnection<Postgres>);

impl Connection for Reader {
    fn rows(&mut self, statement: Statement) -> Work<'_, Vec<Row>> {
        Box::pin(within(QUESTION_MAX, self.0.rows(statement)))
    }

    fn run(&mut self, statement: Statement) -> Work<'_, ()> {
        Box::pin(within(QUESTION_MAX, self.0.run(statement)))
    }

    fn insert<'a>(&'a mut self, prefix: &str, table: &'static Table, cells: Vec<Cell>) -> Work<'a, ()> {
        self.0.insert(prefix, table, cells)
    }

    fn begin<'a>(&'a mut self, view: &str) -> Work<'a, Box<dyn Transaction + 'a>> {
        (*self.0).begin(view)
    }

    fn alike<'a>(&'a mut self, table: &'a str, name: &'a str) -> Work<'a, String> {
        self.0.alike(table, name)
    }

    fn filled<'a>(&'a mut self, name: &'a str) -> Work<'a, ()> {
        self.0.filled(name)
    }

    fn indexes<'a>(&'a mut self, table: &'a str) -> Work<'a, Vec<(String, String)>> {
        self.0.indexes(table)
    }
}

impl Connection for PgConnection {
    fn rows(&mut self, statement: Statement) -> Work<'_, Vec<Row>> {
        Box::pin(async move {
            let (sql, arguments) = (numbered(&statement.sql), arguments(statement.cells)?);
            let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(statement.keep).fetch_all(self).await?;
            let names: Arc<[Box<str>]> =
                rows.first().map(|row| row.columns().iter().map(|c| c.name().into()).collect()).unwrap_or_default();
            rows.iter().map(|row| Ok(Row { names: names.clone(), cells: cells(row)? })).collect()
        })
    }

    fn run(&mut self, statement: Statement) -> Work<'_, ()> {
        Box::pin(async move {
            let (sql, arguments) = (numbered(&statement.sql), arguments(statement.cells)?);
            sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(statement.keep).execute(self).await?;
            Ok(())
        })
    }

    fn insert<'a>(&'a mut self, prefix: &str, table: &'static Table, cells: Vec<Cell>) -> Work<'a, ()> {
        let (name, columns) = (table.name, table.columns.join(","));
        let copy = format!("COPY {prefix}{name} ({columns}) FROM STDIN (FORMAT binary)");
        Box::pin(async move {
            if cells.is_empty() {
                return Ok(());
            }
            let mut copying = self.copy_in_raw(&copy).await?;
            let mut piece = Vec::with_capacity(PIECE + PIECE / 8);
            piece.extend_from_slice(COPY_HEADER);
            for row in cells.chunks(table.columns.len()) {
                write_row(row, &mut piece);
                if piece.len() >= PIECE {
                    copying.send(piece.as_slice()).await?;
                    piece.clear();
                }
            }
            piece.extend_from_slice(&(-1_i16).to_be_bytes());
            copying.send(piece).await?;
            copying.finish().await?;
            Ok(())
        })
    }

    fn begin<'a>(&'a mut self, view: &str) -> Work<'a, Box<dyn Transaction + 'a>> {
        let view = view.to_owned();
        Box::pin(async move {
            let mut transaction = sqlx::Connection::begin(self).await?;
            if view.starts_with(STAGING) {
                // what a crash takes of it is made anew anyway, and the switch flushes the rest
                sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
            } else if !view.is_empty() {
                lock_row(&mut transaction, &view).await?;
            }
            Ok(Box::new(transaction) as Box<dyn Transaction>)
        })
    }

    fn alike<'a>(&'a mut self, table: &'a str, name: &'a str) -> Work<'a, String> {
        // autovacuum would look at it while it grows, and each of its indexes wait a second for that to be cancelled
        let create = format!("CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS) WITH (autovacuum_enabled = false)");
        Box::pin(async move { Ok(create) })
    }

    fn filled<'a>(&'a mut self, name: &'a str) -> Work<'a, ()> {
        Box::pin(self.run(Statement::once(format!("ALTER TABLE {name} RESET (autovacuum_enabled)"))))
    }

    fn indexes<'a>(&'a mut self, table: &'a str) -> Work<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let select =
                "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = $1 ORDER BY 1";
            let found: Vec<(String, String)> = sqlx::query_as(select).bind(table).fetch_all(self).await?;
            let behind = |sql: String| {
                let at = sql.find("USING ").ok_or_else(|| sqlx::Error::Protocol(format!("`{sql}` makes no index")))?;
                Ok::<_, sqlx::Error>(sql[at..].to_owned())
            };
            found.into_iter().map(|(name, sql)| Ok((name, behind(sql)?))).collect()
        })
    }
}

/// Within the transaction nobody else writes the live view.
pub(super) async fn lock_row(connection: &mut PgConnection, view: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1 FROM views WHERE view = $1 FOR UPDATE").bind(view).execute(connection).await?;
    Ok(())
}

/// Each `?` with its number, as PostgreSQL wants it. No statement of ours has one in a literal.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut numbered = String::with_capacity(sql.len() + 16);
    numbered.push_str(parts.next().unwrap_or_default());
    for (n, part) in (1..).zip(parts) {
        let _ = write!(numbered, "${n}{part}"); // writing to memory cannot fail
    }
    numbered
}

fn arguments(cells: Vec<Cell>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    arguments.reserve(cells.len(), 0);
    for cell in cells {
        match cell {
            Cell::Null => arguments.add(None::<String>),
            Cell::Int(n) => arguments.add(n),
            Cell::Text(text) => arguments.add(String::from(text)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn cells(row: &PgRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |column: usize| {
        let raw = row.try_get_raw(column)?;
        Ok(match (raw.is_null(), raw.type_info().name()) {
            (true, _) => Cell::Null,
            (false, "INT8") => Cell::Int(row.try_get(column)?),
            (false, _) => Cell::Text(row.try_get(column)?),
        })
    };
    (0..row.columns().len()).map(cell).collect()
}

/// A row in COPY's binary format, where every column of ours is a BIGINT or a TEXT.
fn write_row(row: &[Cell], out: &mut Vec<u8>) {
    out.extend_from_slice(&i16::try_from(row.len()).unwrap_or(i16::MAX).to_be_bytes());
    for cell in row {
        match cell {
            Cell::Null => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Cell::Int(n) => write_field(&n.to_be_bytes(), out),
            Cell::Text(text) => write_field(text.as_bytes(), out),
        }
    }
}

fn write_field(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_in_their_order() {
        assert_eq!(numbered("a = ? AND b IN (?,?)"), "a = $1 AND b IN ($2,$3)");
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
    }

    #[test]
    fn a_row_is_its_cells_each_behind_its_length() {
        let mut out = Vec::new();
        write_row(&[Cell::Null, Cell::Int(-2), Cell::from("a\t\\N"), Cell::from("")], &mut out);
        let parts: [&[u8]; 5] =
            [&[0, 4, 255, 255, 255, 255], &[0, 0, 0, 8], &(-2_i64).to_be_bytes(), b"\x00\x00\x00\x04a\t\\N", &[0, 0, 0, 0]];
        assert_eq!(out, parts.concat());
    }
}
