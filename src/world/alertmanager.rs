//! Alertmanager's webhook: an alert that fires is a drift, and one that is resolved is that drift's end.
//!
//! An alert is one by its fingerprint and the time at which it began. The ids of both events and of the
//! drift follow from these two, so that a notice that comes again says nothing new, and the end finds the
//! beginning. What an event must have and the alert does not say is not made up: such an alert is no
//! proposal, and its refusal says what the alert's rule lacks.
//!
//! Source: Alertmanager's documentation of `webhook_config`, payloads of version 4.

use std::collections::BTreeMap;

use annals_events::kind::Kind;
use annals_events::names::Key;
use annals_events::proposal::Proposal;
use annals_events::record::Hash;
use annals_events::time::Timestamp;
use annals_events::verdict::{Code, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value, json};

/// The source of what comes in here.
pub const SOURCE: &str = "/alertmanager";
/// The version of the payload that is read.
pub const VERSION: &str = "4";
/// Most alerts of one notice.
pub const ALERTS_MAX: usize = 10_000;
/// Most characters of a reason, as the schema has it.
const REASON_MAX: usize = 4_096;
/// Most characters of a report's address, as the schema has it.
const URI_MAX: usize = 2_048;

type Texts = BTreeMap<String, String>;

/// What Alertmanager sent in one request.
#[derive(Debug)]
pub struct Notice {
    /// How many alerts it left out, because it was told to send no more.
    pub truncated: u64,
    /// Each alert as what it proposes, in the notice's order.
    pub alerts: Vec<Result<Proposal, Refusal>>,
}

/// Why a request is no notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Not what Alertmanager sends.
    #[error("the body is not what Alertmanager sends: {0}")]
    Malformed(String),
    /// Of another version.
    #[error("the payload is of version {0}, and only version \"{VERSION}\" is read")]
    Version(String),
    /// Too long.
    #[error("the notice has {0} alerts, and {ALERTS_MAX} are allowed")]
    TooMany(usize),
}

#[derive(Deserialize)]
struct Head {
    version: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(default)]
    truncated_alerts: u64,
    #[serde(borrow)]
    alerts: Vec<&'a RawValue>,
}

/// One alert. What it may hold besides is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: String,
    labels: Texts,
    #[serde(default)]
    annotations: Texts,
    starts_at: String,
    #[serde(default)]
    ends_at: String,
    #[serde(default, rename = "generatorURL")]
    generator: String,
    fingerprint: String,
}

/// Reads a notice; alerts without the label `workspace` are about models of this one.
///
/// # Errors
/// [`Unread`]. An alert that cannot be read is one of [`Notice::alerts`] all the same.
pub fn read(body: &[u8], workspace: &str) -> Result<Notice, Unread> {
    let malformed = |e: serde_json::Error| Unread::Malformed(e.to_string());
    let Head { version } = serde_json::from_slice(body).map_err(malformed)?;
    match version {
        Some(Value::String(version)) if version == VERSION => {}
        Some(other) => return Err(Unread::Version(other.to_string().chars().take(64).collect())),
        None => return Err(Unread::Malformed("it has no member `version`".into())),
    }
    let payload: Payload<'_> = serde_json::from_slice(body).map_err(malformed)?;
    if payload.alerts.len() > ALERTS_MAX {
        return Err(Unread::TooMany(payload.alerts.len()));
    }
    let truncated = payload.truncated_alerts;
    Ok(Notice { truncated, alerts: payload.alerts.iter().map(|raw| proposal(raw, workspace, truncated)).collect() })
}

