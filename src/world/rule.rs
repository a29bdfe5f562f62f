//! A rule: when something happens, do something. Read from what the journal says, and checked.

pub mod fit;
pub mod read;
pub mod render;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use annals_events::kind::Kind;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cdevents::Words;

/// How long a program may run unless its rule says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time that a rule may give a program.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest cool-down.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Which kind of rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `trigger.changed`.
    Trigger,
    /// `subscription.changed`.
    Subscription,
}

impl Family {
    /// `trigger` or `subscription`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Subscription => "subscription",
        }
    }
}

/// Whether a rule is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Active,
    /// Events are matched, and what they cause waits.
    Paused,
    /// It is over; what waited is skipped.
    Removed,
}

impl State {
    /// Reads the word of the event.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Removed].into_iter().find(|state| state.as_str() == text)
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Removed => "removed",
        }
    }
}

/// A rule of a workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which kind of rule.
    pub family: Family,
    /// Its workspace: it sees no other's events.
    pub workspace: String,
    /// Its name.
    pub name: String,
    /// Which change of it this is, from 1.
    pub revision: u64,
    /// Whether it is in force.
    pub state: State,
    /// Which events it is about.
    pub when: When,
    /// What is to be done.
    pub act: Do,
    /// At most one task per model in this time.
    pub cooldown: Option<Duration>,
    /// Text with `{…}`: while a task of the same text is open, another one is not begun.
    pub dedup: Option<String>,
    /// Of a subscription: where it is.
    pub endpoint: Option<Endpoint>,
}

impl Rule {
    /// `trigger/<workspace>/<name>` or `subscription/<workspace>/<name>`: how the operational store calls it.
    #[must_use]
    pub fn id(&self) -> String {
        rule_id(self.family, &self.workspace, &self.name)
    }

    /// The subscription that it tells, by name, if it tells one.
    #[must_use]
    pub fn tells(&self) -> Option<&str> {
        match &self.act {
            Do::Webhook(webhook) => Some(&webhook.subscription),
            Do::Pipeline(Pipeline::Subscription(name)) => Some(name),
            Do::Pipeline(Pipeline::Run(_)) | Do::Command(_) | Do::Propose(_) | Do::Kubernetes(_) | Do::Git(_) | Do::Lookup(_) => None,
        }
    }
}

/// How the operational store calls a rule.
#[must_use]
pub fn rule_id(family: Family, workspace: &str, name: &str) -> String {
    format!("{}/{workspace}/{name}", family.as_str())
}

/// Where a subscription's events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The workspace.
    pub workspace: String,
    /// The subscription's name.
    pub name: String,
    /// Whether it is in force.
    pub state: State,
    /// The URL.
    pub url: String,
    /// How the events are signed.
    pub signing: Signing,
    /// In which words they are told.
    pub words: Words,
}

/// How a delivery is signed (Standard Webhooks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    /// `v1a`, Ed25519.
    #[default]
    Ed25519,
    /// `v1`, HMAC-SHA256.
    Hmac,
}

/// Which events a rule is about: all that is given must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// One of these happened; never empty.
    pub kinds: Vec<Kind>,
    /// The model, with `*` for anything.
    pub model: Option<String>,
    /// The channel, likewise.
    pub channel: Option<String>,
    /// By JSON pointer into `{"data":…,"decided":…}` the scalar that must be there.
    pub members: BTreeMap<String, Value>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Tells a subscription.
    Webhook(Webhook),
    /// Runs a program of this machine.
    Command(Command),
    /// Starts a pipeline, which reports by itself.
    Pipeline(Pipeline),
    /// Proposes an event.
    Propose(Propose),
    /// Brings a version onto a cluster.
    Kubernetes(Box<Kubernetes>),
    /// Puts a manifest into a repository.
    Git(Box<Git>),
    /// Looks a run's commit up.
    Lookup(Lookup),
}

impl Do {
    /// The member of `do` that it is.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Command(_) => "command",
            Self::Pipeline(_) => "pipeline",
            Self::Propose(_) => "propose",
            Self::Kubernetes(_) => "kubernetes",
            Self::Git(_) => "git",
            Self::Lookup(_) => "lookup",
        }
    }
}

/// Tells a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its name, in the rule's workspace.
    pub subscription: String,
}

/// Runs a program out of the directory of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The file's name in that directory.
    pub run: String,
    /// Arguments; `{…}` is filled in.
    pub args: Vec<String>,
    /// It is killed after this time.
    pub timeout: Duration,
}

/// Starts a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// By a program.
    Run(Command),
    /// By telling a subscription of this name.
    Subscription(String),
}

/// Proposes an event about the same model.
#[derive(Clone, Debug, PartialEq)]
pub struct Propose {
    /// Which.
    pub kind: Kind,
    /// Its data; `{…}` in strings is filled in.
    pub data: Map<String, Value>,
    /// The version that it is about.
    pub version: Option<VersionOf>,
}

/// Which version a proposal is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionOf {
    /// That of the event.
    Event,
    /// A number, a label or `run:ID`; `{…}` is filled in.
    Text(String),
}

/// Brings the promoted version onto a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Which of the clusters that the engine was started with.
    pub cluster: String,
    /// The namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The object's name; `{model}-{channel}` if none is given.
    #[serde(default)]
    pub name: Option<String>,
    /// The manifest.
    #[serde(default)]
    pub template: Option<String>,
    /// The built-in template, if there is no other.
    #[serde(default)]
    pub format: Option<Format>,
    /// The image, for built-in templates.
    #[serde(default)]
    pub image: Option<String>,
    /// How many, for built-in templates.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Whether to go back to the version before if it does not come up.
    #[serde(default)]
    pub rollback: bool,
    /// Whether to put right what somebody else changed.
    #[serde(default)]
    pub heal: bool,
    /// How long it may take to come up, in seconds.
    #[serde(default)]
    pub deadline_s: Option<u64>,
}

/// Puts a manifest of what a channel holds onto a branch of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The repository.
    pub repository: String,
    /// The branch; `main` if none is given.
    #[serde(default)]
    pub branch: Option<String>,
    /// The manifest's path, with `{…}`.
    #[serde(default)]
    pub path: Option<String>,
    /// The manifest, with `{…}`.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Whether a promotion is tagged; it is unless that is said.
    #[serde(default)]
    pub tag: Option<bool>,
    /// `Name <email>`.
    #[serde(default)]
    pub author: Option<String>,
}

/// Looks the commit of a run up in its repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The repository, if not the one that the run names.
    #[serde(default)]
    pub repository: Option<String>,
}

/// A built-in template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A Deployment.
    Deployment,
    /// An InferenceService of KServe.
    InferenceService,
}
