//! Rule R: which of the records in a log are the journal. Every reader of ours applies it.
//!
//! A log may hold a record twice (a transaction that was retried), or one that hangs on a
//! predecessor which was never committed (an orphan). The chain decides:
//!
//! ```text
//! seq <= last                                → drop as a duplicate; another hash for that seq: halt
//! seq == last + 1  and prevhash == last hash → accept             ; another prevhash: halt
//! seq >  last + 1                            → drop as an orphan
//! ```

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::record::Hash;

/// How many accepted hashes are remembered, to tell a repeated record from a divergent one.
pub const REMEMBERED_MAX: usize = 1024;

/// Where a reader is in one partition: the last accepted `seq` and its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    next_seq: u64,
    last_hash: Hash,
    remembered: VecDeque<Hash>,
}

/// What R says of a record that does not stop the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is the next event.
    Accepted,
    /// It is a copy of an event that was accepted before.
    Duplicate,
    /// It follows a record that was never committed.
    Orphan,
}

/// The log contradicts itself: a person must look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Two different records claim one place.
    #[error("seq {seq} is held by two different records ({kept} was accepted, {found} found): somebody else wrote to the journal")]
    Diverged {
        /// The place.
        seq: u64,
        /// The hash that was accepted.
        kept: Hash,
        /// The hash that claims the same place.
        found: Hash,
    },
    /// The next record does not follow from the last one.
    #[error("seq {seq} names {found} as its predecessor, but the record before it has the hash {expected}: the journal was changed or cut")]
    Broken {
        /// The place.
        seq: u64,
        /// The hash of the last accepted record.
        expected: Hash,
        /// The `prevhash` that was found.
        found: Hash,
    },
}

impl Rule {
    /// Continues behind a record that is already trusted (a snapshot, a stored position).
    ///
    /// Read the log on from *behind that record*, never from further back: an orphan that was dropped
    /// before may claim the next place, and the rule, which no longer knows why, would halt there.
    #[must_use]
    pub fn after(seq: u64, hash: Hash) -> Self {
        Self { next_seq: seq + 1, last_hash: hash, remembered: VecDeque::from([hash]) }
    }

    /// The `seq` that comes next; 0 in an empty journal.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The last accepted `seq`, `None` in an empty journal.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        self.next_seq.checked_sub(1)
    }

    /// The hash of the last accepted record; all zero in an empty journal.
    #[must_use]
    pub fn last_hash(&self) -> Hash {
        self.last_hash
    }

    /// Judges the next record of the log, and moves on if it is accepted.
    ///
    /// # Errors
    /// [`Halt`] where the log contradicts itself; the rule stays where it was.
    pub fn judge(&mut self, seq: u64, prevhash: Hash, hash: Hash) -> Result<Judged, Halt> {
        if seq < self.next_seq {
            return self.repeated(seq, hash);
        }
        if seq > self.next_seq {
            return Ok(Judged::Orphan);
        }
        if prevhash != self.last_hash {
            return Err(Halt::Broken { seq, expected: self.last_hash, found: prevhash });
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back(hash);
        self.last_hash = hash;
        self.next_seq += 1;
        Ok(Judged::Accepted)
    }

    fn repeated(&self, seq: u64, hash: Hash) -> Result<Judged, Halt> {
        let back = usize::try_from(self.next_seq - seq).unwrap_or(usize::MAX);
        let kept = self.remembered.len().checked_sub(back).and_then(|i| self.remembered.get(i));
        match kept {
            Some(kept) if *kept != hash => Err(Halt::Diverged { seq, kept: *kept, found: hash }),
            _ => Ok(Judged::Duplicate),
        }
    }
}

#[cfg(test)]
mod tests;
