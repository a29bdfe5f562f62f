//! Which journal it is: the one in a directory, or the one on Kafka; nothing behind this file knows.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::Journal;
use super::kafka::KafkaJournal;
use super::kafka::connect::{Connection, SettingsError};
use super::kafka::registry::{BadUrl, Registry};
use super::sqlite::SqliteJournal;
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
    /// What was configured makes no connection.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nor does the schema registry's address.
    #[error(transparent)]
    SchemaRegistry(#[from] BadUrl),
}

/// The connection that was configured.
///
/// # Errors
/// [`SettingsError`].
pub fn connection(kafka: &Kafka) -> Result<Connection, SettingsError> {
    Connection::new(&kafka.bootstrap, &kafka.prefix, kafka.properties.as_deref())
}

/// Opens the journal to run on it; blocks while it looks. `arbitrate`: this instance shall judge.
/// Inside a tokio runtime, since a schema registry is told of the schemas meanwhile, until `stopping`.
///
/// # Errors
/// [`OpenError`] says what a person has to do.
pub fn open(dir: &Path, kafka: Option<&Kafka>, arbitrate: bool, stopping: watch::Receiver<bool>) -> Result<Arc<dyn Journal>, OpenError> {
    Ok(match kafka {
        Some(kafka) => {
            let mut connection = connection(kafka)?;
            if let Some(url) = &kafka.schema_registry {
                connection = connection.with_schemas(Registry::start(url, stopping)?);
            }
            Arc::new(KafkaJournal::open(connection, arbitrate)?)
        }
        None => Arc::new(SqliteJournal::open(dir)?),
    })
}
