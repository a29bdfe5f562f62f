//! What the dispatcher writes: tasks, rules and its positions, in one transaction.

use std::collections::BTreeSet;

use annals_events::time::Timestamp;

use super::settle::hasten;
use super::task::{OPEN, Place, TaskState};
use super::{Ops, WORLD, now};
use crate::database::{Connection, Row, Statement};
use crate::error::Error;
use crate::live::Failure;
use crate::position::Position;
use crate::store::{self, ROWS, values};
use crate::table::Cell;

/// What the dispatcher knows when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// How far it has come, in each partition that it has read.
    pub positions: Vec<Position>,
    /// The rules at these positions.
    pub rules: Vec<RuleRow>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// Something is done.
    Trigger,
    /// Somebody is told.
    Subscription,
}

impl RuleKind {
    /// Its name, as it is stored and as rules' names begin.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Subscription => "subscription",
        }
    }
}

/// A rule, as the last event about it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Its workspace.
    pub workspace: String,
    /// What it is about.
    pub kind: RuleKind,
    /// Its name, unique in workspace and kind.
    pub name: String,
    /// Its revision, from 1.
    pub revision: u64,
    /// `active`, `paused` or `removed`: tasks of active rules only are handed out, and the open tasks
    /// of one that was removed are skipped.
    pub state: String,
    /// What it says, as JSON.
    pub spec: String,
    /// When this revision was recorded.
    pub since: Timestamp,
}

impl RuleRow {
    /// What tasks call it.
    #[must_use]
    pub fn rule(&self) -> String {
        format!("{}/{}/{}", self.kind.as_str(), self.workspace, self.name)
    }

    fn read(row: &Row) -> Result<Self, sqlx::Error> {
        let kind = match row.text("kind")?.as_str() {
            "trigger" => RuleKind::Trigger,
            "subscription" => RuleKind::Subscription,
            other => return Err(sqlx::Error::Decode(format!("there is no kind of rule `{other}`").into())),
        };
        Ok(Self {
            workspace: row.text("workspace")?,
            kind,
            name: row.text("name")?,
            revision: row.count("revision")?,
            state: row.text("state")?,
            spec: row.text("spec")?,
            since: Timestamp(row.number("since")?),
        })
    }
}

/// A task that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// [`RuleRow::rule`].
    pub rule: String,
    /// Order is kept within rule and lane.
    pub lane: String,
    /// The event.
    pub event: Place,
    /// Its id.
    pub event_id: String,
    /// Its source.
    pub event_source: String,
    /// Its type.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// [`TaskState::Pending`], or [`TaskState::Skipped`] with the reason in `note`.
    pub state: TaskState,
    /// What is to be said of it.
    pub note: Option<String>,
}

/// Of an insert.
const COLUMNS: usize = 17;

impl NewTask {
    fn cells(&self, now: Timestamp) -> [Cell; COLUMNS] {
        [
            self.rule.as_str().into(),
            self.lane.as_str().into(),
            Cell::Int(self.event.partition.into()),
            Cell::count(self.event.offset),
            Cell::count(self.event.seq),
            self.event_id.as_str().into(),
            self.event_source.as_str().into(),
            self.kind.as_str().into(),
            self.key.as_str().into(),
            Cell::Int(self.recorded.0),
            self.state.as_str().into(),
            // the oldest first; a journal whose time is ahead of ours makes nobody wait
            Cell::Int(self.recorded.min(now).0),
            Cell::maybe(self.note.as_deref()),
            Cell::Int(now.0),
            Cell::Int(0),
            Cell::Int(0),
            Cell::Int(0),
        ]
    }
}

