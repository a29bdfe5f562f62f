//! An exported file as a journal that can only be read, so that whatever reads journals reads it too.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;
use serde::Deserialize;

use crate::audit::bundle::{Head, LINE_BYTES_MAX, Line, MAGIC, PARTITIONS_MAX, VERSION};
use crate::journal::{Chunk, Claim, ClaimError, Journal, Located, ProposeError, Proposed, Queued, ReadError};

/// An exported file. Memory: 8 bytes a record.
pub struct Shelf {
    journal: String,
    /// By partition: where each line begins.
    lines: Vec<Vec<u64>>,
    file: Mutex<BufReader<File>>,
}

/// Why a file cannot be read as a journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not an export, or not a whole one.
    #[error("line {line} is not that of an exported journal: {why}; `annals audit verify` tells more")]
    Foreign {
        /// The line.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

#[derive(Deserialize)]
struct Where {
    partition: usize,
}

impl Shelf {
    /// Looks once through the file, for where its records are. What is in them is not checked here.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut file = BufReader::with_capacity(128 * 1024, File::open(path)?);
        let foreign = |line: u64, why: String| OpenError::Foreign { line, why };
        let mut text = String::new();
        let mut at = read_line(&mut file, &mut text)?;
        let head: Head = serde_json::from_str(&text).map_err(|e| foreign(1, e.to_string()))?;
        if head.annals != MAGIC || head.version != VERSION || !(1..=PARTITIONS_MAX).contains(&head.partitions) {
            return Err(foreign(1, format!("it says `{}`, version {}", head.annals, head.version)));
        }
        let mut lines: Vec<Vec<u64>> = vec![Vec::new(); head.partitions as usize];
        for number in 2.. {
            let bytes = read_line(&mut file, &mut text)?;
            if bytes == 0 {
                return Err(foreign(number, "the file ends without its last line".into()));
            }
            if text.starts_with("{\"end\":") {
                break;
            }
            let found: Where = serde_json::from_str(&text).map_err(|e| foreign(number, e.to_string()))?;
            lines.get_mut(found.partition).ok_or_else(|| foreign(number, format!("there is no partition {}", found.partition)))?.push(at);
            at += bytes;
        }
        Ok(Self { journal: head.journal, lines, file: Mutex::new(file) })
    }

    fn read(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Located>, ReadError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let begin = usize::try_from(from).unwrap_or(usize::MAX);
        let places = self.lines[partition as usize].iter().skip(begin).take(max);
        let located = (from..).zip(places).map(|(offset, place)| {
            file.seek(SeekFrom::Start(*place)).map_err(unavailable)?;
            read_line(&mut file, &mut text).map_err(unavailable)?;
            let line: Line<'_> = serde_json::from_str(&text).map_err(|e| ReadError::Corrupt(format!("the line at byte {place}: {e}")))?;
            let record = line.record();
            if record.hash().to_string() != line.hash {
                return Err(ReadError::Corrupt(format!("the record at byte {place} was changed: `annals audit verify` names it")));
            }
            Ok(Located { offset, record })
        });
        located.collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: io::Error) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

fn read_line(file: &mut BufReader<File>, text: &mut String) -> io::Result<u64> {
    text.clear();
    file.take(LINE_BYTES_MAX).read_line(text).map(|bytes| bytes as u64)
}

impl Journal for Shelf {
    fn id(&self) -> &str {
        &self.journal
    }

    fn partitions(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    fn propose(&self, _: u32, _: Submission) -> Proposed<'_> {
        Box::pin(std::future::ready(Err(ProposeError::Unavailable("an exported file is only read".into()))))
    }

    fn claim(&self, _: u32) -> Result<Box<dyn Claim>, ClaimError> {
        Err(ClaimError::Unavailable("an exported file is only read".into()))
    }

    fn proposals(&self, _: u32, _: u64, _: usize) -> Result<Vec<Queued>, ReadError> {
        Ok(Vec::new()) // an export has none
    }

    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        let items = self.read(partition, from, max)?;
        Ok(Chunk { next: from + items.len() as u64, items })
    }

    fn end(&self, partition: u32) -> Result<u64, ReadError> {
        Ok(self.lines[partition as usize].len() as u64)
    }

    fn verdicts(&self, _: u32, from: u64, _: usize) -> Result<Chunk<Verdict>, ReadError> {
        Ok(Chunk { items: Vec::new(), next: from })
    }

    fn verdicts_end(&self, _: u32) -> Result<u64, ReadError> {
        Ok(0)
    }

    fn verdict(&self, _: &str, _: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        Ok(None)
    }

    fn settled_until(&self, _: u32) -> Timestamp {
        Timestamp(0)
    }

    fn wait(&self, _: u32, _: Duration) {}
}
