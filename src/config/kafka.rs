//! The flags of everything that talks to Kafka, and of the roles of an instance.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How to reach the journal on Kafka.
#[derive(Clone, Debug, Args)]
#[group(id = "on_kafka")]
pub struct Kafka {
    /// Brokers to begin with, HOST:PORT and more behind commas
    #[arg(id = "kafka", long = "kafka", env = "ANNALS_KAFKA", value_name = "BOOTSTRAP", required = false)]
    pub bootstrap: String,
    /// What the topics' names begin with: PREFIX.proposals, PREFIX.journal and so on
    #[arg(long = "kafka-prefix", env = "ANNALS_KAFKA_PREFIX", default_value = "annals", value_name = "PREFIX", requires = "kafka")]
    pub prefix: String,
    /// File of librdkafka settings, a line for each KEY=VALUE: security.protocol, sasl.*, ssl.* and what else it knows
    #[arg(long = "kafka-properties", env = "ANNALS_KAFKA_PROPERTIES", value_name = "FILE", requires = "kafka")]
    pub properties: Option<PathBuf>,
    /// Confluent-compatible schema registry, such as http://127.0.0.1:8081
    #[arg(long, env = "ANNALS_SCHEMA_REGISTRY_URL", value_name = "URL", requires = "kafka")]
    pub schema_registry: Option<String>,
}

/// A part of the engine that an instance may run without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Takes proposals and answers questions over HTTP
    Door,
    /// Judges proposals, in the partitions that the group gives it
    Arbiter,
    /// Keeps the views up to date
    Projector,
    /// Writes the derived topics
    Publisher,
}

impl Role {
    /// Every role: what an instance does unless told otherwise.
    pub const ALL: [Self; 4] = [Self::Door, Self::Arbiter, Self::Projector, Self::Publisher];
}
