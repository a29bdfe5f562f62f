//! How each Kafka client is set up: what a person configured, and on top what the design demands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annals_events::kind::Kind;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::FutureProducer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::registry::{self, Registry};

/// How long a question to the brokers may take.
pub const ASK_MAX: Duration = Duration::from_secs(10);
/// How long the question for many partitions' ends may take: threads in the background ask it again and again.
const OFFSETS_MAX: Duration = Duration::from_secs(3);
/// A transaction that its owner has left alone for so long is aborted by the broker.
const TRANSACTION_MAX_MS: &str = "10000";
/// A proposal that no broker has acknowledged for so long is not waited for.
const PROPOSE_MAX_MS: &str = "5000";
/// Largest message: a payload of 256 KiB, its event around it, and room for headers.
const MESSAGE_BYTES_MAX: &str = "1048576";

/// A topic of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What is asked.
    Proposals,
    /// What was accepted, for ever.
    Journal,
    /// What became of each proposal.
    Verdicts,
    /// Promotions, demotions and retirements once more, for those who want only them.
    Promotions,
    /// The current state of each model.
    Models,
    /// How far the derived topics have come.
    Progress,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 6] = [Self::Proposals, Self::Journal, Self::Verdicts, Self::Promotions, Self::Models, Self::Progress];

    /// Its name behind the prefix.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Proposals => "proposals",
            Self::Journal => "journal",
            Self::Verdicts => "verdicts",
            Self::Promotions => "promotions",
            Self::Models => "models",
            Self::Progress => "progress",
        }
    }
}

/// Where the cluster is, and how to speak to it.
#[derive(Clone)]
pub struct Connection {
    bootstrap: String,
    prefix: String,
    settings: Vec<(String, String)>,
    schemas: Option<Arc<Registry>>,
}

/// Why there is no connection to be had.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file of settings cannot be read.
    #[error("the Kafka settings in {path} cannot be read: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is not KEY=VALUE.
    #[error("line {line} of {path} is not KEY=VALUE, such as security.protocol=SASL_SSL")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// The engine sets it itself.
    #[error("{path} sets {key}, on which the engine's guarantees rest: take the line out")]
    Ours {
        /// The file.
        path: String,
        /// The setting.
        key: String,
    },
}

/// What nobody else may set: exactly-once and the order of events hang on it.
const OURS: [&str; 9] = [
    "bootstrap.servers",
    "group.id",
    "transactional.id",
    "enable.idempotence",
    "isolation.level",
    "acks",
    "enable.auto.commit",
    "auto.offset.reset",
    "partitioner",
];

impl Connection {
    /// A connection to these brokers; `properties` is a file of librdkafka settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(bootstrap: &str, prefix: &str, properties: Option<&Path>) -> Result<Self, SettingsError> {
        let settings = properties.map_or(Ok(Vec::new()), read_settings)?;
        Ok(Self { bootstrap: bootstrap.to_owned(), prefix: prefix.to_owned(), settings, schemas: None })
    }

    /// The same, with a schema registry: records name their schema.
    #[must_use]
    pub fn with_schemas(self, schemas: Arc<Registry>) -> Self {
        Self { schemas: Some(schemas), ..self }
    }

    /// How it stands with the schema registry, if there is one.
    #[must_use]
    pub fn schemas(&self) -> Option<registry::Status> {
        self.schemas.as_ref().map(|schemas| schemas.status())
    }

    /// The header that names the schema of a record's value, if its id is known.
    #[must_use]
    pub fn schema_header(&self, kind: Kind) -> Option<Vec<u8>> {
        self.schemas.as_ref()?.header(kind)
    }

    /// What the topics' names begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The whole name of a topic.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.prefix, topic.word())
    }

    /// The group that shares the partitions out among the instances.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}.arbiter", self.prefix)
    }

    fn config(&self, client: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", format!("{}-{client}", self.prefix));
        // a broker that comes back must be found within seconds
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000").set("socket.keepalive.enable", "true");
        // a request must not wait until the one before is acknowledged: small ones follow each other here
        config.set("socket.nagle.disable", "true");
        config.set("socket.timeout.ms", "10000").set("topic.metadata.refresh.interval.ms", "30000");
        for (key, value) in &self.settings {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// A client that asks and administers.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn admin(&self) -> KafkaResult<AdminClient<DefaultClientContext>> {
        self.config("admin").create()
    }

    /// A consumer of committed messages that is told by hand what to read, and that never jumps
    /// when what it was to read is gone. `eof`: whether it tells when a partition's end is reached.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn reader(&self, client: &str, eof: bool) -> KafkaResult<BaseConsumer> {
        let mut config = self.config(client);
        config.set("group.id", format!("{}.reader", self.prefix)); // asked for, never joined
        config.set("isolation.level", "read_committed").set("auto.offset.reset", "error");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", if eof { "true" } else { "false" });
        if eof {
            // that is told when a fetch comes back empty, and somebody waits for it
            config.set("fetch.wait.max.ms", "20");
        }
        // a replay must not pause between fetches, and a tail not before it reads on
        config.set("fetch.queue.backoff.ms", "5").set("fetch.error.backoff.ms", "100");
        // what waits is limited in number, too: a message takes a kilobyte beside its bytes
        config.set("queued.min.messages", "10000").set("queued.max.messages.kbytes", "16384");
        config.set("fetch.message.max.bytes", MESSAGE_BYTES_MAX);
        config.create()
    }

    /// A client that only asks where logs end: behind the last committed message (`stable`), or behind
    /// the very last.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn gauge(&self, stable: bool) -> KafkaResult<BaseConsumer> {
        let mut config = self.config("watch");
        config.set("group.id", format!("{}.reader", self.prefix)); // asked for, never joined
        config.set("isolation.level", if stable { "read_committed" } else { "read_uncommitted" });
        config.set("enable.auto.commit", "false").create()
    }

    /// The consumer of the group that shares the partitions out.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn member<C>(&self, group: &str, context: C) -> KafkaResult<BaseConsumer<C>>
    where
        C: rdkafka::consumer::ConsumerContext,
    {
        let mut config = self.config("owner");
        config.set("group.id", format!("{}.{group}", self.prefix));
        // the classic protocol: with the newer one the broker, not we, says after how long a dead
        // member is missed, and its default of 45 s is too long for a partition without an arbiter
        config.set("group.protocol", "classic").set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "300");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed").set("auto.offset.reset", "latest");
        config.set("queued.max.messages.kbytes", "1024").set("queued.min.messages", "1");
        BaseConsumer::from_config_and_context(&config, context)
    }

    /// The producer of the doors: what is acknowledged is stored once, in the order of sending.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn proposer(&self) -> KafkaResult<FutureProducer> {
        let mut config = self.config("door");
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "0");
        config.set("message.timeout.ms", PROPOSE_MAX_MS).set("message.max.bytes", MESSAGE_BYTES_MAX);
        config.create()
    }

    /// The producer that tells verdicts behind the commit of their events, until they are told or it is no more.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn teller<P, C>(&self, context: C) -> KafkaResult<P>
    where
        P: FromClientConfigAndContext<C>,
        C: rdkafka::ClientContext,
    {
        let mut config = self.config("verdicts");
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "0");
        config.set("message.timeout.ms", "0").set("message.max.bytes", MESSAGE_BYTES_MAX).set("compression.type", "lz4");
        P::from_config_and_context(&config, context)
    }

    /// A producer whose transactions fence those of any other with this id.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn transactional<P, C>(&self, id: &str, context: C) -> KafkaResult<P>
    where
        P: FromClientConfigAndContext<C>,
        C: rdkafka::ClientContext,
    {
        let mut config = self.config(id);
        config.set("transactional.id", format!("{}.{id}", self.prefix));
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "0");
        config.set("transaction.timeout.ms", TRANSACTION_MAX_MS).set("message.timeout.ms", TRANSACTION_MAX_MS);
        config.set("message.max.bytes", MESSAGE_BYTES_MAX).set("compression.type", "lz4");
        P::from_config_and_context(&config, context)
    }
}

