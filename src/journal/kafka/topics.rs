//! The topics: how they are made, and what is wrong with those that are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annals_events::ledger;
use rdkafka::admin::{AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::claim::{self, KafkaClaim};
use super::connect::{ASK_MAX, Connection, Topic, range};
use crate::journal::{Batch, Claim, wall_clock};

const DAYS_30_MS: &str = "2592000000";
const DAY_MS: &str = "86400000";

/// How the topics shall be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Partitions of each topic that a model's key chooses one of; never changed after.
    pub partitions: u32,
    /// Replicas of each partition.
    pub replication: u32,
    /// Replicas that must have a message before it is acknowledged.
    pub in_sync: u32,
}

/// Why the topics are not there.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The cluster cannot be reached, or refuses.
    #[error("the cluster cannot be asked: {0}")]
    Kafka(#[from] KafkaError),
    /// The cluster refused to make or delete a topic.
    #[error("the cluster refuses what is to be done with the topic {topic}: {why}")]
    Refused {
        /// The topic.
        topic: String,
        /// Why.
        why: String,
    },
    /// A broker's own word for it says nothing of why.
    #[error(
        "{replication} replicas are wanted, and the cluster has {brokers} broker{}: add brokers, or say `--replication-factor 1 \
         --min-insync-replicas 1`, with which all is lost if that broker is",
        if *brokers == 1 { "" } else { "s" }
    )]
    FewBrokers {
        /// How many replicas are wanted.
        replication: u32,
        /// How many brokers there are.
        brokers: usize,
    },
    /// They exist, and are not as they are wanted.
    #[error("the topics exist with other partitions: {0}; a key's partition is part of history, so the number never changes")]
    OtherPartitions(String),
    /// A journal that has lost its records.
    #[error(
        "partition {partition} of {topic} is empty although the engine has run on it: nothing is written to it; restore the topic \
         from a backup or a mirror, or import an export into new topics (--kafka-prefix)"
    )]
    Emptied {
        /// The journal's topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The opening record cannot be written.
    #[error("partition {partition} cannot be opened: {why}")]
    Opening {
        /// The partition.
        partition: u32,
        /// Why.
        why: String,
    },
}

/// What was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The topic, or the broker.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// The settings of a topic; what is not named is the broker's default.
fn settings(topic: Topic) -> &'static [(&'static str, &'static str)] {
    match topic {
        Topic::Proposals => &[
            ("cleanup.policy", "delete"),
            ("retention.ms", DAYS_30_MS),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
        ],
        Topic::Verdicts => &[("cleanup.policy", "delete"), ("retention.ms", DAYS_30_MS), ("retention.bytes", "-1")],
        // a record carries the recorded time, which may be any time of the past after an import
        Topic::Journal | Topic::Promotions => &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            // nor must a disputed record of a far future keep the engine from writing behind it
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ],
        Topic::Models => &[("cleanup.policy", "compact"), ("delete.retention.ms", DAY_MS)],
        // whoever begins to publish reads all of it: what is outdated must not wait for a gigabyte to fill
        Topic::Progress => &[("cleanup.policy", "compact"), ("delete.retention.ms", DAY_MS), ("segment.bytes", "16777216")],
    }
}

fn partitions_of(topic: Topic, shape: Shape) -> u32 {
    if topic == Topic::Progress { 1 } else { shape.partitions }
}

/// Makes the topics that are missing and writes the opening record of every partition. Does nothing
/// to what is there and right.
///
/// # Errors
/// [`TopicsError`]; it may be run again.
pub async fn create(connection: &Connection, shape: Shape) -> Result<Vec<String>, TopicsError> {
    let made = make(connection, shape).await?;
    let (connection, partitions) = (connection.clone(), shape.partitions);
    let opened = tokio::task::spawn_blocking(move || open_all(&connection, partitions)).await;
    opened.unwrap_or_else(|_| Err(TopicsError::Opening { partition: 0, why: "this is a bug, see the log".into() }))?;
    Ok(made)
}

