//! What the engine and its operators write about a partition itself: how far it is judged, that it stands still, that it goes on.

use serde::{Deserialize, Serialize};

use crate::record::Hash;

/// So many proposals in a row may leave no record; the next one that leaves none leaves a
/// `partition.progressed`. It bounds what a restart judges again, and how long the proposals
/// must be kept for a partition where all is refused.
pub const PROGRESS_DISTANCE: u64 = 1_000;

/// `decided` of `partition.progressed`: every proposal up to `src` is judged, or given up by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// Offset of the last proposal that needs no judging any more.
    pub src: u64,
    /// Why a person moved it on; the engine gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `decided` of `partition.halted`: a record was found that no arbiter has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    #[serde(with = "digits")]
    pub hash: Hash,
    /// Why it is disputed.
    pub reason: String,
    /// Offset of the proposal at which judging goes on once a person has accepted the record: the
    /// disputed one may name any offset, and must neither skip a proposal nor bring one back.
    pub resume: u64,
}

/// `decided` of `partition.resumed`: a person accepts a disputed record, and all that lies between it and this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    #[serde(with = "digits")]
    pub hash: Hash,
    /// Who accepts it.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `decided` of `journal.continued`: behind this record `src` counts in another log of proposals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// One more than before: `journal.opened` begins with 1.
    pub generation: u64,
    /// Offset of the first proposal of the new log that is to be judged.
    pub base: u64,
    /// Where the records before it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A hash in JSON: 64 hexadecimal digits.
mod digits {
    use std::borrow::Cow;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::record::Hash;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
