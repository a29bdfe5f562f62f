//! The export format: a journal as lines of JSON that a person can read and a program can check.
//!
//! ```text
//! {"annals":"journal-export","version":1,"journal":"…","partitions":12}
//! {"partition":0,"offset":0,"key":"…","headers":{"ce_…":"…",…},"value":"…","hash":"…"}      once per record
//! {"end":{"0":{"seq":41,"hash":"…"},…},"records":97}
//! ```
//! `headers` and `value` are verbatim, so the frame that was hashed can be built again from a line.
//! Records of one partition are in the order of their `seq`; partitions may alternate.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use annals_events::record::{Corrupt, Record};
use annals_events::rule::{self, Judged, Rule};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::journal::{Journal, Located, ReadError};

/// What the first line says it is.
pub const MAGIC: &str = "journal-export";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Longest line that is read, in bytes: a payload of 256 KiB, escaped, with room to spare.
pub const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// More partitions than anybody has: a head that names more was changed.
pub const PARTITIONS_MAX: u32 = 100_000;
/// Records that are read from the journal at once.
const CHUNK_MAX: usize = 1_000;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Always [`MAGIC`].
    pub annals: String,
    /// [`VERSION`].
    pub version: u32,
    /// The journal's own name.
    pub journal: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// A line for one record. A field that it does not have would lie outside the hash, so it is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the log that it came from; not hashed.
    pub offset: u64,
    /// `workspace/model`.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Every `ce_*` header but `ce_hash`.
    #[serde(borrow, serialize_with = "write_headers", deserialize_with = "read_headers")]
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The value, verbatim.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// SHA-256 of the frame.
    #[serde(borrow)]
    pub hash: Cow<'a, str>,
}

/// The last line: without it the file was cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// By partition: its last record. An empty partition is not in it.
    pub end: BTreeMap<String, End>,
    /// How many records the file has.
    pub records: u64,
}

/// The last record of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl<'a> Line<'a> {
    /// The line for a record.
    ///
    /// # Errors
    /// [`Corrupt`] if it is not a record of ours.
    pub fn of(partition: u32, located: &'a Located) -> Result<Self, Corrupt> {
        let view = located.record.view()?;
        Ok(Self {
            partition,
            offset: located.offset,
            key: view.key.into(),
            headers: view.headers().map(|(name, value)| (name.into(), value.into())).collect(),
            value: view.value().into(),
            hash: located.record.hash().to_string().into(),
        })
    }

    /// Builds the record again from what the line says; its hash is computed, not taken from the line.
    #[must_use]
    pub fn record(&self) -> Record {
        let mut headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        Record::build(&self.key, &mut headers, self.value.as_bytes())
    }

    /// The place that the line claims, as far as it can be read; for messages only.
    #[must_use]
    pub fn claimed_seq(&self) -> Option<u64> {
        self.headers.iter().find(|(name, _)| name == "ce_seq").and_then(|(_, value)| value.parse().ok())
    }
}

fn write_headers<S: Serializer>(headers: &[(Cow<'_, str>, Cow<'_, str>)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(headers.len()))?;
    for (name, value) in headers {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Of a name that is there twice, readers would disagree about which one counts.
fn read_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Headers<'de>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Headers<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers: Self::Value = Vec::new();
            while let Some((Text(name), Text(value))) = map.next_entry()? {
                if headers.iter().any(|(known, _)| *known == name) {
                    return Err(A::Error::custom(format!("the header `{name}` is there twice")));
                }
                headers.push((name, value));
            }
            Ok(headers)
        }
    }
    deserializer.deserialize_map(Members)
}

/// Why a journal could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The chain contradicts itself: call a person.
    #[error("partition {partition} cannot be exported: {source}")]
    Halt {
        /// Where.
        partition: u32,
        /// What is wrong.
        source: rule::Halt,
    },
    /// A record is not one of ours: call a person.
    #[error("partition {partition} cannot be exported: the record at offset {offset} is not one of ours: {source}")]
    Corrupt {
        /// Where.
        partition: u32,
        /// Its offset.
        offset: u64,
        /// What is wrong.
        source: Corrupt,
    },
    /// Whoever takes the lines does not want more.
    #[error("the export could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Makes the lines of an export, one at a time, and keeps account for the last one.
pub struct Exporter {
    journal: String,
    rules: Vec<Rule>,
    records: u64,
}

impl Exporter {
    /// An export of this journal.
    #[must_use]
    pub fn new(journal: &dyn Journal) -> Self {
        let rules = (0..journal.partitions()).map(|_| Rule::default()).collect();
        Self { journal: journal.id().to_owned(), rules, records: 0 }
    }

    /// The first line, without its line feed.
    #[must_use]
    pub fn begin(&self) -> String {
        let partitions = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        json(&Head { annals: MAGIC.into(), version: VERSION, journal: self.journal.clone(), partitions })
    }

    /// The line for the next record of a partition's log; `None` for one that rule R drops.
    ///
    /// # Errors
    /// [`ExportError`] if the log cannot be trusted.
    pub fn line(&mut self, partition: u32, located: &Located) -> Result<Option<String>, ExportError> {
        let corrupt = |source| ExportError::Corrupt { partition, offset: located.offset, source };
        let view = located.record.view().map_err(corrupt)?;
        let judged = self.rules[partition as usize].judge(view.seq, view.prevhash, located.record.hash());
        match judged.map_err(|source| ExportError::Halt { partition, source })? {
            Judged::Duplicate | Judged::Orphan => Ok(None),
            Judged::Accepted => {
                self.records += 1;
                Ok(Some(json(&Line::of(partition, located).map_err(corrupt)?)))
            }
        }
    }

    /// The last line.
    #[must_use]
    pub fn end(&self) -> String {
        let end = |(partition, rule): (usize, &Rule)| {
            let seq = rule.last_seq()?;
            Some((partition.to_string(), End { seq, hash: rule.last_hash().to_string() }))
        };
        json(&Trailer { end: self.rules.iter().enumerate().filter_map(end).collect(), records: self.records })
    }

    /// How many records were exported so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }
}

/// Exports a journal up to where it ends now. `sink` gets each line with its line feed, and how many
/// records it stands for (0 or 1); it may belong to a running engine.
///
/// # Errors
/// [`ExportError`]; what was written so far lacks its last line.
pub fn export(journal: &dyn Journal, sink: &mut dyn FnMut(String, u64) -> std::io::Result<()>) -> Result<Exporter, ExportError> {
    let mut exporter = Exporter::new(journal);
    let ends = (0..journal.partitions()).map(|p| journal.end(p)).collect::<Result<Vec<_>, _>>()?;
    sink(exporter.begin() + "\n", 0)?;
    for (partition, end) in (0..).zip(ends) {
        let mut from = 0;
        while from < end {
            let chunk = journal.records(partition, from, CHUNK_MAX)?;
            for located in chunk.items.iter().filter(|located| located.offset < end) {
                if let Some(line) = exporter.line(partition, located)? {
                    sink(line + "\n", 1)?;
                }
            }
            if chunk.next <= from {
                return Err(ReadError::Corrupt(format!("partition {partition} ends at offset {from}, not at {end}")).into());
            }
            from = chunk.next;
        }
    }
    sink(exporter.end() + "\n", 0)?;
    Ok(exporter)
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("a line is strings and numbers")
}
