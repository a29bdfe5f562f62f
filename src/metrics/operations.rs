//! The metrics for whoever keeps the engine running; each help says what to do about it.

use std::time::Duration;

use annals_events::verdict::{Code, Outcome};
use prometheus::core::Collector;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};

use super::{BUCKETS_S, raise, whole};
use crate::arbiter::{Counts, Status};
use crate::journal::facts::Facts;

/// What happens to proposals here.
struct Judging {
    owned: IntGaugeVec,
    halted: IntGaugeVec,
    claims: IntCounterVec,
    fenced: IntCounterVec,
    verdicts: IntCounterVec,
    refusals: IntCounterVec,
    commit: Histogram,
}

/// What the journal's servers say; not exported where there are none.
struct Cluster {
    waiting: IntGaugeVec,
    stalled: GaugeVec,
    unstable: IntGaugeVec,
    stuck: GaugeVec,
    silent: GaugeVec,
    clock: GaugeVec,
    arbiters: IntGaugeVec,
    registry: IntGaugeVec,
}

/// See the module. What means nothing here, such as a cluster's state without a cluster, is not exported.
pub struct Operations {
    judging: Judging,
    cluster: Cluster,
    views_open: IntGauge,
    readers: IntGauge,
    subscribers: IntGauge,
    journal_bytes: IntGaugeVec,
}

/// Events that a derived log does not have yet; `annals doctor` looks for it.
pub const PUBLISHER_LAG: &str = "annals_publisher_lag_events";

const OUTCOMES: [&str; 4] = ["accepted", "duplicate", "refused", "malformed"];
const REGISTRY_STATES: [&str; 4] = ["registering", "registered", "away", "refused"];

impl Judging {
    fn new() -> Result<Self> {
        Ok(Self {
            owned: partition_gauge(
                "annals_partition_owned",
                "1 where this instance judges the partition. Summed over all instances it is 1: with 0 nobody judges, start an instance \
                 with the arbiter role.",
            )?,
            halted: partition_gauge(
                "annals_partition_halted",
                "1 where the partition has stopped for good. Run `annals doctor`: it says why, and the command that lets it go on.",
            )?,
            claims: partition_counter(
                "annals_claims_total",
                "Times that this instance claimed the partition. Many in a short time: instances come and go, or a broker does not answer.",
            )?,
            fenced: partition_counter(
                "annals_claims_fenced_total",
                "Times that another instance took the partition over while this one judged. Harmless; if it goes on, look for instances \
                 that sleep or swap longer than 6 s.",
            )?,
            verdicts: IntCounterVec::new(
                Opts::new(
                    "annals_verdicts_total",
                    "Verdicts on proposals from everywhere, counted where they were judged. Sum it over instances.",
                ),
                &["outcome"],
            )?,
            refusals: IntCounterVec::new(
                Opts::new(
                    "annals_refusals_total",
                    "Refused and malformed proposals by their code. Many of one code: a client does something wrong; its verdicts name the remedy.",
                ),
                &["code"],
            )?,
            commit: Histogram::with_opts(
                HistogramOpts::new(
                    "annals_commit_duration_seconds",
                    "Time that a transaction's commit took. It is the brokers' (embedded: the disk's): look there if it grows.",
                )
                .buckets(BUCKETS_S.to_vec()),
            )?,
        })
    }
}

impl Cluster {
    fn new() -> Result<Self> {
        Ok(Self {
            waiting: partition_gauge(
                "annals_proposals_waiting",
                "Proposals without a verdict. It grows while nobody judges, or more comes than one arbiter can judge.",
            )?,
            stalled: GaugeVec::new(
                Opts::new(
                    "annals_proposals_stalled_seconds",
                    "How long proposals have been waiting while none was judged. Over 30 s: run `annals doctor` at every instance.",
                ),
                &["partition"],
            )?,
            unstable: IntGaugeVec::new(
                Opts::new(
                    "annals_last_stable_offset_lag",
                    "Messages behind the last stable offset: nobody reads them before the open transaction ends.",
                ),
                &["log", "partition"],
            )?,
            stuck: GaugeVec::new(
                Opts::new(
                    "annals_last_stable_offset_stuck_seconds",
                    "How long the last stable offset has stood still before messages. Over 60 s: somebody's transaction hangs; find it with \
                     kafka-transactions and abort it, as the runbook says.",
                ),
                &["log", "partition"],
            )?,
            silent: GaugeVec::new(
                Opts::new(
                    "annals_cluster_silent_seconds",
                    "How long ago the Kafka cluster last answered this instance. Over 30 s: look at the brokers and the network.",
                ),
                &[],
            )?,
            clock: GaugeVec::new(
                Opts::new(
                    "annals_cluster_clock_ahead_seconds",
                    "By how much the brokers' clock is ahead of this machine's; behind, if negative. Over 1 s either way: mend the clocks.",
                ),
                &[],
            )?,
            arbiters: IntGaugeVec::new(
                Opts::new("annals_arbiters", "Instances that share out the partitions. 0: start one with the arbiter role."),
                &[],
            )?,
            registry: IntGaugeVec::new(
                Opts::new(
                    "annals_schema_registry_state",
                    "1 for how it stands with the schema registry. Events are taken in every state; `annals doctor` says what to do.",
                ),
                &["state"],
            )?,
        })
    }
}

