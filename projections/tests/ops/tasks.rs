//! Tasks from the dispatcher to their end: stored once, handed out, settled, replayed, listed, trimmed.

use std::time::{SystemTime, UNIX_EPOCH};

use annals_events::time::Timestamp;
use annals_projections::ops::{Replay, Settled, TaskFilter, TaskState};
use annals_projections::{Error, Page};

use crate::home::{Base, on_both};
use crate::store::{NOW, later, leading, open, position, rule, settled, sql, task, told};

on_both! {
    tasks_rules_and_positions_are_stored_together_or_not_at_all
    a_second_task_of_a_rule_for_one_event_is_ignored
    what_was_said_of_a_task_is_there_after_a_restart
    what_ended_together_is_written_down_together_and_what_was_changed_is_left_alone
    rules_replace_older_revisions_and_their_state_decides_about_tasks
    what_waits_for_another_try_is_tried_now
    what_failed_by_an_older_revision_is_due_at_once
    parked_tasks_do_not_block_and_are_replayed
    history_is_replayed_from_a_time_or_one_by_one
    tasks_are_listed_newest_first_and_counted
    settled_tasks_are_trimmed_by_number_and_age
}

async fn tasks_rules_and_positions_are_stored_together_or_not_at_all(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[position(1)], &[rule("b", 1, "active")], &[task("a", "iris", 1)]).await.unwrap();
    let before = ops.dispatched().await.unwrap();
    assert_eq!(before.positions, [position(1)]);
    assert_eq!(before.rules, [rule("a", 1, "active"), rule("b", 1, "active")]);

    // the process dies between the tasks and the position
    sql(
        &home,
        match base {
            Base::Sqlite => "CREATE TRIGGER crash BEFORE UPDATE ON positions BEGIN SELECT RAISE(ABORT, 'crash'); END",
            Base::Postgres => {
                "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'crash'; END $$;
                 CREATE TRIGGER crash BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION crash()"
            }
        },
    )
    .await;
    let (changed, new) = ([rule("a", 2, "paused")], [task("a", "iris", 2)]);
    let error = ops.dispatch(&[position(2)], &changed, &new).await.unwrap_err();
    assert!(matches!(error, Error::OpsUnavailable(_)), "{error}");
    assert_eq!(ops.dispatched().await.unwrap(), before);
    assert_eq!(ops.tasks(&TaskFilter::default(), &Page::default()).await.unwrap().items.len(), 1);
    sql(&home, if base == Base::Sqlite { "DROP TRIGGER crash" } else { "DROP TRIGGER crash ON positions" }).await;
    assert!(ops.lead().await.unwrap());
    ops.dispatch(&[position(2)], &changed, &new).await.unwrap();
    assert_eq!(ops.dispatched().await.unwrap().positions, [position(2)]);
    assert_eq!(ops.tasks(&TaskFilter::default(), &Page::default()).await.unwrap().items.len(), 2);
}

async fn a_second_task_of_a_rule_for_one_event_is_ignored(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("b", "iris", 1)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
    // many at once, among them those two
    let again: Vec<_> = (1..=300).flat_map(|seq| [task("a", "iris", seq), task("b", "iris", seq)]).collect();
    ops.dispatch(&[], &[], &again).await.unwrap();
    let counts = ops.counts().await.unwrap();
    assert_eq!(counts.iter().map(|c| c.pending).collect::<Vec<_>>(), [299, 300]);
    assert_eq!(ops.task(due[0].id).await.unwrap().unwrap().state, TaskState::Done);
}