fn proposal(raw: &RawValue, workspace: &str, truncated: u64) -> Result<Proposal, Refusal> {
    let alert: Alert = serde_json::from_str(raw.get())
        .map_err(|e| malformed(format!("an alert is not as Alertmanager sends it: {e}"), "send what Alertmanager sends"))?;
    let began = Timestamp::parse(&alert.starts_at).map_err(|e| malformed(format!("`startsAt`: {e}"), "send what Alertmanager sends"))?;
    if alert.fingerprint.is_empty() || alert.fingerprint.len() > 64 {
        return Err(malformed("an alert has no proper fingerprint", "send what Alertmanager sends"));
    }
    let drift = format!("alert-{}-{began}", alert.fingerprint);
    let (kind, time, data) = match alert.status.as_str() {
        "firing" => (Kind::DriftDetected, &alert.starts_at, alert.drifted(&drift, raw, truncated)?),
        "resolved" => (Kind::DriftResolved, &alert.ends_at, alert.resolved(&drift)),
        other => {
            let message = format!("the alert `{}` has the status `{other}`", alert.name());
            return Err(malformed(message, "send `firing` or `resolved`, as Alertmanager does"));
        }
    };
    let key = alert.key(workspace)?;
    let subject = alert.label("version").map_or_else(|| key.to_string(), |version| format!("{key}/{version}"));
    let attributes = [
        ("specversion", "1.0"),
        ("id", &format!("{}-{began}-{}", alert.fingerprint, alert.status)),
        ("source", SOURCE),
        ("type", kind.name()),
        ("subject", &subject),
        ("time", time),
        ("actor", "alertmanager"),
    ];
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Proposal::from_parts(attributes, Value::Object(data).to_string(), Some(key.as_str().as_bytes()))
}

impl Alert {
    /// An empty label is none, in Prometheus too.
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn name(&self) -> &str {
        self.label("alertname").unwrap_or("without a name")
    }

    fn key(&self, workspace: &str) -> Result<Key, Refusal> {
        let Some(model) = self.label("model") else {
            let message = format!("the alert `{}` has no label `model`, so it is about no model", self.name());
            return Err(malformed(message, "give its rule the label `model`, or route it to another receiver"));
        };
        let workspace = self.label("workspace").unwrap_or(workspace);
        Key::new(workspace, model).map_err(|e| malformed(format!("the alert `{}`: {e}", self.name()), "name a model in its label `model`"))
    }

    /// An annotation that is a number.
    fn number(&self, name: &str) -> Result<Option<Number>, Refusal> {
        let Some(text) = self.annotation(name) else { return Ok(None) };
        let number = text.trim().parse::<f64>().ok().and_then(Number::from_f64);
        number.map(Some).ok_or_else(|| {
            let found: String = text.chars().take(64).collect();
            let message = format!("the annotation `{name}` of the alert `{}` is `{found}`, which is no number", self.name());
            malformed(message, format!("annotate its rule with a bare number, such as {name}: \"{{{{ $value }}}}\""))
        })
    }

    /// The data of `drift.detected`.
    fn drifted(&self, drift: &str, raw: &RawValue, truncated: u64) -> Result<Map<String, Value>, Refusal> {
        let Some(observed) = self.number("value")? else {
            let message = format!("the alert `{}` does not say what was observed: it has no annotation `value`", self.name());
            return Err(malformed(message, "annotate its rule with value: \"{{ $value }}\""));
        };
        let said = |name: &str| self.label(name).or_else(|| self.annotation(name));
        let mut data = Map::new();
        let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
        put("drift", drift.into());
        put("kind", said("kind").unwrap_or("performance").into());
        put("metric", said("metric").unwrap_or_else(|| self.name()).into());
        put("observed", observed.into());
        for name in ["baseline", "threshold"] {
            if let Some(number) = self.number(name)? {
                put(name, number.into());
            }
        }
        // other words, such as `page`, say how urgent an alert is, and stay among the labels
        if let Some(severity) = self.label("severity").filter(|word| ["low", "medium", "high", "critical"].contains(word)) {
            put("severity", severity.into());
        }
        put("detector", format!("alert {}", self.name()).into());
        if let Some(reason) = self.annotation("summary").or_else(|| self.annotation("description")) {
            put("reason", reason.chars().take(REASON_MAX).collect::<String>().into());
        }
        let mut source = json!({"digest": format!("sha256:{}", Hash::of(raw.get().as_bytes()))});
        if (1..=URI_MAX).contains(&self.generator.chars().count()) {
            source["uri"] = self.generator.as_str().into();
        }
        put("source", source);
        let mut labels = self.labels.clone();
        if truncated > 0 {
            labels.insert("truncated_alerts".into(), truncated.to_string());
        }
        put("labels", json!(labels));
        Ok(data)
    }

    /// The data of `drift.resolved`.
    fn resolved(&self, drift: &str) -> Map<String, Value> {
        let reason = format!("the alert {} is resolved", self.name()).chars().take(REASON_MAX).collect::<String>();
        let data = json!({"drift": drift, "reason": reason, "labels": self.labels});
        data.as_object().cloned().unwrap_or_default()
    }
}

fn malformed(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, message, remedy)
}

#[cfg(test)]
mod tests;
