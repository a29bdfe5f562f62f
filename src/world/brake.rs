//! What keeps a rule from acting although an event fits: its cool-down, its dedup text, too long a chain.

use std::collections::HashMap;
use std::time::Duration;

use annals_events::time::Timestamp;

use super::rule::{Do, Pipeline, Rule, render};
use super::{Event, HOPS_MAX};

/// What is known of what rules did last.
#[derive(Clone, Debug, Default)]
pub struct Brakes {
    /// When the event was recorded that a rule acted on last, by rule and key.
    last: HashMap<(String, String), Timestamp>,
}

impl Brakes {
    /// When a rule acted last on a key, as far as it is known here.
    #[must_use]
    pub fn last(&self, rule: &str, key: &str) -> Option<Timestamp> {
        self.last.get(&(rule.to_owned(), key.to_owned())).copied()
    }

    /// Takes down that a rule acts, or acted, on an event recorded then.
    pub fn fired(&mut self, rule: &str, key: &str, recorded: Timestamp) {
        let last = self.last.entry((rule.to_owned(), key.to_owned())).or_insert(recorded);
        *last = recorded.max(*last);
    }

    /// Why a rule must wait with an event, if its cool-down says so.
    #[must_use]
    pub fn cooling(&self, rule: &Rule, event: &Event) -> Option<String> {
        let cooldown = rule.cooldown?;
        let last = self.last(&rule.id(), &event.key)?;
        let passed = Duration::from_millis(u64::try_from(event.recorded.0 - last.0).unwrap_or(0));
        let note = || format!("cooling down: it acted on {} {last}, and waits {} s", event.key, cooldown.as_secs());
        (passed < cooldown).then(note)
    }
}

/// The dedup text of an event; `None` if the rule has none, or the event lacks what stands in it.
#[must_use]
pub fn dedup_text(rule: &Rule, event: &Event) -> Option<String> {
    render::text(rule.dedup.as_deref()?, event).ok()
}

/// Why an event is the end of a chain of rules that cause each other: what only tells goes on.
#[must_use]
pub fn too_far(rule: &Rule, event: &Event) -> Option<String> {
    let acts = match &rule.act {
        Do::Webhook(_) => false,
        Do::Command(_) | Do::Pipeline(Pipeline::Run(_) | Pipeline::Subscription(_)) | Do::Propose(_) => true,
        Do::Kubernetes(_) | Do::Git(_) | Do::Lookup(_) => true,
    };
    let note = || {
        format!(
            "{} rules caused this event, one after the other, and {HOPS_MAX} is the most: does `{}` lead to what it acts on? give it a \
             narrower `when`, a `cooldown_s` or a `dedup`",
            event.hops, rule.name
        )
    };
    (acts && event.hops >= HOPS_MAX).then(note)
}

/// Whether doing it again, when nobody knows any more whether it was done, would do harm.
#[must_use]
pub fn only_once(rule: &Rule) -> bool {
    match &rule.act {
        Do::Command(_) | Do::Pipeline(_) | Do::Propose(_) => true,
        Do::Webhook(_) | Do::Kubernetes(_) | Do::Git(_) | Do::Lookup(_) => false,
    }
}
