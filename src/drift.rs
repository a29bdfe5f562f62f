//! Drift reports of other tools: from a file's bytes to what the file says, and nothing that it does not say.
//!
//! A report that found drift becomes one `drift.detected` event, a report that found none becomes no event, and
//! whatever cannot be told from the file is refused with what to do. No file here names the version of the tool that
//! wrote it, so the form alone is recognised, and nobody is told a version that nobody knows.

pub mod evidently;
pub mod nannyml;

use annals_events::names::Key;
use annals_events::record::Hash;
use serde::Serialize;

/// Largest file that is read, in bytes.
pub const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most features that an event names: the schema's limit. The file has all of them.
const FEATURES_MAX: usize = 1000;
/// Findings and features that the reason spells out.
const SPELT_MAX: usize = 12;
/// Characters of a name, as the reason tells it.
const NAME_CHARS_MAX: usize = 60;

/// Whose report it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Evidently: what `Report.run(…).save_json(…)` writes.
    Evidently,
    /// NannyML: what `RawFilesWriter` writes as CSV, which is `to_df(multilevel=False).to_csv()`.
    Nannyml,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How many verdicts are in it.
    pub judged: usize,
    /// The drift, if one of them is one.
    pub drift: Option<Drift>,
}

/// The drift that a report found.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The gravest finding, and the first one of those.
    pub head: Finding,
    /// What it was measured over, as far as the file tells.
    pub window: Option<Window>,
    /// The columns that moved.
    pub features: Vec<String>,
    /// All findings in words.
    pub reason: String,
}

/// What moved: the schema's words, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Moved {
    /// How good the model is, measured or estimated.
    Performance,
    /// What goes in, or comes out.
    Data,
    /// How whole the data is.
    Quality,
}

/// One verdict that is bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What moved.
    pub moved: Moved,
    /// The tool's own name of the metric.
    pub metric: String,
    /// The figure, in the metric's own unit.
    pub observed: f64,
    /// The figure that it crossed, if the file has one figure for it.
    pub threshold: Option<f64>,
    /// The column that it is about.
    pub feature: Option<String>,
}

/// A window of time or of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    /// First moment (RFC 3339); none if the file does not tell the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last moment, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// How many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// Why a file says nothing: a state with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends too early.
    #[error("the report is cut off: {0}")]
    Truncated(String),
    /// It is no report at all, or a broken one.
    #[error("this is no report of {tool}: {what}", tool = .0.name(), what = .1)]
    Malformed(Tool, String),
    /// It is one, but of another version or in another form.
    #[error("{what}, and that form is not read", what = .1)]
    Unsupported(Tool, String),
    /// It is one, but does not say whether there is drift.
    #[error("the report does not say whether there is drift: {1}")]
    Undecided(Tool, String),
    /// It is too large to be read.
    #[error("the report is larger than {REPORT_BYTES_MAX} bytes")]
    TooLarge,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Evidently, Self::Nannyml];

    /// The word that flags and queries have for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evidently => "evidently",
            Self::Nannyml => "nannyml",
        }
    }

    /// The tool of this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == word)
    }

    /// The form that is read, and how the tool writes it.
    #[must_use]
    pub fn form(self) -> &'static str {
        match self {
            Self::Evidently => "the JSON that `Report(…).run(current, reference).save_json(FILE)` of Evidently 0.7 writes",
            Self::Nannyml => "the CSV that `RawFilesWriter(…).write(result, filename=…, format=\"csv\")` of NannyML 0.13 writes",
        }
    }

    /// `source` of its events: ids are unique within it, whatever door they came through.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::Evidently => "/drift/evidently",
            Self::Nannyml => "/drift/nannyml",
        }
    }

    /// Who noticed the drift, as far as the file tells.
    fn detector(self) -> &'static str {
        match self {
            Self::Evidently => "evidently (form metric_v2)",
            Self::Nannyml => "nannyml (CSV)",
        }
    }
}

