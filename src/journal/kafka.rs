//! The journal on Kafka: three topics, a transactional producer for each partition, and many instances.
//!
//! ```text
//!  propose ─▶ PREFIX.proposals ─▶ arbiter ─▶ append, commit (a transaction) ─▶ PREFIX.journal, PREFIX.verdicts
//!                    └──────────────┴────── tail (all ends, in memory) ◀──────────────────┘
//!                                           history (older messages, by offset)
//! ```
//!
//! Offsets are Kafka's. Control markers take offsets too, so there are gaps; `end` is behind the last
//! committed record, not behind the last marker. Everything is read with `read_committed`.

mod claim;
mod codec;
pub mod connect;
mod delivery;
pub mod derived;
mod ends;
mod history;
mod owners;
pub mod registry;
mod tail;
#[cfg(test)]
mod tests;
pub mod topics;
mod transaction;
mod verdicts;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use annals_events::ledger::Ledger;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use claim::KafkaClaim;
use connect::{ASK_MAX, Connection, Topic, number};
use delivery::Teller;
use ends::Ends;
use history::History;
use owners::Owners;
use tail::{Lane, Tail};
use verdicts::Index;
use watch::Watch;

use super::facts::{self, Facts};
use super::owed;
use super::{Chunk, Claim, ClaimError, Journal, Located, ProposeError, Proposed, Queued, ReadError};

/// Verdicts of each partition that a start reads back, so that callers who come back find them.
const VERDICTS_BACK: u64 = 1_000;

