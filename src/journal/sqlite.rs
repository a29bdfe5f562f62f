//! The embedded journal: one SQLite file, one fsync for each group of batches.
//!
//! ```text
//!  propose ─▶ queue (memory, bounded) ─▶ arbiter ─▶ append, commit ─▶ writer (group commit) ─▶ journal.db
//!                                           ▲                         │ newest records (memory)   │
//!                                           └─────────────────────────┴── reader (connections) ◀──┘
//! ```
//!
//! `offset` is `seq`, and a verdict's cursor is its proposal's `src`. A proposal waits in memory until
//! its verdict is stored, and until then its sender has no answer. An accepted one is stored as its
//! record and nothing else, so that an accept writes one page.

mod backup;
mod home;
mod keeper;
mod queue;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod unopened;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annals_events::model::Decided;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::{Outcome, Verdict};

pub use backup::{BackupError, backup};
pub use home::{FILE, OpenError};
use keeper::Keeper;
use queue::Queue;
use reader::{Reader, name_of};
pub use unopened::Unopened;
use writer::{RecordRow, Rows, VerdictRow, Writer};

use super::{AppendError, Batch, Chunk, Claim, ClaimError, Journal, Located, PARTITIONS, ProposeError, Proposed, Queued, ReadError};

/// See the module.
pub struct SqliteJournal {
    dir: PathBuf,
    id: String,
    partitions: u32,
    reader: Reader,
    /// `None` when opened for reading only.
    engine: Option<Engine>,
}

/// What only the one process has that may write. The lock goes last.
struct Engine {
    /// Not while it is being filled.
    _keeper: Option<Keeper>,
    writer: Arc<Writer>,
    queues: Arc<Vec<Queue>>,
    _lock: File,
}

impl SqliteJournal {
    /// Opens the journal of a data directory for the one engine that may run on it. An empty
    /// directory gets a new journal of [`PARTITIONS`] partitions.
    ///
    /// # Errors
    /// [`OpenError`] says what a person has to do.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, PARTITIONS)
    }

    /// As [`SqliteJournal::open`]; a new journal gets this many partitions.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(dir: &Path, partitions: u32) -> Result<Self, OpenError> {
        let (lock, meta) = home::prepare(dir, partitions)?;
        let file = dir.join(FILE);
        let writer = Arc::new(Writer::open(dir, &file, meta.partitions).map_err(|e| home::trouble(dir, &e))?);
        let reader = Reader::new(&file, meta.partitions);
        let queues = (0..meta.partitions).map(|p| waiting_behind(&reader, p)).collect::<Result<_, _>>();
        let queues = Arc::new(queues.map_err(|e| OpenError::Damaged { dir: dir.to_owned(), what: e.to_string() })?);
        let keeper =
            Keeper::start(&file, Arc::clone(&writer), meta.partitions).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let engine = Engine { writer, queues, _keeper: Some(keeper), _lock: lock };
        Ok(Self { dir: dir.to_owned(), id: meta.id, partitions: meta.partitions, reader, engine: Some(engine) })
    }

    /// Opens the journal of a data directory for reading, also beside a running engine. Proposing
    /// and claiming fail.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        if !home::exists(dir)? {
            return Err(OpenError::Missing { dir: dir.to_owned() });
        }
        let meta = home::check(dir)?;
        let reader = Reader::new(&dir.join(FILE), meta.partitions);
        Ok(Self { dir: dir.to_owned(), id: meta.id, partitions: meta.partitions, reader, engine: None })
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn read_only(&self) -> String {
        format!("{} was opened for reading only: send it to the engine that runs on it", self.dir.display())
    }
}

/// An empty queue that goes on where the stored proposals and records end.
fn waiting_behind(reader: &Reader, p: u32) -> Result<Queue, ReadError> {
    let (next, recorded) = judged_end(reader, p)?;
    Ok(Queue::new(next, reader.last_at(p)?.max(recorded)))
}

/// The offset behind the last proposal that has its verdict, a stored one or a record, and the time
/// of the last record.
fn judged_end(reader: &Reader, p: u32) -> Result<(u64, Timestamp), ReadError> {
    let (mut behind, mut recorded) = (None, None);
    let mut end = reader.end(p)?;
    // most records name their proposal; a few at the end may be about the partition itself
    while behind.is_none() && end > 0 {
        end -= 1;
        let last = reader.records(p, end, 1)?;
        let Some(view) = last.items.first().and_then(|last| last.record.view().ok()) else { break };
        recorded = recorded.or(Some(view.recorded));
        behind = Decided::parse(view.kind, view.decided).ok().and_then(|decided| decided.next_src(view.src));
    }
    Ok((reader.verdicts_end(p)?.max(behind.unwrap_or(0)), recorded.unwrap_or_default()))
}

impl Journal for SqliteJournal {
    fn id(&self) -> &str {
        &self.id
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn propose(&self, partition: u32, submission: Submission) -> Proposed<'_> {
        let result = match &self.engine {
            Some(engine) => engine.queues[partition as usize].push(submission),
            None => Err(ProposeError::Unavailable(self.read_only())),
        };
        Box::pin(std::future::ready(result))
    }

    fn propose_and_step(&self, partition: u32, submission: &dyn Fn() -> Submission) -> Option<Result<u64, ProposeError>> {
        self.engine.as_ref().map(|engine| engine.queues[partition as usize].push_quietly(submission()))
    }

