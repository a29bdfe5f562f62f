//! The end of every log, kept in memory: whoever keeps up reads from here, and only who does not asks the broker.
//!
//! One consumer reads the ends of all partitions of the proposals, the journal and the verdicts into
//! rings. A ring holds everything from its `base` on, as far as this instance has seen it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::codec;
use super::connect::{Connection, Topic, number, range};
use super::verdicts::Index;
use crate::journal::ring::Ring;
use crate::journal::{Located, Queued};

/// Most bytes of messages in one ring, about.
const RING_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long the consumer waits before it looks whether it shall stop.
const POLL: Duration = Duration::from_millis(100);

/// The ends of one partition's three logs.
pub struct Lane {
    /// What is asked.
    pub proposals: Ring<Queued>,
    /// What was accepted.
    pub records: Ring<Located>,
    /// What became of it; the cursor is the offset.
    pub verdicts: Ring<(u64, Verdict)>,
    /// The last proposal that is known to have its verdict, and the time of the newest record.
    pub judged: Option<u64>,
    /// Recorded time of the newest record that came by.
    pub recorded: Timestamp,
    /// By how many milliseconds the broker's clock was ahead of ours when the newest proposal came.
    pub clock_ahead_ms: Option<i64>,
    /// What is wrong with a log for good.
    pub damage: Option<String>,
    news: bool,
}

/// A partition's lane, and the bell that rings when something came.
pub struct Shelf {
    lane: Mutex<Lane>,
    news: Condvar,
}

impl Shelf {
    /// The lane; it is whole between any two statements, so a panic elsewhere does not spoil it.
    pub fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until something has come since the last return, or `idle_max` has passed.
    pub fn wait(&self, idle_max: Duration) {
        let lane = self.lane();
        let waited = self.news.wait_timeout_while(lane, idle_max, |lane| !lane.news);
        let (mut lane, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lane.news = false;
    }

    /// Ends everybody's wait: something else than a message has come.
    pub fn ring(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Lane)) {
        {
            let mut lane = self.lane();
            change(&mut lane);
            lane.news = true;
        }
        self.news.notify_all();
    }
}

/// See the module. Dropping it ends its thread.
pub struct Tail {
    shelves: Arc<Vec<Shelf>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const READ: [Topic; 3] = [Topic::Proposals, Topic::Journal, Topic::Verdicts];

impl Tail {
    /// Begins to read behind what is there now.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn start(connection: &Connection, partitions: u32, index: Arc<Index>) -> KafkaResult<Self> {
        let consumer = connection.reader("tail", false)?;
        let names = READ.map(|topic| connection.topic(topic));
        let mut assignment = TopicPartitionList::new();
        let mut shelves = Vec::new();
        for partition in 0..partitions {
            let mut ends = [0; 3];
            for (end, name) in ends.iter_mut().zip(&names) {
                *end = range(&consumer, name, partition)?.1;
                assignment.add_partition_offset(name, number(partition), Offset::Offset(i64::try_from(*end).unwrap_or(i64::MAX)))?;
            }
            let lane = Lane {
                proposals: Ring::new(ends[0], RING_BYTES_MAX),
                records: Ring::new(ends[1], RING_BYTES_MAX),
                verdicts: Ring::new(ends[2], RING_BYTES_MAX),
                judged: None,
                recorded: Timestamp::default(),
                clock_ahead_ms: None,
                damage: None,
                news: false,
            };
            shelves.push(Shelf { lane: Mutex::new(lane), news: Condvar::new() });
        }
        consumer.assign(&assignment)?;
        let (shelves, stop) = (Arc::new(shelves), Arc::new(AtomicBool::new(false)));
        let reader = Reader { consumer, names, shelves: Arc::clone(&shelves), index, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("kafka-tail".into()).spawn(move || reader.run());
        let thread = thread.map_err(|_| KafkaError::ClientCreation("the system gives no more threads".into()))?;
        Ok(Self { shelves, stop, thread: Some(thread) })
    }

    /// All shelves, for somebody who outlives this.
    pub fn shelves(&self) -> Arc<Vec<Shelf>> {
        Arc::clone(&self.shelves)
    }

    /// A partition's shelf.
    pub fn shelf(&self, partition: u32) -> &Shelf {
        &self.shelves[partition as usize]
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reader {
    consumer: BaseConsumer,
    names: [String; 3],
    shelves: Arc<Vec<Shelf>>,
    index: Arc<Index>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => self.failed(&error),
                None => {}
            }
        }
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
        let Some(shelf) = self.shelves.get(partition as usize) else { return };
        let (offset, bytes) = (codec::offset(message), message.payload_len() + message.key_len() + 512);
        let topic = self.names.iter().position(|name| name == message.topic());
        match topic.map(|at| READ[at]) {
            Some(Topic::Proposals) => {
                let queued = codec::decode_proposal(message);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_millis()).ok());
                shelf.change(|lane| {
                    lane.clock_ahead_ms = now.map(|now| queued.at.0 - now);
                    lane.proposals.push(offset, bytes, queued);
                });
            }
            Some(Topic::Journal) => {
                let located = codec::decode_record(message);
                let recorded = Timestamp(message.timestamp().to_millis().unwrap_or(0));
                shelf.change(|lane| {
                    lane.records.push(offset, bytes, located);
                    lane.recorded = lane.recorded.max(recorded);
                });
            }
            Some(_) => {
                let Some((_, verdict)) = codec::decode_verdict(message) else {
                    tracing::warn!(partition, offset, "a message among the verdicts is none, and is passed over");
                    return;
                };
                self.index.remember(partition, &verdict);
                shelf.change(|lane| {
                    lane.judged = lane.judged.max(Some(verdict.src));
                    lane.verdicts.push(offset, bytes, (offset, verdict));
                });
            }
            None => {}
        }
    }

    /// A consumer reconnects by itself. What it cannot do is read what is no longer there: where the
    /// end of a log has gone back, the topic was emptied or made anew.
    fn failed(&self, error: &KafkaError) {
        let gone = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange));
        if !gone {
            tracing::warn!("the tail of the topics waits for the cluster: {error}");
            return;
        }
        let damage = format!("a topic was deleted, emptied or made anew under the running engine ({error})");
        for shelf in self.shelves.iter() {
            shelf.change(|lane| lane.damage = Some(damage.clone()));
        }
    }
}
