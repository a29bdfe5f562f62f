//! A record of the journal: its frame, which is what is hashed, and how it is read.
//!
//! The frame is the whole record as bytes: `annals.record.v1`, the key, every `ce_*` header but
//! `ce_hash` sorted by name (name, then value), and the value, each with its length before it as
//! a 32-bit big-endian number. `hash` = SHA-256(frame), and `ce_prevhash` chains it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::view::View;

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

    fn from_hex(text: &[u8]) -> Result<Self, Corrupt> {
        hex(text).map(Self).ok_or_else(|| Corrupt("a hash is not 64 lower-case hexadecimal digits".into()))
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
        Self::from_hex(text.as_bytes())
    }
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
///
/// Without a table and without a way out of the loops, so that the compiler reads 16 digits at once.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut digits: [[u8; 2]; N] = *<&[[u8; 2]; N]>::try_from(pairs).ok()?;
    let mut wrong = false;
    for digit in digits.as_flattened_mut() {
        let (decimal, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        wrong |= (decimal > 9) & (letter > 5);
        *digit = if decimal > 9 { letter.wrapping_add(10) } else { decimal };
    }
    let bytes = digits.map(|[high, low]| high << 4 | (low & 15));
    (!wrong).then_some(bytes)
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

/// Joins a producer's bytes and the engine's decision; `decided` is always last.
#[must_use]
pub fn join_value(data: &str, decided: &str) -> String {
    format!("{{\"data\":{data},\"decided\":{decided}}}")
}

mod view;

#[cfg(test)]
mod tests;
