//! Which tasks are due, and what became of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use annals_events::time::Timestamp;

use super::dispatch::set_heads;
use super::task::{COLUMNS, OPEN, Task, TaskState};
use super::{DOOR, Ops, WORLD};
use crate::database::{Connection, Statement};
use crate::error::Error;
use crate::live::Failure;
use crate::store::values;
use crate::table::Cell;

/// Most tasks of one rule that are under way at once: one slow rule must not take all.
pub const RULE_TASKS_MAX: usize = 16;
/// Settled tasks that are kept of each rule and state.
const KEPT_MAX: i64 = 10_000;
/// How long settled tasks are kept, in milliseconds; parked ones wait longer for a person.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// Rules that one statement asks about.
const RULES_AT_ONCE: usize = 32;
/// After how many settled tasks their rule's old ones are removed.
const TRIM_EACH: u64 = 500;
/// Tasks that wait for another try: whose time, `?`, has not come.
const WAITING: &str = "state IN ('pending') AND next_at > ?";

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// [`Task::turn`] as it was last known.
    pub turn: u64,
    /// How it is now.
    pub state: TaskState,
    /// Tries that failed.
    pub attempts: u32,
    /// When it is to be looked at again, if it is open.
    pub next_at: Timestamp,
    /// What is to be said of it.
    pub note: Option<String>,
    /// What its actor remembers, as JSON.
    pub progress: Option<String>,
    /// What came of it.
    pub outcome: Option<String>,
    /// Now.
    pub at: Timestamp,
}

/// What is to be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// All that are parked.
    Parked,
    /// All that failed and wait for another try: now, not then.
    Waiting,
    /// All done and parked ones whose event was recorded at or after this.
    Since(Timestamp),
    /// One that is settled, whatever became of it.
    Task(u64),
}

impl Ops {
    /// Tasks that can be done now: of each rule and lane the oldest open one, if it is due, its rule is
    /// active and the lane is not `busy`. Rules of which less is under way go first, then what has
    /// waited longest; with the busy ones no rule has more than [`RULE_TASKS_MAX`].
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn due(&self, now: Timestamp, max: usize, busy: &[(String, String)]) -> Result<Vec<Task>, Error> {
        let mut under_way: HashMap<&str, usize> = HashMap::new();
        for (rule, _) in busy {
            *under_way.entry(rule).or_default() += 1;
        }
        let mut reader = self.reader().await?;
        let find = async {
            let rows = reader.rows(Statement::new("SELECT rule FROM rules WHERE state = 'active' ORDER BY rule", [])).await?;
            let rules = rows.iter().map(|row| row.text("rule")).collect::<Result<Vec<_>, _>>()?;
            let free: Vec<_> =
                rules.iter().filter(|rule| under_way.get(rule.as_str()).is_none_or(|count| *count < RULE_TASKS_MAX)).collect();
            // a busy lane's head may be due again: with as many more as a rule may have, enough are left
            let one = format!(
                "SELECT * FROM (SELECT {COLUMNS} FROM tasks WHERE rule = ? AND head = 1 AND next_at <= ? \
                 ORDER BY next_at, id LIMIT {}) AS t",
                2 * RULE_TASKS_MAX
            );
            let sql = vec![one.as_str(); RULES_AT_ONCE].join(" UNION ALL ");
            let mut found = Vec::new();
            for some in free.chunks(RULES_AT_ONCE) {
                // one shape of statement: rules that there are not fill it up
                let names = some.iter().map(|rule| rule.as_str()).chain(std::iter::repeat("")).take(RULES_AT_ONCE);
                let cells = names.flat_map(|rule| [rule.into(), Cell::Int(now.0)]).collect::<Vec<_>>();
                found.extend(Task::read_all(&reader.rows(Statement::new(sql.as_str(), cells)).await?)?);
            }
            Ok(found)
        };
        let found: Vec<Task> = find.await.map_err(|e| self.fault(e))?;
        let mut ranked = Vec::new();
        for task in found {
            if !busy.iter().any(|(rule, lane)| *rule == task.rule && *lane == task.lane) {
                ranked.push(task);
            }
        }
        ranked.sort_by_key(|task| (task.next_at, task.id));
        let mut places: HashMap<String, usize> = under_way.into_iter().map(|(rule, count)| (rule.to_owned(), count)).collect();
        let mut ranked: Vec<(usize, Task)> = ranked
            .into_iter()
            .map(|task| {
                let place = places.entry(task.rule.clone()).or_default();
                *place += 1;
                (*place, task)
            })
            .collect();
        ranked.retain(|(place, _)| *place <= RULE_TASKS_MAX);
        ranked.sort_by_key(|(place, task)| (*place, task.next_at, task.id));
        Ok(ranked.into_iter().take(max).map(|(_, task)| task).collect())
    }

