//! The file `views.db`: opened, brought up to date, written by one and read by many.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::as_of::{AsOf, Moment};
use crate::error::Error;
use crate::live::{self, Failure};
use crate::position::{Entry, Position};
use crate::store::{self, STAGING};
use crate::table::Projection;

/// The file's name in the data directory.
pub const FILE: &str = "views.db";
/// Most entries of one [`Views::apply`]; more are applied in several transactions.
pub const BATCH_MAX: usize = 500;
/// `Annv`: marks the file as ours (SQLite's `application_id`).
const APPLICATION_ID: i64 = 0x416e_6e76;
const READERS_MAX: u32 = 4;

/// All views, as one file.
pub struct Views {
    pub(crate) path: PathBuf,
    readers: SqlitePool,
    pub(crate) writer: tokio::sync::Mutex<SqliteConnection>,
    projections: Vec<Box<dyn Projection>>,
    states: Mutex<HashMap<&'static str, State>>,
}

#[derive(Clone, Default)]
struct State {
    stopped: Option<String>,
    rebuilding: bool,
}

/// How one view is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The view.
    pub name: &'static str,
    /// How far it has come in each partition that has events.
    pub positions: Vec<Position>,
    /// Why it stands still, if it does.
    pub stopped: Option<String>,
    /// Whether it is being rebuilt.
    pub rebuilding: bool,
}

impl Views {
    /// Opens the views of a journal in a data directory, and makes the file if it is not there.
    /// What a rebuild left behind when the process died is removed.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::OtherJournal`], [`Error::Newer`], [`Error::Damaged`],
    /// [`Error::Unavailable`]; nothing is deleted for them.
    pub async fn open(dir: &Path, journal: &str) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let fail = |e| database(&path, e);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(512)
            .disable_statement_logging();
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", "-65536"); // 64 MiB, in KiB
        let mut writer = writing.connect().await.map_err(fail)?;
        claim(&mut writer, &path).await?;
        migrate(&mut writer, &path).await?;
        let found: Option<String> =
            sqlx::query_scalar("SELECT journal FROM annals_views").fetch_optional(&mut writer).await.map_err(fail)?;
        match found {
            Some(found) if found != journal => return Err(Error::OtherJournal { path, found, wanted: journal.into() }),
            Some(_) => {}
            None => {
                let insert = sqlx::query("INSERT INTO annals_views (journal) VALUES ($1)").bind(journal.to_owned());
                insert.execute(&mut writer).await.map_err(fail)?;
            }
        }
        drop_staging(&mut writer, "").await.map_err(fail)?;
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options.read_only(true));
        Ok(Self { path, readers, writer: writer.into(), projections: crate::all(), states: Mutex::default() })
    }

    /// Closes the file and waits until that is done.
    pub async fn close(self) {
        self.readers.close().await;
        // the file is whole whether or not this succeeds
        let _ = self.writer.into_inner().close().await;
    }

    /// Applies entries of one or several partitions to a view, in order within each partition.
    /// Entries that it has already are skipped; returns how many were new.
    ///
    /// # Errors
    /// [`Error::Gap`], [`Error::Broken`] and [`Error::Corrupt`] stop this view until it is rebuilt
    /// or reset ([`Error::Stopped`] from then on). With any error the view has whole transactions
    /// of at most [`BATCH_MAX`] entries, or nothing.
    pub async fn apply(&self, view: &str, entries: &[Entry]) -> Result<u64, Error> {
        let projection = self.projection(view)?;
        if let Some(reason) = self.state(projection.name()).stopped {
            return Err(Error::Stopped { view: projection.name(), reason });
        }
        let mut applied = 0;
        for batch in entries.chunks(BATCH_MAX) {
            let mut writer = self.writer.lock().await;
            applied += self.apply_batch(&mut writer, projection, "", batch).await.inspect_err(|e| {
                if e.stops() {
                    self.change_state(projection.name(), |state| state.stopped = Some(e.to_string()));
                }
            })?;
        }
        Ok(applied)
    }

    pub(crate) async fn apply_batch(
        &self,
        writer: &mut SqliteConnection,
        projection: &dyn Projection,
        prefix: &str,
        batch: &[Entry],
    ) -> Result<u64, Error> {
        let mut transaction = writer.begin().await.map_err(|e| self.database(e))?;
        let applied = live::apply(&mut transaction, projection, prefix, batch).await.map_err(|e| match e {
            Failure::Database(e) => self.database(e),
            Failure::View(e) => e,
        })?;
        transaction.commit().await.map_err(|e| self.database(e))?;
        Ok(applied)
    }

    /// How far a view has come: the log is read on behind these offsets, and from the beginning in
    /// partitions that are not named.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn positions(&self, view: &str) -> Result<Vec<Position>, Error> {
        let name = self.projection(view)?.name();
        let mut reader = self.reader().await?;
        store::positions(&mut reader, name).await.map_err(|e| self.database(e))
    }

    /// The point a view is at, as positions: asked with it, several questions have one answer.
    ///
    /// # Errors
    /// As [`Views::positions`].
    pub async fn pinned(&self, view: &str) -> Result<AsOf, Error> {
        let positions = self.positions(view).await?;
        let mut at = Vec::new();
        for p in positions {
            let index = usize::try_from(p.partition).unwrap_or(usize::MAX - 1);
            at.resize(at.len().max(index + 1), None);
            at[index] = Some(p.seq);
        }
        Ok(AsOf::At(at))
    }

    /// Reads what somebody wrote as `as_of`: RFC 3339 or a list of positions.
    ///
    /// A time becomes, for each partition, the last event that was recorded at or before it, as far
    /// as the timeline has come.
    ///
    /// # Errors
    /// [`Error::AsOf`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn as_of(&self, text: &str) -> Result<AsOf, Error> {
        match Moment::parse(text)? {
            Moment::Positions(positions) => Ok(positions),
            Moment::Time(time) => self.as_of_time(time).await,
        }
    }

    /// How every view is.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn status(&self) -> Result<Vec<Status>, Error> {
        let mut all = Vec::new();
        for projection in &self.projections {
            let name = projection.name();
            let State { stopped, rebuilding } = self.state(name);
            all.push(Status { name, positions: self.positions(name).await?, stopped, rebuilding });
        }
        Ok(all)
    }

    /// Empties a view, so that it is made again from the first event on.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Damaged`], [`Error::Unavailable`]; the view is as it was.
    pub async fn reset(&self, view: &str) -> Result<(), Error> {
        let projection = self.projection(view)?;
        let mut writer = self.writer.lock().await;
        let empty = async {
            let mut transaction = writer.begin().await?;
            for table in projection.tables() {
                sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name))).execute(&mut *transaction).await?;
            }
            sqlx::query("DELETE FROM positions WHERE view = $1").bind(projection.name()).execute(&mut *transaction).await?;
            transaction.commit().await
        };
        empty.await.map_err(|e| self.database(e))?;
        self.change_state(projection.name(), |state| state.stopped = None);
        Ok(())
    }

    pub(crate) fn projection(&self, view: &str) -> Result<&dyn Projection, Error> {
        let found = self.projections.iter().find(|p| p.name() == view);
        found.map(AsRef::as_ref).ok_or_else(|| Error::UnknownView { name: view.into() })
    }

    pub(crate) async fn reader(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, Error> {
        self.readers.acquire().await.map_err(|e| self.database(e))
    }

    pub(crate) fn database(&self, e: sqlx::Error) -> Error {
        database(&self.path, e)
    }

    /// Marks a view as being rebuilt; `false` if it is already.
    pub(crate) fn begin_rebuild(&self, view: &'static str) -> bool {
        !std::mem::replace(&mut self.states().entry(view).or_default().rebuilding, true)
    }

    pub(crate) fn end_rebuild(&self, view: &'static str, switched: bool) {
        self.change_state(view, |state| {
            state.rebuilding = false;
            if switched {
                state.stopped = None;
            }
        });
    }

    fn state(&self, view: &'static str) -> State {
        self.states().get(view).cloned().unwrap_or_default()
    }

    fn change_state(&self, view: &'static str, change: impl FnOnce(&mut State)) {
        change(self.states().entry(view).or_default());
    }

    /// Nothing panics while it holds this lock, and a state is whole between any two statements.
    fn states(&self) -> MutexGuard<'_, HashMap<&'static str, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a damaged file from one that cannot be used just now.
fn database(path: &Path, source: sqlx::Error) -> Error {
    const CORRUPT: i64 = 11;
    const NOT_A_DATABASE: i64 = 26;
    let code = source.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<i64>().ok());
    let gone = source.as_database_error().is_some_and(|e| e.message().starts_with("no such table"));
    if gone || code.is_some_and(|c| [CORRUPT, NOT_A_DATABASE].contains(&(c & 0xff))) {
        return Error::Damaged { path: path.into(), source };
    }
    Error::Unavailable(source)
}

