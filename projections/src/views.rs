//! The views of a journal: opened, brought up to date, asked.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::as_of::{AsOf, Moment};
use crate::database::kept::VIEWS;
use crate::database::postgres::Postgres;
use crate::database::sqlite::Sqlite;
use crate::database::{Connection, Database, Held, Place, Statement};
use crate::error::Error;
use crate::live::{self, Failure};
use crate::position::{Entry, Position};
use crate::store::{self, STAGING};
use crate::table::Projection;

/// The file's name in the data directory.
pub const FILE: &str = VIEWS.file;
/// The schema that holds all tables of ours.
pub const SCHEMA: &str = VIEWS.schema;
/// Most entries of one [`Views::apply`]; more are applied in several transactions.
pub const BATCH_MAX: usize = 1_024;
/// How long a batch may take: beyond it the database is taken for gone.
pub(crate) const BATCH_TIME_MAX: Duration = Duration::from_secs(60);

/// All views, in one database.
pub struct Views {
    pub(crate) database: Box<dyn Database>,
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
        Self::of(Box::new(Sqlite::open(&VIEWS, dir, journal).await?)).await
    }

    /// Opens the views of a journal in a PostgreSQL database, in the schema [`SCHEMA`], which is
    /// made if it is not there. Other engines with the same journal may use it too.
    ///
    /// # Errors
    /// Those of [`Views::open`], [`Error::Url`], [`Error::Encoding`], [`Error::Schema`].
    pub async fn connect(url: &str, journal: &str) -> Result<Self, Error> {
        Self::of(Box::new(Postgres::open(&VIEWS, url, journal).await?)).await
    }

    async fn of(database: Box<dyn Database>) -> Result<Self, Error> {
        let views = Self { database, projections: crate::all(), states: Mutex::default() };
        for projection in &views.projections {
            let name = projection.name();
            // what another engine is building is not left behind
            if views.database.begin_rebuild(name).await.map_err(|e| views.fault(e))? {
                let cleaned = views.clean(projection.as_ref()).await;
                views.database.end_rebuild(name);
                cleaned?;
            }
        }
        Ok(views)
    }

    async fn clean(&self, projection: &dyn Projection) -> Result<(), Error> {
        let mut builder = self.database.builder(projection.name()).await.map_err(|e| self.fault(e))?;
        drop_staging(&mut *builder, projection).await.map_err(|e| self.fault(e))
    }

    /// Closes the database and waits until that is done.
    pub async fn close(self) {
        // what was committed is whole whether or not this succeeds
        let _ = self.database.close().await;
    }

    /// Where they are kept.
    #[must_use]
    pub fn place(&self) -> &Place {
        self.database.place()
    }

    /// Whether other engines may use the same database: then [`Views::lead`] says who applies, and
    /// what stopped a view may be mended elsewhere.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.database.shared()
    }

    /// Whether this engine is the one that applies events to a view. It stays so until its
    /// connection ends; it must ask at least every 10 s, or another one takes over.
    ///
    /// Only this spares others the work: [`Views::apply`] is right whoever calls it.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Unavailable`].
    pub async fn lead(&self, view: &str) -> Result<bool, Error> {
        let name = self.projection(view)?.name();
        self.database.lead(name).await.map_err(|e| self.fault(e))
    }

    /// Applies entries of one or several partitions to a view, in order within each partition.
    /// Entries that it has already are skipped; returns how many were new.
    ///
    /// # Errors
    /// [`Error::Gap`], [`Error::Broken`] and [`Error::Corrupt`] stop this view until it is rebuilt
    /// or reset ([`Error::Stopped`] from then on, unless the database is shared and it may be
    /// rebuilt elsewhere). With any error the view has whole transactions of at most [`BATCH_MAX`]
    /// entries, or nothing.
    pub async fn apply(&self, view: &str, entries: &[Entry]) -> Result<u64, Error> {
        let projection = self.projection(view)?;
        let name = projection.name();
        let stopped = self.state(name).stopped;
        if let Some(reason) = stopped.clone().filter(|_| !self.shared()) {
            return Err(Error::Stopped { view: name, reason });
        }
        let mut applied = 0;
        for batch in entries.chunks(BATCH_MAX) {
            let applying = async {
                let mut writer = self.database.writer(name).await.map_err(|e| self.fault(e))?;
                self.apply_batch(&mut *writer, projection, "", batch).await
            };
            let done = if self.shared() { within(BATCH_TIME_MAX, applying).await } else { applying.await };
            applied += done.inspect_err(|e| {
                self.database.doubt(name);
                if e.stops() {
                    self.change_state(name, |state| state.stopped = Some(e.to_string()));
                }
            })?;
        }
        if stopped.is_some() {
            self.change_state(name, |state| state.stopped = None);
        }
        Ok(applied)
    }

    pub(crate) async fn apply_batch(
        &self,
        connection: &mut dyn Connection,
        projection: &dyn Projection,
        prefix: &str,
        batch: &[Entry],
    ) -> Result<u64, Error> {
        let view = format!("{prefix}{}", projection.name());
        let mut transaction = connection.begin(&view).await.map_err(|e| self.fault(e))?;
        let applied = live::apply(transaction.on(), projection, prefix, batch).await.map_err(|e| match e {
            Failure::Database(e) => self.fault(e),
            Failure::View(e) => e,
        })?;
        transaction.commit().await.map_err(|e| self.fault(e))?;
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
        store::positions(&mut *reader, name).await.map_err(|e| self.fault(e))
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

    /// Why this engine does not go on with a view, if it does not.
    #[must_use]
    pub fn stopped(&self, view: &str) -> Option<String> {
        self.states().get(view).and_then(|state| state.stopped.clone())
    }

    /// Whether this engine is rebuilding a view.
    #[must_use]
    pub fn rebuilding(&self, view: &str) -> bool {
        self.states().get(view).is_some_and(|state| state.rebuilding)
    }

    /// Empties a view, so that it is made again from the first event on.
    ///
    /// # Errors
    /// [`Error::UnknownView`], [`Error::Damaged`], [`Error::Unavailable`]; the view is as it was.
    pub async fn reset(&self, view: &str) -> Result<(), Error> {
        let projection = self.projection(view)?;
        let mut writer = self.database.writer(projection.name()).await.map_err(|e| self.fault(e))?;
        let empty = async {
            let mut transaction = writer.begin(projection.name()).await?;
            for table in projection.tables() {
                transaction.on().run(Statement::once(format!("DELETE FROM {}", table.name))).await?;
            }
            let forget = Statement::new("DELETE FROM positions WHERE view = ?", [projection.name().into()]);
            transaction.on().run(forget).await?;
            transaction.commit().await
        };
        empty.await.map_err(|e| self.fault(e))?;
        self.change_state(projection.name(), |state| state.stopped = None);
        Ok(())
    }

    pub(crate) fn projection(&self, view: &str) -> Result<&dyn Projection, Error> {
        let found = self.projections.iter().find(|p| p.name() == view);
        found.map(AsRef::as_ref).ok_or_else(|| Error::UnknownView { name: view.into() })
    }

    pub(crate) async fn reader(&self) -> Result<Held<'_>, Error> {
        self.database.reader().await.map_err(|e| self.fault(e))
    }

    pub(crate) fn fault(&self, e: sqlx::Error) -> Error {
        self.database.fault(e)
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

/// A database that was cut off would keep a batch waiting for ever.
pub(crate) async fn within<T>(most: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Err(Error::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
    tokio::time::timeout(most, work).await.unwrap_or_else(late)
}

/// Removes the tables and the position that a rebuild has made.
pub(crate) async fn drop_staging(connection: &mut dyn Connection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        connection.run(Statement::once(format!("DROP TABLE IF EXISTS {STAGING}{}", table.name))).await?;
    }
    let view = format!("{STAGING}{}", projection.name());
    connection.run(Statement::new("DELETE FROM positions WHERE view = ?", [view.as_str().into()])).await
}