async fn what_was_said_of_a_task_is_there_after_a_restart(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    let mut skipped = task("a", "tulip", 2);
    (skipped.state, skipped.note) = (TaskState::Skipped, Some("cool-down".into()));
    ops.dispatch(&[position(2)], &[], &[task("a", "iris", 1), skipped]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 1"]);
    let mut said = settled(&due[0], TaskState::Running, later(90));
    (said.attempts, said.note, said.progress, said.outcome) = (4, Some("waits".into()), Some("{\"d\":1}".into()), Some("half".into()));
    let turn = ops.settle(due[0].id, said.clone()).await.unwrap();
    assert_eq!(turn, due[0].turn + 1);
    let born = ops.born();
    ops.close().await;

    let ops = open(&home).await;
    assert_eq!(ops.born(), born);
    let task = ops.task(due[0].id).await.unwrap().unwrap();
    assert_eq!((task.attempts, &task.note, &task.progress, &task.outcome), (4, &said.note, &said.progress, &said.outcome));
    assert_eq!((task.state, task.next_at, task.updated, task.turn), (TaskState::Running, later(90), later(90), turn));
    let all = ops.tasks(&TaskFilter::default(), &Page::default()).await.unwrap().items;
    assert_eq!((all[0].state, all[0].note.as_deref()), (TaskState::Skipped, Some("cool-down")));
    // it is looked at again at its time, not before
    assert_eq!(ops.due(later(89), 9, &[]).await.unwrap(), []);
    let lane = |rule: &str, lane: &str| (format!("trigger/default/{rule}"), lane.to_owned());
    let early = ops.under_way(&[lane("a", "iris"), lane("a", "nothing"), lane("b", "iris")]).await.unwrap();
    assert_eq!(told(&early), ["a iris 1"], "it may be looked at before its time");
    assert_eq!(ops.next_due(later(60)).await.unwrap(), Some(later(90)));
    assert_eq!(told(&ops.due(later(90), 9, &[]).await.unwrap()), ["a iris 1"]);
    assert_eq!(ops.next_due(later(90)).await.unwrap(), None, "what is due already wakes nobody");
}

async fn what_ended_together_is_written_down_together_and_what_was_changed_is_left_alone(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    let tasks = [task("a", "iris", 1), task("a", "iris", 2), task("a", "tulip", 3), task("b", "iris", 1)];
    ops.dispatch(&[], &[], &tasks).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 1", "b iris 1", "a tulip 3"]);
    ops.dispatch(&[], &[rule("b", 2, "removed")], &[]).await.unwrap(); // its task is skipped meanwhile
    let ends = [TaskState::Done, TaskState::Done, TaskState::Running];
    let ended: Vec<_> = due.iter().zip(ends).map(|(t, state)| (t.id, settled(t, state, later(70)))).collect();
    let turns = ops.settle_all(&ended).await.unwrap();
    assert_eq!(turns, [Some(due[0].turn + 1), None, Some(due[2].turn + 1)]);
    assert_eq!(told(&ops.due(later(60), 9, &[]).await.unwrap()), ["a iris 2"], "the lane of what was done goes on");
    assert_eq!(told(&ops.due(later(70), 9, &[]).await.unwrap()), ["a iris 2", "a tulip 3"]);
    assert_eq!(ops.settle_all(&[]).await.unwrap(), []);
}

async fn rules_replace_older_revisions_and_their_state_decides_about_tasks(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "iris", 2), task("a", "tulip", 3)]).await.unwrap();
    ops.dispatch(&[], &[rule("a", 2, "paused")], &[]).await.unwrap();
    assert_eq!(ops.due(later(60), 9, &[]).await.unwrap(), []);
    assert_eq!(ops.next_due(NOW).await.unwrap(), None);
    ops.dispatch(&[], &[rule("a", 1, "active")], &[]).await.unwrap();
    assert_eq!(ops.dispatched().await.unwrap().rules, [rule("a", 2, "paused")], "an older revision changed it");
    ops.dispatch(&[], &[rule("a", 3, "active")], &[]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 1", "a tulip 3"]);

    ops.dispatch(&[], &[rule("a", 4, "removed")], &[]).await.unwrap();
    let all = ops.tasks(&TaskFilter::default(), &Page::default()).await.unwrap().items;
    assert!(all.iter().all(|t| t.state == TaskState::Skipped && t.note.as_deref() == Some("the rule was removed")), "{all:?}");
    // whoever was at it learns it
    let error = ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(61))).await.unwrap_err();
    assert!(matches!(error, Error::TaskChanged(id) if id == due[0].id), "{error}");
}

async fn parked_tasks_do_not_block_and_are_replayed(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "iris", 2), task("a", "iris", 3)]).await.unwrap();
    for seq in 1..=2 {
        let due = ops.due(later(60), 9, &[]).await.unwrap();
        assert_eq!(told(&due), [format!("a iris {seq}")]);
        let mut parked = settled(&due[0], TaskState::Parked, later(60));
        parked.attempts = 9;
        ops.settle(due[0].id, parked).await.unwrap();
    }
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 3"]);
    assert_eq!(ops.replay("trigger/default/b", Replay::Parked, later(61)).await.unwrap(), 0);
    assert_eq!(ops.replay("trigger/default/a", Replay::Parked, later(61)).await.unwrap(), 2);
    // older than the one that was the head, and before it
    let again = ops.due(later(61), 9, &[]).await.unwrap();
    assert_eq!((told(&again), again[0].attempts), (vec!["a iris 1".to_owned()], 0));
    assert_eq!(ops.replay("trigger/default/a", Replay::Parked, later(62)).await.unwrap(), 0);
    for seq in 1..=3 {
        let due = ops.due(later(62), 9, &[]).await.unwrap();
        assert_eq!(told(&due), [format!("a iris {seq}")]);
        ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(62))).await.unwrap();
    }
    assert_eq!(ops.due(later(99), 9, &[]).await.unwrap(), []);
}

