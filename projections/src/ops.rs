//! The operational store: what is under way outside, which the journal does not have.
//!
//! ```text
//!  dispatcher ─tasks + rules + positions (one transaction)─▶ ops ◀─due / settle─▶ actors      line `world`: the leader alone
//!  doors ─replay, secrets, cursors─────────────────────────▶ ops                               line `door`: everybody
//! ```
//! Tasks of one rule and one lane are handed out in their order, one at a time. Each leader gets an
//! epoch of its own, and what an earlier one still wants to write is refused ([`Error::Fenced`]).
//! No view: it is backed up, and cannot be made again. Losing it costs that webhooks are delivered
//! again, and that secrets and cursors must be made anew.

mod cursors;
mod dispatch;
mod listing;
mod secrets;
mod settle;
mod task;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annals_events::time::Timestamp;

pub use self::cursors::CursorRow;
pub use self::dispatch::{Dispatched, NewTask, RuleKind, RuleRow};
pub use self::listing::{Counts, Failing, TaskFilter};
pub use self::secrets::Secret;
pub use self::settle::{RULE_TASKS_MAX, Replay, Settled};
pub use self::task::{Place, Task, TaskState};
use crate::database::kept::OPS;
use crate::database::postgres::Postgres;
use crate::database::sqlite::Sqlite;
use crate::database::{Connection, Database, Held, Statement};
use crate::error::Error;
use crate::live::Failure;
use crate::table::Cell;
use crate::views::{BATCH_TIME_MAX, within};

/// The file's name in the data directory.
pub const FILE: &str = "ops.db";
/// Who dispatches and acts.
pub(crate) const WORLD: &str = "world";
/// Who is asked by people.
pub(crate) const DOOR: &str = "door";
/// How often settled tasks that are too old or too many are removed.
const TRIM_EVERY: Duration = Duration::from_secs(3600);

/// The operational store of a journal; a clone is the same one.
#[derive(Clone)]
pub struct Ops {
    inner: Arc<Inner>,
}

struct Inner {
    database: Box<dyn Database>,
    born: Timestamp,
    /// Of the last time that this engine became the leader; 0 while it is not.
    epoch: AtomicU64,
    /// Tasks settled since some were trimmed.
    settled: AtomicU64,
    trimmed: Mutex<Option<Instant>>,
}

impl Ops {
    /// Opens the store of a journal in a data directory, and makes the file if it is not there.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::OtherJournal`], [`Error::Newer`], [`Error::Damaged`],
    /// [`Error::OpsUnavailable`]; nothing is deleted for them.
    pub async fn open(dir: &Path, journal: &str) -> Result<Self, Error> {
        let database = Sqlite::open(&OPS, dir, journal).await.map_err(ours)?;
        Self::of(Box::new(database)).await
    }

    /// Opens the store of a journal in a PostgreSQL database, in the schema `annals_ops`, which is
    /// made if it is not there. Other engines with the same journal may use it too.
    ///
    /// # Errors
    /// Those of [`Ops::open`], [`Error::Url`], [`Error::Encoding`], [`Error::Schema`].
    pub async fn connect(url: &str, journal: &str) -> Result<Self, Error> {
        let database = Postgres::open(&OPS, url, journal).await.map_err(ours)?;
        Self::of(Box::new(database)).await
    }

    async fn of(database: Box<dyn Database>) -> Result<Self, Error> {
        let born = async {
            let mut door = database.writer(DOOR).await?;
            let born = Statement::new("UPDATE lines SET born = ? WHERE born IS NULL", [Cell::Int(now().0)]);
            door.run(born).await?;
            let rows = door.rows(Statement::new("SELECT min(born) AS born FROM lines", [])).await?;
            rows.first().ok_or(sqlx::Error::RowNotFound)?.number("born")
        };
        let born = born.await.map_err(|e| ours(database.fault(e)))?;
        let inner =
            Inner { database, born: Timestamp(born), epoch: AtomicU64::new(0), settled: AtomicU64::new(0), trimmed: Mutex::new(None) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Closes the database and waits until that is done, if nobody else has a clone of this.
    pub async fn close(self) {
        if let Some(inner) = Arc::into_inner(self.inner) {
            // what was committed is whole whether or not this succeeds
            let _ = inner.database.close().await;
        }
    }

    /// Where it is kept.
    #[must_use]
    pub fn place(&self) -> &crate::Place {
        self.inner.database.place()
    }

    /// Whether other engines may use the same database.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.inner.database.shared()
    }

    /// Which leading this engine is in; another number means that another one led in between, 0 that it does not lead.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.inner.epoch.load(Ordering::Relaxed)
    }

