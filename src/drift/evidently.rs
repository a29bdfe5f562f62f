//! Evidently's reports: the JSON of `Report.run(…).save_json(…)`, as version 0.7 writes it (form `metric_v2`).
//!
//! What counts as drift is the report's own word. A test that failed is one. Without tests, `DriftedColumnsCount`
//! compares its share of columns with its own `drift_share`, and a `ValueDrift` that stands alone its score with its
//! own threshold, in the direction that Evidently's documentation gives for the method; a method whose direction is
//! not known here decides nothing.

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use super::{Drift, Finding, Moved, Report, Tool, Unreadable};

/// Begins the type of each metric that the library brings.
const METRIC: &str = "evidently:metric_v2:";
/// The test that `include_tests` gives to a column's drift: it repeats the metric's own verdict.
const OWN_TEST: &str = "evidently:test_v2:ValueDriftTest";
/// Metrics of how good a model is; others that are no drift tell of the data's quality.
const PERFORMANCE: [&str; 24] = [
    "Accuracy",
    "Precision",
    "Recall",
    "F1Score",
    "TPR",
    "TNR",
    "FPR",
    "FNR",
    "RocAuc",
    "LogLoss",
    "F1ByLabel",
    "PrecisionByLabel",
    "RecallByLabel",
    "RocAucByLabel",
    "MAE",
    "MAPE",
    "RMSE",
    "R2Score",
    "MeanError",
    "AbsMaxError",
    "Personalization",
    "Diversity",
    "Serendipity",
    "Novelty",
];

/// On which side of the threshold a method's score is a drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Below,
    AtOrBelow,
    AtOrAbove,
    Above,
}

/// Methods by the name that the report has after it chose one, and by the id that a caller chooses one with.
const METHODS: [(&[&str], Side); 18] = [
    (&["K-S p_value", "ks"], Side::AtOrBelow),
    (&["Cramer-von Mises", "cramer_von_mises"], Side::AtOrBelow),
    (&["chi-square p_value", "chisquare"], Side::Below),
    (&["Z-test p_value", "z"], Side::Below),
    (&["Anderson-Darling", "anderson"], Side::Below),
    (&["Epps-Singleton", "es"], Side::Below),
    (&["Fisher's Exact test", "fisher_exact"], Side::Below),
    (&["g_test"], Side::Below),
    (&["Mann-Whitney U-rank test", "mannw"], Side::Below),
    (&["empirical_mmd"], Side::Below),
    (&["t_test"], Side::Below),
    (&["Total-Variation-Distance", "TVD"], Side::Below),
    (&["Energy-distance", "ed"], Side::Above),
    (&["Hellinger distance", "hellinger"], Side::AtOrAbove),
    (&["Jensen-Shannon distance", "jensenshannon"], Side::AtOrAbove),
    (&["Kullback-Leibler divergence", "kl_div"], Side::AtOrAbove),
    (&["PSI", "psi"], Side::AtOrAbove),
    (&["Wasserstein distance (normed)", "wasserstein"], Side::AtOrAbove),
];

#[derive(Deserialize)]
struct File {
    metrics: Vec<Metric>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Metric {
    id: String,
    config: Config,
    value: Value,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "type")]
    kind: String,
    column: Option<String>,
    method: Option<String>,
    threshold: Option<f64>,
    drift_share: Option<f64>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    status: String,
    metric_config: MetricConfig,
    #[serde(default)]
    test_config: Value,
    #[serde(default)]
    bound_test: Value,
}

#[derive(Deserialize)]
struct MetricConfig {
    metric_id: String,
}

