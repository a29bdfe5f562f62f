//! What the tests of the operational store share: stores, rules and tasks.

use annals_events::record::Hash;
use annals_events::time::Timestamp;
use annals_projections::ops::{NewTask, Place, RuleKind, RuleRow, Settled, Task, TaskState};
use annals_projections::{Error, Ops, Position};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::home::Home;

/// 2026-03-01T12:00:00Z.
pub const NOW: Timestamp = Timestamp(1_772_366_400_000);

pub fn later(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1000)
}

/// The store of the journal `journal-1`, without the lead.
pub async fn open(home: &Home) -> Ops {
    open_as(home, "journal-1").await.unwrap()
}

pub async fn open_as(home: &Home, journal: &str) -> Result<Ops, Error> {
    match home {
        Home::Directory(dir) => Ops::open(dir.path(), journal).await,
        Home::Database(database) => Ops::connect(&database.url(), journal).await,
    }
}

/// A store that this test leads, with these active rules.
pub async fn leading(home: &Home, rules: &[&str]) -> Ops {
    let ops = open(home).await;
    assert!(ops.lead().await.unwrap());
    let rules: Vec<_> = rules.iter().map(|name| rule(name, 1, "active")).collect();
    ops.dispatch(&[], &rules, &[]).await.unwrap();
    ops
}

/// Changes what is there behind the store's back.
pub async fn sql(home: &Home, statement: &str) {
    let statement = AssertSqlSafe(statement.to_owned());
    match home {
        Home::Directory(dir) => {
            let mut file = SqliteConnectOptions::new().filename(dir.path().join("ops.db")).create_if_missing(true).connect().await.unwrap();
            sqlx::raw_sql(statement).execute(&mut file).await.unwrap();
        }
        Home::Database(database) => {
            let mut connection = database.connect().await;
            sqlx::raw_sql("SET search_path TO annals_ops").execute(&mut connection).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        }
    }
}

pub fn rule(name: &str, revision: u64, state: &str) -> RuleRow {
    RuleRow {
        workspace: "default".into(),
        kind: RuleKind::Trigger,
        name: name.into(),
        revision,
        state: state.into(),
        spec: format!(r#"{{"trigger":"{name}"}}"#),
        since: NOW,
    }
}

pub fn task(rule: &str, lane: &str, seq: u64) -> NewTask {
    NewTask {
        rule: format!("trigger/default/{rule}"),
        lane: lane.into(),
        event: Place { partition: 3, offset: seq * 10, seq },
        event_id: format!("e{seq}"),
        event_source: "/tests".into(),
        kind: "version.promoted".into(),
        key: format!("default/{lane}"),
        recorded: Timestamp(NOW.0 + i64::try_from(seq).unwrap()),
        state: TaskState::Pending,
        note: None,
    }
}

pub fn position(seq: u64) -> Position {
    Position { partition: 3, seq, hash: Hash::of(&seq.to_be_bytes()), offset: seq * 10, recorded: NOW }
}

pub fn settled(task: &Task, state: TaskState, at: Timestamp) -> Settled {
    Settled { turn: task.turn, state, attempts: task.attempts, next_at: at, note: None, progress: None, outcome: None, at }
}

/// What is due, as `rule lane seq`.
pub fn told(tasks: &[Task]) -> Vec<String> {
    tasks.iter().map(|t| format!("{} {} {}", t.rule.rsplit('/').next().unwrap(), t.lane, t.event.seq)).collect()
}
