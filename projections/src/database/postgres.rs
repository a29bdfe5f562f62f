//! A schema of ours in PostgreSQL that several engines read, and one of them at a time writes.
//!
//! ```text
//!  lead      a session lock on the connection that writes a view: one engine applies, the others wait for it to die
//!  begin     the view's row in `views` is locked first: whoever writes all the same, writes after the other
//!  rebuild   a session lock on the connection that fills the new tables: one rebuild of a view at a time
//! ```
//! The position is read behind the row's lock, so an event is applied once whatever becomes of the
//! session locks; those only spare the work of trying.

mod connection;

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::kept::Kept;
use super::{Behind, Database, Held, Place, Work, sqlite};
use crate::error::Error;
use crate::search::Query;
use crate::table::Cell;

/// `Annv`: the first half of our advisory locks' keys; the second is the hash of what is locked.
const LOCKS: i32 = 0x416e_6e76;
const READERS_MAX: u32 = 8;
/// How long a question waits for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(3);
/// How long a connection may take to be made, or to show that it is alive.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often, and after which pause, a rebuild is claimed: the database lets go of one that has
/// ended only when it sees its connection closed.
const CLAIM_TRIES: usize = 10;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);
/// The new tables' indexes are sorted in memory, by all the processors that are there.
const BUILDING: &str = "SELECT set_config('maintenance_work_mem', '256MB', false), \
    set_config('max_parallel_maintenance_workers', '4', false)";
/// How long the database keeps a writer that says nothing, and with it the writer's lock: one that
/// was stopped or cut off. [`Database::lead`] says something.
const SILENCE_MAX: &str = "20s";

/// The database.
pub(crate) struct Postgres {
    place: Place,
    options: PgConnectOptions,
    readers: PgPool,
    live: Slots,
    building: Slots,
}

type Slots = HashMap<&'static str, Slot>;

/// The connection that writes one view, made when it is needed.
#[derive(Default)]
struct Slot {
    connection: Mutex<Option<PgConnection>>,
    /// Something went wrong: is it alive?
    doubt: AtomicBool,
    /// It has the session lock.
    leads: AtomicBool,
}

impl Postgres {
    /// Opens what is kept for a journal in a database, and makes the schema if it is not there.
    pub(crate) async fn open(kept: &'static Kept, url: &str, journal: &str) -> Result<Self, Error> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::Url("it does not begin with postgres://".into()));
        }
        let options = PgConnectOptions::from_str(url).map_err(|e| Error::Url(e.to_string()))?;
        let name = options.get_database().unwrap_or(options.get_username());
        let place = Place::database(kept, format!("{name} on {}:{}", options.get_host(), options.get_port()));
        let options = options
            .application_name("annals")
            .options([
                ("search_path", kept.schema),
                ("client_min_messages", "warning"),
                // a host that vanished is noticed after 25 s, not after hours
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ])
            .disable_statement_logging();
        let fail = |e| fault(&place, e);
        let mut first = within(ANSWER_MAX, options.connect()).await.map_err(fail)?;
        // several engines may start at once
        lock(&mut first, "open").await.map_err(fail)?;
        prepare(&mut first, kept, &place, journal).await?;
        let _ = first.close().await; // with it the lock goes, in any case
        let readers = PgPoolOptions::new().max_connections(READERS_MAX).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(options.clone());
        let slots = || kept.lines.iter().map(|name| (*name, Slot::default())).collect();
        Ok(Self { place, options, readers, live: slots(), building: slots() })
    }

    async fn dial(&self) -> Result<PgConnection, sqlx::Error> {
        within(ANSWER_MAX, self.options.connect()).await
    }

    /// A live view's connection, which is alive as far as is known. One that does not lead says nothing between two
    /// writes, and the database may have let go of it: it is asked.
    async fn live<'a>(&self, slot: &'a Slot) -> Result<MutexGuard<'a, Option<PgConnection>>, sqlx::Error> {
        let mut held = slot.connection.lock().await;
        if (slot.doubt.swap(false, Ordering::Relaxed) || !slot.leads.load(Ordering::Relaxed))
            && let Some(connection) = held.as_mut()
            && within(ANSWER_MAX, connection.ping()).await.is_err()
        {
            *held = None;
        }
        if held.is_none() {
            slot.leads.store(false, Ordering::Relaxed);
            let mut connection = self.dial().await?;
            within(ANSWER_MAX, limit_silence(&mut connection)).await?;
            *held = Some(connection);
        }
        Ok(held)
    }

    async fn building<'a>(&'a self, view: &str) -> Result<MappedMutexGuard<'a, PgConnection>, sqlx::Error> {
        let held = slot(&self.building, view)?.connection.lock().await;
        MutexGuard::try_map(held, Option::as_mut).map_err(|_| lost("the rebuild's connection is gone"))
    }

    async fn leads(&self, view: &str) -> Result<bool, sqlx::Error> {
        let slot = slot(&self.live, view)?;
        slot.doubt.store(true, Ordering::Relaxed); // asking whether it is alive is what keeps the lock
        let mut held = self.live(slot).await?;
        if !slot.leads.load(Ordering::Relaxed)
            && let Some(connection) = held.as_mut()
        {
            let leads = within(ANSWER_MAX, try_lock(connection, &format!("lead {view}"))).await;
            slot.leads.store(*leads.as_ref().unwrap_or(&false), Ordering::Relaxed);
            slot.doubt.store(leads.is_err(), Ordering::Relaxed);
            return leads;
        }
        Ok(true)
    }
}

