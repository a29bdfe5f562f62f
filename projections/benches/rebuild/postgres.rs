//! Bare COPY of the registry's rows into PostgreSQL, in a database of its own.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

/// Bytes of one COPY's transaction, as large as a rebuild's are.
const TRANSACTION: usize = 16 * 1024 * 1024;

pub struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// A new one, in the server that ANNALS_TEST_DATABASE names.
    pub async fn make() -> Self {
        let server = std::env::var("ANNALS_TEST_DATABASE").expect("ANNALS_TEST_DATABASE must name a PostgreSQL server, as tests/run does");
        let made = Self { server: server.parse().unwrap(), name: format!("annals_bench_{}", std::process::id()) };
        made.on_server(format!("CREATE DATABASE {}", made.name)).await;
        made
    }

    pub async fn remove(self) {
        self.on_server(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }

    async fn on_server(&self, sql: String) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.server.connect().await.unwrap()).await.unwrap();
    }

    fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name).disable_statement_logging()
    }

    pub fn url(&self) -> String {
        self.options().to_url_lossy().to_string()
    }

    /// Copies the registry's rows into tables of the same shape, and returns rows and the time that the copying took.
    pub async fn bare(&self, indexes: bool) -> (usize, Duration) {
        let mut connection = self.options().connect().await.unwrap();
        let list = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'annals' AND tablename LIKE 'registry%' ORDER BY 1";
        let tables: Vec<String> = sqlx::query_scalar(list).fetch_all(&mut connection).await.unwrap();
        let (mut count, mut time) = (0, Duration::ZERO);
        run(&mut connection, "DROP SCHEMA IF EXISTS bare CASCADE".into()).await;
        run(&mut connection, "CREATE SCHEMA bare".into()).await;
        for table in tables {
            let like = if indexes { "INCLUDING INDEXES" } else { "" };
            run(&mut connection, format!("CREATE TABLE bare.{table} (LIKE annals.{table} {like})")).await;
            for part in text(&mut connection, &table).await {
                count += part.iter().filter(|b| **b == b'\n').count(); // within a text it is escaped
                let start = Instant::now();
                let mut copying = connection.copy_in_raw(&format!("COPY bare.{table} FROM STDIN")).await.unwrap();
                for piece in part.chunks(256 * 1024) {
                    copying.send(piece).await.unwrap();
                }
                copying.finish().await.unwrap();
                time += start.elapsed();
            }
        }
        (count, time)
    }
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// A table in COPY's own format, in parts of whole rows.
async fn text(connection: &mut PgConnection, table: &str) -> Vec<Vec<u8>> {
    use futures_util::TryStreamExt;
    let mut parts = vec![Vec::new()];
    let mut rows = connection.copy_out_raw(&format!("COPY annals.{table} TO STDOUT")).await.unwrap();
    while let Some(row) = rows.try_next().await.unwrap() {
        if parts.last().is_some_and(|part| part.len() >= TRANSACTION) {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().extend_from_slice(&row);
    }
    parts
}
