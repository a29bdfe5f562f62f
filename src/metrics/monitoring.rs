//! What monitors ask for and what they told: gauges of what was measured of versions in use, and counters of alerts.
//!
//! Producers name what they measure, so the number of series follows from their data: it has a bound, and
//! what is beyond it is counted.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use annals_projections::registry::Measured;
use prometheus::{Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result, TextEncoder};

/// Most series of measured values; the newest ones are exported.
pub const SERIES_MAX: usize = 1_000;
/// What every measured value's name begins with.
const PREFIX: &str = "model_";
/// What no gauge's name may end in.
const RESERVED: [&str; 5] = ["_total", "_count", "_sum", "_bucket", "_info"];

/// See the module.
pub struct Monitoring {
    left_out: IntGauge,
    alerts: IntCounterVec,
    truncated: IntCounter,
    /// The measured values, in the text exposition format.
    measured: Mutex<Vec<u8>>,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// It is an event now.
    Accepted,
    /// It was one before.
    Duplicate,
    /// The engine judged it and said no.
    Refused,
    /// It does not say what an event needs.
    Unreadable,
    /// Not settled yet: Alertmanager sends it again.
    Pending,
}

impl Alert {
    const ALL: [Self; 5] = [Self::Accepted, Self::Duplicate, Self::Refused, Self::Unreadable, Self::Pending];

    fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Pending => "pending",
        }
    }
}

impl Monitoring {
    /// At zero, and registered.
    ///
    /// # Errors
    /// If a name is there already, which a test excludes.
    pub fn new(registry: &Registry) -> Result<Self> {
        let new = Self {
            left_out: IntGauge::new(
                "annals_model_series_left_out",
                "Measured values of versions in use that are not exported: beyond the 1,000 newest, or with a name or a value that \
                 Prometheus cannot have. Measure fewer metrics, or look at what `annals timeline` says.",
            )?,
            alerts: IntCounterVec::new(
                Opts::new(
                    "annals_alerts_total",
                    "Alerts that Alertmanager sent, by what became of them. Refused and unreadable ones are no events: the log says why.",
                ),
                &["outcome"],
            )?,
            truncated: IntCounter::new(
                "annals_alerts_truncated_total",
                "Alerts that Alertmanager left out of what it sent: take `max_alerts` out of its configuration.",
            )?,
            measured: Mutex::default(),
        };
        for outcome in Alert::ALL {
            new.alerts.with_label_values(&[outcome.word()]).inc_by(0);
        }
        registry.register(Box::new(new.left_out.clone()))?;
        registry.register(Box::new(new.alerts.clone()))?;
        registry.register(Box::new(new.truncated.clone()))?;
        Ok(new)
    }

    /// Counts an alert.
    pub fn alert(&self, outcome: Alert) {
        self.alerts.with_label_values(&[outcome.word()]).inc();
    }

    /// Counts alerts that were not sent.
    pub fn truncated(&self, alerts: u64) {
        self.truncated.inc_by(alerts);
    }

    /// Notes what was measured of versions in use, the newest first.
    ///
    /// # Errors
    /// If it cannot be written, which is a bug.
    pub fn measured(&self, all: &[Measured]) -> Result<()> {
        let mut seen = HashSet::new();
        let mut families: BTreeMap<String, Vec<([String; 4], f64)>> = BTreeMap::new();
        let mut exported = 0;
        for measured in all {
            let (Some(name), Some(value)) = (name_of(&measured.metric), measured.value) else { continue };
            let labels = labels_of(measured);
            if exported < SERIES_MAX && seen.insert((name.clone(), labels.clone())) {
                families.entry(name).or_default().push((labels, value));
                exported += 1;
            }
        }
        let registry = Registry::new();
        for (name, samples) in families {
            let what = name.strip_prefix(PREFIX).unwrap_or(&name).replace('_', " ");
            let help = format!("Last measured {what} of a version that holds a channel or runs on a target.");
            let gauges = GaugeVec::new(Opts::new(name, help), &["workspace", "model", "version", "channel"])?;
            for (labels, value) in &samples {
                gauges.with_label_values(&labels.each_ref().map(String::as_str)).set(*value);
            }
            registry.register(Box::new(gauges))?;
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text)?;
        self.left_out.set(i64::try_from(all.len() - exported).unwrap_or(i64::MAX));
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }

