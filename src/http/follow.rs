//! Where a reader of events begins: at a cursor, or at where the journal is now.

use super::position::{Cursor, gone};
use super::problem::Problem;
use crate::arbiter::door::Head;
use crate::journal::Journal;
use crate::journal::follow::{FollowError, Mark};

/// Most records that are read at once.
const CHUNK_MAX: usize = 1_000;
/// Records that are looked at, from the end backwards, to find the last accepted one.
const BACK_MAX: u64 = 1 << 20;

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Read(read) => read.into(),
            FollowError::Halt { .. } => Self::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                "corrupt",
                error,
                "run `annals audit verify`, and restore a backup",
            ),
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
    let starting =
        || Problem::unavailable("starting", format!("partition {} is still being read", head.partition), "try again after Retry-After");
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