async fn what_waits_for_another_try_is_tried_now(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "iris", 2), task("a", "tulip", 3)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 1", "a tulip 3"]);
    let mut failed = settled(&due[0], TaskState::Pending, later(60));
    (failed.attempts, failed.next_at) = (3, later(3_600));
    ops.settle(due[0].id, failed).await.unwrap();
    assert_eq!(told(&ops.due(later(61), 9, &[]).await.unwrap()), ["a tulip 3"]);
    assert_eq!(ops.replay("trigger/default/a", Replay::Waiting, later(61)).await.unwrap(), 1, "the others are due already");
    let again = ops.due(later(61), 9, &[]).await.unwrap();
    assert_eq!((told(&again), again.iter().map(|t| t.attempts).max()), (vec!["a tulip 3".to_owned(), "a iris 1".to_owned()], Some(0)));
}

async fn what_failed_by_an_older_revision_is_due_at_once(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "tulip", 2), task("b", "iris", 1)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    let now = Timestamp(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap());
    let hour = Timestamp(now.0 + 3_600_000);
    // one of them will be due when the rule changes, as one that was tried long ago
    for (task, attempts) in due.iter().zip([3, 2, 1]) {
        let hour = if attempts == 1 { later(61) } else { hour };
        let failed = Settled {
            attempts,
            next_at: hour,
            note: Some(format!("500, {attempts}")),
            ..settled(task, TaskState::Pending, later(attempts.into()))
        };
        ops.settle(task.id, failed).await.unwrap();
    }
    let failing = async || ops.failing().await.unwrap().into_iter().map(|f| (f.rule, f.tasks, f.note)).collect::<Vec<_>>();
    let b = ("trigger/default/b".to_owned(), 1, Some("500, 2".to_owned()));
    assert_eq!(failing().await, [("trigger/default/a".to_owned(), 2, Some("500, 3".to_owned())), b.clone()], "the one that was tried last");
    ops.dispatch(&[], &[rule("a", 2, "paused")], &[]).await.unwrap();
    assert_eq!(failing().await.len(), 2, "why it failed is still known");
    ops.dispatch(&[], &[rule("a", 1, "active")], &[]).await.unwrap();
    assert_eq!(failing().await.len(), 2, "an older revision changes nothing");
    ops.dispatch(&[], &[rule("a", 3, "active")], &[]).await.unwrap();
    assert_eq!(failing().await, [b]);
    let due = ops.due(Timestamp(now.0 + 60_000), 9, &[]).await.unwrap();
    assert_eq!(told(&due).iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "{due:?}");
    assert!(due.iter().all(|task| task.rule == "trigger/default/a" && task.attempts == 0 && task.note.is_none()), "{due:?}");
    let tulip = due.iter().find(|task| task.lane == "tulip").unwrap();
    assert_eq!(ops.settle(tulip.id, settled(tulip, TaskState::Done, later(62))).await.unwrap(), tulip.turn + 1);
}

async fn history_is_replayed_from_a_time_or_one_by_one(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    let mut skipped = task("a", "iris", 5);
    skipped.state = TaskState::Skipped;
    ops.dispatch(&[], &[], &(1..=4).map(|seq| task("a", "iris", seq)).chain([skipped]).collect::<Vec<_>>()).await.unwrap();
    for _ in 1..=4 {
        let due = ops.due(later(60), 9, &[]).await.unwrap();
        ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
    }
    let recorded = task("a", "iris", 3).recorded;
    assert_eq!(ops.replay("trigger/default/a", Replay::Since(recorded), later(61)).await.unwrap(), 2);
    assert_eq!(told(&ops.due(later(61), 9, &[]).await.unwrap()), ["a iris 3"]);
    let all = ops.tasks(&TaskFilter::default(), &Page::default()).await.unwrap().items;
    for (which, replayed) in [(all[0].id, 1), (all[4].id, 1), (all[4].id, 0), (999, 0)] {
        assert_eq!(ops.replay("trigger/default/a", Replay::Task(which), later(62)).await.unwrap(), replayed, "{which}");
    }
    assert_eq!(told(&ops.due(later(62), 9, &[]).await.unwrap()), ["a iris 1"]);
}