impl Operations {
    /// All of them, at zero and registered.
    ///
    /// # Errors
    /// If two had the same name, which a test excludes.
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let new = Self {
            judging: Judging::new()?,
            cluster: Cluster::new()?,
            views_open: IntGauge::new(
                "annals_views_open",
                "0 while the views' database cannot be opened: reads are refused, proposals are taken. Look at the database.",
            )?,
            readers: IntGauge::new(
                "annals_history_readers_in_use",
                "Replays, exports and rebuilds under way, of 16 places. At 16 the next is refused: look who reads.",
            )?,
            subscribers: IntGauge::new("annals_subscribers", "Subscribers of the stream, of 2,048 places. At 2,048 the next is refused.")?,
            journal_bytes: IntGaugeVec::new(
                Opts::new("annals_journal_size_bytes", "Size of the embedded journal's files. It only grows: keep room on the disk."),
                &[],
            )?,
        };
        for outcome in OUTCOMES {
            new.judging.verdicts.with_label_values(&[outcome]);
        }
        for code in Code::ALL {
            new.judging.refusals.with_label_values(&[code.as_str()]);
        }
        new.collectors().into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(new)
    }

    fn collectors(&self) -> [Box<dyn Collector>; 19] {
        let Self { judging, cluster, .. } = self;
        [
            Box::new(judging.owned.clone()),
            Box::new(judging.halted.clone()),
            Box::new(judging.claims.clone()),
            Box::new(judging.fenced.clone()),
            Box::new(judging.verdicts.clone()),
            Box::new(judging.refusals.clone()),
            Box::new(judging.commit.clone()),
            Box::new(cluster.waiting.clone()),
            Box::new(cluster.stalled.clone()),
            Box::new(cluster.unstable.clone()),
            Box::new(cluster.stuck.clone()),
            Box::new(cluster.silent.clone()),
            Box::new(cluster.clock.clone()),
            Box::new(cluster.arbiters.clone()),
            Box::new(cluster.registry.clone()),
            Box::new(self.views_open.clone()),
            Box::new(self.readers.clone()),
            Box::new(self.subscribers.clone()),
            Box::new(self.journal_bytes.clone()),
        ]
    }

    /// Notes how long a commit took.
    pub fn committed(&self, took: Duration) {
        self.judging.commit.observe(took.as_secs_f64());
    }

    /// Counts a verdict that was judged here.
    pub fn verdict(&self, outcome: &Outcome) {
        let (word, refusal) = match outcome {
            Outcome::Accepted(_) => (OUTCOMES[0], None),
            Outcome::Duplicate(_) => (OUTCOMES[1], None),
            Outcome::Refused(refusal) => (OUTCOMES[2], Some(refusal)),
            Outcome::Malformed(refusal) => (OUTCOMES[3], Some(refusal)),
        };
        self.judging.verdicts.with_label_values(&[word]).inc();
        if let Some(refusal) = refusal {
            self.judging.refusals.with_label_values(&[refusal.code.as_str()]).inc();
        }
    }

    /// Notes whether a partition is judged here, or by nobody any more.
    pub(super) fn state(&self, partition: &str, status: &Status) {
        self.judging.owned.with_label_values(&[partition]).set(i64::from(matches!(status, Status::Owner)));
        self.judging.halted.with_label_values(&[partition]).set(i64::from(matches!(status, Status::Halted(_))));
    }

    /// Takes over what an arbiter has counted.
    pub(super) fn claims(&self, partition: &str, counts: Counts) {
        raise(&self.judging.claims, &[partition], counts.claims);
        raise(&self.judging.fenced, &[partition], counts.fenced);
    }

    /// Notes what the journal's servers said when they were last asked.
    pub fn facts(&self, facts: &Facts) {
        self.cluster.silent.with_label_values::<&str>(&[]).set(facts.silent.as_secs_f64());
        if let Some(ahead_ms) = facts.clock_ahead_ms {
            self.cluster
                .clock
                .with_label_values::<&str>(&[])
                .set(Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f64() * sign(ahead_ms));
        }
        if let Some(arbiters) = facts.arbiters {
            self.cluster.arbiters.with_label_values::<&str>(&[]).set(whole(arbiters));
        }
        if let Some(registry) = &facts.registry {
            for state in REGISTRY_STATES {
                self.cluster.registry.with_label_values(&[state]).set(i64::from(state == registry.state));
            }
        }
        for (number, partition) in facts.partitions.iter().enumerate() {
            let number = number.to_string();
            self.cluster.waiting.with_label_values(&[&number]).set(whole(partition.waiting));
            self.cluster.stalled.with_label_values(&[&number]).set(partition.stalled.as_secs_f64());
            for log in &partition.logs {
                self.cluster.unstable.with_label_values(&[log.name, &number]).set(whole(log.unstable));
                self.cluster.stuck.with_label_values(&[log.name, &number]).set(log.stuck.as_secs_f64());
            }
        }
    }

    /// Notes whether there are views to ask.
    pub fn views_open(&self, open: bool) {
        self.views_open.set(i64::from(open));
    }

    /// Notes how many long answers and subscribers there are.
    pub fn places(&self, (readers, subscribers): (usize, usize)) {
        self.readers.set(i64::try_from(readers).unwrap_or(i64::MAX));
        self.subscribers.set(i64::try_from(subscribers).unwrap_or(i64::MAX));
    }

    /// Notes the size of the journal's files.
    pub fn journal_bytes(&self, bytes: u64) {
        self.journal_bytes.with_label_values::<&str>(&[]).set(whole(bytes));
    }
}

