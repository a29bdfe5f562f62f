//! Which journal it is: the one in a directory, or the one on Kafka; nothing behind this file knows.

use std::path::Path;
use std::sync::Arc;

use annals_events::kind::Kind;

use super::kafka::KafkaJournal;
use super::kafka::connect::{Connection, SettingsError};
use super::kafka::derived::{Running, Start};
use super::kafka::registry::Registry;
use super::sqlite::SqliteJournal;
use super::{Journal, Located, ReadError};
use crate::config::kafka::Kafka;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The one in the directory cannot be opened.
    #[error(transparent)]
    Sqlite(#[from] super::sqlite::OpenError),
    /// The one on Kafka cannot be opened.
    #[error(transparent)]
    Kafka(#[from] super::kafka::OpenError),
    /// An import broke off.
    #[error(
        "an import into this journal did not come to its end in partition {partition}: it is not served; make new topics \
         (`annals topics create --for-import`, another --kafka-prefix) and import again"
    )]
    Unfinished {
        /// The first partition in which something is missing.
        partition: u32,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system gives no more threads.
    #[error(transparent)]
    Thread(#[from] std::io::Error),
    /// What was configured makes no connection.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The connection that was configured.
///
/// # Errors
/// [`SettingsError`].
pub fn connection(kafka: &Kafka) -> Result<Connection, SettingsError> {
    Connection::new(&kafka.bootstrap, &kafka.prefix, kafka.properties.as_deref())
}

/// Opens topics that hold nothing yet, to be filled by an import.
///
/// # Errors
/// [`OpenError`].
pub fn open_unopened(kafka: &Kafka) -> Result<Arc<dyn Journal>, OpenError> {
    Ok(Arc::new(KafkaJournal::open_unopened(connection(kafka)?)?))
}

/// Opens the journal to run on it; blocks while it looks. `arbitrate`: this instance shall judge.
/// `schemas`: where the schemas of its records are registered.
///
/// # Errors
/// [`OpenError`] says what a person has to do.
pub fn open(dir: &Path, kafka: Option<&Kafka>, arbitrate: bool, schemas: Option<Arc<Registry>>) -> Result<Arc<dyn Journal>, OpenError> {
    let Some(kafka) = kafka else { return Ok(Arc::new(SqliteJournal::open(dir)?)) };
    let everything = arbitrate && kafka.own_every_partition;
    let journal = KafkaJournal::open(connection_with(kafka, schemas)?, arbitrate && !everything)?;
    refuse_unfinished(&journal)?;
    Ok(Arc::new(if everything { journal.own_every_partition() } else { journal }))
}

fn connection_with(kafka: &Kafka, schemas: Option<Arc<Registry>>) -> Result<Connection, SettingsError> {
    let connection = connection(kafka)?;
    Ok(match schemas {
        Some(schemas) => connection.with_schemas(schemas),
        None => connection,
    })
}

/// Starts the publisher of what is derived from this journal.
///
/// # Errors
/// [`OpenError`], before anything runs.
pub fn publish(kafka: &Kafka, schemas: Option<Arc<Registry>>, journal: &Arc<dyn Journal>, start: Start) -> Result<Running, OpenError> {
    Ok(Running::start(connection_with(kafka, schemas)?, Arc::clone(journal), start)?)
}

/// An import writes its last record in front of all others, too (`audit::import` says why): a journal
/// that begins so and does not reach that place is not to be served, not even for reading.
fn refuse_unfinished(journal: &dyn Journal) -> Result<(), OpenError> {
    let place = |located: Option<&Located>| located.and_then(|l| l.record.view().ok().map(|view| (view.kind, view.seq)));
    for partition in 0..journal.partitions() {
        // a beginning that is gone is noticed here only: an arbiter with a snapshot would not look at it
        let first = journal.records(partition, 0, 1)?;
        let Some((Kind::JournalContinued, announced)) = place(first.items.first()) else { continue };
        let last = journal.records(partition, journal.end(partition)?.saturating_sub(1), 1)?;
        let is_there = last.items.first().map(|l| l.offset) != first.items.first().map(|l| l.offset);
        if !is_there || place(last.items.first()).is_none_or(|(_, seq)| seq < announced) {
            return Err(OpenError::Unfinished { partition });
        }
    }
    Ok(())
}