/// See [`super::read`].
pub(super) fn read(bytes: &[u8]) -> Result<Report, Unreadable> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| match e.classify() {
        Category::Eof => Unreadable::Truncated(format!("its JSON ends in line {}, column {}", e.line(), e.column())),
        _ => malformed(format!("it is not JSON: {e}")),
    })?;
    let object = value.as_object().ok_or_else(|| malformed("it is not a JSON object"))?;
    if let Some(version) = object.get("version").and_then(Value::as_str) {
        let version: String = version.chars().take(32).collect();
        return Err(unsupported(format!("it is a report in the form before 0.7, written by Evidently {version}")));
    }
    if object.contains_key("metric_results") {
        return Err(unsupported("it is a snapshot with its pictures (`dumps`, or a workspace)"));
    }
    let missing = ["metrics", "tests"].into_iter().find(|name| !object.contains_key(*name));
    if let Some(name) = missing {
        return Err(malformed(format!("the member `{name}` is missing")));
    }
    let other = |metric: &&Value| metric["config"]["type"].as_str().is_some_and(is_other_form);
    if let Some(metric) = object["metrics"].as_array().and_then(|metrics| metrics.iter().find(other)) {
        return Err(unsupported(format!("it has metrics of the form {}", metric["config"]["type"])));
    }
    let file = File::deserialize(&value).map_err(|e| malformed(e.to_string()))?;
    Judge::new(&file).judge()
}

/// A metric of Evidently's own, but not of the form that is read here.
fn is_other_form(kind: &str) -> bool {
    kind.starts_with("evidently:metric") && !kind.starts_with(METRIC)
}

fn malformed(what: impl Into<String>) -> Unreadable {
    Unreadable::Malformed(Tool::Evidently, what.into())
}

fn unsupported(what: impl Into<String>) -> Unreadable {
    Unreadable::Unsupported(Tool::Evidently, what.into())
}

/// What was found so far.
struct Judge<'a> {
    file: &'a File,
    findings: Vec<Finding>,
    /// Columns that moved.
    features: Vec<String>,
    /// Verdicts that the file has.
    judged: usize,
    /// What the file does not decide.
    open: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, findings: Vec::new(), features: Vec::new(), judged: 0, open: Vec::new() }
    }

    fn judge(mut self) -> Result<Report, Unreadable> {
        let file = self.file;
        let is_whole = file.metrics.iter().any(|metric| metric.is("DriftedColumnsCount"));
        for metric in file.metrics.iter().filter(|metric| metric.is("ValueDrift")) {
            self.column(metric, is_whole)?;
        }
        for metric in file.metrics.iter().filter(|metric| metric.is("DriftedColumnsCount")) {
            self.columns(metric)?;
        }
        for test in file.tests.iter().filter(|test| !test.is_own()) {
            self.test(test)?;
        }
        let undecided = |what: String| Unreadable::Undecided(Tool::Evidently, what);
        if self.findings.is_empty() && !self.open.is_empty() {
            return Err(undecided(super::spelt(self.open.into_iter())));
        }
        if self.judged == 0 {
            return Err(undecided("it has neither a metric of drift nor a test".into()));
        }
        Ok(Report { judged: self.judged, drift: Drift::of(self.findings, self.features, None, "") })
    }

    /// One column. If the report also judges all columns together, that verdict counts, and the column is only named.
    fn column(&mut self, metric: &Metric, is_whole: bool) -> Result<(), Unreadable> {
        let Config { column, method, threshold, .. } = &metric.config;
        let (Some(column), Some(method)) = (column, method) else {
            return Err(malformed("a ValueDrift names no column or no method"));
        };
        let score = metric.value.as_f64().ok_or_else(|| malformed(format!("the drift of the column `{column}` is no number")))?;
        let own = self.file.tests.iter().find(|test| test.metric_config.metric_id == metric.id && test.is_own());
        let verdict = match own.map(|test| test.status.as_str()) {
            Some("FAIL") => Some(true),
            Some("SUCCESS") => Some(false),
            _ => threshold.and_then(|threshold| has_moved(method, score, threshold)),
        };
        if verdict == Some(true) {
            self.features.push(column.clone());
        }
        match verdict {
            _ if is_whole => {}
            None => self.open.push(format!("the column `{column}` was judged by `{method}`")),
            Some(moved) => {
                self.judged += 1;
                let (metric, feature) = (method.clone(), Some(column.clone()));
                let finding = Finding { moved: Moved::Data, metric, observed: score, threshold: *threshold, feature };
                self.findings.extend(moved.then_some(finding));
            }
        }
        Ok(())
    }

    /// All columns together, unless tests say it.
    fn columns(&mut self, metric: &Metric) -> Result<(), Unreadable> {
        if self.file.tests.iter().any(|test| test.metric_config.metric_id == metric.id) {
            return Ok(());
        }
        let (share, limit) = (metric.value["share"].as_f64(), metric.config.drift_share);
        let (Some(share), Some(limit)) = (share, limit) else {
            return Err(malformed("a DriftedColumnsCount has no share, or no drift_share"));
        };
        self.judged += 1;
        if share >= limit {
            let metric = "share of drifted columns".into();
            self.findings.push(Finding { moved: Moved::Data, metric, observed: share, threshold: Some(limit), feature: None });
        }
        Ok(())
    }

    fn test(&mut self, test: &Test) -> Result<(), Unreadable> {
        match test.status.as_str() {
            "SUCCESS" | "WARNING" => self.judged += 1,
            "SKIPPED" => {}
            "ERROR" => self.open.push(format!("the test `{}` could not be made", test.name)),
            "FAIL" => {
                self.judged += 1;
                let id = &test.metric_config.metric_id;
                let metric = self.file.metrics.iter().find(|metric| metric.id == *id);
                let metric = metric.ok_or_else(|| malformed(format!("the metric of the test `{}` is missing", test.name)))?;
                match (metric.moved(), figure(&metric.value, &test.bound_test)) {
                    (Some(moved), Some((observed, part))) => {
                        let (threshold, feature) = (test.test_config["threshold"].as_f64(), metric.config.column.clone());
                        self.findings.push(Finding { moved, metric: metric.told(&part), observed, threshold, feature });
                    }
                    (None, _) => self.open.push(format!("the test `{}` failed, whose metric is not one of Evidently's own", test.name)),
                    (_, None) => self.open.push(format!("the test `{}` failed, and has no single figure", test.name)),
                }
            }
            other => return Err(malformed(format!("a test has the status `{other}`"))),
        }
        Ok(())
    }
}