    /// When a task becomes due that is not yet at this time, if its rule is active.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn next_due(&self, after: Timestamp) -> Result<Option<Timestamp>, Error> {
        let mut reader = self.reader().await?;
        let select = "SELECT min(next) AS next FROM (SELECT (SELECT min(next_at) FROM tasks
                WHERE tasks.rule = rules.rule AND head = 1 AND next_at > ?) AS next
            FROM rules WHERE state = 'active') AS nexts";
        let rows = reader.rows(Statement::new(select, [Cell::Int(after.0)])).await.map_err(|e| self.fault(e))?;
        let next = rows.first().map(|row| row.maybe_number("next")).transpose().map_err(|e| self.fault(e))?;
        Ok(next.flatten().map(Timestamp))
    }

    /// Tasks of these rules and lanes that are under way and wait for their next look, of active rules.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn under_way(&self, lanes: &[(String, String)]) -> Result<Vec<Task>, Error> {
        let mut reader = self.reader().await?;
        let find = async {
            let mut found = Vec::new();
            for some in lanes.chunks(RULE_TASKS_MAX) {
                // one shape of statement: the last one is asked for again to fill it up
                let filled = some.iter().chain(some.last().into_iter().cycle()).take(RULE_TASKS_MAX);
                let sql = format!(
                    "SELECT {COLUMNS} FROM tasks WHERE head = 1 AND state = 'running' AND (rule, lane) IN (VALUES {}) \
                     AND rule IN (SELECT rule FROM rules WHERE state = 'active') ORDER BY id",
                    values(RULE_TASKS_MAX, 2)
                );
                let cells = filled.flat_map(|(rule, lane)| [Cell::from(rule.as_str()), Cell::from(lane.as_str())]).collect::<Vec<_>>();
                found.extend(Task::read_all(&reader.rows(Statement::new(sql, cells)).await?)?);
            }
            Ok(found)
        };
        find.await.map_err(|e| self.fault(e))
    }

    /// Writes down what became of a task, and lets its lane go on if it is settled. Returns its turn from now on.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another engine acts by now, [`Error::TaskChanged`] if the task was
    /// replayed, skipped or settled meanwhile, [`Error::OpsUnavailable`], [`Error::Damaged`]; nothing
    /// is written then.
    pub async fn settle(&self, id: u64, settled: Settled) -> Result<u64, Error> {
        self.settle_all(&[(id, settled)]).await?.pop().flatten().ok_or(Error::TaskChanged(id))
    }

    /// The same of many tasks in one transaction; of one that was changed meanwhile there is no turn, and the others are
    /// written down all the same.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::OpsUnavailable`], [`Error::Damaged`]; nothing is written then.
    pub async fn settle_all(&self, settled: &[(u64, Settled)]) -> Result<Vec<Option<u64>>, Error> {
        let settling = async {
            let mut writer = self.inner.database.writer(WORLD).await?;
            let mut transaction = writer.begin("").await?;
            self.fence(transaction.on()).await?;
            let (mut turns, mut freed, mut trimmed) = (Vec::with_capacity(settled.len()), BTreeSet::new(), BTreeMap::new());
            for (id, settled) in settled {
                let found = settle_one(transaction.on(), *id, settled).await?;
                turns.push(found.as_ref().map(|(.., turn)| *turn));
                let Some((rule, lane, _)) = found.filter(|_| !settled.state.is_open()) else { continue };
                if self.inner.settled.fetch_add(1, Ordering::Relaxed) % TRIM_EACH == TRIM_EACH - 1 {
                    trimmed.insert(rule.clone(), settled.at);
                }
                freed.insert((rule, lane));
            }
            let freed: Vec<_> = freed.iter().map(|(rule, lane)| (rule.as_str(), lane.as_str())).collect();
            set_heads(transaction.on(), &freed).await?;
            for (rule, at) in trimmed {
                trim_rule(transaction.on(), &rule, at).await?;
            }
            transaction.commit().await?;
            Ok(turns)
        };
        self.working(WORLD, settling).await
    }

    /// Makes settled tasks of a rule pending again, or those that wait for a later try due, from the first
    /// try on, and returns how many. Within a lane they go before what is newer.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn replay(&self, rule: &str, which: Replay, now: Timestamp) -> Result<u64, Error> {
        let replaying = async {
            let mut writer = self.inner.database.writer(DOOR).await?;
            let mut transaction = writer.begin("").await?;
            Self::stand_still(transaction.on()).await?;
            let (such, value) = match which {
                Replay::Parked => ("state IN ('parked') AND 0 = ?", Cell::Int(0)),
                Replay::Waiting => (WAITING, Cell::Int(now.0)),
                Replay::Since(time) => ("state IN ('done', 'parked') AND recorded >= ?", Cell::Int(time.0)),
                Replay::Task(id) => ("state IN ('done', 'parked', 'skipped') AND id = ?", Cell::count(id)),
            };
            let replayed = begin_again(transaction.on(), rule, such, value, now).await?;
            if replayed > 0 {
                // older tasks than the heads of now may be open again
                let none = Statement::new("UPDATE tasks SET head = 0 WHERE rule = ? AND head = 1", [rule.into()]);
                transaction.on().run(none).await?;
                let heads =
                    format!("UPDATE tasks SET head = 1 WHERE id IN (SELECT min(id) FROM tasks WHERE rule = ? AND {OPEN} GROUP BY lane)");
                transaction.on().run(Statement::new(heads, [rule.into()])).await?;
            }
            transaction.commit().await?;
            Ok(replayed)
        };
        self.working(DOOR, replaying).await
    }

    /// Removes settled tasks: of each rule and state all but the newest 10,000, and those that were done
    /// or skipped more than 30 days ago. It happens by itself; this does it now.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn trim(&self, now: Timestamp) -> Result<(), Error> {
        let trimming = async {
            let mut writer = self.inner.database.writer(WORLD).await?;
            let rows = writer.rows(Statement::new("SELECT rule FROM rules ORDER BY rule", [])).await?;
            for row in rows {
                let mut transaction = writer.begin("").await?;
                Self::stand_still(transaction.on()).await?;
                trim_rule(transaction.on(), &row.text("rule")?, now).await?;
                transaction.commit().await?;
            }
            Ok(())
        };
        self.working(WORLD, trimming).await
    }
}

