//! How a frame is read: one pass over its bytes, and text is checked once for all headers.

use super::{Corrupt, Hash, MAGIC, hex};
use crate::kind::Kind;
use crate::time::Timestamp;

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
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, Corrupt> {
        let mut items = Items::of(frame);
        if items.next()?.bytes != MAGIC.as_bytes() {
            return Err(Corrupt(format!("the frame does not begin with `{MAGIC}`")));
        }
        let key = items.next()?;
        let mut h = Headers { name: items.next()?.bytes, items, before: b"" };
        // in the order of their names, which is the frame's
        let actor = h.take(b"ce_actor")?;
        let content_digest = h.take(b"ce_contentdigest")?;
        let id = h.take(b"ce_id")?;
        let modelseq = h.take(b"ce_modelseq")?;
        let prevhash = h.take(b"ce_prevhash")?;
        let recorded = h.take(b"ce_recordedtime")?;
        let rules = h.take(b"ce_rules")?;
        let seq = h.take(b"ce_seq")?;
        let source = h.take(b"ce_source")?;
        let specversion = h.take(b"ce_specversion")?;
        let src = h.take(b"ce_src")?;
        let subject = h.take(b"ce_subject")?;
        let time = h.take(b"ce_time")?;
        let kind = h.take(b"ce_type")?;
        let value = h.value()?;
        let text = Text::before(value, frame);
        // nothing hangs on it, but `headers` ends at what is no text
        specversion.map(|version| text.part(version)).transpose()?;
        let (data, decided) = split_value(std::str::from_utf8(value).map_err(not_text)?)?;
        Ok(Self {
            frame,
            key: text.part(key)?,
            id: text.part(found(id, "ce_id")?)?,
            source: text.part(found(source, "ce_source")?)?,
            kind: read_kind(text.part(found(kind, "ce_type")?)?)?,
            subject: text.part(found(subject, "ce_subject")?)?,
            time: time.map(|time| text.part(time)).transpose()?,
            seq: number(text.part(found(seq, "ce_seq")?)?)?,
            modelseq: number(text.part(found(modelseq, "ce_modelseq")?)?)?,
            src: src.map(|src| number(text.part(src)?)).transpose()?,
            recorded: Timestamp::parse(text.part(found(recorded, "ce_recordedtime")?)?).map_err(Corrupt)?,
            actor: text.part(found(actor, "ce_actor")?)?,
            rules: number(text.part(found(rules, "ce_rules")?)?)?.try_into().map_err(|_| Corrupt("ce_rules is too large".into()))?,
            content_digest: hex(found(content_digest, "ce_contentdigest")?.bytes)
                .map(u128::from_be_bytes)
                .ok_or_else(|| Corrupt("ce_contentdigest is not 32 lower-case hexadecimal digits".into()))?,
            prevhash: Hash::from_hex(found(prevhash, "ce_prevhash")?.bytes)?,
            data,
            decided,
        })
    }

    /// Every `ce_*` header but `ce_hash`, sorted by name.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        // the frame was parsed once, so what follows cannot fail; if it did, the list would end
        let mut items = Items::of(self.frame);
        let _ = (items.next(), items.next());
        std::iter::from_fn(move || {
            let name = items.next_text().ok()?;
            if items.rest.is_empty() { None } else { Some((name, items.next_text().ok()?)) }
        })
    }

    /// The value of the Kafka record: `{"data":…,"decided":…}`.
    #[must_use]
    pub fn value(&self) -> &'a str {
        let mut items = Items::of(self.frame);
        let mut last: &[u8] = b"";
        while let Ok(item) = items.next() {
            last = item.bytes;
        }
        std::str::from_utf8(last).unwrap_or_default()
    }

    /// The `version` part of the subject, if it has one.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.subject.get(self.key.len() + 1..)?.parse().ok()
    }
}

/// Splits what [`join_value`] joined. The last `,"decided":` is the right one: `decided` is
/// written by us without such a key, and inside a JSON string the quotes would be escaped.
fn split_value(value: &str) -> Result<(&str, &str), Corrupt> {
    const KEY: &str = ",\"decided\":";
    let inner = value.strip_prefix("{\"data\":").and_then(|v| v.strip_suffix('}'));
    // backwards and by hand: a decision is short, and a search costs more to set up
    let split = inner.and_then(|v| {
        let at = v.as_bytes().windows(KEY.len()).rposition(|w| w[0] == b',' && w == KEY.as_bytes())?;
        Some((&v[..at], &v[at + KEY.len()..]))
    });
    split.ok_or_else(|| Corrupt("the value is not `{\"data\":…,\"decided\":…}`".into()))
}

