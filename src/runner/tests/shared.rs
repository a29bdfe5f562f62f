//! Several runners on one journal and one PostgreSQL database.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::*;

/// A database of one test.
struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    async fn make() -> Self {
        let server = std::env::var("ANNALS_TEST_DATABASE");
        let server = server.expect("ANNALS_TEST_DATABASE is not set: run tests/run, which starts PostgreSQL and sets it").parse().unwrap();
        let database = Self { server, name: format!("annals_runner_{}", uuid::Uuid::now_v7().simple()) };
        database.on_server(format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    async fn on_server(&self, sql: String) {
        let mut connection = self.server.connect().await.unwrap_or_else(|e| panic!("{e}: tests/run starts PostgreSQL"));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    /// Lets nobody in, or everybody again.
    async fn away(&self, away: bool) {
        self.on_server(format!("ALTER DATABASE {} ALLOW_CONNECTIONS {}", self.name, !away)).await;
        if away {
            self.on_server(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name)).await;
        }
    }

    async fn views(&self, journal: &str) -> Views {
        let url = self.server.clone().database(&self.name).to_url_lossy();
        Views::connect(url.as_str(), journal).await.unwrap()
    }

    async fn remove(self) {
        self.on_server(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// One more runner beside an engine's own, as another instance has it.
struct Instance {
    runner: Arc<Runner>,
    stop: watch::Sender<bool>,
}

impl Instance {
    async fn start(database: &Database, engine: &Engine, applies: bool) -> Self {
        let (stop, stopping) = watch::channel(false);
        let views = database.views(engine.door.journal().id()).await;
        Self { runner: Runner::start(views, engine.door.clone(), applies, stopping), stop }
    }

    async fn has(&self, place: (u32, u64)) {
        for view in NAMES {
            assert!(self.runner.wait_for(view, &[place], PATIENCE).await, "{:?}", self.runner.progress());
        }
    }

    async fn models(&self) -> usize {
        self.runner.views().models("default", &AsOf::Now, &Page::default()).await.unwrap().items.len()
    }

    /// Ends it, and with it the connections that have its locks.
    async fn end(self) {
        self.stop.send_replace(true);
        self.runner.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_share_the_views_all_answer_and_one_takes_over_when_another_ends() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Database::make().await);
    let engine = Engine::start(dir.path()).await;
    let first = Instance::start(&database, &engine, true).await;
    let second = Instance::start(&database, &engine, true).await;
    let reader = Instance::start(&database, &engine, false).await;
    for n in 0..10 {
        let place = engine.create(&format!("m{n}")).await;
        for instance in [&first, &second, &reader] {
            instance.has(place).await;
            assert_eq!(instance.models().await, n + 1);
        }
    }
    first.end().await;
    let place = engine.create("after").await;
    for instance in [&second, &reader] {
        instance.has(place).await;
        assert_eq!(instance.models().await, 11);
    }
    // alone, one that does not apply stays where the view is
    second.end().await;
    let place = engine.create("nobody-applies").await;
    assert!(!reader.runner.wait_for(registry::NAME, &[place], Duration::from_secs(3)).await);
    assert_eq!(reader.models().await, 11);
    let third = Instance::start(&database, &engine, true).await;
    reader.has(place).await;
    for view in NAMES {
        let source = JournalSource::new(engine.door.journal().clone());
        assert_eq!(third.runner.views().diff(view, source, |_| ()).await.unwrap().differences, [], "{view}");
    }
    third.end().await;
    reader.end().await;
    engine.stop().await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_wait_for_a_database_that_is_away_and_go_on_by_themselves() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Database::make().await);
    let engine = Engine::start(dir.path()).await;
    let instance = Instance::start(&database, &engine, true).await;
    instance.has(engine.create("before").await).await;
    database.away(true).await;
    let place = engine.create("meanwhile").await; // proposals go on
    let deadline = Instant::now() + PATIENCE;
    while !instance.runner.progress().iter().all(|view| view.waits && view.trouble.is_some()) {
        assert!(Instant::now() < deadline, "{:?}", instance.runner.progress());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = instance.runner.views().models("default", &AsOf::Now, &Page::default()).await;
    assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
    database.away(false).await;
    instance.has(place).await;
    assert_eq!(instance.models().await, 2);
    let deadline = Instant::now() + PATIENCE;
    while instance.runner.progress().iter().any(|view| view.trouble.is_some()) {
        assert!(Instant::now() < deadline, "{:?}", instance.runner.progress());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    instance.end().await;
    engine.stop().await;
    database.remove().await;
}