/// Offsets at the end of a log among which all is that the last transaction has written: it judges 500 proposals at most.
const NEWEST: u64 = 2_048;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster cannot be reached.
    #[error("the cluster cannot be reached: {0}; is --kafka right, and are the brokers up?")]
    Away(#[from] KafkaError),
    /// A topic is missing.
    #[error("the topic {0} is missing: run `annals topics create` first")]
    Missing(String),
    /// The topics do not fit together.
    #[error("{name} has {found} partitions and the journal has {wanted}: run `annals topics check`")]
    Partitions {
        /// The topic.
        name: String,
        /// How many it has.
        found: u32,
        /// How many it should have.
        wanted: u32,
    },
    /// The journal has lost its beginning.
    #[error(
        "{topic} has no opening record in partition 0: it was emptied, or `annals topics create` did not end; run that again, \
         or restore the topic from a backup or a mirror"
    )]
    Emptied {
        /// The journal's topic.
        topic: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// See the module.
pub struct KafkaJournal {
    connection: Connection,
    id: String,
    partitions: u32,
    proposals: String,
    proposer: FutureProducer,
    teller: Arc<Teller>,
    history: Arc<History>,
    tail: Arc<Tail>,
    index: Arc<Index>,
    owners: Option<Owners>,
    /// Without a group: what the engine must bear, since the group is only a hint.
    owns_all: bool,
    watch: Watch,
    ends: Ends,
}

impl KafkaJournal {
    /// Opens the journal behind a connection. `arbitrate`: join the group that shares out partitions.
    /// Blocks while it asks the cluster.
    ///
    /// # Errors
    /// [`OpenError`] says what a person has to do.
    pub fn open(connection: Connection, arbitrate: bool) -> Result<Self, OpenError> {
        let partitions = partitions(&connection)?;
        let history = Arc::new(History::new(connection.clone()));
        let id = identify(&connection, &history)?;
        Self::join(connection, history, id, partitions, arbitrate)
    }

    /// Opens topics that hold nothing yet, to be filled: who fills them checks that.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_unopened(connection: Connection) -> Result<Self, OpenError> {
        let partitions = partitions(&connection)?;
        let history = Arc::new(History::new(connection.clone()));
        let id = format!("{} (not opened)", connection.prefix());
        Self::join(connection, history, id, partitions, false)
    }

    fn join(connection: Connection, history: Arc<History>, id: String, partitions: u32, arbitrate: bool) -> Result<Self, OpenError> {
        let index = Arc::new(Index::default());
        let tail = Arc::new(Tail::start(&connection, partitions, Arc::clone(&index))?);
        let join = || {
            let tail = Arc::clone(&tail);
            Owners::join(&connection, "arbiter", Topic::Proposals, partitions, Box::new(move |p| tail.shelf(p).ring()))
        };
        let owners = arbitrate.then(join).transpose()?;
        let ends = Ends::start(&connection, partitions, Arc::clone(&tail), Arc::clone(&history))?;
        let watch = Watch::start(&connection, &history, tail.shelves())?;
        let journal = Self {
            id,
            partitions,
            proposals: connection.topic(Topic::Proposals),
            proposer: connection.proposer()?,
            teller: claim::teller(&connection)?,
            history,
            tail,
            index,
            owners,
            owns_all: false,
            watch,
            ends,
            connection,
        };
        journal.read_verdicts_back()?;
        Ok(journal)
    }

    /// Believes to own every partition, whatever other instances believe: for tests of the fence.
    #[must_use]
    pub fn own_every_partition(mut self) -> Self {
        self.owns_all = true;
        self
    }

    /// What was told lately: who asks for it may have asked another instance, or this one before it died.
    fn read_verdicts_back(&self) -> Result<(), ReadError> {
        for partition in 0..self.partitions {
            let (low, end) = self.history.range(Topic::Verdicts, partition)?;
            let told = self.told(partition, end.saturating_sub(VERDICTS_BACK).max(low), end)?;
            told.iter().for_each(|verdict| self.index.remember(partition, verdict));
            let mut lane = self.tail.shelf(partition).lane();
            lane.judged = lane.judged.max(told.iter().map(|verdict| verdict.src).max());
        }
        Ok(())
    }

    /// All that is committed from one offset of a log to before another.
    fn between<T: Send>(
        &self,
        topic: Topic,
        partition: u32,
        mut from: u64,
        end: u64,
        decode: impl Fn(&BorrowedMessage<'_>) -> T + Sync,
    ) -> Result<Vec<T>, ReadError> {
        let mut found = Vec::new();
        while from < end {
            let chunk = self.history.read(topic, partition, from, usize::MAX, &decode)?;
            found.extend(chunk.items);
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        Ok(found)
    }

    /// The verdicts from one offset of their log to before another.
    fn told(&self, partition: u32, from: u64, end: u64) -> Result<Vec<Verdict>, ReadError> {
        let found = self.between(Topic::Verdicts, partition, from, end, codec::decode_verdict)?;
        Ok(found.into_iter().flatten().map(|(_, verdict)| verdict).collect())
    }

    fn lane<T>(&self, partition: u32, look: impl FnOnce(&Lane) -> Option<T>) -> Result<Option<T>, ReadError> {
        let lane = self.tail.shelf(partition).lane();
        match &lane.damage {
            Some(damage) => Err(ReadError::Corrupt(damage.clone())),
            None => Ok(look(&lane)),
        }
    }
}

/// The number of partitions, if the topics are there and fit together.
fn partitions(connection: &Connection) -> Result<u32, OpenError> {
    let existing = topics::existing(connection)?;
    let count = |topic: Topic| {
        let name = connection.topic(topic);
        existing.get(&name).copied().ok_or(OpenError::Missing(name))
    };
    let wanted = count(Topic::Journal)?;
    for topic in [Topic::Proposals, Topic::Verdicts] {
        let found = count(topic)?;
        if found != wanted {
            return Err(OpenError::Partitions { name: connection.topic(topic), found, wanted });
        }
    }
    Ok(wanted)
}

/// The cluster, the topics, and the record with which they began: topics that were made anew under
/// the same name are another journal.
fn identify(connection: &Connection, history: &History) -> Result<String, OpenError> {
    let cluster = connection.admin()?.inner().fetch_cluster_id(ASK_MAX).unwrap_or_default();
    let topic = connection.topic(Topic::Journal);
    let first = history.read(Topic::Journal, 0, 0, 1, codec::decode_record);
    let first = first.map_err(|e| match e {
        ReadError::Corrupt(_) => OpenError::Emptied { topic: topic.clone() },
        other => OpenError::Read(other),
    })?;
    let first = first.items.first().ok_or(OpenError::Emptied { topic })?;
    Ok(format!("{cluster}/{}/{:.16}", connection.prefix(), first.record.hash().to_string()))
}

impl Journal for KafkaJournal {
    fn id(&self) -> &str {
        &self.id
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn schemas(&self) -> Option<registry::Status> {
        self.connection.schemas()
    }

    fn propose(&self, partition: u32, submission: Submission) -> Proposed<'_> {
        let headers = codec::encode_headers(&submission);
        let mut record = FutureRecord::to(&self.proposals).partition(number(partition)).payload(&submission.value).headers(headers);
        if let Some(key) = &submission.key {
            record = record.key(key);
        }
        let sent = self.proposer.send_result(record).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => ProposeError::Busy,
            other => ProposeError::Unavailable(other.to_string()),
        });
        Box::pin(async move {
            match sent?.await {
                Ok(Ok(delivery)) => Ok(u64::try_from(delivery.offset).unwrap_or(0)),
                Ok(Err((error, _))) => Err(ProposeError::Unknown(error.to_string())),
                Err(_) => Err(ProposeError::Unknown("the producer was closed".into())),
            }
        })
    }

    fn claim(&self, partition: u32) -> Result<Box<dyn Claim>, ClaimError> {
        Ok(Box::new(KafkaClaim::new(&self.connection, partition, Arc::clone(&self.teller))?))
    }

    fn proposals(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Queued>, ReadError> {
        if let Some(chunk) = self.lane(partition, |lane| lane.proposals.from(from, max))? {
            return Ok(chunk.items);
        }
        // behind a transaction that was aborted there may be more
        let mut from = from;
        loop {
            let chunk = self.history.read(Topic::Proposals, partition, from, max, codec::decode_proposal)?;
            if !chunk.items.is_empty() || chunk.next <= from {
                return Ok(chunk.items);
            }
            from = chunk.next;
        }
    }

    fn proposal(&self, partition: u32, src: u64) -> Result<Option<Queued>, ReadError> {
        let there = |found: Option<Queued>| found.filter(|queued| queued.src == src);
        if let Some(found) = there(self.proposals(partition, src, 1)?.pop()) {
            return Ok(Some(found));
        }
        // in the tail the topics do not come in one order: a record may pass by before the proposal that it answers
        let mut chunk = self.history.read(Topic::Proposals, partition, src, 1, codec::decode_proposal)?;
        Ok(there(chunk.items.pop()))
    }

    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        match self.lane(partition, |lane| lane.records.from(from, max))? {
            Some(chunk) => Ok(chunk),
            None => self.history.read(Topic::Journal, partition, from, max, codec::decode_record),
        }
    }

    /// Looks backwards from the last marker, further and further, for the last record before it.
    fn end(&self, partition: u32) -> Result<u64, ReadError> {
        let (low, end) = self.history.range(Topic::Journal, partition)?;
        let mut back = 8;
        loop {
            let start = end.saturating_sub(back).max(low);
            match self.between(Topic::Journal, partition, start, end, codec::offset)?.last() {
                Some(last) => return Ok(last + 1),
                None if start <= low => return Ok(low),
                None => back *= 16,
            }
        }
    }

    fn verdicts(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Verdict>, ReadError> {
        let ring = self.lane(partition, |lane| lane.verdicts.from(from, max))?;
        let chunk = match ring {
            Some(chunk) => chunk,
            None => {
                let chunk = self.history.read(Topic::Verdicts, partition, from, max, codec::decode_verdict)?;
                Chunk { items: chunk.items.into_iter().flatten().collect(), next: chunk.next }
            }
        };
        Ok(Chunk { items: chunk.items.into_iter().map(|(_, verdict)| verdict).collect(), next: chunk.next })
    }

    fn verdicts_end(&self, partition: u32) -> Result<u64, ReadError> {
        Ok(self.history.range(Topic::Verdicts, partition)?.1)
    }

    fn verdict(&self, source: &str, id: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        Ok(self.index.find(source, id))
    }

    fn settled_until(&self, partition: u32) -> Timestamp {
        let recorded = self.tail.shelf(partition).lane().recorded;
        recorded.max(self.ends.settled_until(partition))
    }

    fn wanted(&self, partition: u32) -> bool {
        self.owns_all || self.owners.as_ref().is_some_and(|owners| owners.has(partition))
    }

    fn check_resume(&self, partition: u32, from: u64) -> Result<(), ReadError> {
        let (low, end) = self.history.range(Topic::Proposals, partition)?;
        let resume = "if that is known and accepted, a person says so with";
        if from < low {
            return Err(ReadError::Gap(format!(
                "the proposals {from} to {} of partition {partition} were deleted before this partition's journal had an answer to them; \
                 {resume} `annals partition resume {partition} --skip-to {low}`",
                low - 1
            )));
        }
        if from > end {
            return Err(ReadError::Gap(format!(
                "the journal has answered proposal {} of partition {partition}, and {} ends at {end}: it was emptied or made anew; \
                 {resume} `annals partition resume {partition} --skip-to {end}`",
                from - 1,
                self.proposals
            )));
        }
        Ok(())
    }

    fn owed(&self, partition: u32, ledger: &Ledger) -> Result<Vec<Verdict>, ReadError> {
        // verdicts are written in the proposals' order, and whoever claims the partition tells what is owed before all
        // else: so only the end of the last transaction can be missing
        let (low, end) = self.history.range(Topic::Verdicts, partition)?;
        let back = |offsets| end.saturating_sub(offsets).max(low);
        if self.told(partition, back(8), end)?.iter().any(|verdict| Some(verdict.src) >= ledger.last_src()) {
            return Ok(Vec::new());
        }
        let told: BTreeSet<u64> = self.told(partition, back(NEWEST), end)?.iter().map(|verdict| verdict.src).collect();
        let since = if back(NEWEST) == 0 { 0 } else { told.first().copied().unwrap_or(u64::MAX) };
        let (low, end) = self.history.range(Topic::Journal, partition)?;
        let records = self.between(Topic::Journal, partition, end.saturating_sub(NEWEST).max(low), end, codec::decode_record)?;
        Ok(owed::owed(records.into_iter().map(|located| located.record), ledger.last_hash(), &told, since))
    }

    fn judged(&self, partition: u32, next: u64) {
        if let Some(owners) = &self.owners {
            owners.judged(partition, next);
        }
    }

    fn facts(&self) -> Option<Facts> {
        let registry = self.schemas().map(|status| facts::Registry { state: status.state.as_str(), detail: status.to_string() });
        Some(Facts { registry, ..self.watch.facts() })
    }

    fn wait(&self, partition: u32, idle_max: Duration) {
        self.history.tidy();
        self.tail.shelf(partition).wait(idle_max);
    }
}
