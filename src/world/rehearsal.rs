//! A rehearsal of a rule over history: what it would have done, without doing or recording anything.

use std::collections::HashMap;
use std::sync::Arc;

use annals_events::time::Timestamp;
use serde::Serialize;

use super::Event;
use super::brake::{self, Brakes};
use super::rule::Rule;
use crate::journal::Journal;
use crate::journal::follow::{FollowError, Follower, Until};

/// An event that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Scene {
    /// Whether the rule would have acted.
    pub fires: bool,
    /// Why not, or what it depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The event's id.
    pub event: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its subject.
    pub subject: String,
    /// `partition:seq`.
    pub position: String,
    /// When it was recorded.
    pub recorded: String,
}

/// What a rule would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Rehearsal {
    /// Events that were looked at.
    pub events: u64,
    /// Times that the rule would have acted.
    pub fired: u64,
    /// Events that it is about and would not have acted on.
    pub skipped: u64,
    /// The first of them.
    pub items: Vec<Scene>,
    /// Whether there were more than are listed.
    pub truncated: bool,
}

/// Plays a rule over what was recorded from `from` to `until`; at most `items_max` events are listed. Blocks.
///
/// # Errors
/// [`FollowError`].
pub fn rehearse(
    journal: Arc<dyn Journal>,
    rule: &Rule,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    items_max: usize,
) -> Result<Rehearsal, FollowError> {
    let mut follower = Follower::beginning(journal, Until { time: until, ..Until::default() });
    let (mut played, mut brakes, mut texts) = (Rehearsal::default(), Brakes::default(), HashMap::new());
    while let Some(accepted) = follower.next_event()? {
        if from.is_some_and(|from| accepted.recorded < from) {
            continue;
        }
        played.events += 1;
        let halt = |e: annals_events::record::Corrupt| FollowError::Halt { partition: accepted.partition, reason: e.to_string() };
        if !rule.when.kinds.contains(&accepted.record.view().map_err(halt)?.kind) {
            continue;
        }
        let event = Event::read(accepted.partition, accepted.offset, &accepted.record).map_err(halt)?;
        if !rule.fits(&event) {
            continue;
        }
        let why_not = brake::too_far(rule, &event).or_else(|| brakes.cooling(rule, &event));
        let fires = why_not.is_none();
        let note = why_not.or_else(|| same_text(rule, &event, &mut texts));
        if fires {
            brakes.fired(&rule.id(), &event.key, event.recorded);
            played.fired += 1;
        } else {
            played.skipped += 1;
        }
        if played.items.len() < items_max {
            played.items.push(scene(&event, fires, note));
        } else {
            played.truncated = true;
        }
    }
    Ok(played)
}

/// Whether it would have waited for an earlier one depends on how long that took.
fn same_text(rule: &Rule, event: &Event, texts: &mut HashMap<String, String>) -> Option<String> {
    let text = brake::dedup_text(rule, event)?;
    let earlier = texts.insert(text.clone(), event.position())?;
    Some(format!("only if what was done for {earlier} was over by then: both are `{text}` (dedup)"))
}

fn scene(event: &Event, fires: bool, note: Option<String>) -> Scene {
    Scene {
        fires,
        note,
        event: event.id.clone(),
        kind: event.kind.dotted(),
        subject: event.subject.clone(),
        position: event.position(),
        recorded: event.recorded.to_string(),
    }
}