fn partition_gauge(name: &str, help: &str) -> Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(name, help), &["partition"])
}

fn partition_counter(name: &str, help: &str) -> Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), &["partition"])
}

fn sign(n: i64) -> f64 {
    if n < 0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use annals_events::verdict::Refusal;

    use super::*;
    use crate::journal::facts::{Log, Partition};
    use crate::metrics::Metrics;

    fn rendered(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    #[test]
    fn a_clusters_state_is_exported_only_where_there_is_a_cluster() {
        let metrics = Metrics::new().unwrap();
        let embedded = rendered(&metrics);
        assert!(!embedded.contains("annals_cluster_") && !embedded.contains("annals_journal_size_bytes"), "{embedded}");
        let log = Log { name: "proposals", unstable: 7, stuck: Duration::from_secs(90) };
        let partition = Partition { waiting: 5, stalled: Duration::from_secs(31), logs: vec![log] };
        metrics.operations.facts(&Facts {
            silent: Duration::from_secs(2),
            arbiters: Some(3),
            clock_ahead_ms: Some(-1_500),
            partitions: vec![Partition::default(), partition],
            ..Facts::default()
        });
        let text = rendered(&metrics);
        for line in [
            "annals_cluster_silent_seconds 2",
            "annals_cluster_clock_ahead_seconds -1.5",
            "annals_arbiters 3",
            "annals_proposals_waiting{partition=\"0\"} 0",
            "annals_proposals_waiting{partition=\"1\"} 5",
            "annals_proposals_stalled_seconds{partition=\"1\"} 31",
            "annals_last_stable_offset_lag{log=\"proposals\",partition=\"1\"} 7",
            "annals_last_stable_offset_stuck_seconds{log=\"proposals\",partition=\"1\"} 90",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
        assert!(!text.contains("annals_schema_registry_state"), "none is configured");
    }

    #[test]
    fn verdicts_and_refusals_are_there_before_the_first_one() {
        let metrics = Metrics::new().unwrap();
        assert!(rendered(&metrics).contains("annals_refusals_total{code=\"wrong-partition\"} 0\n"));
        metrics.operations.verdict(&Outcome::Malformed(Refusal::new(Code::WrongPartition, "m", "r")));
        metrics.partition(1, &Status::Halted("why".into()), 3, 1);
        metrics.counts(1, Counts { claims: 2, fenced: 1, ..Counts::default() });
        let text = rendered(&metrics);
        for line in [
            "annals_refusals_total{code=\"wrong-partition\"} 1",
            "annals_verdicts_total{outcome=\"malformed\"} 1",
            "annals_partition_halted{partition=\"1\"} 1",
            "annals_partition_owned{partition=\"1\"} 0",
            "annals_claims_total{partition=\"1\"} 2",
            "annals_claims_fenced_total{partition=\"1\"} 1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
    }
}
