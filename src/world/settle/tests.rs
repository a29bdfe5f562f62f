//! Each answer of an actor, and what is written down of it.

use std::time::Duration;

use annals_events::time::Timestamp;
use annals_projections::ops::{Place, Task, TaskState};
use serde_json::{Value, json};

use super::{begun_again, parked, pause, postponed, settled};
use crate::world::rule::read::Named;
use crate::world::rule::{Family, Rule, State};
use crate::world::{Done, Retry};

const NOW: Timestamp = Timestamp(1_000_000);

fn rule(act: Value) -> Rule {
    let named = Named { family: Family::Trigger, workspace: "default", name: "r", revision: 1, state: State::Active };
    Rule::read(&named, &json!({"when": {"type": ["promoted"]}, "do": act})).unwrap()
}

fn telling() -> Rule {
    rule(json!({"webhook": {"subscription": "s"}}))
}

fn doing() -> Rule {
    rule(json!({"command": {"run": "x"}}))
}

fn task(attempts: u32) -> Task {
    Task {
        id: 1,
        rule: "trigger/default/r".into(),
        lane: "default/iris".into(),
        event: Place { partition: 0, offset: 0, seq: 0 },
        event_id: "e".into(),
        event_source: "/x".into(),
        kind: "promoted".into(),
        key: "default/iris".into(),
        recorded: Timestamp(0),
        state: TaskState::Pending,
        attempts,
        next_at: Timestamp(0),
        note: None,
        progress: Some("{}".into()),
        outcome: None,
        updated: Timestamp(0),
        turn: 5,
    }
}

fn failed(rule: &Rule, attempts: u32, retry: Retry, dice: f64) -> (TaskState, u32, i64) {
    let settled = settled(&task(attempts), rule, Done::Failed { note: "no".into(), retry }, NOW, dice);
    assert_eq!((settled.turn, settled.at, settled.note.as_deref()), (5, NOW, Some("no")));
    (settled.state, settled.attempts, (settled.next_at.0 - NOW.0) / 1_000)
}

#[test]
fn what_is_told_is_tried_by_the_schedule_of_the_spec_and_then_parked() {
    let pauses: Vec<_> = (1..=10).map(|n| pause(&telling(), n).map(|pause| pause.as_secs())).collect();
    let hours = [2, 5, 10, 14, 20, 24].map(|h| Some(h * 3600));
    assert_eq!(pauses[..3], [Some(5), Some(300), Some(1800)]);
    assert_eq!((&pauses[3..9], pauses[9]), (&hours[..], None));
    assert_eq!(failed(&telling(), 9, Retry::Schedule, 0.5), (TaskState::Parked, 10, 0));
}

#[test]
fn what_is_done_is_tried_ever_more_seldom_and_then_parked() {
    let pauses: Vec<_> = (1..=13).map(|n| pause(&doing(), n).map(|pause| pause.as_secs())).collect();
    let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600].map(Some);
    assert_eq!((&pauses[..11], &pauses[11..]), (&expected[..], &[None, None][..]));
}

#[test]
fn jitter_is_a_fifth_either_way_and_the_endpoints_own_wish_is_heard() {
    assert_eq!(failed(&telling(), 1, Retry::Schedule, 0.0), (TaskState::Pending, 2, 240));
    assert_eq!(failed(&telling(), 1, Retry::Schedule, 1.0), (TaskState::Pending, 2, 360));
    assert_eq!(failed(&telling(), 1, Retry::After(Duration::from_secs(10)), 0.5), (TaskState::Pending, 2, 300), "not sooner");
    assert_eq!(failed(&telling(), 1, Retry::After(Duration::from_secs(900)), 0.5), (TaskState::Pending, 2, 900));
    assert_eq!(failed(&telling(), 1, Retry::After(Duration::MAX), 0.5).2, 7 * 24 * 3600, "but not for ever");
    assert_eq!(failed(&telling(), 0, Retry::Never, 0.5), (TaskState::Parked, 1, 0));
}

#[test]
fn what_goes_on_is_no_failure() {
    let again = Done::Again { after: Duration::from_secs(3), progress: "{\"n\":1}".into(), note: None };
    let written = settled(&task(2), &doing(), again, NOW, 0.5);
    assert_eq!((written.state, written.attempts, written.next_at.0), (TaskState::Running, 2, NOW.0 + 3_000));
    assert_eq!(written.progress.as_deref(), Some("{\"n\":1}"));
    let done = settled(&task(2), &doing(), Done::Succeeded { note: None, outcome: Some("{}".into()) }, NOW, 0.5);
    assert_eq!((done.state, done.outcome.as_deref()), (TaskState::Done, Some("{}")));
    let gone = settled(&task(0), &telling(), Done::Gone { note: "410".into() }, NOW, 0.5);
    assert_eq!((gone.state, gone.attempts), (TaskState::Pending, 1), "it waits for who resumes the rule");
    let long = settled(&task(0), &doing(), Done::Skipped { note: "x".repeat(5_000) }, NOW, 0.5);
    assert!(long.state == TaskState::Skipped && long.note.unwrap().chars().count() == super::NOTE_MAX + 1);
}

#[test]
fn whoever_waits_still_says_why_it_failed() {
    let failed = Task { note: Some("410 in 2 ms".into()), ..task(1) };
    assert_eq!(postponed(&failed, "paused".into(), Duration::ZERO, NOW).note.as_deref(), Some("410 in 2 ms"));
    assert_eq!(postponed(&Task { note: None, ..task(1) }, "paused".into(), Duration::ZERO, NOW).note.as_deref(), Some("paused"));
    assert_eq!(postponed(&Task { attempts: 0, ..failed.clone() }, "paused".into(), Duration::ZERO, NOW).note.as_deref(), Some("paused"));
    assert_eq!(parked(&failed, "no program".into(), NOW).note.as_deref(), Some("no program"));
    let again = begun_again(&failed, NOW);
    assert_eq!((again.state, again.attempts, again.note, again.turn), (TaskState::Pending, 0, None, failed.turn));
}
