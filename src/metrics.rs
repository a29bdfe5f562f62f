//! Every metric's name, help and labels, once. Units are base units, and the name ends in them.

pub mod acting;
pub mod monitoring;
pub mod operations;
pub mod search;
pub mod webhooks;

use std::time::Duration;

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::arbiter::{Counts, Status};
use crate::journal::publishing::{Publishing, State};
use operations::Operations;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// From a group commit on a fast disk to the longest that a caller waits, in seconds.
const BUCKETS_S: [f64; 16] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// See the module.
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    proposals: IntCounterVec,
    settled: Histogram,
    partition_state: IntGaugeVec,
    partition_seq: IntGaugeVec,
    partition_models: IntGaugeVec,
    dropped: IntCounterVec,
    claims_lost: IntCounterVec,
    commits: IntCounterVec,
    view_lag: IntGaugeVec,
    view_position: IntGaugeVec,
    view_running: IntGaugeVec,
    view_lag_seconds: GaugeVec,
    publisher_state: IntGaugeVec,
    publisher_lag: IntGauge,
    publisher_halted: IntGauge,
    publisher_commits: IntCounter,
    publisher_repeated: IntCounter,
    /// For whoever keeps it running.
    pub operations: Operations,
    /// What is done outside.
    pub acting: acting::Acting,
    /// What monitors ask for and tell.
    pub monitoring: monitoring::Monitoring,
    /// Of the search cluster.
    pub search: search::Search,
    /// Of webhooks.
    pub webhooks: webhooks::Webhooks,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// If two of them had the same name, which a test excludes.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let buckets = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS_S.to_vec());
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            requests: HistogramVec::new(
                buckets("annals_http_request_duration_seconds", "Time to the first byte of an answer."),
                &["method", "path", "status"],
            )?,
            proposals: counters("annals_proposals_total", "Proposals that came in over HTTP, by what became of them.", &["outcome"])?,
            settled: Histogram::with_opts(buckets("annals_settle_duration_seconds", "Time from a proposal's arrival to its verdict."))?,
            partition_state: gauges(
                "annals_partition_state",
                "1 for the state that the partition's arbiter is in.",
                &["partition", "state"],
            )?,
            partition_seq: gauges("annals_partition_seq", "Place of the partition's last accepted event.", &["partition"])?,
            partition_models: gauges("annals_partition_models", "Models that the partition has.", &["partition"])?,
            dropped: counters("annals_records_dropped_total", "Records that rule R dropped.", &["partition", "reason"])?,
            claims_lost: counters("annals_claims_lost_total", "Times that a partition was lost or given up.", &["partition"])?,
            commits: counters("annals_commits_total", "Transactions that the arbiter committed.", &["partition"])?,
            view_lag: gauges("annals_view_lag_events", "Events in the journal that the view does not have yet.", &["view"])?,
            view_position: gauges("annals_view_seq", "Place of the last event that the view has.", &["view", "partition"])?,
            view_running: gauges("annals_view_running", "1 while the view follows the journal, 0 once it has stopped.", &["view"])?,
            view_lag_seconds: GaugeVec::new(
                Opts::new("annals_view_stale_seconds", "How long the view has had events to catch up with; 0 when it has all."),
                &["view"],
            )?,
            publisher_state: gauges("annals_publisher_state", "1 for what this instance's publisher is doing.", &["state"])?,
            publisher_lag: IntGauge::new(
                operations::PUBLISHER_LAG,
                "Events in the journal that the derived topics do not have yet; 0 where another instance publishes.",
            )?,
            publisher_halted: IntGauge::new("annals_publisher_halted_partitions", "Partitions that are not published on.")?,
            publisher_commits: IntCounter::new("annals_publisher_commits_total", "Transactions that the publisher committed.")?,
            publisher_repeated: IntCounter::new(
                "annals_publisher_repeated_total",
                "Copies that were found twice among the promotions: the same id and bytes, after a late end of a transaction.",
            )?,
            operations: Operations::new(&registry)?,
            acting: acting::Acting::new(&registry)?,
            monitoring: monitoring::Monitoring::new(&registry)?,
            search: search::Search::new(&registry)?,
            webhooks: webhooks::Webhooks::new(&registry)?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let all: [Box<dyn prometheus::core::Collector>; 18] = [
            Box::new(self.requests.clone()),
            Box::new(self.proposals.clone()),
            Box::new(self.settled.clone()),
            Box::new(self.partition_state.clone()),
            Box::new(self.partition_seq.clone()),
            Box::new(self.partition_models.clone()),
            Box::new(self.dropped.clone()),
            Box::new(self.claims_lost.clone()),
            Box::new(self.commits.clone()),
            Box::new(self.view_lag.clone()),
            Box::new(self.view_position.clone()),
            Box::new(self.view_running.clone()),
            Box::new(self.view_lag_seconds.clone()),
            Box::new(self.publisher_state.clone()),
            Box::new(self.publisher_lag.clone()),
            Box::new(self.publisher_halted.clone()),
            Box::new(self.publisher_commits.clone()),
            Box::new(self.publisher_repeated.clone()),
        ];
        for collector in all {
            self.registry.register(collector)?;
        }
        #[cfg(target_os = "linux")]
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }

    /// Counts a request.
    pub fn request(&self, method: &str, path: &str, status: u16, took: Duration) {
        let mut digits = [b'0'; 3];
        for (digit, unit) in digits.iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + u8::try_from(status / unit % 10).unwrap_or(0);
        }
        let status = std::str::from_utf8(&digits).unwrap_or_default();
        self.requests.with_label_values(&[method, path, status]).observe(took.as_secs_f64());
    }

    /// Counts a proposal by its outcome.
    pub fn proposal(&self, outcome: &str) {
        self.proposals.with_label_values(&[outcome]).inc();
    }

    /// Notes how long a verdict took.
    pub fn settled(&self, took: Duration) {
        self.settled.observe(took.as_secs_f64());
    }

    /// Notes how a partition is.
    pub fn partition(&self, partition: u32, status: &Status, seq: u64, models: usize) {
        let name = partition.to_string();
        for state in ["standby", "folding", "owner", "troubled", "halted"] {
            self.partition_state.with_label_values(&[name.as_str(), state]).set(i64::from(state == state_name(status)));
        }
        self.partition_seq.with_label_values(&[name.as_str()]).set(whole(seq));
        self.partition_models.with_label_values(&[name.as_str()]).set(i64::try_from(models).unwrap_or(i64::MAX));
        self.operations.state(&name, status);
    }

    /// Takes over what an arbiter has counted since the start.
    pub fn counts(&self, partition: u32, counts: Counts) {
        let name = partition.to_string();
        raise(&self.dropped, &[&name, "duplicate"], counts.duplicates);
        raise(&self.dropped, &[&name, "orphan"], counts.orphans);
        raise(&self.claims_lost, &[&name], counts.claims_lost);
        raise(&self.commits, &[&name], counts.commits);
        self.operations.claims(&name, counts);
    }

    /// Notes how far a view is: its place by partition, and by how many events and seconds it is behind.
    pub fn view(&self, view: &str, running: bool, seqs: &[(u32, u64)], lag_events: u64, stale: Duration) {
        self.view_running.with_label_values(&[view]).set(i64::from(running));
        self.view_lag.with_label_values(&[view]).set(whole(lag_events));
        self.view_lag_seconds.with_label_values(&[view]).set(stale.as_secs_f64());
        for (partition, seq) in seqs {
            self.view_position.with_label_values(&[view, partition.to_string().as_str()]).set(whole(*seq));
        }
    }

    /// Notes how far the publisher of this instance is.
    pub fn publisher(&self, publishing: &Publishing, lag_events: u64) {
        let state = match publishing.state {
            State::Standby => "standby",
            State::Publishing => "publishing",
            State::Troubled(_) => "troubled",
        };
        for name in ["standby", "publishing", "troubled"] {
            self.publisher_state.with_label_values(&[name]).set(i64::from(name == state));
        }
        self.publisher_lag.set(whole(lag_events));
        self.publisher_halted.set(i64::try_from(publishing.halted.len()).unwrap_or(i64::MAX));
        self.publisher_commits.inc_by(publishing.commits.saturating_sub(self.publisher_commits.get()));
        self.publisher_repeated.inc_by(publishing.repeated.saturating_sub(self.publisher_repeated.get()));
    }

    /// All metrics in the text exposition format.
    ///
    /// # Errors
    /// If a metric cannot be written, which is a bug.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        self.monitoring.render(&mut out);
        Ok(out)
    }
}