async fn tasks_are_listed_newest_first_and_counted(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    let tasks: Vec<_> = (1..=10).map(|seq| task(if seq % 2 == 0 { "a" } else { "b" }, &format!("m{}", seq % 3), seq)).collect();
    ops.dispatch(&[], &[], &tasks).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    ops.settle(due[0].id, settled(&due[0], TaskState::Done, later(60))).await.unwrap();
    ops.settle(due[1].id, settled(&due[1], TaskState::Running, later(60))).await.unwrap();
    ops.settle(due[2].id, settled(&due[2], TaskState::Parked, later(60))).await.unwrap();

    let a = || Some("trigger/default/a".to_owned());
    let seqs = async |filter: TaskFilter, limit: u32| {
        let (mut all, mut page) = (Vec::new(), Page { after: None, limit });
        loop {
            let listing = ops.tasks(&filter, &page).await.unwrap();
            all.extend(listing.items.iter().map(|t| t.event.seq));
            page.after = listing.next;
            if page.after.is_none() {
                return all;
            }
        }
    };
    for limit in [1, 3, 100] {
        assert_eq!(seqs(TaskFilter::default(), limit).await, (1..=10).rev().collect::<Vec<_>>());
        assert_eq!(seqs(TaskFilter { rule: a(), ..TaskFilter::default() }, limit).await, [10, 8, 6, 4, 2]);
        assert_eq!(seqs(TaskFilter { key: Some("default/m0".into()), ..TaskFilter::default() }, limit).await, [9, 6, 3]);
        assert_eq!(seqs(TaskFilter { rule: a(), key: Some("default/m0".into()), state: None }, limit).await, [6]);
        assert_eq!(seqs(TaskFilter { state: Some(TaskState::Done), ..TaskFilter::default() }, limit).await, [due[0].event.seq]);
    }
    let counts = ops.counts().await.unwrap();
    let sums = counts.iter().fold((0, 0, 0), |sum, c| (sum.0 + c.pending, sum.1 + c.running, sum.2 + c.parked));
    assert_eq!(sums, (7, 1, 1));
    let oldest = seqs(TaskFilter { rule: a(), state: Some(TaskState::Pending), key: None }, 100).await.pop().unwrap();
    assert_eq!(counts[0].oldest_pending, Some(task("a", "", oldest).recorded));
    let error = ops.tasks(&TaskFilter::default(), &Page { after: Some("x".into()), limit: 1 }).await.unwrap_err();
    assert!(matches!(error, Error::Cursor(_)), "{error}");
}

async fn settled_tasks_are_trimmed_by_number_and_age(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    let skipped = |seq| {
        let mut skipped = task("a", "iris", seq);
        skipped.state = TaskState::Skipped;
        skipped
    };
    let many: Vec<_> = (1..=10_010).map(skipped).chain([task("b", "iris", 1), task("b", "iris", 2), task("b", "iris", 3)]).collect();
    ops.dispatch(&[], &[], &many).await.unwrap();
    for state in [TaskState::Done, TaskState::Parked] {
        let due = ops.due(later(60), 9, &[]).await.unwrap();
        ops.settle(due[0].id, settled(&due[0], state, later(60))).await.unwrap();
    }
    let left = async |rule: &str| {
        let filter = TaskFilter { rule: Some(format!("trigger/default/{rule}")), ..TaskFilter::default() };
        let (mut count, mut page) = (0, Page { after: None, limit: 1000 });
        loop {
            let listing = ops.tasks(&filter, &page).await.unwrap();
            count += listing.items.len();
            page.after = listing.next;
            if page.after.is_none() {
                return count;
            }
        }
    };
    ops.trim(later(61)).await.unwrap();
    assert_eq!((left("a").await, left("b").await), (10_000, 3));
    // what waits for a person, or is open, does not grow old
    ops.trim(later(31 * 24 * 3600)).await.unwrap();
    assert_eq!((left("a").await > 0, left("b").await), (true, 2), "skipped ones are written by the clock of now");
    sql(&home, "UPDATE tasks SET updated = 0 WHERE state = 'skipped'").await;
    ops.trim(later(61)).await.unwrap();
    assert_eq!(left("a").await, 0);
}
