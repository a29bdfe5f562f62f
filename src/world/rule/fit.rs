//! Whether an event is one that a rule is about.

use super::{Rule, When};
use crate::world::Event;

impl Rule {
    /// Whether the rule is about this event.
    #[must_use]
    pub fn fits(&self, event: &Event) -> bool {
        self.workspace == event.workspace && self.when.fits(event)
    }
}

impl When {
    /// Whether all that is given fits the event.
    #[must_use]
    pub fn fits(&self, event: &Event) -> bool {
        self.kinds.contains(&event.kind)
            && self.model.as_deref().is_none_or(|pattern| matches(pattern, &event.model))
            && self.channel.as_deref().is_none_or(|pattern| event.channel.as_deref().is_some_and(|channel| matches(pattern, channel)))
            && self.members.iter().all(|(pointer, wanted)| event.pointer(pointer).is_some_and(|found| same(found, wanted)))
    }
}

/// Whether two scalars say the same: 1 and 1.0 do.
fn same(found: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found_number), Some(wanted_number)) => found == wanted || found_number == wanted_number,
        _ => found == wanted,
    }
}

/// Whether text fits a pattern in which `*` stands for anything, nothing included.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    // each piece as early as it can be, so that the most is left for the next; the last at the end
    while let Some((piece, after)) = rest.split_once('*') {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
        rest = after;
    }
    text.ends_with(rest)
}
