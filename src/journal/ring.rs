//! The end of one log, kept in memory for whoever keeps up.

use std::collections::VecDeque;

use super::Chunk;

/// Most items in one ring.
const ITEMS_MAX: usize = 8_192;

/// The last items of one log.
pub struct Ring<T> {
    items: VecDeque<(u64, usize, T)>,
    bytes: usize,
    bytes_max: usize,
    /// Everything from this offset on is here, or was not there yet.
    base: u64,
}

impl<T: Clone> Ring<T> {
    /// An empty one: from `base` on there is nothing yet. It holds so many bytes, about.
    pub fn new(base: u64, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, bytes_max, base }
    }

    /// Adds the next item, at an offset behind all that were added; the oldest make room.
    pub fn push(&mut self, offset: u64, bytes: usize, item: T) {
        self.items.push_back((offset, bytes, item));
        self.bytes += bytes;
        while self.items.len() > ITEMS_MAX || (self.bytes > self.bytes_max && self.items.len() > 1) {
            if let Some((gone, bytes, _)) = self.items.pop_front() {
                self.base = gone + 1;
                self.bytes -= bytes;
            }
        }
    }

    /// The offset behind the last item.
    pub fn end(&self) -> u64 {
        self.items.back().map_or(self.base, |(last, ..)| last + 1)
    }

    /// How much is there from an offset on; `None` if that is before the ring.
    pub fn count(&self, from: u64) -> Option<u64> {
        (from >= self.base).then(|| (self.items.len() - self.items.partition_point(|(offset, ..)| *offset < from)) as u64)
    }

    /// What is there from an offset on; `None` if that is before the ring.
    pub fn from(&self, from: u64, max: usize) -> Option<Chunk<T>> {
        if from < self.base {
            return None;
        }
        let start = self.items.partition_point(|(offset, ..)| *offset < from);
        let taken = self.items.range(start..).take(max);
        let next = taken.clone().last().map_or(from, |(offset, ..)| offset + 1);
        Some(Chunk { items: taken.map(|(.., item)| item.clone()).collect(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_says_when_it_cannot_answer() {
        let mut ring = Ring::new(5, 100);
        assert!(ring.from(4, 10).is_none());
        assert_eq!(ring.from(5, 10).map(|chunk| chunk.next), Some(5));
        for offset in [5, 6, 9] {
            ring.push(offset, 1, offset);
        }
        let chunk = ring.from(6, 10).unwrap();
        assert_eq!((chunk.items, chunk.next, ring.end()), (vec![6, 9], 10, 10));
        assert_eq!(ring.from(7, 10).unwrap().items, [9], "offsets may leave gaps");
        assert_eq!((ring.count(4), ring.count(6), ring.count(10)), (None, Some(2), Some(0)));
        ring.push(12, 100, 12);
        assert!(ring.from(9, 10).is_none(), "what was evicted is not here");
        assert_eq!(ring.from(10, 10).unwrap().items, [12], "and nothing lies between");
    }
}
