//! Names, parsed once at the edge: what cannot be a name never gets further.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kind::{About, Kind};

/// Longest workspace, model, channel or alias name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Stands for the model in the key of what is about a workspace and no model of it.
pub const SYSTEM: &str = "_system";

/// The key of everything that belongs to one model: `workspace/model`, the unit of order.
///
/// Ordered and hashed by its text. `_control/<partition>` is the key of the engine's own records, and
/// `workspace/_system` that of what is about a workspace and no model of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Box<str>);

impl Key {
    /// Reads `workspace/model`.
    ///
    /// # Errors
    /// [`BadName`] when a part is missing, too long, reserved or has a character that it may not have.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let (workspace, model) = text.split_once('/').ok_or_else(|| BadName::new("key", text, "must be `workspace/model`"))?;
        name("workspace", workspace)?;
        name("model", model)?;
        Ok(Self(text.into()))
    }

    /// Joins a workspace and a model.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn new(workspace: &str, model: &str) -> Result<Self, BadName> {
        name("workspace", workspace)?;
        name("model", model)?;
        Ok(Self(format!("{workspace}/{model}").into()))
    }

    /// The key of what is about a workspace and no model of it.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn system(workspace: &str) -> Result<Self, BadName> {
        name("workspace", workspace)?;
        Ok(Self(format!("{workspace}/{SYSTEM}").into()))
    }

    /// The key of an event of this kind: only what may be about no model may have `_system` for one.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn of(kind: Kind, workspace: &str, model: &str) -> Result<Self, BadName> {
        match (kind.about(), model) {
            (About::Workspace | About::Target, SYSTEM) => Self::system(workspace),
            (About::Workspace, _) => Err(BadName::new("model", model, "must be `_system` here, for this is about the workspace")),
            _ => Self::new(workspace, model),
        }
    }

    /// The key of the engine's own records in a partition; it is exempt from [`partition_of`].
    #[must_use]
    pub fn control(partition: u32) -> Self {
        Self(format!("_control/{partition}").into())
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is about a workspace and no model of it.
    #[must_use]
    pub fn is_system(&self) -> bool {
        is_system(&self.0)
    }

    /// The workspace: the part before the slash.
    #[must_use]
    pub fn workspace(&self) -> &str {
        self.0.split_once('/').map_or("", |(workspace, _)| workspace)
    }

    /// The model: the part behind the slash.
    #[must_use]
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whether a key is about a workspace and no model of it: `workspace/_system`.
#[must_use]
pub fn is_system(key: &str) -> bool {
    key.split_once('/').is_some_and(|(_, model)| model == SYSTEM)
}

/// How a proposal names a version: `3`, a label such as `1.0`, or the run it came from (`run:abc`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRef {
    /// The number that the engine gave.
    Number(u64),
    /// The producer's own label.
    Label(String),
    /// The run that trained it: a pipeline on Kafka does not know the number.
    Run(String),
}

impl VersionRef {
    /// Reads the third part of a subject.
    ///
    /// # Errors
    /// [`BadName`] for an empty one, a number that is not a version, or a bad label.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if let Some(run) = text.strip_prefix("run:") {
            return identifier("run", run).map(|()| Self::Run(run.into()));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            let number = text.parse().ok().filter(|n| *n > 0);
            return number.map(Self::Number).ok_or_else(|| BadName::new("version", text, "must be a number from 1"));
        }
        label(text).map(|()| Self::Label(text.into()))
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Label(label) => f.write_str(label),
            Self::Run(run) => write!(f, "run:{run}"),
        }
    }
}

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}` {rule}")]
pub struct BadName {
    /// Which kind of name.
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub found: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl BadName {
    fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
        Self { what, found: found.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(), rule }
    }
}

/// Checks a workspace, model, channel or alias name: 1 to 255 bytes, no `/`, `:`, control character
/// or blank at an end; a leading `_` is reserved for the engine.
///
/// # Errors
/// [`BadName`] names the rule.
pub fn name(what: &'static str, text: &str) -> Result<(), BadName> {
    let bad = |rule| Err(BadName::new(what, text, rule));
    match text {
        "" => bad("must not be empty"),
        "." | ".." => bad("must not be a path"),
        _ if text.len() > NAME_BYTES_MAX => bad("must not be longer than 255 bytes"),
        _ if text.contains(['/', ':']) => bad("must not contain `/` or `:`"),
        _ if text.contains(char::is_control) => bad("must not contain control characters"),
        _ if text.trim() != text => bad("must not begin or end with a blank"),
        _ if text.starts_with('_') => bad("must not begin with `_`, which is reserved"),
        _ => Ok(()),
    }
}

/// Checks a version label: a name that is not all digits.
///
/// # Errors
/// [`BadName`] names the rule.
pub fn label(text: &str) -> Result<(), BadName> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadName::new("label", text, "must not be all digits: those are version numbers"));
    }
    name("label", text)
}

/// Checks somebody else's identifier (run, deployment, drift, approval): 1 to 255 bytes, printable.
///
/// # Errors
/// [`BadName`] names the rule.
pub fn identifier(what: &'static str, text: &str) -> Result<(), BadName> {
    match text {
        "" => Err(BadName::new(what, text, "must not be empty")),
        _ if text.len() > NAME_BYTES_MAX => Err(BadName::new(what, text, "must not be longer than 255 bytes")),
        _ if text.contains(char::is_control) => Err(BadName::new(what, text, "must not contain control characters")),
        _ => Ok(()),
    }
}

/// The partition of a key, as Java's Kafka client chooses it: murmur2, sign bit cleared, modulo.
///
/// Source: Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2` (seed 0x9747b28c).
#[must_use]
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut h = 0x9747_b28c_u32 ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_javas_test_vectors() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, expected) in vectors {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_two_names() {
        assert_eq!(
            Key::parse("default/iris").map(|k| (k.workspace().to_owned(), k.model().to_owned())),
            Ok(("default".into(), "iris".into()))
        );
        for bad in ["iris", "/iris", "default/", "a/b/c", "default/a:b", "default/_x", "de\0fault/x", "default/ x", "a/.."] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_may_be_about_no_model_has_the_systems_key() {
        for kind in Kind::ALL {
            let of_system = Key::of(*kind, "default", SYSTEM).map(|key| key.to_string());
            assert_eq!(of_system.is_ok(), matches!(kind.about(), About::Workspace | About::Target), "{kind}");
            assert!(of_system.is_err() || of_system == Ok("default/_system".into()));
            assert_eq!(Key::of(*kind, "default", "iris").is_ok(), kind.about() != About::Workspace, "{kind}");
            for (workspace, model) in [("default", "_other"), ("_default", "iris"), ("_default", SYSTEM), ("", SYSTEM)] {
                assert!(Key::of(*kind, workspace, model).is_err(), "{kind} {workspace}/{model}");
            }
        }
        assert!(Key::parse("default/_system").is_err() && is_system("default/_system") && !is_system("_control/0"));
    }

    #[test]
    fn a_version_is_named_by_number_label_or_run() {
        assert_eq!(VersionRef::parse("3"), Ok(VersionRef::Number(3)));
        assert_eq!(VersionRef::parse("1.0"), Ok(VersionRef::Label("1.0".into())));
        assert_eq!(VersionRef::parse("run:a/b"), Ok(VersionRef::Run("a/b".into())));
        for bad in ["", "0", "99999999999999999999999", "run:", "a/b"] {
            assert!(VersionRef::parse(bad).is_err(), "{bad:?}");
        }
    }
}
