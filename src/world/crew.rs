//! The crew: takes what is due, gives each task to its actor, and writes down what became of it.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use annals_events::time::Timestamp;
use annals_projections::ops::{RULE_TASKS_MAX, Settled, Task, TaskState};
use futures_util::FutureExt;
use tokio::task::{Id, JoinSet};

use super::event::NoEvent;
use super::life::{Lane, Trouble, World};
use super::rule::State;
use super::settle::{begun_again, parked, postponed, settled};
use super::{Actor, Done, Job, Retry, brake};
use crate::journal::wall_clock;

/// Most jobs at once; of one rule the store gives fewer.
pub const JOBS_MAX: usize = 256;
/// How long nothing is looked for, if nobody says that there is something.
const IDLE: Duration = Duration::from_secs(1);
/// The same, when something was found.
const SOON: Duration = Duration::from_millis(100);
/// Least pause before a job that goes on is taken up again.
const AGAIN_MIN: Duration = Duration::from_millis(50);
/// How long a task waits for a subscription that is paused.
const PAUSED: Duration = Duration::from_secs(10);

/// Works until something is wrong. Dropping it drops all jobs: they are begun again. A store that is away for a while is
/// waited for, with what the jobs came to in memory: to begin anew would do everything again.
///
/// # Errors
/// [`Trouble`].
pub async fn run(world: &Arc<World>) -> Result<(), Trouble> {
    let mut jobs: JoinSet<(u64, Settled)> = JoinSet::new();
    let mut lanes: HashMap<Id, Lane> = HashMap::new();
    let mut ended: Vec<(Id, (u64, Settled))> = Vec::new();
    let mut away = None;
    loop {
        write_down(world, &mut ended, &mut lanes, &mut away).await?;
        let now = wall_clock();
        let tasks = if lanes.len() < JOBS_MAX { hand_out(world, &lanes, now, &mut away).await? } else { Vec::new() };
        let wait = if tasks.is_empty() {
            let next = world.asked(world.ops.next_due(now).await, &mut away)?.flatten();
            next.map_or(IDLE, |next| until(now, next).min(IDLE))
        } else {
            SOON // mostly one of these ends before, and makes us look again
        };
        for task in tasks {
            let lane = (task.rule.clone(), task.lane.clone());
            let handle = jobs.spawn(work(Arc::clone(world), task));
            lanes.insert(handle.id(), lane);
        }
        tokio::select! {
            Some(first) = jobs.join_next_with_id(), if !jobs.is_empty() => {
                let mut next = Some(first);
                while let Some(one) = next {
                    match one {
                        Ok(one) => ended.push(one),
                        Err(lost) => {
                            tracing::error!("a job was lost: {lost}");
                            lanes.remove(&lost.id());
                        }
                    }
                    next = jobs.try_join_next_with_id();
                }
            }
            () = world.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What can be done now: what is due, and then that of which there is news.
async fn hand_out(world: &World, lanes: &HashMap<Id, Lane>, now: Timestamp, away: &mut Option<String>) -> Result<Vec<Task>, Trouble> {
    let busy: Vec<Lane> = lanes.values().cloned().collect();
    let due = world.ops.due(now, JOBS_MAX - busy.len(), &busy).await;
    let mut tasks = world.asked(due, away)?.unwrap_or_default();
    let mut taken: HashSet<Lane> = busy.into_iter().collect();
    taken.extend(tasks.iter().map(|task| (task.rule.clone(), task.lane.clone())));
    let mut under_way: HashMap<String, usize> = HashMap::new();
    for (rule, _) in &taken {
        *under_way.entry(rule.clone()).or_default() += 1;
    }
    let roused = world.take_roused(JOBS_MAX - taken.len(), |lane| {
        let count = under_way.entry(lane.0.clone()).or_default();
        let may = *count < RULE_TASKS_MAX && !taken.contains(lane);
        *count += usize::from(may);
        may
    });
    if !roused.is_empty() {
        tasks.extend(world.asked(world.ops.under_way(&roused).await, away)?.unwrap_or_default());
    }
    Ok(tasks)
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(then.0 - now.0).unwrap_or(0))
}

/// What can come of a try, in the metrics.
pub const OUTCOMES: [&str; 7] = ["done", "again", "failed", "parked", "skipped", "gone", "waiting"];

/// What is to be done with a task.
enum Ready {
    /// This, by this actor.
    Do(Box<Job>, Arc<dyn Actor>),
    /// It fails before it begins.
    Not(Done),
    /// Not now.
    Wait(String),
}

async fn work(world: Arc<World>, task: Task) -> (u64, Settled) {
    let (settled, outcome) = match ready(&world, &task).await {
        Ready::Wait(note) => (postponed(&task, note, PAUSED, wall_clock()), "waiting"),
        Ready::Not(done) => finish(&world, &task, done),
        Ready::Do(job, actor) => {
            let done = AssertUnwindSafe(actor.act(&job)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(rule = task.rule, event = task.event_id, "an actor panicked: this is a bug");
                Done::Failed { note: "the actor met a mistake in the engine, which is in the log".into(), retry: Retry::Schedule }
            });
            // what failed by a rule that was changed meanwhile says nothing of the new one
            let is_outdated = world.book().get(&task.rule).is_some_and(|page| page.row.revision > job.rule.revision);
            match &done {
                Done::Failed { .. } | Done::Gone { .. } if is_outdated => (begun_again(&task, wall_clock()), "failed"),
                Done::Gone { note } => {
                    pause(&world, &job, note).await;
                    finish(&world, &task, done)
                }
                _ => finish(&world, &task, done),
            }
        }
    };
    if let Some(metrics) = &world.metrics {
        metrics.acting.attempt(&task.rule, outcome);
    }
    (task.id, settled)
}

/// The rule, the event and the actor of a task, or why there is none.
async fn ready(world: &Arc<World>, task: &Task) -> Ready {
    let never = |note: String| Ready::Not(Done::Failed { note, retry: Retry::Never });
    let book = world.book();
    let Some(page) = book.get(&task.rule) else { return Ready::Wait("its rule is not known yet".into()) };
    let rule = match &page.rule {
        Ok(rule) => Arc::clone(rule),
        Err(why) => return never(format!("the rule cannot be meant: {why}; change the rule, and replay the task")),
    };
    match rule.state {
        State::Active => {}
        State::Paused => return Ready::Wait("the rule is paused".into()),
        State::Removed => return Ready::Not(Done::Skipped { note: "the rule was removed".into() }),
    }
    let endpoint = rule.tells().map(|name| (name, book.endpoint(&rule.workspace, name)));
    let endpoint = match endpoint {
        None => None,
        Some((name, None)) => return never(format!("there is no subscription `{name}`: add it, and replay the task")),
        Some((name, Some(endpoint))) if endpoint.state == State::Paused => {
            return Ready::Wait(format!("the subscription `{name}` is paused"));
        }
        Some((_, found)) => found,
    };
    let actor = match world.actors.of(&rule) {
        Ok(actor) => actor,
        Err(missing) => return never(format!("{missing}; then replay the task")),
    };
    match world.events.get(task.event.partition, task.event.offset, &task.event_id).await {
        Ok(event) => match brake::too_far(&rule, &event) {
            Some(note) => never(note),
            None => Ready::Do(Box::new(Job { task: task.clone(), rule, endpoint, event }), actor),
        },
        // the journal is away: that is no failure of whoever is to be told
        Err(e @ (NoEvent::Read(_) | NoEvent::Lost)) => Ready::Wait(e.to_string()),
        Err(e @ (NoEvent::Missing { .. } | NoEvent::Corrupt(_))) => never(e.to_string()),
    }
}

/// What is written down, and its word in the metrics.
fn finish(world: &World, task: &Task, done: Done) -> (Settled, &'static str) {
    let done = match done {
        Done::Again { after, progress, note } => Done::Again { after: after.max(AGAIN_MIN), progress, note },
        done => done,
    };
    let (gone, book) = (matches!(done, Done::Gone { .. }), world.book());
    let now = wall_clock();
    let settled = match book.get(&task.rule).and_then(|page| page.rule.as_ref().ok()) {
        Some(rule) => settled(task, rule, done, now, dice()),
        // without a rule there is no schedule
        None => match done {
            Done::Failed { note, .. } => parked(task, note, now),
            _ => postponed(task, "its rule is not known yet".into(), PAUSED, now),
        },
    };
    let outcome = match settled.state {
        _ if gone => "gone",
        TaskState::Done => "done",
        TaskState::Running => "again",
        TaskState::Pending => "failed",
        TaskState::Parked => "parked",
        TaskState::Skipped => "skipped",
    };
    if outcome == "parked" {
        let note = settled.note.as_deref().unwrap_or_default();
        tracing::warn!(rule = task.rule, event = task.event_id, "a task is parked: {note}");
    }
    (settled, outcome)
}

async fn pause(world: &World, job: &Job, note: &str) {
    if let Err(e) = world.proposer.pause(job, note).await {
        tracing::warn!(rule = job.task.rule, "the rule could not be paused although nobody is there: {e}");
    }
}

/// Writes down what became of the tasks that ended, all at once. While the store is away they are kept, and their lanes busy.
/// If this instance ends before, or leads no more, they are done again: rather twice than not at all.
async fn write_down(
    world: &World,
    ended: &mut Vec<(Id, (u64, Settled))>,
    lanes: &mut HashMap<Id, Lane>,
    away: &mut Option<String>,
) -> Result<(), Trouble> {
    if ended.is_empty() {
        return Ok(());
    }
    let settled: Vec<_> = ended.iter().map(|(_, settled)| settled.clone()).collect();
    if world.asked(world.ops.settle_all(&settled).await, away)?.is_some() {
        ended.drain(..).for_each(|(id, _)| drop(lanes.remove(&id)));
    }
    Ok(())
}

/// A number from 0 to 1, for jitter only.
fn dice() -> f64 {
    let random = uuid::Uuid::now_v7().as_u128();
    let [.., a, b, c, d] = random.to_be_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}