/// Marks a new file as ours, and refuses one that is somebody else's.
async fn claim(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let fail = |e| database(path, e);
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(fail)?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(&mut *connection).await.map_err(fail)?;
    if id != 0 || tables != 0 {
        return Err(Error::Foreign { path: path.into() });
    }
    let mark = AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"));
    sqlx::query(mark).execute(connection).await.map_err(fail)?;
    Ok(())
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    match sqlx::migrate!("migrations/sqlite").run(connection).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) | MigrateError::VersionTooNew(..)) => {
            Err(Error::Newer { path: path.into() })
        }
        Err(MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)) => Err(database(path, e)),
        Err(other) => Err(Error::Unavailable(sqlx::Error::Migrate(Box::new(other)))),
    }
}

/// Removes the tables and the position that a rebuild of `view` (of any, if empty) has made.
pub(crate) async fn drop_staging(connection: &mut SqliteConnection, view: &str) -> Result<(), sqlx::Error> {
    let pattern = format!("{STAGING}{view}*");
    let list = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB $1").bind(pattern.clone());
    let names: Vec<String> = list.fetch_all(&mut *connection).await?;
    for name in names {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE {name}"))).execute(&mut *connection).await?;
    }
    sqlx::query("DELETE FROM positions WHERE view GLOB $1").bind(pattern).execute(connection).await?;
    Ok(())
}