fn read_settings(path: &Path) -> Result<Vec<(String, String)>, SettingsError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Io { path: name(), source })?;
    let mut settings = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| SettingsError::Line { path: name(), line: number })?;
        let (key, value) = (key.trim(), value.trim());
        if OURS.contains(&key) {
            return Err(SettingsError::Ours { path: name(), key: key.to_owned() });
        }
        settings.push((key.to_owned(), value.to_owned()));
    }
    Ok(settings)
}

/// The first retained offset of a partition, and the one behind the last committed message and its marker.
///
/// # Errors
/// librdkafka's.
pub fn range(consumer: &BaseConsumer, topic: &str, partition: u32) -> KafkaResult<(u64, u64)> {
    let (low, high) = consumer.fetch_watermarks(topic, number(partition), ASK_MAX)?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}

/// One question for all partitions of some topics: by topic and partition, where they begin or end. Nobody waits long for it.
///
/// # Errors
/// librdkafka's.
pub fn offsets(client: &BaseConsumer, names: &[String], partitions: usize, what: Offset) -> KafkaResult<Vec<Vec<u64>>> {
    let mut list = TopicPartitionList::new();
    for name in names {
        for partition in 0..partitions {
            list.add_partition_offset(name, i32::try_from(partition).unwrap_or(i32::MAX), what)?;
        }
    }
    let list = client.offsets_for_times(list, OFFSETS_MAX)?;
    let offset = |name: &str, partition: usize| {
        let partition = u32::try_from(partition).unwrap_or(u32::MAX);
        let element = list.find_partition(name, number(partition)).ok_or(KafkaError::Canceled)?;
        element.error()?;
        match element.offset() {
            Offset::Offset(offset) => Ok(u64::try_from(offset).unwrap_or(0)),
            _ => Err(KafkaError::Canceled),
        }
    };
    names.iter().map(|name| (0..partitions).map(|partition| offset(name, partition)).collect()).collect()
}

/// A partition as librdkafka counts it.
#[must_use]
pub fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Whether a code says that another producer has taken over.
#[must_use]
pub fn is_fenced(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Some(Fenced | InvalidProducerEpoch | ProducerFenced))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Vec<(String, String)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_settings(file.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn settings_are_lines_of_key_and_value() {
        let read = settings("# who we are\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\n").unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read, [pair("security.protocol", "SASL_SSL"), pair("sasl.password", "a=b")]);
        assert!(settings("fine=1\nnonsense").unwrap_err().contains("line 2"));
    }

    #[test]
    fn what_the_guarantees_rest_on_cannot_be_set() {
        assert!(settings("isolation.level=read_uncommitted").unwrap_err().contains("take the line out"));
    }
}