    /// Adds the measured values to the other metrics.
    pub(super) fn render(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.measured.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Workspace, model, version and channel; a deployment that serves no channel has an empty one.
fn labels_of(measured: &Measured) -> [String; 4] {
    let (workspace, model) = measured.key.split_once('/').unwrap_or_default();
    let channel = measured.channel.as_deref().unwrap_or_default();
    [workspace.to_owned(), model.to_owned(), measured.version.to_string(), channel.to_owned()]
}

/// What a metric is called: `ROC AUC` is `model_roc_auc`. Units stay as they are named. `None` if nothing is left.
fn name_of(metric: &str) -> Option<String> {
    let mut name = String::from(PREFIX);
    for c in metric.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    name.truncate(name.trim_end_matches('_').len());
    // such an ending would say that it is a counter, or a part of a histogram
    if RESERVED.iter().any(|ending| name.ends_with(ending)) {
        name.push_str("_value");
    }
    (name.len() > PREFIX.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(key: &str, channel: Option<&str>, metric: &str, value: f64) -> Measured {
        Measured {
            key: key.into(),
            version: 3,
            channel: channel.map(Into::into),
            metric: metric.into(),
            value: Some(value),
            measured: "".into(),
        }
    }

    fn text(monitoring: &Monitoring) -> String {
        let mut out = Vec::new();
        monitoring.render(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_metric_gets_a_name_that_prometheus_can_have() {
        for (metric, name) in [
            ("accuracy", "model_accuracy"),
            ("ROC AUC", "model_roc_auc"),
            ("f1-score (macro)", "model_f1_score_macro"),
            ("__x__", "model_x"),
            ("rows_total", "model_rows_total_value"),
            ("count", "model_count_value"),
            ("größe", "model_gr_e"),
        ] {
            assert_eq!(name_of(metric).as_deref(), Some(name), "{metric}");
        }
        assert_eq!((name_of("точность"), name_of("%"), name_of("")), (None, None, None));
    }

    #[test]
    fn the_newest_values_are_exported_and_the_others_are_counted() {
        let monitoring = Monitoring::new(&Registry::new()).unwrap();
        let mut all = vec![
            measured("default/say \"hi\"\\", Some("production"), "accuracy", 0.25),
            measured("default/iris", None, "accuracy", 1e21),
            measured("default/iris", Some("dev"), "f1", 0.5),
            measured("default/iris", Some("dev"), "F1", 0.25),
            measured("default/iris", Some("dev"), "%", 1.0),
        ];
        all.push(Measured { value: None, ..measured("default/iris", Some("dev"), "huge", 0.0) });
        monitoring.measured(&all).unwrap();
        let lines = text(&monitoring);
        for line in [
            "# TYPE model_accuracy gauge",
            r#"model_accuracy{channel="production",model="say \"hi\"\\",version="3",workspace="default"} 0.25"#,
            r#"model_accuracy{channel="",model="iris",version="3",workspace="default"} 1000000000000000000000"#,
            r#"model_f1{channel="dev",model="iris",version="3",workspace="default"} 0.5"#,
        ] {
            assert!(lines.contains(line), "{line} is not in\n{lines}");
        }
        assert_eq!((monitoring.left_out.get(), lines.matches("\nmodel_").count()), (3, 3), "{lines}");

        let many: Vec<_> = (0..SERIES_MAX + 7).map(|n| measured(&format!("default/m{n}"), Some("dev"), "accuracy", 1.0)).collect();
        monitoring.measured(&many).unwrap();
        let lines = text(&monitoring);
        assert_eq!((monitoring.left_out.get(), lines.matches("\nmodel_accuracy{").count()), (7, SERIES_MAX));
        assert!(lines.contains("model=\"m0\"") && !lines.contains(&format!("model=\"m{SERIES_MAX}\"")), "the newest come first");
        monitoring.measured(&[]).unwrap();
        assert_eq!((text(&monitoring).as_str(), monitoring.left_out.get()), ("", 0));
    }
}