impl Ops {
    /// Where the dispatcher is to go on, and with which rules.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn dispatched(&self) -> Result<Dispatched, Error> {
        let mut reader = self.reader().await?;
        let read = async {
            let positions = store::positions(&mut *reader, WORLD).await?;
            let select = "SELECT workspace, kind, name, revision, state, spec, since FROM rules ORDER BY rule";
            let rules = reader.rows(Statement::new(select, [])).await?;
            Ok(Dispatched { positions, rules: rules.iter().map(RuleRow::read).collect::<Result<_, _>>()? })
        };
        read.await.map_err(|e| self.fault(e))
    }

    /// Stores what was made of some events, and how far the dispatcher has come with them. Rules
    /// replace older revisions, and what failed by the older one is due at once; a task of a rule for
    /// an event that has one already is ignored.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::OpsUnavailable`], [`Error::Damaged`]: nothing is stored then.
    pub async fn dispatch(&self, positions: &[Position], rules: &[RuleRow], tasks: &[NewTask]) -> Result<(), Error> {
        let dispatching = async {
            let mut writer = self.inner.database.writer(WORLD).await?;
            let mut transaction = writer.begin("").await?;
            self.fence(transaction.on()).await?;
            let now = now();
            for rule in rules {
                put_rule(transaction.on(), rule, now).await?;
            }
            insert(transaction.on(), tasks, now).await?;
            let lanes: BTreeSet<_> = tasks.iter().filter(|t| t.state.is_open()).map(|t| (t.rule.as_str(), t.lane.as_str())).collect();
            set_heads(transaction.on(), &lanes.into_iter().collect::<Vec<_>>()).await?;
            store::set_positions(transaction.on(), WORLD, positions.iter()).await?;
            transaction.commit().await?;
            Ok(())
        };
        self.working(WORLD, dispatching).await
    }
}

async fn put_rule(connection: &mut dyn Connection, rule: &RuleRow, now: Timestamp) -> Result<(), Failure> {
    let name = rule.rule();
    let put = "INSERT INTO rules (rule, workspace, kind, name, revision, state, spec, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (rule) DO UPDATE SET revision = excluded.revision, state = excluded.state, spec = excluded.spec,
            since = excluded.since
        WHERE excluded.revision >= rules.revision RETURNING rule";
    let cells = [
        name.as_str().into(),
        rule.workspace.as_str().into(),
        rule.kind.as_str().into(),
        rule.name.as_str().into(),
        Cell::count(rule.revision),
        rule.state.as_str().into(),
        rule.spec.as_str().into(),
        Cell::Int(rule.since.0),
    ];
    let is_newest = !connection.rows(Statement::new(put, cells)).await?.is_empty();
    // here and not in the door that changed it: whoever tries with the new rule must find it done
    if is_newest && rule.state == "active" {
        hasten(connection, &name, now).await?;
    }
    if rule.state == "removed" {
        let skip = format!(
            "UPDATE tasks SET state = 'skipped', note = 'the rule was removed', head = 0, turn = turn + 1, updated = ? \
             WHERE rule = ? AND {OPEN}"
        );
        connection.run(Statement::new(skip, [Cell::Int(now.0), name.as_str().into()])).await?;
    }
    Ok(())
}

async fn insert(connection: &mut dyn Connection, tasks: &[NewTask], now: Timestamp) -> Result<(), Failure> {
    let mut left = tasks;
    for rows in ROWS {
        while let Some((some, rest)) = left.split_at_checked(rows) {
            let sql = format!(
                r#"INSERT INTO tasks (rule, lane, partition, "offset", seq, event_id, event_source, kind, key, recorded, state, next_at,
                note, updated, attempts, turn, head) VALUES {} ON CONFLICT (rule, partition, seq) DO NOTHING"#,
                values(rows, COLUMNS)
            );
            let cells = some.iter().flat_map(|task| task.cells(now)).collect::<Vec<_>>();
            connection.run(Statement::new(sql, cells)).await?;
            left = rest;
        }
    }
    Ok(())
}

/// Makes the oldest open task of each of these lanes its head, if it is not already; no other task of
/// them may be one.
pub(super) async fn set_heads(connection: &mut dyn Connection, lanes: &[(&str, &str)]) -> Result<(), Failure> {
    let mut left = lanes;
    for rows in ROWS {
        while let Some((some, rest)) = left.split_at_checked(rows) {
            let sql = format!(
                "WITH wanted(rule, lane) AS (VALUES {}) UPDATE tasks SET head = 1 WHERE head = 0 AND id IN \
                 (SELECT (SELECT min(t.id) FROM tasks t WHERE t.rule = wanted.rule AND t.lane = wanted.lane AND t.{OPEN}) FROM wanted)",
                values(rows, 2)
            );
            let cells = some.iter().flat_map(|(rule, lane)| [Cell::from(*rule), Cell::from(*lane)]).collect::<Vec<_>>();
            connection.run(Statement::new(sql, cells)).await?;
            left = rest;
        }
    }
    Ok(())
}
