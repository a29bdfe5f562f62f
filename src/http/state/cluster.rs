//! The journal's servers, as `GET /v1/partitions` tells of them.

use serde::Serialize;

use crate::journal::facts;

/// The cluster that the journal lies on, as it was when it last answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Cluster {
    /// What the logs' names on it begin with.
    pub prefix: String,
    /// Seconds since it last answered.
    pub silent_s: f64,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Instances that share out the partitions; absent if that cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arbiters: Option<u64>,
    /// By how many milliseconds its clock is ahead of this machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// The schema registry, if one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<SchemaRegistry>,
}

/// How it stands with the schema registry.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SchemaRegistry {
    /// `registering`, `registered`, `away` or `refused`.
    pub state: &'static str,
    /// In words.
    pub detail: String,
}

/// What the cluster says of a partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Remote {
    /// Proposals that have no verdict.
    pub waiting: u64,
    /// For how many seconds some have been waiting while none was judged.
    pub stalled_s: f64,
    /// Its logs that are ahead of what can be read of them: a transaction is open.
    pub unstable: Vec<Unstable>,
}

/// A log whose end cannot be read yet.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Unstable {
    /// `proposals`, `journal` or `verdicts`.
    pub log: &'static str,
    /// Messages that cannot be read.
    pub lag: u64,
    /// For how many seconds that has not moved.
    pub stuck_s: f64,
}

impl From<&facts::Facts> for Cluster {
    fn from(facts: &facts::Facts) -> Self {
        let registry = |registry: &facts::Registry| SchemaRegistry { state: registry.state, detail: registry.detail.clone() };
        Self {
            prefix: facts.prefix.clone(),
            silent_s: facts.silent.as_secs_f64(),
            trouble: facts.trouble.clone(),
            arbiters: facts.arbiters,
            clock_ahead_ms: facts.clock_ahead_ms,
            registry: facts.registry.as_ref().map(registry),
        }
    }
}

impl From<&facts::Partition> for Remote {
    fn from(partition: &facts::Partition) -> Self {
        let unstable = partition.logs.iter().filter(|log| log.unstable > 0);
        let unstable = unstable.map(|log| Unstable { log: log.name, lag: log.unstable, stuck_s: log.stuck.as_secs_f64() });
        Self { waiting: partition.waiting, stalled_s: partition.stalled.as_secs_f64(), unstable: unstable.collect() }
    }
}
