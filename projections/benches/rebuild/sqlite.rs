//! Bare multi-row inserts of the registry's rows into SQLite.

use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row};

/// Rows of one insert, and of one transaction.
const ROWS: usize = 256;
const TRANSACTION: usize = 8192;

async fn connect(file: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let options = options.synchronous(SqliteSynchronous::Normal).pragma("cache_size", "-65536").disable_statement_logging();
    options.connect().await.unwrap()
}

/// Copies the registry's rows into tables of the same shape, and returns rows and the time that the inserts took.
pub async fn bare(dir: &std::path::Path, indexes: bool) -> (usize, Duration) {
    let mut from = connect(&dir.join("views.db")).await;
    let mut to = connect(&dir.join(if indexes { "indexed.db" } else { "bare.db" })).await;
    let schema = "SELECT name, type, sql FROM sqlite_master WHERE tbl_name LIKE 'registry%' AND sql IS NOT NULL ORDER BY type DESC";
    let mut tables = Vec::new();
    for row in sqlx::query(schema).fetch_all(&mut from).await.unwrap() {
        let (name, kind, sql): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if kind == "table" {
            tables.push(name);
        }
        if kind == "table" || indexes {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut to).await.unwrap();
        }
    }
    let (mut count, mut time) = (0, Duration::ZERO);
    for table in tables {
        let mut after = 0_i64;
        loop {
            let select = format!("SELECT rowid, t.* FROM {table} t WHERE rowid > {after} ORDER BY rowid LIMIT {TRANSACTION}");
            let rows = sqlx::query(AssertSqlSafe(select)).persistent(false).fetch_all(&mut from).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = last.get(0);
            count += rows.len();
            let width = last.columns().len() - 1;
            let value = format!("({})", vec!["?"; width].join(","));
            let mut statements = Vec::new();
            for some in rows.chunks(ROWS) {
                let mut arguments = SqliteArguments::default();
                for row in some {
                    for column in 1..=width {
                        match row.try_get::<Option<i64>, _>(column) {
                            Ok(n) => Arguments::add(&mut arguments, n).unwrap(),
                            Err(_) => Arguments::add(&mut arguments, row.get::<Option<String>, _>(column)).unwrap(),
                        }
                    }
                }
                statements.push((format!("INSERT INTO {table} VALUES {}", vec![value.as_str(); some.len()].join(",")), arguments));
            }
            let start = Instant::now();
            let mut transaction = to.begin().await.unwrap();
            for (sql, arguments) in statements {
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await.unwrap();
            }
            transaction.commit().await.unwrap();
            time += start.elapsed();
        }
    }
    (count, time)
}
