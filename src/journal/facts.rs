//! What only the journal knows of itself, for people who watch it: nothing is ever decided from this.

use std::time::Duration;

/// A journal that lies on servers, as it was when they were last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the logs' names on the servers begin with.
    pub prefix: String,
    /// How long ago the servers last answered.
    pub silent: Duration,
    /// Why they do not, if the last question failed.
    pub trouble: Option<String>,
    /// Instances that share out the partitions among them; `None` if nobody may ask.
    pub arbiters: Option<u64>,
    /// By how many milliseconds the servers' clock is ahead of this machine's; behind, if negative.
    /// A message's way is in it, so only what is more than a second means something.
    pub clock_ahead_ms: Option<i64>,
    /// The schema registry, if one is configured.
    pub registry: Option<Registry>,
    /// By partition, in their order.
    pub partitions: Vec<Partition>,
}

/// How it stands with the schema registry; nothing waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// `registering`, `registered`, `away` or `refused`.
    pub state: &'static str,
    /// In words.
    pub detail: String,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Proposals that have no verdict.
    pub waiting: u64,
    /// For how long some have been waiting while none was judged.
    pub stalled: Duration,
    /// Its logs.
    pub logs: Vec<Log>,
}

/// One log of a partition: how far its end is ahead of what can be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `proposals`, `journal` or `verdicts`.
    pub name: &'static str,
    /// Messages behind the last stable one: those of transactions that are open, and what came after.
    pub unstable: u64,
    /// For how long there have been some while the last stable one stayed the same.
    pub stuck: Duration,
}
