//! Where the views of a test lie: a directory, or a PostgreSQL database of its own.

use std::collections::BTreeMap;

use annals_projections::{Error, Views};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Sqlite,
    Postgres,
}

impl Base {
    /// A new, empty home.
    pub async fn home(self) -> Home {
        match self {
            Self::Sqlite => Home::Directory(tempfile::tempdir().unwrap()),
            Self::Postgres => Home::Database(Box::new(Database::make("").await)),
        }
    }
}

/// Runs tests on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::home::Base::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::home::Base::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both;

pub enum Home {
    Directory(tempfile::TempDir),
    Database(Box<Database>),
}

/// A database of one test; gone when it is dropped.
pub struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    pub async fn make(options: &str) -> Self {
        let server: PgConnectOptions = server().parse().unwrap();
        let name = format!("annals_test_{:016x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id()));
        let mut connection = server.connect().await.unwrap_or_else(|e| panic!("{e}: tests/run starts PostgreSQL"));
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} {options}"))).execute(&mut connection).await.unwrap();
        Self { server, name }
    }

    pub fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    pub async fn connect(&self) -> PgConnection {
        let options = self.server.clone().database(&self.name).options([("search_path", "annals")]);
        options.connect().await.unwrap()
    }

    /// Cuts off everybody who is connected, as a restart of the server would.
    pub async fn cut(&self) {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        sqlx::query(cut).bind(&self.name).execute(&mut self.server.connect().await.unwrap()).await.unwrap();
    }

    /// Whether the database lets anybody in.
    pub async fn allow(&self, allowed: bool) {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", self.name);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.server.connect().await.unwrap()).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                sqlx::query(AssertSqlSafe(drop)).execute(&mut server.connect().await.unwrap()).await.unwrap();
            });
        });
        let _ = dropping.join(); // a panic here would hide the test's own
    }
}

fn server() -> String {
    std::env::var("ANNALS_TEST_DATABASE").expect("ANNALS_TEST_DATABASE is not set: run tests/run, which starts PostgreSQL and sets it")
}

impl Home {
    /// Views of the journal `journal-1`.
    pub async fn open(&self) -> Views {
        self.open_as("journal-1").await.unwrap()
    }

    pub async fn open_as(&self, journal: &str) -> Result<Views, Error> {
        match self {
            Self::Directory(dir) => Views::open(dir.path(), journal).await,
            Self::Database(database) => Views::connect(&database.url(), journal).await,
        }
    }

    pub fn database(&self) -> &Database {
        match self {
            Self::Database(database) => database,
            Self::Directory(_) => panic!("this home is a directory"),
        }
    }

    async fn file(&self) -> SqliteConnection {
        let Self::Directory(dir) = self else { panic!("this home is a database") };
        SqliteConnectOptions::new().filename(dir.path().join("views.db")).create_if_missing(true).connect().await.unwrap()
    }

    /// Changes what is there behind the views' back.
    pub async fn sql(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Directory(_) => drop(sqlx::raw_sql(statement).execute(&mut self.file().await).await.unwrap()),
            Self::Database(database) => drop(sqlx::raw_sql(statement).execute(&mut database.connect().await).await.unwrap()),
        }
    }

    /// The first column of an answer.
    pub async fn names(&self, select: &'static str) -> Vec<String> {
        match self {
            Self::Directory(_) => sqlx::query_scalar(select).fetch_all(&mut self.file().await).await.unwrap(),
            Self::Database(database) => sqlx::query_scalar(select).fetch_all(&mut database.connect().await).await.unwrap(),
        }
    }

    /// The tables that a rebuild has made and not put in place.
    pub async fn staging(&self) -> Vec<String> {
        self.names(match self {
            Self::Directory(_) => "SELECT name FROM sqlite_master WHERE name LIKE 'new%'",
            Self::Database(_) => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'annals' AND tablename LIKE 'new%'",
        })
        .await
    }

    /// All rows of a view and its position, sorted, as text: read past the crate.
    pub async fn dump(&self, view: &str) -> BTreeMap<String, Vec<String>> {
        let tables = self.names(match self {
            // a full-text index keeps tables of its own
            Self::Directory(_) => "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') ORDER BY 1",
            Self::Database(_) => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'annals' ORDER BY 1",
        });
        let of_view = |table: &String| table == view || table.starts_with(&format!("{view}_"));
        let tables: Vec<String> = tables.await.into_iter().filter(of_view).collect();
        assert!(!tables.is_empty());
        let position = format!("SELECT partition, seq, hash, \"offset\", recorded FROM positions WHERE view = '{view}'");
        let select = |table: String| match (self, table.as_str()) {
            // the index of words gives them one by one, and not the lines that it was made of
            (Self::Directory(_), "search_words") => (table, "SELECT doc, term FROM temp.vocabulary".to_owned()),
            (Self::Database(_), "search_words") => {
                (table, "SELECT w.rowid AS doc, t.term FROM search_words w, unnest(string_to_array(w.words, ' ')) AS t(term)".to_owned())
            }
            _ => (table.clone(), format!("SELECT * FROM {table}")),
        };
        let queries = tables.into_iter().map(select).chain([("position".into(), position)]);
        let mut all = BTreeMap::new();
        for (name, sql) in queries {
            let sql = AssertSqlSafe(sql);
            let mut rows: Vec<String> = match self {
                Self::Directory(_) => {
                    let mut file = self.file().await;
                    let vocabulary = "CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, search_words, instance)";
                    sqlx::raw_sql(vocabulary).execute(&mut file).await.unwrap();
                    sqlx::query(sql).fetch_all(&mut file).await.unwrap().iter().map(of_sqlite).collect()
                }
                Self::Database(d) => sqlx::query(sql).fetch_all(&mut d.connect().await).await.unwrap().iter().map(of_postgres).collect(),
            };
            rows.sort();
            all.insert(name, rows);
        }
        all
    }
}

fn of_sqlite(row: &SqliteRow) -> String {
    let text = |i: usize| {
        let number = || row.try_get::<Option<i64>, _>(i).map(|n| format!("{n:?}"));
        row.try_get::<Option<String>, _>(i).map(|t| format!("{t:?}")).or_else(|_| number()).unwrap()
    };
    row.columns().iter().enumerate().map(|(i, c)| format!("{}={} ", c.name(), text(i))).collect()
}

fn of_postgres(row: &PgRow) -> String {
    let text = |i: usize| {
        let number = || row.try_get::<Option<i64>, _>(i).map(|n| format!("{n:?}"));
        row.try_get::<Option<String>, _>(i).map(|t| format!("{t:?}")).or_else(|_| number()).unwrap()
    };
    row.columns().iter().enumerate().map(|(i, c)| format!("{}={} ", c.name(), text(i))).collect()
}
