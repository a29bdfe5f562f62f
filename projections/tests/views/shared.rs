//! Several engines on one PostgreSQL database, and one that is cut off from it.

use std::time::{Duration, Instant};

use annals_projections::{AsOf, Entry, Error, NAMES, Views};

use crate::every::Stored;
use crate::home::{Base, Database, Home};
use crate::journal::{Journal, apply_all, iris};

const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until it is so.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Iris's life, and many other models beside it.
fn journal() -> Journal {
    let mut journal = iris();
    for n in 0..200 {
        journal.say("registered", &format!("m{n}"), serde_json::json!({"artifact": {"uri": "file:///a"}}));
    }
    journal
}

/// That a database has each event once, in order: the rows are those that one engine makes in SQLite.
async fn right(home: &Home, entries: &[Entry]) {
    let alone = Base::Sqlite.home().await;
    apply_all(&alone.open().await, entries).await;
    for name in NAMES {
        assert_eq!(home.dump(name).await, alone.dump(name).await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_engine_leads_and_another_takes_over_when_it_is_gone() {
    let (home, journal) = (Base::Postgres.home().await, journal());
    let (a, b) = (home.open().await, home.open().await);
    let (first, rest) = journal.entries.split_at(60);
    for name in NAMES {
        assert!(a.lead(name).await.unwrap() && a.lead(name).await.unwrap());
        assert!(!b.lead(name).await.unwrap(), "{name} has two leaders");
    }
    apply_all(&a, first).await;
    for name in NAMES {
        assert_eq!(b.positions(name).await.unwrap(), a.positions(name).await.unwrap(), "the other one sees it");
    }
    drop(a); // no farewell: its connections break
    for name in NAMES {
        until("nobody takes over", async || b.lead(name).await.unwrap()).await;
    }
    apply_all(&b, rest).await;
    right(&home, &journal.entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_silent_loses_its_place() {
    let home = Base::Postgres.home().await;
    let (silent, other) = (home.open().await, home.open().await);
    assert!(silent.lead("registry").await.unwrap());
    assert!(!other.lead("registry").await.unwrap());
    until("a leader that hangs is never replaced", async || other.lead("registry").await.unwrap()).await;
    assert!(!silent.lead("registry").await.unwrap(), "it learns it when it asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_apply_the_same_events_at_once_apply_each_once() {
    let (home, journal) = (Base::Postgres.home().await, journal());
    let views = [home.open().await, home.open().await, home.open().await];
    for name in NAMES {
        let each = async |views: &Views, batch: usize| {
            let mut applied = 0;
            for some in journal.entries.chunks(batch) {
                applied += views.apply(name, some).await.unwrap();
            }
            applied
        };
        let (a, b, c) = tokio::join!(each(&views[0], 7), each(&views[1], 20), each(&views[2], 3));
        assert_eq!(a + b + c, journal.entries.len() as u64);
    }
    right(&home, &journal.entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_said_so_and_nothing_is_applied_twice_when_it_is_back() {
    let (home, journal) = (Base::Postgres.home().await, journal());
    let views = home.open().await;
    for (n, some) in journal.entries.chunks(50).enumerate() {
        let database = home.database();
        if n % 2 == 1 {
            database.allow(false).await;
            database.cut().await;
            let error = views.apply("registry", some).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable(_)), "{error}");
            let error = views.model("default/iris", &AsOf::Now).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable(_)), "{error}");
            assert!(matches!(views.lead("registry").await, Err(Error::Unavailable(_))));
            assert!(home.open_as("journal-1").await.is_err());
            database.allow(true).await;
        } else {
            // only the connections are gone, as after a restart
            database.cut().await;
        }
        for name in NAMES {
            until("it does not come back", async || views.apply(name, some).await.is_ok()).await;
        }
        until("questions do not come back", async || views.model("default/iris", &AsOf::Now).await.is_ok()).await;
    }
    right(&home, &journal.entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_engine_rebuilds_while_another_applies_and_a_third_one_reads() {
    let (home, journal) = (Base::Postgres.home().await, journal());
    let (applying, building, reading) = (home.open().await, home.open().await, home.open().await);
    let (first, rest) = journal.entries.split_at(100);
    for name in NAMES {
        applying.apply(name, first).await.unwrap();
        let rebuild = async {
            for _ in 0..3 {
                building.rebuild(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
            }
        };
        let live = async {
            for entry in rest {
                applying.apply(name, std::slice::from_ref(entry)).await.unwrap();
            }
        };
        let read = async {
            for _ in 0..100 {
                let held = reading.channel("default/iris", "production", &AsOf::Now).await.unwrap();
                assert!(held.is_some() || *name != "registry", "a reader saw half a view");
            }
        };
        if *name != "registry" {
            applying.apply("registry", first).await.unwrap();
        }
        tokio::join!(rebuild, live, read);
        assert_eq!(applying.apply(name, &journal.entries).await.unwrap(), 0);
    }
    right(&home, &journal.entries).await;
    assert_eq!(home.staging().await, Vec::<String>::new());
    let special = "SELECT relname::text FROM pg_class WHERE relnamespace = 'annals'::regnamespace AND reloptions IS NOT NULL";
    assert_eq!(home.names(special).await, Vec::<String>::new(), "a table that was filled is vacuumed as any other");
}

/// A journal that is read for as long as somebody wants.
struct Held(Stored, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl annals_projections::rebuild::Source for Held {
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        while self.1.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::yield_now();
        }
        self.0.read(partition, from, max)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_rebuilt_by_one_engine_at_a_time_and_a_start_leaves_it_alone() {
    let (home, journal) = (Base::Postgres.home().await, journal());
    let (a, b) = (home.open().await, home.open().await);
    apply_all(&a, &journal.entries).await;
    let held = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let source = Held(Stored(journal.entries.clone()), held.clone());
    let first = a.rebuild("registry", source, |_| ());
    let second = async {
        until("the rebuild does not begin", async || !home.staging().await.is_empty()).await;
        let second = b.rebuild("registry", Stored(journal.entries.clone()), |_| ()).await;
        assert!(matches!(second, Err(Error::Rebuilding("registry"))), "{second:?}");
        home.open().await.close().await;
        assert!(!home.staging().await.is_empty(), "a start removed what another engine is building");
        held.store(false, std::sync::atomic::Ordering::Relaxed);
    };
    let (first, ()) = tokio::join!(first, second);
    first.unwrap();
    b.rebuild("registry", Stored(journal.entries.clone()), |_| ()).await.unwrap();
    right(&home, &journal.entries).await;
}

#[tokio::test]
async fn an_address_that_is_none_and_an_encoding_that_holds_too_little_are_refused() {
    let error = Views::connect("mysql://somewhere", "journal-1").await.err().unwrap();
    assert!(matches!(error, Error::Url(_)) && error.to_string().contains("postgres://"), "{error}");
    let home = Home::Database(Box::new(Database::make("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await));
    let error = home.open_as("journal-1").await.err().unwrap();
    assert!(matches!(error, Error::Encoding { .. }) && error.to_string().contains("UTF8"), "{error}");
}
