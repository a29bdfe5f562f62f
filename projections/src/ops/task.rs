//! A task: what is to be done for one event by one rule, and what became of it.

use annals_events::time::Timestamp;

use crate::database::Row;

/// Where an event is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// Its offset in the partition's log.
    pub offset: u64,
    /// Its seq.
    pub seq: u64,
}

/// How a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It waits for its turn, for its time, or for another try.
    Pending,
    /// It is under way, and is looked at again at its time.
    Running,
    /// It was done.
    Done,
    /// It failed for good and waits for a person; its lane goes on.
    Parked,
    /// It was not wanted.
    Skipped,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Done, Self::Parked, Self::Skipped];

    /// Its name, as it is stored and told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Parked => "parked",
            Self::Skipped => "skipped",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether something is still to be done: its lane waits for it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// What is to be done for one event by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Grows with the order in which tasks came.
    pub id: u64,
    /// `trigger/<workspace>/<name>` or `subscription/<workspace>/<name>`.
    pub rule: String,
    /// Order is kept within rule and lane.
    pub lane: String,
    /// The event.
    pub event: Place,
    /// Its id.
    pub event_id: String,
    /// Its source.
    pub event_source: String,
    /// Its type, as the dispatcher wrote it.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// How the task is.
    pub state: TaskState,
    /// Tries that failed.
    pub attempts: u32,
    /// When it is next looked at, if it is open.
    pub next_at: Timestamp,
    /// What was last said of it.
    pub note: Option<String>,
    /// What its actor remembers, as JSON.
    pub progress: Option<String>,
    /// What came of it.
    pub outcome: Option<String>,
    /// When it was last written.
    pub updated: Timestamp,
    /// Grows with each write: whoever settles must know the last one.
    pub turn: u64,
}

/// All columns of a task but `head`, in any statement that reads one.
pub(super) const COLUMNS: &str = r#"id, rule, lane, partition, "offset", seq, event_id, event_source, kind, key, recorded, state, attempts,
    next_at, note, progress, outcome, updated, turn"#;
/// Tasks that are open. Word for word the condition of the partial index.
pub(super) const OPEN: &str = "state IN ('pending', 'running')";

impl Task {
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        let unreadable = |what: &str| sqlx::Error::Decode(format!("`{what}` does not hold what this build writes").into());
        Ok(Self {
            id: row.count("id")?,
            rule: row.text("rule")?,
            lane: row.text("lane")?,
            event: Place { partition: row.partition()?, offset: row.count("offset")?, seq: row.count("seq")? },
            event_id: row.text("event_id")?,
            event_source: row.text("event_source")?,
            kind: row.text("kind")?,
            key: row.text("key")?,
            recorded: Timestamp(row.number("recorded")?),
            state: TaskState::parse(&row.text("state")?).ok_or_else(|| unreadable("state"))?,
            attempts: u32::try_from(row.number("attempts")?).map_err(|_| unreadable("attempts"))?,
            next_at: Timestamp(row.number("next_at")?),
            note: row.maybe_text("note")?,
            progress: row.maybe_text("progress")?,
            outcome: row.maybe_text("outcome")?,
            updated: Timestamp(row.number("updated")?),
            turn: row.count("turn")?,
        })
    }

    pub(super) fn read_all(rows: &[Row]) -> Result<Vec<Self>, sqlx::Error> {
        rows.iter().map(Self::read).collect()
    }
}
