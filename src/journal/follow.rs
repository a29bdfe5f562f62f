//! Reading the journal under rule R, all partitions as one sequence in the order of recorded time.
//!
//! Within a partition the order is the journal's; between partitions it is the recorded time, so
//! that a replay from the beginning reads like a chronicle. Memory: one chunk per partition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use annals_events::record::{Hash, Record};
use annals_events::rule::{self, Judged, Rule};
use annals_events::time::Timestamp;

use super::{Journal, ReadError};

/// Bytes of records that a partition's chunk may have, about.
const CHUNK_BYTES: usize = 128 * 1024;
/// Most records of a chunk.
const CHUNK_MAX: usize = 1_000;

/// Why a reader stops.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The chain contradicts itself: call a person.
    #[error("partition {partition} cannot be read on: {reason}; run `annals audit verify`")]
    Halt {
        /// Where.
        partition: u32,
        /// What is wrong.
        reason: String,
    },
}

/// The last event of a partition that a reader has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Offset behind it in the log; 0 before the first.
    pub next: u64,
    /// The `seq` that comes next.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// An event that rule R has accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the log.
    pub offset: u64,
    /// Its place.
    pub seq: u64,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// The record.
    pub record: Record,
}

struct Lane {
    next: u64,
    rule: Rule,
    buffer: VecDeque<Accepted>,
    /// No more is wanted from here, or (for now) no more is there.
    done: bool,
    chunk: usize,
}

/// Where to stop.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// The last recorded time that is wanted.
    pub time: Option<Timestamp>,
    /// By partition the last `seq` that is wanted; nothing is wanted of a partition that is not named.
    pub positions: Option<BTreeMap<u32, u64>>,
    /// By partition: the offset at which to stop; empty for no such bound.
    pub ends: Vec<u64>,
}

/// See the module.
pub struct Follower {
    journal: Arc<dyn Journal>,
    marks: Vec<Mark>,
    lanes: Vec<Lane>,
    until: Until,
    /// The one partition that is read; all, if there is none.
    only: Option<u32>,
}

