//! A record of the journal: its frame, which is what is hashed, and how it is read.
//!
//! The frame is the whole record as bytes: `annals.record.v1`, the key, every `ce_*` header but
//! `ce_hash` sorted by name (name, then value), and the value, each with its length before it as
//! a 32-bit big-endian number. `hash` = SHA-256(frame), and `ce_prevhash` chains it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::kind::Kind;
use crate::time::Timestamp;

/// The first item of every frame.
pub const MAGIC: &str = "annals.record.v1";

/// A SHA-256 digest; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of some bytes (FIPS 180-4).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Corrupt;

    fn from_str(text: &str) -> Result<Self, Corrupt> {
        hex(text).map(Self).ok_or_else(|| Corrupt("a hash is not 64 lower-case hexadecimal digits".into()))
    }
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    const NONE: u8 = 0xff;
    const DIGITS: [u8; 256] = {
        let mut digits = [NONE; 256];
        let mut n = 0_u8;
        while n < 16 {
            digits[(if n < 10 { b'0' + n } else { b'a' + n - 10 }) as usize] = n;
            n += 1;
        }
        digits
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut bytes = [0; N];
    let mut wrong = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        wrong |= high | low; // a digit is below 16, so only NONE sets the upper bits
        *byte = high << 4 | (low & 15);
    }
    (wrong < 16).then_some(bytes)
}

/// Bytes that are not a record of ours. Never produced by the engine: call a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub String);

/// One record of the journal: its frame and the frame's hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    frame: Box<[u8]>,
    hash: Hash,
}

impl Record {
    /// Builds the frame of a record and hashes it. `headers` are `ce_*` headers in any order.
    ///
    /// # Panics
    /// Never: an item over 4 GiB would be needed, and payloads are limited to 256 KiB.
    #[must_use]
    pub fn build(key: &str, headers: &mut [(&str, &str)], value: &[u8]) -> Self {
        headers.sort_unstable();
        let items = headers.iter().map(|(n, v)| n.len() + v.len() + 8).sum::<usize>();
        let mut frame = Vec::with_capacity(items + MAGIC.len() + key.len() + value.len() + 12);
        let mut push = |item: &[u8]| {
            frame.extend_from_slice(&u32::try_from(item.len()).unwrap_or(u32::MAX).to_be_bytes());
            frame.extend_from_slice(item);
        };
        push(MAGIC.as_bytes());
        push(key.as_bytes());
        for (name, value) in headers.iter() {
            push(name.as_bytes());
            push(value.as_bytes());
        }
        push(value);
        Self { hash: Hash::of(&frame), frame: frame.into() }
    }

    /// Takes a stored frame as it is and hashes it.
    #[must_use]
    pub fn from_frame(frame: Box<[u8]>) -> Self {
        Self { hash: Hash::of(&frame), frame }
    }

    /// The bytes that are hashed; also the Merkle leaf.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// SHA-256 of the frame.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Reads the record's parts without copying them.
    ///
    /// # Errors
    /// [`Corrupt`] says which part is missing or malformed.
    pub fn view(&self) -> Result<View<'_>, Corrupt> {
        View::parse(&self.frame)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            Ok(view) => write!(f, "Record({} {} seq {} {})", view.kind, view.key, view.seq, self.hash),
            Err(e) => write!(f, "Record(corrupt: {e})"),
        }
    }
}

