//! Reading the journal under rule R, all partitions as one sequence in the order of recorded time.
//!
//! Within a partition the order is the journal's; between partitions it is the recorded time, so
//! that a replay from the beginning reads like a chronicle. Memory: one chunk per partition.

use std::collections::VecDeque;
use std::sync::Arc;

use annals_events::record::{Hash, Record};
use annals_events::rule::{self, Judged, Rule};
use annals_events::time::Timestamp;

use super::position::{Cursor, Mark, Moment, gone};
use super::problem::Problem;
use crate::arbiter::door::Head;
use crate::journal::{Journal, ReadError};

/// Bytes of records that a partition's chunk may have, about.
const CHUNK_BYTES: usize = 128 * 1024;
/// Most records of a chunk.
const CHUNK_MAX: usize = 1_000;
/// Records that are looked at, from the end backwards, to find the last accepted one.
const BACK_MAX: u64 = 1 << 20;

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

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Read(read) => read.into(),
            FollowError::Halt { .. } => {
                Self::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "corrupt", error, "run `annals audit verify`, and restore a backup")
            }
        }
    }
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
    /// The last moment that is wanted.
    pub moment: Option<Moment>,
    /// By partition: the offset at which to stop; empty for no such bound.
    pub ends: Vec<u64>,
}

/// See the module.
pub struct Follower {
    journal: Arc<dyn Journal>,
    marks: Vec<Mark>,
    lanes: Vec<Lane>,
    until: Until,
}

impl Follower {
    /// Reads on behind these marks, one per partition.
    pub fn new(journal: Arc<dyn Journal>, marks: Vec<Mark>, until: Until) -> Self {
        let lanes = marks.iter().map(Lane::behind).collect();
        Self { journal, marks, lanes, until }
    }

    /// Reads from the first event on.
    pub fn beginning(journal: Arc<dyn Journal>, until: Until) -> Self {
        let marks = vec![Mark::default(); journal.partitions() as usize];
        Self::new(journal, marks, until)
    }

    /// What was taken last, by partition.
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.journal.id(), &self.marks)
    }

    /// What was taken last of a partition.
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

    /// The next event; `None` where there is no more for now. Blocks while it reads the journal.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn next(&mut self) -> Result<Option<Accepted>, FollowError> {
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
        match &self.moment {
            None => false,
            Some(Moment::Time(time)) => event.recorded > *time,
            Some(Moment::Positions(positions)) => positions.0.get(&event.partition).is_some_and(|seq| event.seq > *seq),
        }
    }
}

/// The marks that a cursor names, if the journal still has what was delivered.
///
/// # Errors
/// 410 for a cursor of another journal, or of a history that is not there any more.
pub fn resume(journal: &dyn Journal, cursor: &Cursor) -> Result<Vec<Mark>, Problem> {
    if cursor.nexts.len() != journal.partitions() as usize {
        return Err(gone("the cursor is of another journal"));
    }
    let mut marks = Vec::with_capacity(cursor.nexts.len());
    for (partition, next) in (0..).zip(&cursor.nexts) {
        let Some(last) = next.checked_sub(1) else {
            marks.push(Mark::default());
            continue;
        };
        let chunk = journal.records(partition, last, 1)?;
        let found = chunk.items.first().filter(|located| located.offset == last);
        let found = found.ok_or_else(|| gone("the cursor points to a record that the journal does not have"))?;
        let view = found.record.view().map_err(|e| Problem::internal(format!("the record at offset {last} is not one of ours: {e}")))?;
        marks.push(Mark { next: *next, seq: view.seq + 1, hash: found.record.hash() });
    }
    if Cursor::at(journal.id(), &marks) != *cursor {
        return Err(gone("the cursor is of another journal, or of a history that was replaced by a backup"));
    }
    Ok(marks)
}

/// The marks of where the partitions are now.
///
/// # Errors
/// 503 while a partition has not been folded yet.
pub fn now(journal: &dyn Journal, heads: &[Head]) -> Result<Vec<Mark>, Problem> {
    heads.iter().map(|head| mark_of(journal, head)).collect()
}

/// Finds the record of a partition's head: at the end of its log, but for copies and orphans.
fn mark_of(journal: &dyn Journal, head: &Head) -> Result<Mark, Problem> {
    let starting = || Problem::unavailable("starting", format!("partition {} is still being read", head.partition), "try again after Retry-After");
    let seq = head.seq.ok_or_else(starting)?;
    let end = journal.end(head.partition)?;
    let mut back = 1;
    while back <= BACK_MAX {
        let mut from = end.saturating_sub(back);
        while from < end {
            let chunk = journal.records(head.partition, from, CHUNK_MAX)?;
            if let Some(found) = chunk.items.iter().find(|located| located.record.hash() == head.hash) {
                return Ok(Mark { next: found.offset + 1, seq: seq + 1, hash: head.hash });
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        if back >= end {
            break;
        }
        back *= 16;
    }
    Err(starting())
}