impl Follower {
    /// Reads on behind these marks, one per partition.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, marks: Vec<Mark>, until: Until) -> Self {
        let lanes = marks.iter().map(Lane::behind).collect();
        Self { journal, marks, lanes, until, only: None }
    }

    /// Reads from the first event on.
    #[must_use]
    pub fn beginning(journal: Arc<dyn Journal>, until: Until) -> Self {
        let marks = vec![Mark::default(); journal.partitions() as usize];
        Self::new(journal, marks, until)
    }

    /// Reads one partition only, behind an accepted record, or from the beginning for offset 0.
    ///
    /// # Errors
    /// [`FollowError`], also if there is no record right before `from`.
    pub fn behind(journal: Arc<dyn Journal>, partition: u32, from: u64) -> Result<Self, FollowError> {
        let halt = |reason: String| FollowError::Halt { partition, reason };
        let mut marks = vec![Mark::default(); journal.partitions() as usize];
        if let Some(last) = from.checked_sub(1) {
            let chunk = journal.records(partition, last, 1)?;
            let found = chunk.items.first().filter(|located| located.offset == last);
            let found = found.ok_or_else(|| halt(format!("there is no record at offset {last}")))?;
            let view = found.record.view().map_err(|e| halt(format!("the record at offset {last} is not one of ours: {e}")))?;
            marks[partition as usize] = Mark { next: from, seq: view.seq + 1, hash: found.record.hash() };
        }
        let mut follower = Self::new(journal, marks, Until::default());
        follower.lanes.iter_mut().zip(0..).for_each(|(lane, p)| lane.done = p != partition);
        follower.only = Some(partition);
        Ok(follower)
    }

    /// What was taken last, by partition.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The journal that is read.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// What was taken last of a partition.
    #[must_use]
    pub fn mark(&self, partition: u32) -> Mark {
        self.marks[partition as usize]
    }

    /// Says that an event which came by elsewhere was taken. `false` if it is not the next one.
    pub fn took(&mut self, partition: u32, offset: u64, seq: u64, prevhash: Hash, hash: Hash) -> bool {
        let mark = &mut self.marks[partition as usize];
        let next = seq == mark.seq && prevhash == mark.hash;
        if next {
            *mark = Mark { next: offset + 1, seq: seq + 1, hash };
        }
        next
    }

    /// Looks again at what was at its end, from the marks on.
    pub fn rewind(&mut self) {
        for (lane, mark) in self.lanes.iter_mut().zip(&self.marks) {
            *lane = Lane::behind(mark);
        }
    }

    /// As [`Follower::rewind`], but keeps what was read and not taken yet.
    pub fn rewind_at_end(&mut self) {
        for ((lane, mark), partition) in self.lanes.iter_mut().zip(&self.marks).zip(0..) {
            if lane.done && lane.buffer.is_empty() && self.only.is_none_or(|only| only == partition) {
                *lane = Lane::behind(mark);
            }
        }
    }

    /// As [`Follower::rewind`], but only for partitions that are known to have this `seq` or more.
    pub fn rewind_to(&mut self, seqs: impl IntoIterator<Item = Option<u64>>) {
        for ((lane, mark), seq) in self.lanes.iter_mut().zip(&self.marks).zip(seqs) {
            if lane.done && lane.buffer.is_empty() && seq.is_some_and(|seq| seq >= mark.seq) {
                *lane = Lane::behind(mark);
            }
        }
    }

    /// The next event; `None` where there is no more for now. Blocks while it reads the journal.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn next_event(&mut self) -> Result<Option<Accepted>, FollowError> {
        for partition in 0..self.lanes.len() {
            self.fill(partition)?;
        }
        let front = |(i, lane): (usize, &Lane)| lane.buffer.front().map(|event| (event.recorded, i));
        let Some((_, lane)) = self.lanes.iter().enumerate().filter_map(front).min() else { return Ok(None) };
        let Some(event) = self.lanes[lane].buffer.pop_front() else { return Ok(None) };
        self.marks[lane] = Mark { next: event.offset + 1, seq: event.seq + 1, hash: event.record.hash() };
        Ok(Some(event))
    }

    fn fill(&mut self, index: usize) -> Result<(), FollowError> {
        let lane = &mut self.lanes[index];
        let partition = u32::try_from(index).unwrap_or(u32::MAX);
        while lane.buffer.is_empty() && !lane.done {
            let chunk = self.journal.records(partition, lane.next, lane.chunk)?;
            lane.done = chunk.next <= lane.next;
            lane.next = chunk.next;
            let mut bytes = 0;
            let count = chunk.items.len();
            for located in chunk.items {
                bytes += located.record.frame().len();
                if self.until.ends.get(index).is_some_and(|end| located.offset >= *end) {
                    lane.done = true;
                    break;
                }
                let Some(event) = lane.judge(partition, located.offset, located.record)? else { continue };
                if self.until.is_past(&event) {
                    lane.done = true;
                    break;
                }
                lane.buffer.push_back(event);
            }
            // events of very different sizes must neither fill the memory nor cost a read each
            lane.chunk = (CHUNK_BYTES * count.max(1) / bytes.max(1)).clamp(1, CHUNK_MAX).min(lane.chunk * 4);
        }
        Ok(())
    }
}

impl Lane {
    fn behind(mark: &Mark) -> Self {
        let rule = mark.seq.checked_sub(1).map_or_else(Rule::default, |seq| Rule::after(seq, mark.hash));
        Self { next: mark.next, rule, buffer: VecDeque::new(), done: false, chunk: 16 }
    }

    fn judge(&mut self, partition: u32, offset: u64, record: Record) -> Result<Option<Accepted>, FollowError> {
        let halt = |reason: String| FollowError::Halt { partition, reason };
        let view = record.view().map_err(|e| halt(format!("the record at offset {offset} is not one of ours: {e}")))?;
        let (seq, recorded) = (view.seq, view.recorded);
        let judged = self.rule.judge(seq, view.prevhash, record.hash()).map_err(|e: rule::Halt| halt(e.to_string()))?;
        Ok((judged == Judged::Accepted).then_some(Accepted { partition, offset, seq, recorded, record }))
    }
}

impl Until {
    fn is_past(&self, event: &Accepted) -> bool {
        let wanted = |positions: &BTreeMap<u32, u64>| positions.get(&event.partition).is_some_and(|seq| event.seq <= *seq);
        self.time.is_some_and(|time| event.recorded > time) || !self.positions.as_ref().is_none_or(wanted)
    }
}
