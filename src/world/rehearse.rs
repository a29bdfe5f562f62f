//! A rule tried on history: which events would have made it act, and what would have held it back. Nothing is done.

use std::collections::HashSet;

use super::Event;
use super::brake::{self, Brakes};
use super::event::NoEvent;
use super::rule::{Do, Rule, render};
use crate::journal::follow::{Accepted, FollowError};

/// Most events that are told one by one; all are counted.
pub const ITEMS_MAX: usize = 1_000;

/// What the rule would have made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It would have acted.
    Fired,
    /// Its cool-down would have held it back.
    Cooled,
    /// Its dedup text came before: held back, if that one had still been under way.
    Deduplicated,
    /// The chain of rules was too long.
    TooFar,
    /// It would have been parked at once: something that the rule needs is not in the event.
    Unfit,
}

impl Made {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Cooled => "cooled",
            Self::Deduplicated => "deduplicated",
            Self::TooFar => "too-far",
            Self::Unfit => "unfit",
        }
    }
}

/// One event that fits.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event, without its bytes.
    pub event: Event,
    /// What the rule would have made of it.
    pub made: Made,
    /// Why not, or what would have been done.
    pub note: Option<String>,
}

/// A rehearsal, as far as it has come.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    rule: &'a Rule,
    brakes: Brakes,
    texts: HashSet<String>,
    /// Events that were looked at.
    pub seen: u64,
    /// How many there were of each.
    pub counts: [(Made, u64); 5],
    /// The first [`ITEMS_MAX`].
    pub items: Vec<Item>,
}

/// Why it ends early.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The journal.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// An event.
    #[error(transparent)]
    Event(#[from] NoEvent),
}

impl<'a> Rehearsal<'a> {
    /// Of this rule.
    #[must_use]
    pub fn of(rule: &'a Rule) -> Self {
        let counts = [Made::Fired, Made::Cooled, Made::Deduplicated, Made::TooFar, Made::Unfit].map(|made| (made, 0));
        Self { rule, brakes: Brakes::default(), texts: HashSet::new(), seen: 0, counts, items: Vec::new() }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// [`Cut`] if it is not one of ours.
    pub fn take(&mut self, accepted: &Accepted) -> Result<(), Cut> {
        self.seen += 1;
        let view = accepted.record.view().map_err(NoEvent::Corrupt)?;
        if !self.rule.when.kinds.contains(&view.kind) {
            return Ok(());
        }
        let mut event = Event::read(accepted.partition, accepted.offset, &accepted.record).map_err(NoEvent::Corrupt)?;
        if self.rule.fits(&event) {
            event.cloudevent = Vec::new();
            let (made, note) = self.judge(&event);
            self.counts.iter_mut().filter(|(kind, _)| *kind == made).for_each(|(_, count)| *count += 1);
            if self.items.len() < ITEMS_MAX {
                self.items.push(Item { event, made, note });
            }
        }
        Ok(())
    }

    fn judge(&mut self, event: &Event) -> (Made, Option<String>) {
        if let Some(note) = brake::too_far(self.rule, event) {
            return (Made::TooFar, Some(note));
        }
        if let Some(note) = self.brakes.cooling(self.rule, event) {
            return (Made::Cooled, Some(note));
        }
        let text = brake::dedup_text(self.rule, event);
        if let Some(text) = text.as_ref().filter(|text| self.texts.contains(*text)) {
            return (Made::Deduplicated, Some(format!("unless the one before with the dedup text `{text}` had ended by then")));
        }
        self.brakes.fired(&self.rule.id(), &event.key, event.recorded);
        self.texts.extend(text);
        match preview(self.rule, event) {
            Ok(note) => (Made::Fired, Some(note)),
            Err(note) => (Made::Unfit, Some(note)),
        }
    }
}

/// What would have been done, in short.
fn preview(rule: &Rule, event: &Event) -> Result<String, String> {
    use super::rule::{Pipeline, VersionOf};
    match &rule.act {
        Do::Webhook(webhook) => Ok(format!("tells `{}`", webhook.subscription)),
        Do::Pipeline(Pipeline::Subscription(name)) => Ok(format!("tells `{name}`")),
        Do::Command(command) | Do::Pipeline(Pipeline::Run(command)) => {
            let args = command.args.iter().map(|arg| render::text(arg, event)).collect::<Result<Vec<_>, _>>()?;
            Ok(format!("runs {} {}", command.run, args.join(" ")).trim_end().to_owned())
        }
        Do::Propose(propose) => {
            let version = match &propose.version {
                None => String::new(),
                Some(VersionOf::Event) => format!("/{}", render::text("{version}", event)?),
                Some(VersionOf::Text(text)) => format!("/{}", render::text(text, event)?),
            };
            let data = serde_json::Value::Object(render::object(&propose.data, event)?);
            Ok(format!("proposes {} of {}{version} with {data}", propose.kind.short(), event.key))
        }
        Do::Kubernetes(kubernetes) => {
            Ok(format!("brings version {} to the cluster `{}`", render::text("{version}", event)?, kubernetes.cluster))
        }
    }
}
