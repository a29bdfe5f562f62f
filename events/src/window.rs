//! The idempotency window: which proposals were accepted last, so that a retry gets the first outcome.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::verdict::Place;

/// How many event ids a partition remembers, to answer a retry.
pub const WINDOW_MAX: usize = if cfg!(test) { 128 } else { 262_144 }; // its edge is within reach of the tests

/// A proposal that was accepted, as the idempotency window remembers it: 56 bytes, because there
/// are up to eight of them for each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`id_digest`] of source and id.
    pub id: [u8; 16],
    /// [`crate::proposal::Proposal::content_digest`], big-endian.
    pub content: [u8; 16],
    /// Where it is in the partition.
    pub seq: u64,
    /// And among the model's events.
    pub modelseq: u64,
    /// The version it was about; versions count from 1.
    pub version: Option<NonZeroU64>,
}

impl Seen {
    /// Where the first copy is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { seq: self.seq, modelseq: self.modelseq, version: self.version.map(NonZeroU64::get) }
    }
}

/// First 128 bits of SHA-256 over source, a zero byte and id.
#[must_use]
pub fn id_digest(source: &str, id: &str) -> [u8; 16] {
    let mut text = [0; 128]; // most fit, and one call is half the cost of three
    let length = source.len() + 1 + id.len();
    let digest: [u8; 32] = match text.get_mut(..length) {
        Some(text) => {
            text[..source.len()].copy_from_slice(source.as_bytes());
            text[source.len() + 1..].copy_from_slice(id.as_bytes());
            Sha256::digest(text).into()
        }
        None => Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize().into(),
    };
    *digest.first_chunk().expect("32 bytes hold 16")
}

/// The last [`WINDOW_MAX`] accepted proposals of a partition.
///
/// Each is kept once, in its order; the index holds half of the id, and only says where to look. It is made when
/// somebody is about to ask: a replay remembers millions of which nobody will.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "VecDeque<Seen>")]
pub(crate) struct Window {
    order: VecDeque<Seen>,
    /// From the first half of an id to its ordinal, modulo 2^32.
    index: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    /// The ordinal of the oldest one.
    oldest: u32,
    /// How many of the newest the index does not have yet.
    unindexed: usize,
}

impl Window {
    pub(crate) fn remember(&mut self, seen: Seen) {
        if self.order.len() == WINDOW_MAX
            && let Some(gone) = self.order.pop_front()
        {
            if self.unindexed == WINDOW_MAX {
                self.unindexed -= 1;
            } else if self.index.get(&half(&gone.id)) == Some(&self.oldest) {
                self.index.remove(&half(&gone.id)); // else it is the younger one's of two ids that share a half
            }
            self.oldest = self.oldest.wrapping_add(1);
        }
        self.order.push_back(seen);
        self.unindexed += 1;
    }

    /// Makes ready for [`Window::find`], which finds what was remembered before.
    pub(crate) fn index(&mut self) {
        let from = self.order.len() - self.unindexed;
        let ordinals = (0..).map(|n| self.oldest.wrapping_add(n));
        for (seen, ordinal) in self.order.iter().zip(ordinals).skip(from) {
            self.index.insert(half(&seen.id), ordinal);
        }
        self.unindexed = 0;
    }

    pub(crate) fn find(&self, id: &[u8; 16]) -> Option<&Seen> {
        let ordinal = self.index.get(&half(id))?;
        let seen = self.order.get(usize::try_from(ordinal.wrapping_sub(self.oldest)).ok()?)?;
        // where two ids share a half, what is found must still be the same as in a batch's overlay
        if seen.id == *id { Some(seen) } else { self.order.iter().find(|s| s.id == *id) }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The `n`th oldest.
    pub(crate) fn nth(&self, n: usize) -> Option<&Seen> {
        self.order.get(n)
    }
}

fn half(id: &[u8; 16]) -> u64 {
    u64::from_be_bytes(*id.first_chunk().expect("16 bytes hold 8"))
}

impl From<VecDeque<Seen>> for Window {
    fn from(order: VecDeque<Seen>) -> Self {
        Self { unindexed: order.len(), order, ..Self::default() }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.order.serialize(serializer)
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order // the rest follows from it, but for where counting began
    }
}

impl Eq for Window {}

/// Hashes a number to itself: the keys are SHA-256 already.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(n: u64) -> Seen {
        Seen { id: id_digest("/iris", &n.to_string()), content: [0; 16], seq: n, modelseq: n, version: NonZeroU64::new(n) }
    }

    #[test]
    fn the_window_forgets_the_oldest_and_only_the_oldest() {
        let mut window = Window::default();
        let count = WINDOW_MAX as u64 + 10;
        (0..count).for_each(|n| window.remember(seen(n)));
        window.index();
        assert!((0..10).all(|n| window.find(&seen(n).id).is_none()));
        assert!((10..count).all(|n| window.find(&seen(n).id) == Some(&seen(n))));
        assert_eq!(window.index.len(), WINDOW_MAX);
    }

    #[test]
    fn it_finds_the_same_however_often_it_was_indexed() {
        for every in [1, 2, 7, 50, WINDOW_MAX as u64, 3 * WINDOW_MAX as u64] {
            let mut window = Window::default();
            let count = 3 * WINDOW_MAX as u64 + 5;
            for n in 0..count {
                window.remember(seen(n));
                if n % every == 0 {
                    window.index();
                }
            }
            window.index();
            let oldest = count - WINDOW_MAX as u64;
            assert!((0..oldest).all(|n| window.find(&seen(n).id).is_none()), "every {every}");
            assert!((oldest..count).all(|n| window.find(&seen(n).id) == Some(&seen(n))), "every {every}");
            assert_eq!(window.index.len(), WINDOW_MAX, "every {every}");
        }
    }

    #[test]
    fn ids_that_share_a_half_are_told_apart() {
        let (mut a, mut b) = (seen(1), seen(2));
        (a.id, b.id) = ([7; 16], [7; 16]);
        b.id[15] = 8;
        let mut window = Window::default();
        window.remember(a);
        window.remember(b);
        window.index();
        assert_eq!((window.find(&a.id), window.find(&b.id)), (Some(&a), Some(&b)));
    }

    #[test]
    fn a_stored_window_comes_back_equal_and_finds_the_same() {
        let mut window = Window::default();
        (0..100).for_each(|n| window.remember(seen(n)));
        let json = serde_json::to_string(&window).unwrap();
        let mut back: Window = serde_json::from_str(&json).unwrap();
        assert_eq!(back, window);
        back.index();
        assert!((0..100).all(|n| back.find(&seen(n).id) == Some(&seen(n))));
    }
}
