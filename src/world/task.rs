//! A stand-in for the operational store's task, until that has landed.

use annals_events::time::Timestamp;

/// A task of the operational store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: i64,
    /// `trigger/<workspace>/<name>` or `subscription/<workspace>/<name>`.
    pub rule: String,
    /// Order is kept within (rule, lane).
    pub lane: String,
    /// The event's partition.
    pub partition: u32,
    /// The event's offset.
    pub offset: u64,
    /// The event's seq.
    pub seq: u64,
    /// Its id.
    pub event_id: String,
    /// How often it failed.
    pub attempts: u32,
    /// Due from then on.
    pub next_at: Timestamp,
    /// What the actor said last.
    pub progress: Option<String>,
}
