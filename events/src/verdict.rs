//! The answer to a proposal: accepted, duplicate, refused or malformed; never silence.

use serde::{Deserialize, Serialize};

use crate::kind::About;
use crate::record::View;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $code:ident $text:literal,)*) => {
        /// Why a proposal was refused: stable words that a program may match on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])* $code,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// The word, such as `label-taken`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// Reads the word.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$code),)* _ => None }
            }
        }
    };
}

codes! {
    /// Not a CloudEvent, or not JSON.
    Malformed "malformed",
    /// The CloudEvents type is not one of ours, or only the engine may write it.
    UnknownType "unknown-type",
    /// The data does not fit the type's schema.
    SchemaViolation "schema-violation",
    /// The value is over 256 KiB.
    TooLarge "too-large",
    /// The message lies in a partition that is not its key's.
    WrongPartition "wrong-partition",
    /// The same id and source came before with other content.
    IdConflict "id-conflict",
    /// The model is not at the expected sequence.
    StaleExpectation "stale-expectation",
    /// No such model.
    UnknownModel "unknown-model",
    /// The model exists already.
    ModelExists "model-exists",
    /// No such version of this model.
    UnknownVersion "unknown-version",
    /// Another version has this label.
    LabelTaken "label-taken",
    /// The run is known already.
    RunKnown "run-known",
    /// No such channel.
    UnknownChannel "unknown-channel",
    /// No such alias.
    UnknownAlias "unknown-alias",
    /// No such trigger.
    UnknownTrigger "unknown-trigger",
    /// No such subscription.
    UnknownSubscription "unknown-subscription",
    /// The subject and the data do not speak of the same thing.
    SubjectMismatch "subject-mismatch",
    /// The digest is not the version's.
    DigestMismatch "digest-mismatch",
    /// The state is so already.
    NoChange "no-change",
    /// The version, approval, deployment or drift is not in a state from which this may happen.
    IllegalTransition "illegal-transition",
    /// The version is still held by a channel or a deployment.
    VersionHeld "version-held",
    /// Who asked may not approve.
    SelfApproval "self-approval",
    /// Changes ran that no commit holds; said by a door that is told to, not by the rules.
    CommitDirty "commit-dirty",
    /// The repository does not have the run's commit; likewise.
    CommitMissing "commit-missing",
    /// It cannot be known whether it does; likewise.
    CommitUnknown "commit-unknown",
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::from_name(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a refusal code")))
    }
}

/// One field that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the data; empty for the whole.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why a proposal was refused, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stable word.
    pub code: Code,
    /// What was wrong, for a person.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The state that it was judged on; `null` where there was none.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub state: serde_json::Value,
    /// What would be accepted instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// The fields that do not fit, for [`Code::SchemaViolation`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
}

impl Refusal {
    /// A refusal without state.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remedy: remedy.into(),
            state: serde_json::Value::Null,
            allowed: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Adds the state it was judged on.
    #[must_use]
    pub fn on(mut self, state: serde_json::Value) -> Self {
        self.state = state;
        self
    }

    /// Adds what would be accepted instead.
    #[must_use]
    pub fn allow<T: Into<String>>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It is an event now.
    Accepted(Place),
    /// It was an event before; the first place is named.
    Duplicate(Place),
    /// It was understood, and not allowed.
    Refused(Refusal),
    /// It was not understood.
    Malformed(Refusal),
}

/// Where an event is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Place in the partition.
    pub seq: u64,
    /// Place among the model's events.
    pub modelseq: u64,
    /// The version that it is about, where the engine resolved or gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// The outcome of one proposal, as it is stored and told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Offset of the proposal in its partition.
    pub src: u64,
    /// CloudEvents id; empty if it had none that could be read.
    pub id: String,
    /// CloudEvents source; likewise.
    pub source: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Verdict {
    /// What an event says by itself of the proposal that it came from; `version` is its decision's. `None` for the
    /// engine's own records: a refusal that mattered and what is about a partition answer nobody.
    #[must_use]
    pub fn of_event(view: &View<'_>, version: Option<u64>) -> Option<Self> {
        let src = view.src.filter(|_| view.kind.about() != About::Engine)?;
        let place = Place { seq: view.seq, modelseq: view.modelseq, version };
        Some(Self { src, id: view.id.into(), source: view.source.into(), outcome: Outcome::Accepted(place) })
    }
}
