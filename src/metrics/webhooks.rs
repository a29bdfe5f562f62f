//! What is counted of webhooks: tries by what came of them. No label grows with subscriptions.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// To the longest that a try may take, in seconds.
const BUCKETS_S: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// See the module.
pub struct Webhooks {
    tries: IntCounterVec,
    took: Histogram,
}

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The endpoint has it.
    Delivered,
    /// It wants nothing any more.
    Gone,
    /// It answered that it does not have it.
    Refused,
    /// It did not answer, or may not be reached.
    Unanswered,
}

impl Tried {
    const ALL: [Self; 4] = [Self::Delivered, Self::Gone, Self::Refused, Self::Unanswered];

    fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
        }
    }
}

impl Webhooks {
    /// At zero, and registered.
    ///
    /// # Errors
    /// If a name is there already, which a test excludes.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let tries = Opts::new("annals_webhook_tries_total", "Tries to deliver a webhook, by what the endpoint answered.");
        let took = HistogramOpts::new("annals_webhook_try_duration_seconds", "Time from the look at an endpoint's name to its answer.");
        let new = Self { tries: IntCounterVec::new(tries, &["outcome"])?, took: Histogram::with_opts(took.buckets(BUCKETS_S.to_vec()))? };
        for tried in Tried::ALL {
            new.tries.with_label_values(&[tried.word()]).inc_by(0);
        }
        registry.register(Box::new(new.tries.clone()))?;
        registry.register(Box::new(new.took.clone()))?;
        Ok(new)
    }

    /// Counts a try.
    pub fn tried(&self, tried: Tried, took: Duration) {
        self.tries.with_label_values(&[tried.word()]).inc();
        self.took.observe(took.as_secs_f64());
    }
}