/// A record, read: its parts as slices of the frame.
#[derive(Clone, Debug)]
pub struct View<'a> {
    frame: &'a [u8],
    /// `workspace/model`, or `_control/<partition>`.
    pub key: &'a str,
    /// The CloudEvents id; with `source` the idempotency key.
    pub id: &'a str,
    /// The CloudEvents source.
    pub source: &'a str,
    /// What happened.
    pub kind: Kind,
    /// `workspace/model` or `workspace/model/version`.
    pub subject: &'a str,
    /// When it happened, as the producer says (RFC 3339); a claim.
    pub time: Option<&'a str>,
    /// Place in the partition: dense, from 0.
    pub seq: u64,
    /// Count of the events that changed this model, this one included; dense, from 1.
    pub modelseq: u64,
    /// Offset of the proposal that it came from; `None` for `journal.opened`.
    pub src: Option<u64>,
    /// When the engine recorded it; never goes back within a partition.
    pub recorded: Timestamp,
    /// Who asked for it, as far as the engine knows.
    pub actor: &'a str,
    /// The version of the rules it was judged by.
    pub rules: u32,
    /// SHA-256, first 128 bits, of what was proposed: see [`crate::proposal::Proposal::content_digest`].
    pub content_digest: u128,
    /// Hash of the record before it in the partition.
    pub prevhash: Hash,
    /// The producer's JSON, byte for byte.
    pub data: &'a str,
    /// What the engine decided, as JSON.
    pub decided: &'a str,
}

impl<'a> View<'a> {
    #[inline]
    fn parse(frame: &'a [u8]) -> Result<Self, Corrupt> {
        let mut items = Items::new(frame);
        if items.next_text()? != MAGIC {
            return Err(Corrupt(format!("the frame does not begin with `{MAGIC}`")));
        }
        let key = items.next_text()?;
        let mut h = Headers::default();
        let mut before = "";
        let value = loop {
            let item = items.next_text()?;
            if items.rest.is_empty() {
                break item;
            }
            // most differ in the letter behind `ce_`, and so need no comparison of the rest
            if item.as_bytes().get(3) <= before.as_bytes().get(3) && item <= before {
                return Err(Corrupt(format!("the header {item} comes twice, or out of order")));
            }
            before = item;
            h.take(item, items.next_text()?)?;
        };
        let (data, decided) = split_value(value)?;
        Ok(Self {
            frame,
            key,
            id: found(h.id, "ce_id")?,
            source: found(h.source, "ce_source")?,
            kind: Kind::from_name(found(h.kind, "ce_type")?)
                .ok_or_else(|| Corrupt(format!("`{}` is not an event type of ours", h.kind.unwrap_or_default())))?,
            subject: found(h.subject, "ce_subject")?,
            time: h.time,
            seq: number(found(h.seq, "ce_seq")?)?,
            modelseq: number(found(h.modelseq, "ce_modelseq")?)?,
            src: h.src.map(number).transpose()?,
            recorded: Timestamp::parse(found(h.recordedtime, "ce_recordedtime")?).map_err(Corrupt)?,
            actor: found(h.actor, "ce_actor")?,
            rules: number(found(h.rules, "ce_rules")?)?.try_into().map_err(|_| Corrupt("ce_rules is too large".into()))?,
            content_digest: hex(found(h.contentdigest, "ce_contentdigest")?)
                .map(u128::from_be_bytes)
                .ok_or_else(|| Corrupt("ce_contentdigest is not 32 lower-case hexadecimal digits".into()))?,
            prevhash: found(h.prevhash, "ce_prevhash")?.parse()?,
            data,
            decided,
        })
    }

    /// Every `ce_*` header but `ce_hash`, sorted by name.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        // the frame was parsed once, so what follows cannot fail; if it did, the list would end
        let mut items = Items::new(self.frame);
        let _ = (items.next_text(), items.next_text());
        std::iter::from_fn(move || {
            let name = items.next_text().ok()?;
            if items.rest.is_empty() { None } else { Some((name, items.next_text().ok()?)) }
        })
    }

    /// The value of the Kafka record: `{"data":…,"decided":…}`.
    #[must_use]
    pub fn value(&self) -> &'a str {
        let mut items = Items::new(self.frame);
        let mut last = "";
        while let Ok(item) = items.next_text() {
            last = item;
        }
        last
    }

    /// The `version` part of the subject, if it has one.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.subject.get(self.key.len() + 1..)?.parse().ok()
    }
}