/// The word for what an arbiter is doing.
#[must_use]
pub fn state_name(status: &Status) -> &'static str {
    match status {
        Status::Standby => "standby",
        Status::Folding => "folding",
        Status::Owner => "owner",
        Status::Troubled(_) => "troubled",
        Status::Halted(_) => "halted",
    }
}

/// Takes a counter to what was counted elsewhere.
fn raise(counters: &IntCounterVec, labels: &[&str], to: u64) {
    let counter = counters.with_label_values(labels);
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.request("POST", "/v1/events", 201, Duration::from_millis(2));
        metrics.proposal("accepted");
        metrics.partition(3, &Status::Owner, 17, 2);
        metrics.counts(3, Counts { duplicates: 2, ..Counts::default() });
        metrics.counts(3, Counts { duplicates: 5, ..Counts::default() });
        metrics.view("registry", true, &[(3, 16)], 1, Duration::ZERO);
        metrics.publisher(&Publishing { repeated: 2, ..Publishing::default() }, 7);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "annals_publisher_state{state=\"standby\"} 1",
            "annals_publisher_lag_events 7",
            "annals_publisher_repeated_total 2",
            "annals_http_request_duration_seconds_count{method=\"POST\",path=\"/v1/events\",status=\"201\"} 1",
            "annals_proposals_total{outcome=\"accepted\"} 1",
            "annals_partition_state{partition=\"3\",state=\"owner\"} 1",
            "annals_partition_state{partition=\"3\",state=\"halted\"} 0",
            "annals_partition_seq{partition=\"3\"} 17",
            "annals_records_dropped_total{partition=\"3\",reason=\"duplicate\"} 5",
            "annals_view_lag_events{view=\"registry\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