/// Makes what failed and waits for another try due at once, from the first try on. What is under way is left to end: of what
/// is due already the tries are forgotten, and its turn stays.
pub(super) async fn hasten(connection: &mut dyn Connection, rule: &str, now: Timestamp) -> Result<(), Failure> {
    begin_again(connection, rule, WAITING, Cell::Int(now.0), now).await?;
    let due = "UPDATE tasks SET attempts = 0, note = NULL WHERE rule = ? AND state = 'pending' AND attempts > 0";
    connection.run(Statement::new(due, [rule.into()])).await?;
    Ok(())
}

/// Returns how many tasks are pending again, as if they were new. `such` has one `?`, which is `value`.
async fn begin_again(connection: &mut dyn Connection, rule: &str, such: &str, value: Cell, now: Timestamp) -> Result<u64, Failure> {
    let again = format!(
        "UPDATE tasks SET state = 'pending', attempts = 0, next_at = ?, note = NULL, progress = NULL, outcome = NULL, updated = ?, \
         turn = turn + 1 WHERE rule = ? AND {such} RETURNING id"
    );
    let again = Statement::new(again, [Cell::Int(now.0), Cell::Int(now.0), rule.into(), value]);
    Ok(connection.rows(again).await?.len() as u64)
}

/// Rule, lane and new turn of the task, unless it was changed meanwhile.
async fn settle_one(connection: &mut dyn Connection, id: u64, settled: &Settled) -> Result<Option<(String, String, u64)>, Failure> {
    let update = "UPDATE tasks SET state = ?, attempts = ?, next_at = ?, note = ?, progress = ?, outcome = ?, updated = ?,
            turn = turn + 1, head = head * ?
        WHERE id = ? AND turn = ? RETURNING rule, lane, turn";
    let cells = [
        settled.state.as_str().into(),
        Cell::Int(settled.attempts.into()),
        Cell::Int(settled.next_at.0),
        Cell::maybe(settled.note.as_deref()),
        Cell::maybe(settled.progress.as_deref()),
        Cell::maybe(settled.outcome.as_deref()),
        Cell::Int(settled.at.0),
        Cell::Int(settled.state.is_open().into()),
        Cell::count(id),
        Cell::count(settled.turn),
    ];
    let rows = connection.rows(Statement::new(update, cells)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((row.text("rule")?, row.text("lane")?, row.count("turn")?)))
}

async fn trim_rule(connection: &mut dyn Connection, rule: &str, now: Timestamp) -> Result<(), Failure> {
    // what is parked waits for a person, however much it is
    for state in [TaskState::Done, TaskState::Skipped] {
        let (rule, state): (Cell, Cell) = (rule.into(), state.as_str().into());
        let many = format!(
            "DELETE FROM tasks WHERE rule = ? AND state = ? AND id <= \
             (SELECT id FROM tasks WHERE rule = ? AND state = ? ORDER BY id DESC LIMIT 1 OFFSET {KEPT_MAX})"
        );
        connection.run(Statement::new(many, [rule.clone(), state.clone(), rule.clone(), state.clone()])).await?;
        let old = "DELETE FROM tasks WHERE rule = ? AND state = ? AND updated < ?";
        connection.run(Statement::new(old, [rule, state, Cell::Int(now.0 - KEPT_MS)])).await?;
    }
    Ok(())
}
