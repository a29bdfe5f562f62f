//! Who does what: the actors of this instance, by what a rule wants done.

use std::sync::Arc;

use super::Actor;
use super::rule::{Do, Pipeline};

/// The actors that this instance has.
#[derive(Clone)]
pub struct Crew {
    /// Tells subscriptions.
    pub webhooks: Arc<dyn Actor>,
    /// Runs programs.
    pub commands: Arc<dyn Actor>,
    /// Proposes events.
    pub proposing: Arc<dyn Actor>,
    /// Brings versions onto clusters.
    pub kubernetes: Arc<dyn Actor>,
}

impl Crew {
    /// Who does this.
    #[must_use]
    pub fn actor(&self, act: &Do) -> &dyn Actor {
        match act {
            Do::Webhook(_) | Do::Pipeline(Pipeline::Subscription(_)) => &*self.webhooks,
            Do::Command(_) | Do::Pipeline(Pipeline::Run(_)) => &*self.commands,
            Do::Propose(_) => &*self.proposing,
            Do::Kubernetes(_) => &*self.kubernetes,
        }
    }
}
