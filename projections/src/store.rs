//! Rows into tables and back: the statements that every projection shares.
//!
//! Statements have fixed shapes (so many rows at once), so that each is prepared once.

use crate::database::{Connection, Statement};
use crate::position::Position;
use crate::table::{Cell, Changes, Needs, OpenRow, Table};

/// Rows of one statement, largest first; what is left over goes into smaller ones.
pub(crate) const ROWS: [usize; 5] = [256, 64, 16, 4, 1];
/// Before the names of tables that a rebuild fills.
pub(crate) const STAGING: &str = "new_";

/// Writes what a fold changed: first the ends of old rows, then the new ones.
pub(crate) async fn write(
    connection: &mut dyn Connection,
    tables: &'static [Table],
    prefix: &str,
    changes: Changes,
) -> Result<(), sqlx::Error> {
    for (table, closed) in tables.iter().zip(changes.closed) {
        match table.identity {
            Some(identity) if table.keeps_history() => close(connection, prefix, table, identity, closed).await?,
            Some(identity) => remove(connection, prefix, table, identity, closed).await?,
            None => {}
        }
    }
    for (table, rows) in tables.iter().zip(changes.rows) {
        connection.insert(prefix, table, rows).await?;
    }
    Ok(())
}

/// So many rows of so many values, as `VALUES` wants them.
pub(crate) fn values(rows: usize, cells: usize) -> String {
    let row = format!("({})", vec!["?"; cells].join(","));
    vec![row; rows].join(",")
}

async fn close(connection: &mut dyn Connection, prefix: &str, table: &Table, identity: &str, closed: Vec<Cell>) -> Result<(), sqlx::Error> {
    let (table, mut left) = (table.name, closed.len() / 3);
    let mut cells = closed.into_iter();
    for rows in ROWS {
        while left >= rows {
            let sql = format!(
                "WITH ended(key, id, until) AS (VALUES {}) UPDATE {prefix}{table} SET until = ended.until FROM ended \
                 WHERE {prefix}{table}.key = ended.key AND {prefix}{table}.{identity} = ended.id AND {prefix}{table}.until IS NULL",
                values(rows, 3)
            );
            connection.run(Statement::new(sql, cells.by_ref().take(3 * rows).collect::<Vec<_>>())).await?;
            left -= rows;
        }
    }
    Ok(())
}

/// Removes rows of which no history is kept: by key and identity, or by an identity that is one for the whole table.
async fn remove(
    connection: &mut dyn Connection,
    prefix: &str,
    table: &Table,
    identity: &str,
    closed: Vec<Cell>,
) -> Result<(), sqlx::Error> {
    let (name, by_key) = (table.name, table.columns.contains(&"key"));
    let which = if by_key { format!("(key, {identity})") } else { identity.to_owned() };
    let mut left = closed.len() / 3;
    let mut rows = closed.chunks(3);
    for count in ROWS {
        while left >= count {
            let cells = rows.by_ref().take(count).flat_map(|row| if by_key { &row[..2] } else { &row[1..2] });
            let sql = format!("DELETE FROM {prefix}{name} WHERE {which} IN (VALUES {})", values(count, if by_key { 2 } else { 1 }));
            connection.run(Statement::new(sql, cells.cloned().collect::<Vec<_>>())).await?;
            left -= count;
        }
    }
    Ok(())
}

/// Reads the open rows that a batch needs.
pub(crate) async fn load(
    connection: &mut dyn Connection,
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
            load_some(connection, index, (prefix, table), identity, some, &mut found).await?;
        }
    }
    Ok(found)
}

async fn load_some(
    connection: &mut dyn Connection,
    index: usize,
    (prefix, table): (&str, &Table),
    identity: &str,
    wanted: &[Cell],
    found: &mut Vec<OpenRow>,
) -> Result<(), sqlx::Error> {
    // the smallest shape that holds them; the last one is asked for again to fill it up
    let count = wanted.len() / 2;
    let shape = ROWS.iter().rev().copied().find(|rows| *rows >= count).unwrap_or(count);
    let (head, last) = wanted.split_at(wanted.len() - 2);
    let filled = head.iter().chain(last.iter().cycle().take(2 * (shape - count + 1))).cloned().collect::<Vec<_>>();
    let open = if table.keeps_history() { "until IS NULL AND " } else { "" };
    let sql = format!(
        "SELECT partition, key, since, doc FROM {prefix}{} WHERE {open}(key, {identity}) IN (VALUES {})",
        table.name,
        values(shape, 2)
    );
    for row in connection.rows(Statement::new(sql, filled)).await? {
        found.push(OpenRow {
            table: index,
            partition: row.partition()?,
            key: row.text("key")?.into(),
            since: row.count("since")?,
            doc: row.text("doc")?,
        });
    }
    Ok(())
}

/// A count that was stored as a signed number.
pub(crate) fn count_of(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// How far a view has come, by partition.
pub(crate) async fn positions(connection: &mut dyn Connection, view: &str) -> Result<Vec<Position>, sqlx::Error> {
    let sql = r#"SELECT partition, seq, hash, "offset", recorded FROM positions WHERE view = ? ORDER BY partition"#;
    let rows = connection.rows(Statement::new(sql, [view.into()])).await?;
    rows.iter()
        .map(|row| {
            Ok(Position {
                partition: row.partition()?,
                seq: row.count("seq")?,
                hash: row.text("hash")?.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
                offset: row.count("offset")?,
                recorded: annals_events::time::Timestamp(row.number("recorded")?),
            })
        })
        .collect()
}

/// Moves a view's positions.
pub(crate) async fn set_positions(
    connection: &mut dyn Connection,
    view: &str,
    positions: impl Iterator<Item = &Position>,
) -> Result<(), sqlx::Error> {
    let mut cells = Vec::new();
    for p in positions {
        let (partition, hash) = (Cell::Int(p.partition.into()), p.hash.to_string());
        cells.extend([view.into(), partition, Cell::count(p.seq), hash.into(), Cell::count(p.offset), Cell::Int(p.recorded.0)]);
    }
    if cells.is_empty() {
        return Ok(());
    }
    let sql = format!(
        r#"INSERT INTO positions (view, partition, seq, hash, "offset", recorded) VALUES {} ON CONFLICT (view, partition)
        DO UPDATE SET seq = excluded.seq, hash = excluded.hash, "offset" = excluded."offset", recorded = excluded.recorded"#,
        values(cells.len() / 6, 6)
    );
    connection.run(Statement::new(sql, cells)).await
}