impl Metric {
    fn name(&self) -> &str {
        self.config.kind.strip_prefix(METRIC).unwrap_or(&self.config.kind)
    }

    fn is(&self, name: &str) -> bool {
        self.config.kind.strip_prefix(METRIC) == Some(name)
    }

    /// None for a metric that somebody wrote: what it measures is not known.
    fn moved(&self) -> Option<Moved> {
        Some(match self.config.kind.strip_prefix(METRIC)? {
            "ValueDrift" | "DriftedColumnsCount" => Moved::Data,
            name if PERFORMANCE.contains(&name.strip_prefix("Dummy").unwrap_or(name)) => Moved::Performance,
            _ => Moved::Quality,
        })
    }

    /// What the event calls it.
    fn told(&self, part: &str) -> String {
        match (self.name(), &self.config.method) {
            ("DriftedColumnsCount", _) => format!("{part} of drifted columns"),
            ("ValueDrift", Some(method)) => method.clone(),
            (name, _) if part.is_empty() => name.to_owned(),
            (name, _) => format!("{name} {part}"),
        }
    }
}

impl Test {
    fn is_own(&self) -> bool {
        self.bound_test["test"]["type"] == OWN_TEST
    }
}

/// Whether a score is a drift; `None` for a method whose direction is not known here.
fn has_moved(method: &str, score: f64, threshold: f64) -> Option<bool> {
    let (_, side) = METHODS.iter().find(|(names, _)| names.contains(&method))?;
    Some(match side {
        Side::Below => score < threshold,
        Side::AtOrBelow => score <= threshold,
        Side::AtOrAbove => score >= threshold,
        Side::Above => score > threshold,
    })
}

/// The figure of a metric that a test looked at, and what part of the metric it is.
fn figure(value: &Value, test: &Value) -> Option<(f64, String)> {
    if let Some(figure) = value.as_f64() {
        return Some((figure, String::new()));
    }
    let label = match &test["label"] {
        Value::String(label) => Some(label.clone()),
        Value::Null => None,
        other => Some(other.to_string()), // a label may be a number or a truth value, and is a member's name all the same
    };
    let part = match (&test["is_count"], &test["is_mean"], label, test["slot"].as_str()) {
        (Value::Bool(true), ..) => "count".to_owned(),
        (Value::Bool(false), ..) => "share".to_owned(),
        (_, Value::Bool(true), ..) => "mean".to_owned(),
        (_, Value::Bool(false), ..) => "std".to_owned(),
        (_, _, Some(label), None) => label,
        _ => return None,
    };
    Some((value.get(&part)?.as_f64()?, part))
}
