//! What is written down of a task when its actor has answered: done, parked, or when to try again.

use std::time::Duration;

use annals_events::time::Timestamp;
use annals_projections::ops::{Settled, Task, TaskState};

use super::rule::Rule;
use super::{Done, Retry};

/// Pauses behind failed tries of what is told over the net (Standard Webhooks).
const TELLING: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// The first pause behind a failed try of anything else; each is twice the one before.
const DOING_MIN: Duration = Duration::from_secs(1);
/// The longest, and the last.
const DOING_MAX: Duration = Duration::from_secs(600);
/// Longest pause that somebody may ask for.
const AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest note, in characters.
const NOTE_MAX: usize = 1_000;

/// The pause behind the failed try of this number (from 1) without jitter; `None` when it was the last.
#[must_use]
pub fn pause(rule: &Rule, attempts: u32) -> Option<Duration> {
    if rule.tells().is_some() {
        return TELLING.get(usize::try_from(attempts).ok()?.checked_sub(1)?).copied();
    }
    let before = |n: u32| DOING_MIN * 2_u32.saturating_pow(n);
    let earlier = attempts.checked_sub(2).map(before);
    if earlier.is_some_and(|pause| pause >= DOING_MAX) { None } else { Some(before(attempts.saturating_sub(1)).min(DOING_MAX)) }
}

/// What is written down. `dice` is a number from 0 to 1, for the jitter of 20 %.
#[must_use]
pub fn settled(task: &Task, rule: &Rule, done: Done, now: Timestamp, dice: f64) -> Settled {
    let keep = |state, note| written(task, state, note, now);
    match done {
        Done::Succeeded { note, outcome } => Settled { outcome: outcome.or(task.outcome.clone()), ..keep(TaskState::Done, note) },
        Done::Again { after, progress, note } => {
            Settled { next_at: later(now, after), progress: Some(progress), ..keep(TaskState::Running, note) }
        }
        Done::Skipped { note } => keep(TaskState::Skipped, Some(note)),
        // it waits until somebody resumes the rule
        Done::Gone { note } => {
            let attempts = task.attempts.saturating_add(1);
            Settled { attempts, next_at: later(now, TELLING[1]), ..keep(TaskState::Pending, Some(note)) }
        }
        Done::Failed { note, retry } => {
            let attempts = task.attempts.saturating_add(1);
            let scheduled = pause(rule, attempts).map(|pause| pause.mul_f64(0.8 + 0.4 * dice.clamp(0.0, 1.0)));
            let next = match retry {
                Retry::Never => None,
                Retry::Schedule => scheduled,
                Retry::After(wanted) => scheduled.map(|pause| pause.max(wanted.min(AFTER_MAX))),
            };
            match next {
                Some(after) => Settled { attempts, next_at: later(now, after), ..keep(TaskState::Pending, Some(note)) },
                None => Settled { attempts, ..keep(TaskState::Parked, Some(note)) },
            }
        }
    }
}

/// What waits for somebody else: neither a failure nor a success. Of what failed before it is still said why.
#[must_use]
pub fn postponed(task: &Task, note: String, after: Duration, now: Timestamp) -> Settled {
    let note = task.note.clone().filter(|_| task.attempts > 0).unwrap_or(note);
    Settled { next_at: later(now, after), ..written(task, task.state, Some(note), now) }
}

/// What failed by a rule that was changed meanwhile: it is tried by the new one, from the first try on.
#[must_use]
pub fn begun_again(task: &Task, now: Timestamp) -> Settled {
    Settled { attempts: 0, ..written(task, TaskState::Pending, None, now) }
}

/// What only a person can set right.
#[must_use]
pub fn parked(task: &Task, note: String, now: Timestamp) -> Settled {
    written(task, TaskState::Parked, Some(note), now)
}

/// The task as it is, in this state, to be looked at now.
fn written(task: &Task, state: TaskState, note: Option<String>, now: Timestamp) -> Settled {
    Settled {
        turn: task.turn,
        state,
        attempts: task.attempts,
        next_at: now,
        note: note.map(cut),
        progress: task.progress.clone(),
        outcome: task.outcome.clone(),
        at: now,
    }
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)))
}

fn cut(note: String) -> String {
    if note.chars().count() <= NOTE_MAX { note } else { note.chars().take(NOTE_MAX).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
