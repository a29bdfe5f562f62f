//! The registry's documents: what the doors answer with, as JSON.
//!
//! Times are RFC 3339 with milliseconds (when the engine recorded the event). What a producer sent
//! (tags, performance, results …) is kept byte for byte.
#![allow(missing_docs)] // a field is named as in the events and in the published JSON; words are added where that does not say it

use std::collections::BTreeMap;

use annals_events::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use crate::shelf::Entity;
use crate::table::Cell;

type Text = Box<str>;
type Raw = Option<Box<RawValue>>;

/// How many evaluations and how many approvals a version's document holds: the last ones.
pub const KEPT_MAX: usize = 50;

/// A model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    pub workspace: Text,
    pub name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_tier: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Raw,
    pub policy: Text,
    pub latest_version: Option<u64>,
    pub versions: u64,
    /// Channel → version.
    pub channels: BTreeMap<Text, u64>,
    /// Alias → version.
    pub aliases: BTreeMap<Text, u64>,
    /// `healthy` or `drifted`.
    pub health: Text,
    /// Ids of the drifts that are not resolved.
    pub open_drifts: Vec<Text>,
    pub open_retrains: Vec<Retrain>,
    pub created: Text,
    pub created_by: Text,
}

/// A retraining that no version has answered yet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retrain {
    pub dedup: Text,
    pub drift: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Raw,
    pub requested: Text,
    pub requested_by: Text,
    pub event: Text,
}

/// A version.
#[derive(Debug, Serialize, Deserialize)]
pub struct Version {
    pub workspace: Text,
    pub model: Text,
    pub version: u64,
    pub label: Option<Text>,
    /// `registered` or `retired`.
    pub status: Text,
    pub digest: Option<Text>,
    /// Whether there is no digest, so that nobody can tell whether the bytes are the same.
    pub unpinned: bool,
    pub uri: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Raw,
    pub run: Option<Text>,
    /// Whether that run was never reported here.
    pub external_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_card: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Raw,
    pub channels: Vec<Text>,
    pub aliases: Vec<Text>,
    pub evaluations: Vec<Evaluation>,
    pub approvals: Vec<Approval>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retirement>,
    pub created: Text,
    pub created_by: Text,
    pub updated: Text,
    /// The model's sequence at the last event that changed this document.
    pub modelseq: u64,
    /// Id of the event that registered it.
    pub event: Text,
}

/// One evaluation of a version.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// `passed` or `failed`.
    pub verdict: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Raw,
    pub digest: Option<Text>,
    pub evaluated: Text,
    pub evaluated_by: Text,
    pub event: Text,
}

/// One approval that was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Approval {
    pub approval: Text,
    pub channel: Text,
    /// `requested`, `approved` or `rejected`.
    pub state: Text,
    pub requester: Text,
    pub requested: Text,
    pub approver: Option<Text>,
    pub decided: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Raw,
    /// Id of the event that made it what it is.
    pub event: Text,
}

/// When and why a version was retired.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retirement {
    pub retired: Text,
    pub retired_by: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Raw,
    pub event: Text,
}

/// A channel and the version that it holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Channel {
    pub workspace: Text,
    pub model: Text,
    pub channel: Text,
    pub version: u64,
    pub label: Option<Text>,
    pub digest: Option<Text>,
    /// When the channel got it.
    pub since: Text,
    pub actor: Text,
    /// The version that the channel held before.
    pub previous: Option<u64>,
    pub approvals: Vec<Text>,
    pub rollback_of: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Raw,
    pub modelseq: u64,
    /// Id of the promotion.
    pub event: Text,
}

/// An alias and the version that it names.
#[derive(Debug, Serialize, Deserialize)]
pub struct Alias {
    pub workspace: Text,
    pub model: Text,
    pub alias: Text,
    pub version: u64,
    pub label: Option<Text>,
    pub digest: Option<Text>,
    pub since: Text,
    pub actor: Text,
    pub previous: Option<u64>,
    pub modelseq: u64,
    pub event: Text,
}