impl Unreadable {
    /// The stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated(_) => "report-truncated",
            Self::Malformed(..) => "report-malformed",
            Self::Unsupported(..) => "report-unsupported",
            Self::Undecided(..) => "report-undecided",
            Self::TooLarge => "too-large",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        const BY_HAND: &str = "or say it yourself: `annals emit drifted`";
        match self {
            Self::Truncated(_) => "write the file again and send it whole; nothing was recorded".into(),
            Self::Malformed(tool, _) | Self::Unsupported(tool, _) => format!("send {}, {BY_HAND}", tool.form()),
            Self::Undecided(Tool::Evidently, _) => {
                format!("put `DataDriftPreset()` into the report, or tests (`include_tests=True`), {BY_HAND}")
            }
            Self::Undecided(Tool::Nannyml, _) => format!("calculate it for an analysis period, with thresholds, {BY_HAND}"),
            Self::TooLarge => format!("report fewer columns or chunks, {BY_HAND}"),
        }
    }
}

/// Reads a report.
///
/// # Errors
/// [`Unreadable`], whatever the bytes are.
pub fn read(tool: Tool, bytes: &[u8]) -> Result<Report, Unreadable> {
    if bytes.len() > REPORT_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Unreadable::Truncated("it is empty".into()));
    }
    match tool {
        Tool::Evidently => evidently::read(bytes),
        Tool::Nannyml => nannyml::read(bytes),
    }
}

impl Drift {
    /// Of these findings; none if there are none.
    fn of(mut findings: Vec<Finding>, features: Vec<String>, window: Option<Window>, remark: &str) -> Option<Self> {
        findings.sort_by_key(|finding| finding.moved); // stable: the file's order within a kind
        let mut reason = spelt(findings.iter().map(told));
        if !features.is_empty() {
            reason += &format!("; columns: {}", spelt(features.iter().map(|name| short(name))));
        }
        if !remark.is_empty() {
            reason += &format!("; {remark}");
        }
        let features = features.into_iter().take(FEATURES_MAX).collect();
        Some(Self { head: findings.into_iter().next()?, window, features, reason })
    }
}

/// `accuracy 0.3 (threshold 0.945)`.
fn told(finding: &Finding) -> String {
    let mut text = format!("{} {}", short(&finding.metric), finding.observed);
    if let Some(feature) = &finding.feature {
        text += &format!(" of {}", short(feature));
    }
    if let Some(threshold) = finding.threshold {
        text += &format!(" (threshold {threshold})");
    }
    text
}

fn short(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// The first ones in words, and how many more there are.
fn spelt(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let mut text = all[..all.len().min(SPELT_MAX)].join(", ");
    if all.len() > SPELT_MAX {
        text += &format!(" and {} more", all.len() - SPELT_MAX);
    }
    text
}

/// A drift as a proposal: the same file and model give the same one, through whatever door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The CloudEvents id: it follows from the file's digest and the model.
    pub id: String,
    /// The CloudEvents source.
    pub source: &'static str,
    /// The payload of `drift.detected`: JSON.
    pub data: String,
}

#[derive(Serialize)]
struct Payload<'a> {
    drift: String,
    kind: Moved,
    metric: &'a str,
    observed: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a Window>,
    detector: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    features: &'a [String],
    source: Origin<'a>,
    reason: &'a str,
    evidence: [Evidence<'a>; 1],
}

#[derive(Serialize)]
struct Origin<'a> {
    digest: &'a str,
}

#[derive(Serialize)]
struct Evidence<'a> {
    kind: &'a str,
    digest: &'a str,
}

/// `sha256:…` of a file.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Hash::of(bytes))
}

/// The proposal that a report's drift is. `detector` says who noticed it, if somebody knows more than the file.
///
/// # Errors
/// If the payload cannot be written, which it can.
pub fn propose(tool: Tool, file: &[u8], key: &Key, drift: &Drift, detector: Option<&str>) -> Result<Proposed, serde_json::Error> {
    let digest = digest(file);
    let of_model = Hash::of(format!("{digest} {key}").as_bytes()).to_string();
    let payload = Payload {
        drift: format!("{}-{}", tool.name(), &digest["sha256:".len()..][..16]),
        kind: drift.head.moved,
        metric: &drift.head.metric,
        observed: drift.head.observed,
        threshold: drift.head.threshold,
        window: drift.window.as_ref(),
        detector: detector.unwrap_or_else(|| tool.detector()),
        features: &drift.features,
        source: Origin { digest: &digest },
        reason: &drift.reason,
        evidence: [Evidence { kind: "report", digest: &digest }],
    };
    Ok(Proposed { id: format!("drift-{}", &of_model[..32]), source: tool.source(), data: serde_json::to_string(&payload)? })
}

#[cfg(test)]
mod tests;