/// The headers of a frame, walked once.
struct Headers<'a> {
    items: Items<'a>,
    /// The name that comes next; the value of the record, where no header is left.
    name: &'a [u8],
    /// The name before it.
    before: &'a [u8],
}

impl<'a> Headers<'a> {
    #[inline(always)]
    fn advance(&mut self) -> Result<(), Corrupt> {
        self.name = self.items.next()?.bytes;
        Ok(())
    }

    /// The value of a header of ours, if the frame has it; to be asked in the order of the names.
    #[inline(always)]
    fn take(&mut self, name: &'static [u8]) -> Result<Option<Part<'a>>, Corrupt> {
        if self.name != name && !self.skip_to(name)? {
            return Ok(None);
        }
        let value = self.items.next()?;
        self.before = name;
        self.advance()?;
        Ok(Some(value))
    }

    /// Walks over the extensions before `name`; whether that is what comes next then.
    #[cold]
    fn skip_to(&mut self, name: &[u8]) -> Result<bool, Corrupt> {
        while !self.items.rest.is_empty() && self.name < name {
            self.skip()?;
        }
        Ok(!self.items.rest.is_empty() && self.name == name)
    }

    fn skip(&mut self) -> Result<(), Corrupt> {
        let name = std::str::from_utf8(self.name).map_err(not_text)?;
        if self.name <= self.before {
            return Err(Corrupt(format!("the header {name} comes twice, or out of order")));
        }
        if !name.starts_with("ce_") {
            return Err(Corrupt(format!("the frame holds the header `{name}`, which is not a CloudEvents attribute")));
        }
        if name == "ce_hash" {
            return Err(Corrupt("the frame holds the header ce_hash, which is not part of what is hashed".into()));
        }
        self.items.next_text()?;
        self.before = self.name;
        self.advance()
    }

    /// Walks to the end: the last item is the value.
    fn value(mut self) -> Result<&'a [u8], Corrupt> {
        while !self.items.rest.is_empty() {
            self.skip()?;
        }
        Ok(self.name)
    }
}

/// An item and where it is in the frame.
#[derive(Clone, Copy)]
struct Part<'a> {
    from: usize,
    bytes: &'a [u8],
}

/// The items of a frame, one after the other.
struct Items<'a> {
    frame: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    fn of(frame: &'a [u8]) -> Self {
        Self { frame, rest: frame }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<Part<'a>, Corrupt> {
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut_short())?;
        let from = self.frame.len() - rest.len();
        let (bytes, rest) = rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(Part { from, bytes })
    }

    fn next_text(&mut self) -> Result<&'a str, Corrupt> {
        std::str::from_utf8(self.next()?.bytes).map_err(not_text)
    }
}

/// A frame up to its value as text, lengths included: while every length is below 128 it can be
/// checked in one go, which is faster than item by item.
struct Text<'a> {
    checked: &'a str,
}

impl<'a> Text<'a> {
    fn before(value: &[u8], frame: &'a [u8]) -> Self {
        let front = frame.len().checked_sub(value.len() + 4).and_then(|end| frame.get(..end));
        Self { checked: front.and_then(|front| std::str::from_utf8(front).ok()).unwrap_or_default() }
    }

    #[inline]
    fn part(&self, part: Part<'a>) -> Result<&'a str, Corrupt> {
        match self.checked.get(part.from..part.from + part.bytes.len()) {
            Some(text) => Ok(text),
            None => std::str::from_utf8(part.bytes).map_err(not_text),
        }
    }
}

#[cold]
fn cut_short() -> Corrupt {
    Corrupt("the frame is cut short".into())
}

#[cold]
fn not_text(_: std::str::Utf8Error) -> Corrupt {
    Corrupt("the frame holds bytes that are not UTF-8".into())
}

#[inline(always)]
fn found<'a>(value: Option<Part<'a>>, name: &str) -> Result<Part<'a>, Corrupt> {
    value.ok_or_else(|| missing(name))
}

#[cold]
fn missing(name: &str) -> Corrupt {
    Corrupt(format!("the header {name} is missing"))
}

fn read_kind(name: &str) -> Result<Kind, Corrupt> {
    Kind::from_name(name).ok_or_else(|| Corrupt(format!("`{name}` is not an event type of ours")))
}

#[inline]
fn number(text: &str) -> Result<u64, Corrupt> {
    // up to 19 digits fit whatever they are, and need no check each
    if (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.bytes().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')));
    }
    text.parse().map_err(|_| Corrupt(format!("`{text}` is not a number")))
}