/// Makes the topics that are missing, and leaves them empty: an import opens them.
///
/// # Errors
/// [`TopicsError`]; it may be run again.
pub async fn make(connection: &Connection, shape: Shape) -> Result<Vec<String>, TopicsError> {
    let existing = existing(connection)?;
    let differing: Vec<String> = Topic::ALL
        .iter()
        .filter_map(|topic| {
            let (name, wanted) = (connection.topic(*topic), partitions_of(*topic, shape));
            let found = *existing.get(&name)?;
            (found != wanted).then(|| format!("{name} has {found}, not {wanted}"))
        })
        .collect();
    if !differing.is_empty() {
        return Err(TopicsError::OtherPartitions(differing.join(", ")));
    }
    let names: Vec<(Topic, String)> = Topic::ALL.iter().map(|topic| (*topic, connection.topic(*topic))).collect();
    let (replication, in_sync) = (i32::try_from(shape.replication).unwrap_or(1), shape.in_sync.to_string());
    let missing: Vec<NewTopic<'_>> = names
        .iter()
        .filter(|(_, name)| !existing.contains_key(name))
        .map(|(topic, name)| {
            let partitions = i32::try_from(partitions_of(*topic, shape)).unwrap_or(i32::MAX);
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
                .set("min.insync.replicas", &in_sync)
                .set("unclean.leader.election.enable", "false")
                .set("max.message.bytes", "1048588");
            settings(*topic).iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    if !missing.is_empty() {
        let brokers = connection.reader("metadata", false)?.fetch_metadata(None, ASK_MAX)?.brokers().len();
        if usize::try_from(shape.replication).is_ok_and(|replication| replication > brokers) {
            return Err(TopicsError::FewBrokers { replication: shape.replication, brokers });
        }
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30))).request_timeout(Some(Duration::from_secs(30)));
    let mut made = Vec::new();
    let results = if missing.is_empty() { Vec::new() } else { connection.admin()?.create_topics(&missing, &options).await? };
    for result in results {
        match result {
            Ok(name) => made.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {} // somebody else made it just now
            Err((topic, code)) => return Err(TopicsError::Refused { topic, why: code.to_string() }),
        }
    }
    let (connection, partitions) = (connection.clone(), shape.partitions);
    let led = tokio::task::spawn_blocking(move || {
        let reader = connection.reader("opening", false)?;
        (0..partitions).try_for_each(|partition| await_leader(&connection, &reader, partition))
    });
    let led = led.await;
    led.unwrap_or_else(|_| Err(TopicsError::Opening { partition: 0, why: "this is a bug, see the log".into() }))?;
    Ok(made)
}

/// Deletes the topics that are there, with all that is in them.
///
/// # Errors
/// [`TopicsError`].
pub async fn delete(connection: &Connection) -> Result<Vec<String>, TopicsError> {
    let existing: Vec<String> = existing(connection)?.into_keys().collect();
    let names: Vec<&str> = existing.iter().map(String::as_str).collect();
    if !names.is_empty() {
        for result in connection.admin()?.delete_topics(&names, &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| TopicsError::Refused { topic, why: code.to_string() })?;
        }
    }
    Ok(existing)
}

/// Writes `journal.opened` where nothing was ever written.
fn open_all(connection: &Connection, partitions: u32) -> Result<(), TopicsError> {
    let reader = connection.reader("opening", false)?;
    let (name, teller) = (connection.topic(Topic::Journal), claim::teller(connection)?);
    for partition in 0..partitions {
        if range(&reader, &name, partition)?.1 > 0 {
            continue;
        }
        // verdicts are written by an arbiter, and an arbiter only runs on an opened journal
        if range(&reader, &connection.topic(Topic::Verdicts), partition)?.1 > 0 {
            return Err(TopicsError::Emptied { topic: name, partition });
        }
        let opening = |why: String| TopicsError::Opening { partition, why };
        let mut claim = KafkaClaim::new(connection, partition, Arc::clone(&teller)).map_err(|e| opening(e.to_string()))?;
        // whoever opened it in between was fenced, or has committed
        if range(&reader, &name, partition)?.1 > 0 {
            continue;
        }
        let record = ledger::opening(partition, partitions, wall_clock());
        claim.append(Batch { records: vec![record], verdicts: Vec::new() }).map_err(|e| opening(e.to_string()))?;
        claim.commit().map_err(|e| opening(e.to_string()))?;
    }
    Ok(())
}