    fn claim(&self, partition: u32) -> Result<Box<dyn Claim>, ClaimError> {
        let engine = self.engine.as_ref().ok_or_else(|| ClaimError::Unavailable(self.read_only()))?;
        let epoch = engine.writer.claim(partition).map_err(ClaimError::Unavailable)?;
        // an earlier claim may have stored verdicts and died before it said so
        let (next, _) = judged_end(&self.reader, partition).map_err(|e| ClaimError::Unavailable(e.to_string()))?;
        engine.queues[partition as usize].settle_before(next);
        let (writer, queues) = (Arc::clone(&engine.writer), Arc::clone(&engine.queues));
        Ok(Box::new(SqliteClaim { partition, epoch, writer, queues, rows: Rows::default(), judged: Vec::new(), dead: false }))
    }

    /// Those that wait. A stored one has its verdict, so it needs none; and a record for it that
    /// no claim of ours wrote is an intruder's, whatever the rules would say.
    fn proposals(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Queued>, ReadError> {
        Ok(self.engine.as_ref().map(|engine| engine.queues[partition as usize].from(from, max)).unwrap_or_default())
    }

    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        let recent = self.engine.as_ref().and_then(|engine| engine.writer.recent(partition, from, max));
        recent.map_or_else(|| self.reader.records(partition, from, max), Ok)
    }

    /// Where somebody else has written verdicts, there is no end to go on from: the arbiter halts when it asks.
    fn end(&self, partition: u32) -> Result<u64, ReadError> {
        if let Some(found) = self.engine.as_ref().and_then(|engine| engine.writer.intruder(partition)) {
            return Err(ReadError::Corrupt(found));
        }
        self.reader.end(partition)
    }

    /// The arbiter asks after each batch, and there are only verdicts on what was not accepted.
    fn verdicts(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Verdict>, ReadError> {
        if self.engine.as_ref().is_some_and(|engine| !engine.writer.has_told(partition, from)) {
            return Ok(Chunk { items: Vec::new(), next: from });
        }
        self.reader.verdicts(partition, from, max)
    }

    fn verdicts_end(&self, partition: u32) -> Result<u64, ReadError> {
        self.reader.verdicts_end(partition)
    }

    fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        self.reader.verdict(source, id)
    }

    /// Of a journal that is only read: the time of the last record, since nothing is known of what waits.
    fn settled_until(&self, partition: u32) -> Timestamp {
        if let Some(engine) = &self.engine {
            return engine.queues[partition as usize].settled_until();
        }
        let last = self.reader.end(partition).and_then(|end| self.reader.records(partition, end.saturating_sub(1), 1));
        let time = |chunk: Chunk<Located>| Some(chunk.items.first()?.record.view().ok()?.recorded);
        last.ok().and_then(time).unwrap_or_default()
    }

    fn wait(&self, partition: u32, idle_max: Duration) {
        match &self.engine {
            Some(engine) => engine.queues[partition as usize].wait(idle_max),
            None => std::thread::sleep(idle_max), // another process writes, and cannot wake us
        }
    }
}

struct SqliteClaim {
    partition: u32,
    epoch: u64,
    writer: Arc<Writer>,
    queues: Arc<Vec<Queue>>,
    rows: Rows,
    /// Offsets of the proposals that the rows answer.
    judged: Vec<u64>,
    dead: bool,
}

impl Claim for SqliteClaim {
    fn append(&mut self, batch: Batch) -> Result<(), AppendError> {
        if self.dead {
            return Err(AppendError::Failed("the claim has ended with an error before: claim again".into()));
        }
        let staged = self.stage(batch);
        self.dead = staged.is_err();
        staged
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        if self.dead {
            return Err(AppendError::Failed("the claim has ended with an error before: claim again".into()));
        }
        let rows = std::mem::take(&mut self.rows);
        let srcs = std::mem::take(&mut self.judged);
        let committed = self.writer.commit(self.partition, self.epoch, rows);
        match committed {
            Ok(()) => self.queues[self.partition as usize].settle(&srcs),
            Err(_) => self.dead = true,
        }
        committed
    }
}

impl SqliteClaim {
    /// Everything that can be prepared before it is our turn to write.
    fn stage(&mut self, batch: Batch) -> Result<(), AppendError> {
        if !self.writer.holds(self.partition, self.epoch) {
            return Err(AppendError::Fenced);
        }
        for record in batch.records {
            self.rows.records.push(record_row(record)?);
        }
        for verdict in &batch.verdicts {
            self.judged.push(verdict.src);
            if !matches!(verdict.outcome, Outcome::Accepted(_)) {
                self.rows.verdicts.push(self.verdict_row(verdict)?);
            }
        }
        Ok(())
    }

    fn verdict_row(&self, verdict: &Verdict) -> Result<VerdictRow, AppendError> {
        let bug = |what: String| AppendError::Failed(format!("{what}; this is a bug"));
        let stored = |queued: &Queued| (queued.at, encode(&queued.submission));
        let (at, submission) = self.queues[self.partition as usize]
            .peek(verdict.src, stored)
            .ok_or_else(|| bug(format!("no proposal waits at offset {}", verdict.src)))?;
        let text = serde_json::to_string(verdict).map_err(|e| bug(format!("a verdict cannot be written: {e}")))?;
        let name = name_of(&verdict.source, &verdict.id);
        let submission = submission.map_err(|e| bug(format!("a proposal cannot be written: {e}")))?;
        Ok(VerdictRow { src: verdict.src, at: at.0, name, verdict: text, submission })
    }
}

fn record_row(record: Record) -> Result<RecordRow, AppendError> {
    let view = record.view().map_err(|e| AppendError::Failed(format!("a record cannot be read: {e}; this is a bug")))?;
    let (seq, key, recorded) = (view.seq, view.key.to_owned(), view.recorded.0);
    Ok(RecordRow { seq, key, recorded, record })
}

/// Key, headers and value in postcard, for whoever wants to judge it again.
fn encode(submission: &Submission) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&(&submission.key, &submission.headers, &submission.value))
}
