//! What people ask about tasks: which there are, and how many.

use annals_events::time::Timestamp;

use super::Ops;
use super::task::{COLUMNS, Task, TaskState};
use crate::database::Statement;
use crate::error::Error;
use crate::page::{Listing, Page};
use crate::table::Cell;

/// Which tasks are wanted; what is not given matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Of this rule.
    pub rule: Option<String>,
    /// In this state.
    pub state: Option<TaskState>,
    /// About this key.
    pub key: Option<String>,
}

/// How a rule's tasks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The rule.
    pub rule: String,
    /// Tasks that wait.
    pub pending: u64,
    /// Tasks that are under way.
    pub running: u64,
    /// Tasks that wait for a person.
    pub parked: u64,
    /// When the event of the oldest task that waits was recorded.
    pub oldest_pending: Option<Timestamp>,
}

/// What failed of a rule, and is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The rule.
    pub rule: String,
    /// So many lanes stand at a task that failed.
    pub tasks: u64,
    /// What was said of the one that failed last.
    pub note: Option<String>,
}

impl Ops {
    /// Tasks, the newest first.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn tasks(&self, filter: &TaskFilter, page: &Page) -> Result<Listing<Task>, Error> {
        let before = page.after_number()?.unwrap_or(i64::MAX);
        // a rule's tasks are found by their state: one list each, of which the newest are taken
        let states: Vec<Option<TaskState>> = match filter.state {
            None if filter.rule.is_some() && filter.key.is_none() => TaskState::ALL.map(Some).into(),
            state => vec![state],
        };
        let (mut selects, mut cells) = (Vec::new(), Vec::new());
        for state in states {
            let mut such = String::from("id < ?");
            cells.push(Cell::Int(before));
            for (column, value) in
                [("rule", filter.rule.as_deref()), ("state", state.map(TaskState::as_str)), ("key", filter.key.as_deref())]
            {
                if let Some(value) = value {
                    such.push_str(&format!(" AND {column} = ?"));
                    cells.push(value.into());
                }
            }
            selects.push(format!("SELECT * FROM (SELECT {COLUMNS} FROM tasks WHERE {such} ORDER BY id DESC LIMIT {}) AS t", page.fetch()));
        }
        let sql = format!("SELECT * FROM ({}) AS all_tasks ORDER BY id DESC LIMIT {}", selects.join(" UNION ALL "), page.fetch());
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, cells).kept(false)).await.map_err(|e| self.fault(e))?;
        let tasks = Task::read_all(&rows).map_err(|e| self.fault(e))?;
        Ok(Listing::cut(tasks, page, |task| task.id.to_string()))
    }

    /// One task.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn task(&self, id: u64) -> Result<Option<Task>, Error> {
        let mut reader = self.reader().await?;
        let select = Statement::new(format!("SELECT {COLUMNS} FROM tasks WHERE id = ?"), [Cell::count(id)]);
        let rows = reader.rows(select).await.map_err(|e| self.fault(e))?;
        rows.first().map(Task::read).transpose().map_err(|e| self.fault(e))
    }

    /// How the tasks of every rule are, in the order of the rules' names.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn counts(&self) -> Result<Vec<Counts>, Error> {
        let count = |state: &str| format!("(SELECT count(*) FROM tasks t WHERE t.rule = rules.rule AND t.state = '{state}') AS {state}");
        let oldest = "(SELECT t.recorded FROM tasks t WHERE t.rule = rules.rule AND t.state = 'pending' ORDER BY t.id LIMIT 1) AS oldest";
        let sql =
            format!("SELECT rule, {}, {}, {}, {oldest} FROM rules ORDER BY rule", count("pending"), count("running"), count("parked"));
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, [])).await.map_err(|e| self.fault(e))?;
        let read = rows.iter().map(|row| {
            Ok(Counts {
                rule: row.text("rule")?,
                pending: row.count("pending")?,
                running: row.count("running")?,
                parked: row.count("parked")?,
                oldest_pending: row.maybe_number("oldest")?.map(Timestamp),
            })
        });
        read.collect::<Result<_, _>>().map_err(|e| self.fault(e))
    }

    /// The rules of which tasks failed that are to be tried again, in the order of their names.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn failing(&self) -> Result<Vec<Failing>, Error> {
        // only a lane's head is ever tried
        let sql = "SELECT rule, tasks, note FROM (
                SELECT rule, note, count(*) OVER (PARTITION BY rule) AS tasks,
                    row_number() OVER (PARTITION BY rule ORDER BY updated DESC, id DESC) AS place
                FROM tasks WHERE head = 1 AND state = 'pending' AND attempts > 0) AS failing
            WHERE place = 1 ORDER BY rule";
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, [])).await.map_err(|e| self.fault(e))?;
        let read =
            rows.iter().map(|row| Ok(Failing { rule: row.text("rule")?, tasks: row.count("tasks")?, note: row.maybe_text("note")? }));
        read.collect::<Result<_, _>>().map_err(|e| self.fault(e))
    }
}
