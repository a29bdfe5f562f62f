//! Rows into tables and back: the statements that every projection shares.
//!
//! Statements have fixed shapes (so many rows at once), so that each is prepared once.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Row};

use crate::position::Position;
use crate::table::{Cell, Changes, Needs, OpenRow, Table};

/// Rows of one insert, largest first; what is left over goes into smaller ones.
const ROWS: [usize; 4] = [256, 32, 4, 1];
/// Before the names of tables that a rebuild fills.
pub(crate) const STAGING: &str = "new_";

/// Writes what a fold changed: first the ends of old rows, then the new ones.
pub(crate) async fn write(connection: &mut SqliteConnection, tables: &[Table], prefix: &str, changes: Changes) -> Result<(), sqlx::Error> {
    for (table, closed) in tables.iter().zip(changes.closed) {
        if let Some(identity) = table.identity {
            in_chunks(connection, closed, 3, |rows| close_sql(prefix, table, identity, rows)).await?;
        }
    }
    for (table, rows) in tables.iter().zip(changes.rows) {
        in_chunks(connection, rows, table.columns.len(), |rows| insert_sql(prefix, table, rows)).await?;
    }
    Ok(())
}

fn values(rows: usize, cells: usize) -> String {
    let row = format!("({})", vec!["?"; cells].join(","));
    vec![row; rows].join(",")
}

fn insert_sql(prefix: &str, table: &Table, rows: usize) -> String {
    format!("INSERT INTO {prefix}{} ({}) VALUES {}", table.name, table.columns.join(","), values(rows, table.columns.len()))
}

fn close_sql(prefix: &str, table: &Table, identity: &str, rows: usize) -> String {
    let table = table.name;
    format!(
        "WITH ended(key, id, until) AS (VALUES {}) UPDATE {prefix}{table} SET until = ended.until FROM ended \
         WHERE {prefix}{table}.key = ended.key AND {prefix}{table}.{identity} = ended.id AND {prefix}{table}.until IS NULL",
        values(rows, 3)
    )
}

/// Runs a statement over all cells, as many rows at once as its shapes allow.
async fn in_chunks(
    connection: &mut SqliteConnection,
    cells: Vec<Cell>,
    width: usize,
    sql: impl Fn(usize) -> String,
) -> Result<(), sqlx::Error> {
    let mut left = cells.len() / width;
    let mut cells = cells.into_iter();
    for rows in ROWS {
        if left < rows {
            continue;
        }
        let sql: std::sync::Arc<str> = sql(rows).into();
        while left >= rows {
            let arguments = arguments(cells.by_ref().take(rows * width))?;
            sqlx::query_with(AssertSqlSafe(sql.clone()), arguments).execute(&mut *connection).await?;
            left -= rows;
        }
    }
    Ok(())
}

/// Cells as a statement's arguments.
pub(crate) fn arguments(cells: impl ExactSizeIterator<Item = Cell>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
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

/// Reads the open rows that a batch needs.
pub(crate) async fn load(
    connection: &mut SqliteConnection,
    tables: &[Table],
    prefix: &str,
    needs: Needs,
) -> Result<Vec<OpenRow>, sqlx::Error> {
    let mut by_table: Vec<Vec<Cell>> = tables.iter().map(|_| Vec::new()).collect();
    for (table, key, identity) in needs.0 {
        if let Some(list) = by_table.get_mut(table) {
            list.extend([Cell::Text(key), identity]);
        }
    }
    let mut found = Vec::new();
    for (index, (table, wanted)) in tables.iter().zip(by_table).enumerate() {
        let Some(identity) = table.identity else { continue };
        for some in wanted.chunks(2 * ROWS[0]) {
            load_some(connection, index, &format!("{prefix}{}", table.name), identity, some, &mut found).await?;
        }
    }
    Ok(found)
}

async fn load_some(
    connection: &mut SqliteConnection,
    index: usize,
    table: &str,
    identity: &str,
    wanted: &[Cell],
    found: &mut Vec<OpenRow>,
) -> Result<(), sqlx::Error> {
    // the smallest shape that holds them; the last one is asked for again to fill it up
    let count = wanted.len() / 2;
    let shape = ROWS.iter().rev().copied().find(|rows| *rows >= count).unwrap_or(count);
    let (head, last) = wanted.split_at(wanted.len() - 2);
    let filled = head.iter().chain(last.iter().cycle().take(2 * (shape - count + 1))).cloned().collect::<Vec<_>>();
    let sql = format!(
        "SELECT partition, key, since, doc FROM {table} WHERE until IS NULL AND (key, {identity}) IN (VALUES {})",
        values(shape, 2)
    );
    let rows = sqlx::query_with(AssertSqlSafe(sql), arguments(filled.into_iter())?).fetch_all(connection).await?;
    for row in rows {
        found.push(OpenRow {
            table: index,
            partition: row.try_get("partition")?,
            key: row.try_get::<String, _>("key")?.into(),
            since: count_of(row.try_get("since")?),
            doc: row.try_get("doc")?,
        });
    }
    Ok(())
}

/// A count that was stored as a signed number.
pub(crate) fn count_of(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// How far a view has come, by partition.
pub(crate) async fn positions(connection: &mut SqliteConnection, view: &str) -> Result<Vec<Position>, sqlx::Error> {
    let sql = r#"SELECT partition, seq, hash, "offset", recorded FROM positions WHERE view = $1 ORDER BY partition"#;
    let rows = sqlx::query(sql).bind(view.to_owned()).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let hash = row.try_get::<&str, _>("hash")?.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
            Ok(Position {
                partition: row.try_get("partition")?,
                seq: count_of(row.try_get("seq")?),
                hash,
                offset: count_of(row.try_get("offset")?),
                recorded: annals_events::time::Timestamp(row.try_get("recorded")?),
            })
        })
        .collect()
}

/// Moves a view's position in one partition.
pub(crate) async fn set_position(connection: &mut SqliteConnection, view: &str, position: &Position) -> Result<(), sqlx::Error> {
    let sql = r#"INSERT INTO positions (view, partition, seq, hash, "offset", recorded) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (view, partition) DO UPDATE
        SET seq = excluded.seq, hash = excluded.hash, "offset" = excluded."offset", recorded = excluded.recorded"#;
    let signed = |n| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(sql)
        .bind(view.to_owned())
        .bind(position.partition)
        .bind(signed(position.seq))
        .bind(position.hash.to_string())
        .bind(signed(position.offset))
        .bind(position.recorded.0)
        .execute(connection)
        .await?;
    Ok(())
}