impl Database for Postgres {
    fn place(&self) -> &Place {
        &self.place
    }

    fn fault(&self, e: sqlx::Error) -> Error {
        fault(&self.place, e)
    }

    fn shared(&self) -> bool {
        true
    }

    fn full_text(&self, query: &Query) -> (&'static str, Cell) {
        let sql = "SELECT rowid AS id FROM search_words WHERE array_to_tsvector(string_to_array(words, ' ')) @@ CAST(? AS tsquery)";
        (sql, query.tsquery().into())
    }

    fn reader(&self) -> Work<'_, Held<'_>> {
        Box::pin(async {
            let reader = self.readers.acquire().await.map_err(|e| match e {
                sqlx::Error::PoolTimedOut => lost(&format!("{} gave no connection within {} s", self.place, ACQUIRE_MAX.as_secs())),
                e => e,
            })?;
            Ok(Box::new(connection::Reader(reader)) as Held<'_>)
        })
    }

    fn writer<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(async move {
            let held = self.live(slot(&self.live, view)?).await?;
            let held = MutexGuard::try_map(held, Option::as_mut).map_err(|_| lost("the writer's connection is gone"))?;
            Ok(Box::new(Behind(held)) as Held<'_>)
        })
    }

    fn doubt(&self, view: &str) {
        if let Some(slot) = self.live.get(view) {
            slot.doubt.store(true, Ordering::Relaxed);
        }
    }

    fn lead<'a>(&'a self, view: &'a str) -> Work<'a, bool> {
        Box::pin(self.leads(view))
    }

    fn begin_rebuild<'a>(&'a self, view: &'static str) -> Work<'a, bool> {
        Box::pin(async move {
            let mut held = slot(&self.building, view)?.connection.lock().await;
            *held = None;
            let mut connection = self.dial().await?;
            sqlx::query(BUILDING).execute(&mut connection).await?;
            for _ in 0..CLAIM_TRIES {
                if try_lock(&mut connection, &format!("rebuild {view}")).await? {
                    *held = Some(connection);
                    return Ok(true);
                }
                tokio::time::sleep(CLAIM_PAUSE).await;
            }
            Ok(false)
        })
    }

    fn end_rebuild(&self, view: &str) {
        // whoever still has it is being cut off, and the connection goes with the next rebuild
        if let Some(mut held) = self.building.get(view).and_then(|slot| slot.connection.try_lock().ok()) {
            *held = None;
        }
    }

    fn builder<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(async move { Ok(Box::new(Behind(self.building(view).await?)) as Held<'_>) })
    }

    fn standstill<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>> {
        Box::pin(async move {
            let mut hold = self.dial().await?;
            sqlx::query("BEGIN").execute(&mut hold).await?;
            connection::lock_row(&mut hold, view).await?;
            Ok(Box::new(Behind(Still { builder: self.building(view).await?, _hold: hold })) as Held<'_>)
        })
    }

    fn close(self: Box<Self>) -> Work<'static, ()> {
        Box::pin(async move {
            self.readers.close().await;
            for slot in self.live.into_values().chain(self.building.into_values()) {
                if let Some(connection) = slot.connection.into_inner() {
                    let _ = within(ANSWER_MAX, connection.close()).await; // what was committed is safe
                }
            }
            Ok(())
        })
    }
}

/// The rebuild's connection, while another one holds the live view's row.
struct Still<'a> {
    builder: MappedMutexGuard<'a, PgConnection>,
    _hold: PgConnection,
}

impl Deref for Still<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.builder
    }
}

