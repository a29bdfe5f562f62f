//! Which tasks are handed out: in order within a lane, fairly over rules, quickly with many.

use std::time::{Duration, Instant};

use annals_projections::ops::{RULE_TASKS_MAX, TaskState};

use crate::home::{Base, on_both};
use crate::store::{later, leading, rule, settled, task, told};

on_both! {
    a_lane_is_done_one_by_one_in_its_order
    a_task_that_waits_for_another_try_holds_its_lane_alone
    no_rule_takes_all
    due_is_quick_with_many_tasks
}

async fn a_lane_is_done_one_by_one_in_its_order(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a", "b"]).await;
    // stored one by one and together
    ops.dispatch(&[], &[], &[task("a", "iris", 1)]).await.unwrap();
    let rest: Vec<_> = (2..=40).map(|seq| task("a", if seq % 2 == 0 { "iris" } else { "tulip" }, seq)).collect();
    ops.dispatch(&[], &[], &rest).await.unwrap();
    ops.dispatch(&[], &[], &[task("b", "iris", 7)]).await.unwrap();
    let (mut iris, mut tulip) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < 41 {
        let due = ops.due(later(60), 99, &[]).await.unwrap();
        assert!(!due.is_empty() && due.len() <= 3, "{due:?}");
        let busy: Vec<_> = due.iter().map(|t| (t.rule.clone(), t.lane.clone())).collect();
        assert_eq!(ops.due(later(60), 99, &busy).await.unwrap(), [], "a lane that is busy was handed out");
        for t in &due {
            match (t.rule.as_str(), t.lane.as_str()) {
                ("trigger/default/a", "iris") => iris.push(t.event.seq),
                ("trigger/default/a", _) => tulip.push(t.event.seq),
                _ => {}
            }
            ops.settle(t.id, settled(t, TaskState::Done, later(60))).await.unwrap();
            done += 1;
        }
    }
    assert_eq!(iris, [1].into_iter().chain((2..=40).step_by(2)).collect::<Vec<_>>());
    assert_eq!(tulip, (3..=39).step_by(2).collect::<Vec<_>>());
    assert_eq!(ops.due(later(60), 99, &[]).await.unwrap(), []);
}

async fn a_task_that_waits_for_another_try_holds_its_lane_alone(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["a"]).await;
    ops.dispatch(&[], &[], &[task("a", "iris", 1), task("a", "iris", 2), task("a", "tulip", 3)]).await.unwrap();
    let due = ops.due(later(60), 9, &[]).await.unwrap();
    assert_eq!(told(&due), ["a iris 1", "a tulip 3"]);
    let mut again = settled(&due[0], TaskState::Pending, later(65));
    again.attempts = 1;
    ops.settle(due[0].id, again).await.unwrap();
    assert_eq!(told(&ops.due(later(60), 9, &[]).await.unwrap()), ["a tulip 3"]);
    assert_eq!(ops.next_due(later(60)).await.unwrap(), Some(later(65)));
    assert_eq!(told(&ops.due(later(65), 9, &[]).await.unwrap()), ["a tulip 3", "a iris 1"], "what has waited longest goes first");
}

async fn no_rule_takes_all(base: Base) {
    let home = base.home().await;
    let ops = leading(&home, &["greedy", "late", "modest"]).await;
    let greedy: Vec<_> = (1..=300).map(|seq| task("greedy", &format!("m{seq}"), seq)).collect();
    ops.dispatch(&[], &[], &greedy).await.unwrap();
    ops.dispatch(&[], &[], &[task("modest", "iris", 400), task("late", "iris", 401)]).await.unwrap();
    assert_eq!(told(&ops.due(later(60), 3, &[]).await.unwrap()), ["greedy m1 1", "modest iris 400", "late iris 401"]);
    let due = ops.due(later(60), 99, &[]).await.unwrap();
    assert_eq!(due.len(), RULE_TASKS_MAX + 2);
    // with as many under way as a rule may have, the others are next
    let busy: Vec<_> = due.iter().filter(|t| t.rule.ends_with("greedy")).map(|t| (t.rule.clone(), t.lane.clone())).collect();
    assert_eq!(told(&ops.due(later(60), 1, &busy).await.unwrap()), ["modest iris 400"]);
    assert_eq!(ops.due(later(60), 99, &busy).await.unwrap().len(), 2);
    let some = &busy[3..];
    let more = ops.due(later(60), 99, some).await.unwrap();
    assert_eq!(told(&more)[..2], ["modest iris 400", "late iris 401"]);
    assert_eq!(more.len(), 2 + 3);
    assert!(!more.iter().any(|t| some.contains(&(t.rule.clone(), t.lane.clone()))));
}

async fn due_is_quick_with_many_tasks(base: Base) {
    let names: Vec<String> = (0..100).map(|n| format!("r{n:03}")).collect();
    let home = base.home().await;
    let ops = leading(&home, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let all: Vec<_> =
        (0..100_000_u64).map(|n| task(&names[usize::try_from(n % 100).unwrap()], &format!("m{}", n / 100 % 500), n)).collect();
    for some in all.chunks(5_000) {
        ops.dispatch(&[], &[], some).await.unwrap();
    }
    let begun = Instant::now();
    for _ in 0..10 {
        let due = ops.due(later(3600), 256, &[]).await.unwrap();
        assert_eq!(due.len(), 256);
        assert!(names.iter().all(|name| due.iter().any(|t| t.rule.ends_with(name.as_str()))), "a rule was forgotten");
        assert_eq!(ops.next_due(later(3600)).await.unwrap(), None);
    }
    let asked = begun.elapsed() / 10;
    let due = ops.due(later(3600), 100, &[]).await.unwrap();
    let begun = Instant::now();
    for t in &due {
        ops.settle(t.id, settled(t, TaskState::Done, later(3600))).await.unwrap();
    }
    let settling = begun.elapsed() / 100;
    // looking at all of them would take a second and more in this build
    assert!(asked < Duration::from_millis(400), "{asked:?}");
    assert!(settling < Duration::from_millis(100), "{settling:?}");
    ops.dispatch(&[], &[rule("r000", 2, "removed")], &[]).await.unwrap();
    assert_eq!(ops.counts().await.unwrap()[0].pending, 0);
}