    /// When this store was made. What was recorded before may have been acted on already, if an
    /// earlier store was lost.
    #[must_use]
    pub fn born(&self) -> Timestamp {
        self.inner.born
    }

    /// Whether this engine is the one that dispatches and acts; tries to become it if nobody is. It
    /// must ask at least every 10 s, or another one takes over, and before it writes anything.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn lead(&self) -> Result<bool, Error> {
        let leads = self.inner.database.lead(WORLD).await.map_err(|e| self.fault(e))?;
        if !leads {
            self.inner.epoch.store(0, Ordering::Relaxed);
            return Ok(false);
        }
        let known = self.inner.epoch.load(Ordering::Relaxed);
        let epoch = self.working(WORLD, async {
            let mut writer = self.inner.database.writer(WORLD).await?;
            let found = writer.rows(Statement::new("SELECT epoch FROM lines WHERE line = ?", [WORLD.into()])).await?;
            // another one may have led since, also if the connection broke between two questions
            if known != 0 && found.first().ok_or(sqlx::Error::RowNotFound)?.count("epoch")? == known {
                return Ok(known);
            }
            let next = "UPDATE lines SET epoch = epoch + 1 WHERE line = ? RETURNING epoch";
            let next = writer.rows(Statement::new(next, [WORLD.into()])).await?;
            Ok(next.first().ok_or(sqlx::Error::RowNotFound)?.count("epoch")?)
        });
        let epoch = epoch.await?;
        self.inner.epoch.store(epoch, Ordering::Relaxed);
        if self.trim_is_due() {
            self.trim(now()).await?;
        }
        Ok(true)
    }

    fn trim_is_due(&self) -> bool {
        let mut trimmed = self.inner.trimmed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = trimmed.is_none_or(|at| at.elapsed() >= TRIM_EVERY);
        if due {
            *trimmed = Some(Instant::now());
        }
        due
    }

    /// Lets nobody else write tasks until the transaction ends, and refuses whoever does not lead any more.
    async fn fence(&self, connection: &mut dyn Connection) -> Result<(), Failure> {
        let mine = self.inner.epoch.load(Ordering::Relaxed);
        let touch = "UPDATE lines SET epoch = epoch WHERE line = ? AND epoch = ? RETURNING epoch";
        let found = connection.rows(Statement::new(touch, [WORLD.into(), Cell::count(mine)])).await?;
        if mine == 0 || found.is_empty() { Err(Error::Fenced.into()) } else { Ok(()) }
    }

    /// Lets nobody else write tasks until the transaction ends, whoever leads.
    async fn stand_still(connection: &mut dyn Connection) -> Result<(), Failure> {
        let touch = Statement::new("UPDATE lines SET epoch = epoch WHERE line = ?", [WORLD.into()]);
        Ok(connection.run(touch).await?)
    }

    /// Runs what writes, but not for ever: a database that was cut off would keep it waiting.
    async fn working<T>(&self, line: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Error> {
        let work = async {
            work.await.map_err(|e| match e {
                Failure::Database(e) => self.inner.database.fault(e),
                Failure::View(e) => e,
            })
        };
        let done = if self.shared() { within(BATCH_TIME_MAX, work).await } else { work.await };
        done.map_err(ours).inspect_err(|e| {
            if !matches!(e, Error::Fenced | Error::TaskChanged(_) | Error::CursorMoved { .. }) {
                self.inner.database.doubt(line);
            }
        })
    }

    async fn reader(&self) -> Result<Held<'_>, Error> {
        self.inner.database.reader().await.map_err(|e| self.fault(e))
    }

    fn fault(&self, e: sqlx::Error) -> Error {
        ours(self.inner.database.fault(e))
    }
}

/// The layer below speaks of views.
fn ours(e: Error) -> Error {
    match e {
        Error::Unavailable(e) => Error::OpsUnavailable(e),
        e => e,
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
