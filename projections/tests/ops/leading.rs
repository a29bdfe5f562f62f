//! One engine acts at a time: what an earlier leader still wants to write is refused.

use std::time::{Duration, Instant};

use annals_projections::Error;
use annals_projections::ops::{Replay, TaskState};

use crate::home::{Base, on_both};
use crate::store::{later, leading, open, position, rule, settled, sql, task, told};

const PATIENCE: Duration = Duration::from_secs(120);

on_both! {
    nothing_is_written_without_the_lead
    the_lead_may_be_a_task_of_its_own
    what_an_earlier_leader_writes_is_refused
    a_task_that_was_settled_meanwhile_is_not_settled_again
    a_replay_and_the_leader_go_on_beside_each_other
}

async fn nothing_is_written_without_the_lead(base: Base) {
    let home = base.home().await;
    let ops = open(&home).await;
    let error = ops.dispatch(&[position(1)], &[rule("a", 1, "active")], &[]).await.unwrap_err();
    assert!(matches!(error, Error::Fenced), "{error}");
    assert!(ops.dispatched().await.unwrap().positions.is_empty());
    assert!(ops.lead().await.unwrap() && ops.lead().await.unwrap());
    ops.dispatch(&[position(1)], &[rule("a", 1, "active")], &[]).await.unwrap();
}

/// A task of a runtime can do all that the leader does.
async fn the_lead_may_be_a_task_of_its_own(base: Base) {
    let home = base.home().await;
    let ops = open(&home).await;
    let leader = ops.clone();
    let acting = tokio::spawn(async move {
        assert!(leader.lead().await.unwrap());
        leader.dispatch(&[], &[rule("a", 1, "active")], &[task("a", "iris", 1)]).await.unwrap();
        let due = leader.due(later(60), 9, &[]).await.unwrap();
        leader.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
        leader.replay(&due[0].rule, Replay::Since(later(0)), later(60)).await.unwrap()
    });
    assert_eq!(acting.await.unwrap(), 1);
    assert_eq!(ops.counts().await.unwrap()[0].pending, 1);
}

async fn what_an_earlier_leader_writes_is_refused(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[position(1)], &[], &[task("a", "iris", 1)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    sql(&home, "UPDATE lines SET epoch = epoch + 1 WHERE line = 'world'").await; // another one has become the leader
    let done = settled(&due[0], TaskState::Done, later(60));
    assert!(matches!(ops.settle(due[0].id, done.clone()).await, Err(Error::Fenced)));
    assert!(matches!(ops.dispatch(&[position(2)], &[], &[]).await, Err(Error::Fenced)));
    assert_eq!(ops.dispatched().await.unwrap().positions, [position(1)]);
    assert_eq!(ops.task(due[0].id).await.unwrap().unwrap(), due[0]);
    // and it may become it again
    assert!(ops.lead().await.unwrap());
    ops.settle(due[0].id, done).await.unwrap();
}

async fn a_task_that_was_settled_meanwhile_is_not_settled_again(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "iris", 2)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
    let error = ops.settle(due[0].id, settled(&due[0], TaskState::Parked, later(61))).await.unwrap_err();
    assert!(matches!(error, Error::TaskChanged(_)), "{error}");
    assert_eq!(ops.task(due[0].id).await.unwrap().unwrap().state, TaskState::Done);
    assert!(matches!(ops.settle(999, settled(&due[0], TaskState::Done, later(61))).await, Err(Error::TaskChanged(999))));
    assert_eq!(told(&ops.due(later(60), 9, &[]).await.unwrap()), ["a iris 2"]);
}

async fn a_replay_and_the_leader_go_on_beside_each_other(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    let other = if base == Base::Postgres { Some(open(&home).await) } else { None };
    let other = other.as_ref().unwrap_or(&ops);
    let tasks: Vec<_> = (0..60).map(|seq| task("a", &format!("m{}", seq % 4), seq)).collect();
    ops.dispatch(&[], &[], &tasks).await.unwrap();
    let act = async {
        let mut parked = 0;
        loop {
            let due = ops.due(later(60), 9, &[]).await.unwrap();
            let Some(t) = due.first() else { return };
            let state = if parked < 40 && t.event.seq % 2 == 0 { TaskState::Parked } else { TaskState::Done };
            parked += u32::from(state == TaskState::Parked);
            match ops.settle(t.id, settled(t, state, later(60))).await {
                Ok(_) | Err(Error::TaskChanged(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    };
    let replay = async {
        for _ in 0..20 {
            other.replay("trigger/default/a", Replay::Parked, later(60)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(act, replay);
    // a last round: whatever was parked behind the last replay
    ops.replay("trigger/default/a", Replay::Parked, later(60)).await.unwrap();
    while let Some(t) = ops.due(later(60), 1, &[]).await.unwrap().first() {
        ops.settle(t.id, settled(t, TaskState::Done, later(60))).await.unwrap();
    }
    let counts = ops.counts().await.unwrap();
    assert_eq!((counts[0].pending, counts[0].running, counts[0].parked), (0, 0, 0), "a lane was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_takes_over_when_the_leader_is_gone_or_silent() {
    let home = Base::Postgres.home().await;
    let (a, b) = (leading(&home, &["a"]).await, open(&home).await);
    assert!(!b.lead().await.unwrap());
    assert!(matches!(b.dispatch(&[], &[], &[]).await, Err(Error::Fenced)));
    a.dispatch(&[position(1)], &[], &[task("a", "iris", 1)]).await.unwrap();
    let held = a.due(later(60), 9, &[]).await.unwrap();
    let deadline = Instant::now() + PATIENCE; // `a` says nothing any more, but it lives
    while !b.lead().await.unwrap() {
        assert!(Instant::now() < deadline, "nobody takes over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let due = b.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(due, held, "nothing was lost");
    let late = a.settle(held[0].id, settled(&held[0], TaskState::Parked, later(60))).await;
    assert!(matches!(late, Err(Error::Fenced | Error::OpsUnavailable(_))), "{late:?}");
    let late = a.settle(held[0].id, settled(&held[0], TaskState::Parked, later(60))).await;
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    b.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
    assert!(!a.lead().await.unwrap());
    drop(b);
    while !a.lead().await.unwrap() {
        assert!(Instant::now() < deadline + PATIENCE, "nobody takes over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    a.dispatch(&[position(2)], &[], &[task("a", "iris", 2)]).await.unwrap();
}

/// A door writes seldom, and the database lets go of who says nothing: the next write must not fail for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_writes_though_its_connection_was_let_go() {
    let home = Base::Postgres.home().await;
    let ops = open(&home).await;
    for (seen, moved) in [(None, 1), (Some(1), 2)] {
        assert_eq!(ops.set_cursor("default", "mail", "AQ", seen, later(0)).await.unwrap(), moved);
        home.database().cut().await;
    }
    assert!(ops.forget_cursor("default", "mail", Some(2)).await.unwrap());
}