impl DerefMut for Still<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.builder
    }
}

fn slot<'a>(slots: &'a Slots, view: &str) -> Result<&'a Slot, sqlx::Error> {
    slots.get(view).ok_or_else(|| sqlx::Error::Protocol(format!("there is no view `{view}`")))
}

fn lost(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// Does something, but not for ever: a connection that is cut one way would wait for hours.
async fn within<T>(most: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(most, work).await {
        Ok(done) => done,
        Err(_) => Err(lost(&format!("no answer within {} s", most.as_secs()))),
    }
}

/// Takes an advisory lock until the connection ends.
async fn lock(connection: &mut PgConnection, what: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock($1, hashtext($2))").bind(LOCKS).bind(what).execute(connection).await?;
    Ok(())
}

async fn try_lock(connection: &mut PgConnection, what: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))").bind(LOCKS).bind(what).fetch_one(connection).await
}

/// Makes the database end a session that says nothing; before PostgreSQL 14 it knows no such limit.
async fn limit_silence(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let settings = "SELECT set_config('idle_in_transaction_session_timeout', $1, false),
        CASE WHEN current_setting('server_version_num')::int >= 140000 THEN set_config('idle_session_timeout', $1, false) END";
    sqlx::query(settings).bind(SILENCE_MAX).execute(connection).await?;
    Ok(())
}

/// Makes the schema and its tables what this build needs, and refuses somebody else's.
async fn prepare(connection: &mut PgConnection, kept: &'static Kept, place: &Place, journal: &str) -> Result<(), Error> {
    let (fail, schema) = (|e| fault(place, e), kept.schema);
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(fail)?;
    if encoding != "UTF8" {
        return Err(Error::Encoding { place: place.clone(), encoding });
    }
    let schemas = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = $1").bind(schema);
    let schemas: i64 = schemas.fetch_one(&mut *connection).await.map_err(fail)?;
    if schemas == 0 {
        // not `IF NOT EXISTS`: that asks for the right to make one even where there is one
        let made = sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut *connection).await;
        made.map_err(|source| Error::Schema { place: place.clone(), source })?;
    }
    let others = "SELECT count(*) FROM pg_tables WHERE schemaname = $1 AND to_regclass($1 || '._sqlx_migrations') IS NULL";
    let others: i64 = sqlx::query_scalar(others).bind(schema).fetch_one(&mut *connection).await.map_err(fail)?;
    if others != 0 {
        return Err(Error::Foreign { place: place.clone() });
    }
    kept.postgres.migrator().run(&mut *connection).await.map_err(|e| sqlite::migration(place, e, fault))?;
    let found = sqlx::query_scalar(kept.postgres_journal).bind(journal).fetch_optional(&mut *connection).await.map_err(fail)?;
    if let Some(found) = found {
        return Err(Error::OtherJournal { place: place.clone(), found, wanted: journal.into() });
    }
    for line in kept.lines {
        sqlx::query(kept.postgres_claim).bind(*line).bind(journal).execute(&mut *connection).await.map_err(fail)?;
    }
    Ok(())
}

/// Tells what is missing or damaged from what cannot be used just now.
fn fault(place: &Place, source: sqlx::Error) -> Error {
    // undefined table, column or schema; damaged data, damaged index
    const BROKEN: [&str; 5] = ["42P01", "42703", "3F000", "XX001", "XX002"];
    let broken = source.as_database_error().and_then(|e| e.code()).is_some_and(|code| BROKEN.contains(&&*code));
    if broken { Error::Damaged { place: place.clone(), source } } else { Error::Unavailable(source) }
}
