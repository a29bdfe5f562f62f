//! Places in the journal as requests name them: `3:17,5:2`, a time, or an opaque cursor.

use std::collections::BTreeMap;
use std::fmt;

use annals_events::record::Hash;
use annals_events::time::Timestamp;
use axum::http::StatusCode;

use super::problem::Problem;
use super::uri;
use crate::journal::follow::Mark;

/// By partition: a `seq`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(pub BTreeMap<u32, u64>);

impl Positions {
    /// Reads `partition:seq`, comma-separated.
    ///
    /// # Errors
    /// 400, naming what is wrong.
    pub fn parse(text: &str, partitions: u32) -> Result<Self, Problem> {
        let bad = |what: String| Problem::bad_request("bad-position", what, "send `partition:seq`, comma-separated, such as `3:17,5:2`");
        let mut positions = BTreeMap::new();
        for item in text.split(',').map(str::trim) {
            let numbers = item.split_once(':').and_then(|(p, s)| Some((p.parse::<u32>().ok()?, s.parse::<u64>().ok()?)));
            let (partition, seq) = numbers.ok_or_else(|| bad(format!("`{item}` is not a position")))?;
            if partition >= partitions {
                return Err(bad(format!("there is no partition {partition}: there are {partitions}, from 0")));
            }
            if positions.insert(partition, seq).is_some() {
                return Err(bad(format!("partition {partition} is named twice")));
            }
        }
        Ok(Self(positions))
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (partition, seq)) in self.0.iter().enumerate() {
            write!(f, "{}{partition}:{seq}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A moment in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Recorded at this time.
    Time(Timestamp),
    /// At these places.
    Positions(Positions),
}

impl Moment {
    /// Reads an RFC 3339 time or a position list.
    ///
    /// # Errors
    /// 400, naming what is wrong.
    pub fn parse(text: &str, partitions: u32) -> Result<Self, Problem> {
        // in a query, a `+` of an offset arrives as a blank unless it was encoded
        let time = text.replace(' ', "+");
        match Timestamp::parse(&time) {
            Ok(time) => Ok(Self::Time(time)),
            Err(_) if text.contains('T') || !text.contains(':') => Err(Problem::bad_request(
                "bad-time",
                format!("`{text}` is neither an RFC 3339 time nor a position list"),
                "send a time such as 2026-03-01T12:00:00Z, or positions such as 3:17,5:2",
            )),
            Err(_) => Positions::parse(text, partitions).map(Self::Positions),
        }
    }
}

/// What a cursor says: for each partition the offset behind the last event that was delivered, and
/// a digest that only this journal's history can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// By partition.
    pub nexts: Vec<u64>,
    digest: u64,
}

const CURSOR_V1: u8 = 1;

impl Cursor {
    /// The cursor at these marks of a journal.
    pub fn at(journal: &str, marks: &[Mark]) -> Self {
        let first = |hash: Hash| hash.0.first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        // hashes are independent, so XOR of those of all partitions changes when any history does
        let digest = marks.iter().map(|m| first(m.hash)).fold(first(Hash::of(journal.as_bytes())), |a, b| a ^ b);
        Self { nexts: marks.iter().map(|m| m.next).collect(), digest }
    }

    /// The opaque text.
    pub fn encode(&self) -> String {
        let mut bytes = vec![CURSOR_V1];
        bytes.extend_from_slice(&self.digest.to_be_bytes());
        for next in &self.nexts {
            let mut n = *next;
            while n >= 0x80 {
                bytes.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
                n >>= 7;
            }
            bytes.push(u8::try_from(n).unwrap_or(0));
        }
        uri::to_base64(&bytes)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// 400 if it is none.
    pub fn decode(text: &str) -> Result<Self, Problem> {
        Self::read(text).ok_or_else(|| {
            Problem::bad_request("bad-cursor", "the cursor is malformed", "send the `id` of the last event that you got, as you got it")
        })
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = uri::from_base64(text)?;
        let (version, rest) = bytes.split_first()?;
        let (digest, mut rest) = rest.split_first_chunk::<8>()?;
        if *version != CURSOR_V1 {
            return None;
        }
        let mut nexts = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| b & 0x80 == 0).filter(|end| *end < 9)?;
            nexts.push(rest[..=end].iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f)));
            rest = &rest[end + 1..];
        }
        Some(Self { nexts, digest: u64::from_be_bytes(*digest) })
    }
}

/// 410: where the cursor points there is nothing that follows from what was delivered.
pub fn gone(detail: &str) -> Problem {
    Problem::new(StatusCode::GONE, "cursor-gone", detail, "drop the cursor and begin anew with `?from=beginning` or `?from=now`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let positions = Positions::parse("3:17, 5:2", 12).unwrap();
        assert_eq!(positions.to_string(), "3:17,5:2");
        for bad in ["", "3", "3:", ":1", "12:0", "3:1,3:2", "3:-1"] {
            assert_eq!(Positions::parse(bad, 12).map_err(|p| p.status), Err(400), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_positions() {
        assert_eq!(Moment::parse("1970-01-01T00:00:01Z", 12).unwrap(), Moment::Time(Timestamp(1000)));
        assert_eq!(Moment::parse("1970-01-01T01:00:01 01:00", 12).unwrap(), Moment::Time(Timestamp(1000)));
        assert!(matches!(Moment::parse("0:4", 12), Ok(Moment::Positions(_))));
        for bad in ["yesterday", "", "2026-13-01T00:00:00Z", "40:1"] {
            assert_eq!(Moment::parse(bad, 12).map_err(|p| p.status), Err(400), "{bad}");
        }
    }

    #[test]
    fn a_cursor_round_trips_and_knows_its_history() {
        let marks = [
            Mark { next: 0, ..Mark::default() },
            Mark { next: 300, seq: 300, hash: Hash::of(b"x") },
            Mark { next: u64::from(u32::MAX) * 9, seq: 1, hash: Hash::of(b"y") },
        ];
        let cursor = Cursor::at("journal", &marks);
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        assert_ne!(Cursor::at("another", &marks), cursor);
        for bad in ["", "AAAA", "not base64!", "AQ"] {
            assert_eq!(Cursor::decode(bad).map_err(|p| p.status), Err(400), "{bad}");
        }
    }
}
