//! Rebuilding the registry against bare loading of the same rows: `cargo bench -p annals-projections`, for PostgreSQL with `-- postgres`.
//!
//! `ANNALS_BENCH_EVENTS` says how many events (a million unless told otherwise).
#![allow(clippy::unwrap_used)] // a figure that cannot be taken is no figure

mod journal;
mod postgres;
mod sqlite;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use annals_projections::{Entry, Views};
use journal::{InMemory, journal};

/// That of the program.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let events = std::env::var("ANNALS_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let on_postgres = std::env::args().any(|argument| argument == "postgres");
    let mut out = std::io::stdout();
    let entries = Arc::new(journal(events));
    let count: usize = entries.iter().map(Vec::len).sum();
    writeln!(out, "{count} events of {} models", events / 10).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let database = if on_postgres { Some(postgres::Database::make().await) } else { None };
    let views = match &database {
        Some(database) => Views::connect(&database.url(), "bench").await.unwrap(),
        None => Views::open(dir.path(), "bench").await.unwrap(),
    };
    let (whose, bare_what) = if on_postgres { ("PostgreSQL", "bare COPY") } else { ("SQLite", "bare inserts") };
    for name in annals_projections::NAMES {
        let start = Instant::now();
        views.rebuild(name, InMemory(entries.clone()), |_| ()).await.unwrap();
        let time = start.elapsed();
        writeln!(out, "rebuild {name} in {whose}: {time:.2?}, {:.0} events/s", count as f64 / time.as_secs_f64()).unwrap();
        if *name != "registry" {
            continue;
        }
        for indexes in [false, true] {
            let (rows, bare) = match &database {
                Some(database) => database.bare(indexes).await,
                None => sqlite::bare(dir.path(), indexes).await,
            };
            let what = if indexes { "into tables with the indexes" } else { "without indexes" };
            let ratio = 100.0 * bare.as_secs_f64() / time.as_secs_f64();
            writeln!(out, "  {bare_what} of its {rows} rows {what}: {bare:.2?}; the rebuild has {ratio:.0} % of that rate").unwrap();
        }
    }
    for name in annals_projections::NAMES {
        views.reset(name).await.unwrap();
        let some: Vec<Entry> = entries.iter().flat_map(|of| of.iter().take(4_000).cloned()).collect();
        let start = Instant::now();
        views.apply(name, &some).await.unwrap();
        let time = start.elapsed();
        writeln!(out, "live {name} in {whose}: {:.0} events/s in batches of 500", some.len() as f64 / time.as_secs_f64()).unwrap();
    }
    views.close().await;
    if let Some(database) = database {
        database.remove().await;
    }
}
