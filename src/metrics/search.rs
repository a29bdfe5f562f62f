//! The metrics of the search cluster that is kept; each help says what to do about it.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, Result};

/// See the module.
pub struct Search {
    documents: IntCounterVec,
    fallbacks: IntCounter,
    state: IntGaugeVec,
    lag: IntGaugeVec,
    refused: IntGaugeVec,
}

impl Search {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let new = Self {
            documents: IntCounterVec::new(
                Opts::new(
                    "annals_search_documents_total",
                    "Documents that this instance sent to the search cluster: indexed, known there already as they are or newer, or refused.",
                ),
                &["outcome"],
            )?,
            fallbacks: IntCounter::new(
                "annals_search_fallbacks_total",
                "Questions that were for the search cluster and that the database answered: `annals doctor` says what the cluster lacks.",
            )?,
            state: gauges(
                "annals_search_state",
                "1 for how the search index is; all but indexing, standby and reindexing need a look at `annals doctor`. Nothing is lost meanwhile.",
                &["state"],
            )?,
            lag: gauges("annals_search_lag_events", "Events in the journal whose documents are not in the search index yet.", &[])?,
            refused: gauges(
                "annals_search_refused_documents",
                "Documents that the search cluster did not take: `annals doctor` names them.",
                &[],
            )?,
        };
        let all: [Box<dyn Collector>; 5] = [
            Box::new(new.documents.clone()),
            Box::new(new.fallbacks.clone()),
            Box::new(new.state.clone()),
            Box::new(new.lag.clone()),
            Box::new(new.refused.clone()),
        ];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(new)
    }

    /// Counts what became of documents.
    pub fn indexed(&self, indexed: u64, known: u64, refused: u64) {
        for (outcome, count) in [("indexed", indexed), ("known", known), ("refused", refused)] {
            self.documents.with_label_values(&[outcome]).inc_by(count);
        }
    }

    /// Counts a question that the database answered in the cluster's place.
    pub fn fell_back(&self) {
        self.fallbacks.inc();
    }

    /// Notes how the index is.
    pub fn standing(&self, state: &str, lag_events: u64, refused: usize) {
        self.state.reset();
        self.state.with_label_values(&[state]).set(1);
        self.lag.with_label_values(&[] as &[&str]).set(super::whole(lag_events));
        self.refused.with_label_values(&[] as &[&str]).set(i64::try_from(refused).unwrap_or(i64::MAX));
    }
}
