//! The flags of everything that talks to Kafka, and of the roles of an instance.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};

/// How to reach the journal on Kafka.
#[derive(Clone, Debug, Args)]
#[group(id = "on_kafka")]
pub struct Kafka {
    /// Brokers to begin with, HOST:PORT and more behind commas
    #[arg(id = "kafka", long = "kafka", env = "ANNALS_KAFKA", value_name = "BOOTSTRAP", default_value = "", hide_default_value = true)]
    pub bootstrap: String,
    /// What the topics' names begin with: PREFIX.proposals, PREFIX.journal and so on
    #[arg(long = "kafka-prefix", env = "ANNALS_KAFKA_PREFIX", default_value = "annals", value_name = "PREFIX", requires = "kafka")]
    pub prefix: String,
    /// File of librdkafka settings, a line for each KEY=VALUE: security.protocol, sasl.*, ssl.* and what else it knows
    #[arg(long = "kafka-properties", env = "ANNALS_KAFKA_PROPERTIES", value_name = "FILE", requires = "kafka")]
    pub properties: Option<PathBuf>,
    /// Confluent-compatible schema registry, such as http://127.0.0.1:8081
    #[arg(long, env = "ANNALS_SCHEMA_REGISTRY_URL", hide_env_values = true, value_name = "URL", requires = "kafka")]
    pub schema_registry: Option<String>,
    /// Switch of the fault tests: take every partition without asking the group, so that arbiters fence one another
    #[arg(long, env = "ANNALS_OWN_EVERY_PARTITION", hide = true, requires = "kafka", value_parser = FalseyValueParser::new())]
    pub own_every_partition: bool,
}

impl Kafka {
    /// Where the events' schemas are to be registered, if anywhere.
    #[must_use]
    pub fn schemas_url(&self) -> Option<&str> {
        self.schema_registry.as_deref()
    }
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
    /// Does what triggers and webhooks say
    Actor,
}

impl Role {
    /// Every role: what an instance does unless told otherwise.
    pub const ALL: [Self; 5] = [Self::Door, Self::Arbiter, Self::Projector, Self::Publisher, Self::Actor];
}

/// The topics on Kafka.
#[derive(Clone, Debug, Subcommand)]
pub enum Topics {
    /// Make those that are missing, and open the journal in them
    Create(Create),
    /// Say what is wrong with them, and with the brokers
    Check(Check),
    /// Delete them all, and with them the history
    Delete(Delete),
}

/// New topics.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Where.
    #[command(flatten)]
    pub kafka: Kafka,
    /// Partitions of the journal; never changed after
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub partitions: u32,
    /// Replicas of each partition
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub replication_factor: u32,
    /// Replicas that must have a message before it counts
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub min_insync_replicas: u32,
    /// Leave them empty, for `annals import`
    #[arg(long)]
    pub for_import: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Existing topics.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Where.
    #[command(flatten)]
    pub kafka: Kafka,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Topics that nobody needs any more.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Where.
    #[command(flatten)]
    pub kafka: Kafka,
    /// Really
    #[arg(long, required = true)]
    pub yes: bool,
}

impl Kafka {
    /// Brokers must be named.
    ///
    /// # Errors
    /// What to say.
    pub fn check(&self) -> Result<(), String> {
        if self.bootstrap.is_empty() { Err("say where Kafka is: --kafka HOST:PORT, or ANNALS_KAFKA".into()) } else { Ok(()) }
    }
}

impl Create {
    /// What cannot be meant.
    ///
    /// # Errors
    /// What to say instead.
    pub fn check(&self) -> Result<(), String> {
        self.kafka.check()?;
        if self.min_insync_replicas > self.replication_factor {
            return Err(format!(
                "--min-insync-replicas {} can never be reached with --replication-factor {}; for a single broker say 1 for both",
                self.min_insync_replicas, self.replication_factor
            ));
        }
        Ok(())
    }
}
