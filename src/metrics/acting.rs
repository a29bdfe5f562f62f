//! The metrics of acting on the world; each help says what to do about it. Rules are those of the table only.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};

/// Rules that have metrics of their own; the rest is counted under [`OTHERS`].
pub const RULES_MAX: usize = 200;
/// All rules beyond.
pub const OTHERS: &str = "others";

/// See the module.
pub struct Acting {
    leader: IntGauge,
    tasks: IntGaugeVec,
    attempts: IntCounterVec,
    oldest: GaugeVec,
    lag: IntGaugeVec,
    trouble: IntGauge,
}

/// How the tasks of a rule are.
#[derive(Clone, Debug)]
pub struct RuleTasks {
    /// The rule.
    pub rule: String,
    /// Tasks by state.
    pub states: [(&'static str, u64); 3],
    /// How long the event of the oldest one that waits has been in the journal, in seconds.
    pub oldest_s: f64,
}

impl Acting {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let new = Self {
            leader: IntGauge::new(
                "annals_actor_leader",
                "1 where events are dispatched to rules and acted on. Summed over all instances it is 1: with 0 nobody acts, look at the \
                 database that --database names, or start an instance with the role actor.",
            )?,
            tasks: gauges(
                "annals_tasks",
                "Open and parked tasks of a rule. Parked ones wait for a person: `annals doctor` says why, and the command that goes on.",
                &["rule", "state"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new("annals_task_attempts_total", "Tries of a rule's tasks on this instance, by what came of them."),
                &["rule", "outcome"],
            )?,
            oldest: GaugeVec::new(
                Opts::new(
                    "annals_task_oldest_pending_seconds",
                    "How long ago the event of a rule's oldest waiting task was recorded. It grows while nothing is done, or the rule is paused.",
                ),
                &["rule"],
            )?,
            lag: gauges(
                "annals_dispatcher_lag_events",
                "Events in the journal that were not dispatched to rules yet; exported where they are.",
                &[],
            )?,
            trouble: IntGauge::new(
                "annals_actor_trouble",
                "1 while this instance cannot dispatch although it is to: `annals doctor` says why. Nothing is lost meanwhile.",
            )?,
        };
        let all: [Box<dyn Collector>; 6] = [
            Box::new(new.leader.clone()),
            Box::new(new.tasks.clone()),
            Box::new(new.attempts.clone()),
            Box::new(new.oldest.clone()),
            Box::new(new.lag.clone()),
            Box::new(new.trouble.clone()),
        ];
        all.into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(new)
    }

    /// Counts a try.
    pub fn attempt(&self, rule: &str, outcome: &str) {
        self.attempts.with_label_values(&[rule, outcome]).inc();
    }

    /// A rule is no more: its counters go with it.
    pub fn forget(&self, rule: &str, outcomes: &[&str]) {
        for outcome in outcomes {
            let _ = self.attempts.remove_label_values(&[rule, outcome]); // it may never have been counted
        }
    }

    /// Notes how acting stands on this instance. `lag` is known to the leader.
    pub fn standing(&self, leads: bool, troubled: bool, lag: Option<u64>) {
        self.leader.set(leads.into());
        self.trouble.set(troubled.into());
        self.lag.reset();
        if let Some(lag) = lag {
            self.lag.with_label_values(&[] as &[&str]).set(super::whole(lag));
        }
    }

    /// Notes how the tasks of all rules are; those that are not named are gone.
    pub fn tasks(&self, rules: &[RuleTasks]) {
        self.tasks.reset();
        self.oldest.reset();
        for (place, rule) in rules.iter().enumerate() {
            let name = if place < RULES_MAX { rule.rule.as_str() } else { OTHERS };
            for (state, count) in rule.states {
                self.tasks.with_label_values(&[name, state]).add(super::whole(count));
            }
            let oldest = self.oldest.with_label_values(&[name]);
            oldest.set(oldest.get().max(rule.oldest_s));
        }
    }
}