/// A topic that was just made has no leaders for a moment.
fn await_leader(connection: &Connection, reader: &BaseConsumer, partition: u32) -> Result<(), TopicsError> {
    let mut last = None;
    for _ in 0..100 {
        let asked =
            [Topic::Journal, Topic::Verdicts].iter().try_for_each(|topic| range(reader, &connection.topic(*topic), partition).map(|_| ()));
        match asked {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(last.map_or(TopicsError::Opening { partition, why: "it has no leader".into() }, TopicsError::Kafka))
}

/// The engine's topics that are there, and how many partitions they have.
///
/// # Errors
/// librdkafka's.
pub fn existing(connection: &Connection) -> Result<BTreeMap<String, u32>, KafkaError> {
    let reader = connection.reader("metadata", false)?;
    let metadata = reader.fetch_metadata(None, ASK_MAX)?;
    let ours = Topic::ALL.map(|topic| connection.topic(topic));
    let count = |topic: &rdkafka::metadata::MetadataTopic| u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
    let found = metadata.topics().iter().filter(|topic| ours.iter().any(|name| name == topic.name()));
    Ok(found.map(|topic| (topic.name().to_owned(), count(topic))).collect())
}

/// What is wrong with the topics and the brokers, as far as the engine's promises hang on it.
///
/// # Errors
/// [`TopicsError::Kafka`] if the cluster cannot be asked.
pub async fn check(connection: &Connection) -> Result<Vec<Finding>, TopicsError> {
    let existing = existing(connection)?;
    let mut found = Vec::new();
    let mut report = |subject: &str, problem: String, remedy: &str| {
        found.push(Finding { subject: subject.to_owned(), problem, remedy: remedy.to_owned() });
    };
    let partitions = existing.get(&connection.topic(Topic::Journal)).copied();
    for topic in Topic::ALL {
        let name = connection.topic(topic);
        match (existing.get(&name), partitions) {
            (None, _) => report(&name, "it is missing".into(), "run `annals topics create`"),
            (Some(found), Some(wanted)) if topic != Topic::Progress && *found != wanted => {
                let remedy = "partitions cannot be taken away: make new topics with another --kafka-prefix and import an export";
                report(&name, format!("it has {found} partitions, and the journal has {wanted}"), remedy);
            }
            _ => {}
        }
    }
    let names: Vec<String> =
        Topic::ALL.map(|topic| connection.topic(topic)).into_iter().filter(|name| existing.contains_key(name)).collect();
    let replicas = replicas(connection)?;
    let admin = connection.admin()?;
    let specifiers: Vec<ResourceSpecifier<'_>> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    // an empty list is no question to librdkafka
    let described = if specifiers.is_empty() { Vec::new() } else { admin.describe_configs(&specifiers, &AdminOptions::new()).await? };
    for resource in described {
        let Ok(resource) = resource else { continue };
        let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        let Some(topic) = Topic::ALL.into_iter().find(|topic| connection.topic(*topic) == *name) else { continue };
        check_settings(topic, name, &resource, &mut report);
        let replication = replicas.get(name).copied().unwrap_or(0);
        if replication < 3 {
            let problem = format!("it has {replication} replicas");
            report(name, problem, "3 replicas with min.insync.replicas=2 survive the loss of a broker: reassign the partitions");
        }
    }
    for (broker, resource) in broker_configs(connection).await? {
        let value = resource.get("transaction.max.timeout.ms").and_then(|entry| entry.value.clone());
        if value.as_deref().and_then(|v| v.parse::<u64>().ok()).is_some_and(|ms| ms > 60_000) {
            let problem = format!("transaction.max.timeout.ms is {}", value.unwrap_or_default());
            let remedy = "set it to 60000 or less: a pipeline's hanging transaction stalls everybody who reads its partition for so long";
            report(&format!("broker {broker}"), problem, remedy);
        }
    }
    Ok(found)
}

fn check_settings(topic: Topic, name: &str, resource: &ConfigResource, report: &mut impl FnMut(&str, String, &str)) {
    let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    for (key, wanted) in settings(topic) {
        let found = value(key);
        let enough = match *key {
            "retention.ms" if *wanted != "-1" => found == "-1" || found.parse::<i64>().is_ok_and(|ms| ms >= wanted.parse().unwrap_or(0)),
            "delete.retention.ms" => true,
            _ => found == *wanted,
        };
        if !enough {
            report(
                name,
                format!("{key} is {found}, not {wanted}"),
                &format!("kafka-configs --alter --topic {name} --add-config {key}={wanted}"),
            );
        }
    }
    if value("unclean.leader.election.enable") == "true" {
        let remedy = "set it to false: an unclean leader forgets events that were promised";
        report(name, "unclean.leader.election.enable is true".into(), remedy);
    }
    if value("min.insync.replicas") == "1" {
        let problem = "min.insync.replicas is 1: an acknowledged event may be on one disk only";
        report(name, problem.into(), &format!("kafka-configs --alter --topic {name} --add-config min.insync.replicas=2"));
    }
}

/// By topic: the fewest replicas that a partition of it has.
fn replicas(connection: &Connection) -> Result<BTreeMap<String, usize>, KafkaError> {
    let metadata = connection.reader("metadata", false)?.fetch_metadata(None, ASK_MAX)?;
    let fewest = |topic: &rdkafka::metadata::MetadataTopic| topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
    Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), fewest(topic))).collect())
}

async fn broker_configs(connection: &Connection) -> Result<Vec<(i32, ConfigResource)>, TopicsError> {
    let brokers: Vec<i32> = {
        let metadata = connection.reader("metadata", false)?.fetch_metadata(None, ASK_MAX)?;
        metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect()
    };
    let admin = connection.admin()?;
    let mut found = Vec::new();
    for broker in brokers {
        for resource in admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &AdminOptions::new()).await?.into_iter().flatten() {
            found.push((broker, resource));
        }
    }
    Ok(found)
}