/// A version on a target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deployment {
    pub workspace: Text,
    pub model: Text,
    pub deployment: Text,
    pub version: u64,
    pub digest: Option<Text>,
    /// `platform/cluster/namespace/name`.
    pub target: Text,
    pub channel: Option<Text>,
    /// `requested`, `active`, `failed`, `superseded`, `removed` or `rolled_back`.
    pub state: Text,
    pub requested: Text,
    pub requested_by: Text,
    /// When it came up, the last time.
    pub active: Option<Text>,
    /// When it failed, was superseded, removed or rolled back.
    pub ended: Option<Text>,
    pub endpoint: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Raw,
    pub replaces: Option<Text>,
    pub replaced_by: Option<Text>,
    pub modelseq: u64,
    /// Id of the event that made it what it is.
    pub event: Text,
}

/// A drift that was seen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Drift {
    pub workspace: Text,
    pub model: Text,
    pub drift: Text,
    pub version: Option<u64>,
    /// `open` or `resolved`.
    pub state: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Raw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Raw,
    pub detected: Text,
    pub detected_by: Text,
    pub resolved: Option<Text>,
    pub resolved_by: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Raw,
    pub modelseq: u64,
    /// Id of the event that made it what it is.
    pub event: Text,
}

/// What was measured last of a version in one metric.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub version: u64,
    pub metric: Text,
    /// As the producer sent it.
    pub value: Raw,
    pub measured: Text,
    /// Id of the measurement.
    pub event: Text,
}

impl Measurement {
    /// A version is a number, so the first blank ends it.
    pub(super) fn identity_of(version: u64, metric: &str) -> Cell {
        format!("{version} {metric}").into()
    }
}

impl Entity for Model {
    const TABLE: usize = 0;
    fn identity(&self) -> Cell {
        Cell::from(&*self.name)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        row.extend([Cell::from(&*self.workspace), Cell::from(&*self.health), Cell::maybe_count(self.latest_version)]);
    }
}

impl Entity for Version {
    const TABLE: usize = 2;
    fn identity(&self) -> Cell {
        Cell::count(self.version)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        let (label, run) = (Cell::maybe(self.label.as_deref()), Cell::maybe(self.run.as_deref()));
        row.extend([label, run, Cell::maybe(self.digest.as_deref()), Cell::from(&*self.status)]);
    }
}

impl Entity for Channel {
    const TABLE: usize = 3;
    fn identity(&self) -> Cell {
        Cell::from(&*self.channel)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        let recorded = Timestamp::parse(&self.since).map_or(0, |t| t.0);
        row.extend([Cell::count(self.version), Cell::maybe(self.digest.as_deref()), Cell::Int(recorded)]);
    }
}

impl Entity for Alias {
    const TABLE: usize = 4;
    fn identity(&self) -> Cell {
        Cell::from(&*self.alias)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        row.push(Cell::count(self.version));
    }
}

impl Entity for Deployment {
    const TABLE: usize = 5;
    fn identity(&self) -> Cell {
        Cell::from(&*self.deployment)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        row.extend([Cell::count(self.version), Cell::from(&*self.target), Cell::from(&*self.state)]);
    }
}

impl Entity for Drift {
    const TABLE: usize = 6;
    fn identity(&self) -> Cell {
        Cell::from(&*self.drift)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        row.extend([Cell::maybe_count(self.version), Cell::from(&*self.state)]);
    }
}

impl Entity for Measurement {
    const TABLE: usize = 7;
    fn identity(&self) -> Cell {
        Self::identity_of(self.version, &self.metric)
    }
    fn columns(&self, row: &mut Vec<Cell>) {
        let recorded = Timestamp::parse(&self.measured).map_or(0, |t| t.0);
        row.extend([Cell::count(self.version), Cell::Int(recorded)]);
    }
}