/// Joins a producer's bytes and the engine's decision; `decided` is always last.
#[must_use]
pub fn join_value(data: &str, decided: &str) -> String {
    format!("{{\"data\":{data},\"decided\":{decided}}}")
}

/// Splits what [`join_value`] joined. The last `,"decided":` is the right one: `decided` is
/// written by us without such a key, and inside a JSON string the quotes would be escaped.
fn split_value(value: &str) -> Result<(&str, &str), Corrupt> {
    const KEY: &str = ",\"decided\":";
    let inner = value.strip_prefix("{\"data\":").and_then(|v| v.strip_suffix('}'));
    // from comma to comma, backwards: a decision has few, and a search for the whole key costs more to set up
    let split = inner.and_then(|v| {
        let (at, _) = v.rmatch_indices(',').find(|(at, _)| v[*at..].starts_with(KEY))?;
        Some((&v[..at], &v[at + KEY.len()..]))
    });
    split.ok_or_else(|| Corrupt("the value is not `{\"data\":…,\"decided\":…}`".into()))
}

#[derive(Default)]
struct Headers<'a> {
    actor: Option<&'a str>,
    contentdigest: Option<&'a str>,
    id: Option<&'a str>,
    modelseq: Option<&'a str>,
    prevhash: Option<&'a str>,
    recordedtime: Option<&'a str>,
    rules: Option<&'a str>,
    seq: Option<&'a str>,
    source: Option<&'a str>,
    src: Option<&'a str>,
    subject: Option<&'a str>,
    time: Option<&'a str>,
    kind: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn take(&mut self, name: &'a str, value: &'a str) -> Result<(), Corrupt> {
        let name = name
            .strip_prefix("ce_")
            .ok_or_else(|| Corrupt(format!("the frame holds the header `{name}`, which is not a CloudEvents attribute")))?;
        let slot = match name.as_bytes() {
            b"actor" => &mut self.actor,
            b"contentdigest" => &mut self.contentdigest,
            b"id" => &mut self.id,
            b"modelseq" => &mut self.modelseq,
            b"prevhash" => &mut self.prevhash,
            b"recordedtime" => &mut self.recordedtime,
            b"rules" => &mut self.rules,
            b"seq" => &mut self.seq,
            b"source" => &mut self.source,
            b"src" => &mut self.src,
            b"subject" => &mut self.subject,
            b"time" => &mut self.time,
            b"type" => &mut self.kind,
            b"hash" => return Err(Corrupt("the frame holds the header ce_hash, which is not part of what is hashed".into())),
            _ => return Ok(()),
        };
        *slot = Some(value);
        Ok(())
    }
}

fn found<'a>(value: Option<&'a str>, name: &str) -> Result<&'a str, Corrupt> {
    value.ok_or_else(|| Corrupt(format!("the header {name} is missing")))
}

fn number(text: &str) -> Result<u64, Corrupt> {
    text.parse().map_err(|_| Corrupt(format!("`{text}` is not a number")))
}

/// The items of a frame, one after the other.
struct Items<'a> {
    rest: &'a [u8],
    /// The front of `rest` as text, lengths included: while every length is below 128 it can be
    /// checked in one go, which is five times as fast as item by item.
    text: &'a str,
}

impl<'a> Items<'a> {
    fn new(frame: &'a [u8]) -> Self {
        let text = match std::str::from_utf8(frame) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&frame[..e.valid_up_to()]).unwrap_or_default(),
        };
        Self { rest: frame, text }
    }

    #[inline]
    fn next_text(&mut self) -> Result<&'a str, Corrupt> {
        let cut = || Corrupt("the frame is cut short".into());
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (item, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        if let (Some(text), Some(after)) = (self.text.get(4..4 + length), self.text.get(4 + length..)) {
            self.text = after;
            return Ok(text);
        }
        self.text = "";
        std::str::from_utf8(item).map_err(|_| Corrupt("the frame holds bytes that are not UTF-8".into()))
    }
}

#[cfg(test)]
mod tests;
