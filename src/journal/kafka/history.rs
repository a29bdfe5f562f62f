//! Reading what is no longer at the end of a log: a few consumers that are lent out, each kept where it stopped.
//!
//! Somebody who reads a partition from the beginning asks for one chunk after the other; the
//! consumer that gave the last one has the next ones fetched already, and two threads decode a large one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::codec;
use super::connect::{Connection, Topic, number, range};
use crate::journal::{Chunk, ReadError};

/// Most consumers that are kept for the next who asks.
const IDLE_MAX: usize = 16;
/// A consumer that nobody asked for so long is closed.
const IDLE_FOR: Duration = Duration::from_secs(3);
/// Longest wait for the next message before the cluster counts as away.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Most bytes of one chunk, about.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// From so many messages on a second thread helps: to start one takes as long as to decode a few dozen.
const SHARED_MIN: usize = 512;

/// See the module.
pub struct History {
    connection: Connection,
    idle: Mutex<Vec<Lent>>,
}

/// A consumer, and what it would read next.
struct Lent {
    consumer: BaseConsumer,
    topic: Topic,
    partition: u32,
    next: u64,
    /// Where the partition ended when that was last asked.
    end: u64,
    since: Instant,
}

impl History {
    /// Reads through this connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection, idle: Mutex::default() }
    }

    /// The first retained offset of a log, and the one behind its last committed message.
    pub fn range(&self, topic: Topic, partition: u32) -> Result<(u64, u64), ReadError> {
        let lent = self.lend(|_| false)?;
        let range = range(&lent.consumer, &self.connection.topic(topic), partition).map_err(|e| away(&e))?;
        self.give_back(lent);
        Ok(range)
    }

    /// Committed messages from an offset on, at most `max`.
    pub fn read<T: Send>(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        decode: impl Fn(&BorrowedMessage<'_>) -> T + Sync,
    ) -> Result<Chunk<T>, ReadError> {
        let name = self.connection.topic(topic);
        let mut lent = self.lend(|idle| (idle.topic, idle.partition, idle.next) == (topic, partition, from))?;
        let mut fresh = !lent.at(topic, partition, from);
        if fresh || from >= lent.end {
            let (low, end) = range(&lent.consumer, &name, partition).map_err(|e| away(&e))?;
            if from < low {
                return Err(gone(&name, partition, from, low));
            }
            lent = Lent { topic, partition, next: from, end, ..lent };
        }
        while from < lent.end {
            if fresh {
                send_to(&lent.consumer, &name, partition, from).map_err(|e| away(&e))?;
            }
            let (items, last, at_end) = collect(&lent, max, &decode).map_err(|e| match e.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => gone(&name, partition, from, lent.end),
                _ => away(&e),
            })?;
            // who began to read after the end was known, and came to an end, has passed that one; of
            // another nobody knows which end it saw, so it asks once more and begins to read anew
            let next = match last {
                _ if at_end && fresh => last.map_or(lent.end, |last| lent.end.max(last + 1)),
                Some(last) => last + 1,
                None => {
                    fresh = true;
                    continue;
                }
            };
            lent.next = next;
            // an end is told once: who reads on there, and finds only markers of transactions, would wait in vain
            if at_end {
                lent.rest();
            }
            self.give_back(lent);
            return Ok(Chunk { items, next });
        }
        if fresh {
            lent.rest();
        }
        self.give_back(lent);
        Ok(Chunk { items: Vec::new(), next: from })
    }

    /// The consumer that suits, else one with which nobody reads on, else a new one; at last the one that has waited longest.
    fn lend(&self, suits: impl Fn(&Lent) -> bool) -> Result<Lent, ReadError> {
        {
            let mut idle = self.idle();
            if let Some(at) = idle.iter().position(suits).or_else(|| idle.iter().position(|one| one.next == u64::MAX)) {
                return Ok(idle.swap_remove(at));
            }
            if idle.len() >= IDLE_MAX {
                return Ok(idle.remove(0));
            }
        }
        let consumer = self.connection.reader("history", true).map_err(|e| away(&e))?;
        Ok(Lent { consumer, topic: Topic::Journal, partition: 0, next: u64::MAX, end: 0, since: Instant::now() })
    }

    fn give_back(&self, mut lent: Lent) {
        lent.since = Instant::now();
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(lent);
        } else {
            drop(idle);
            close(vec![lent]);
        }
    }

    /// Closes what nobody has asked for lately: each goes on fetching as long as it lives.
    pub fn tidy(&self) {
        let Ok(mut idle) = self.idle.try_lock() else { return };
        let old: Vec<Lent> = idle.extract_if(.., |one| one.since.elapsed() >= IDLE_FOR).collect();
        drop(idle);
        if !old.is_empty() {
            close(old);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Lent>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    /// Makes it a reader of nothing, which fetches nothing: whoever gets it next tells it what to read.
    fn rest(&mut self) {
        self.next = u64::MAX;
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!("a reader does not rest: {error}"); // it fetches what nobody reads, and is right all the same
        }
    }

    fn at(&self, topic: Topic, partition: u32, from: u64) -> bool {
        (self.topic, self.partition, self.next) == (topic, partition, from)
    }
}

/// Closes consumers on a thread of its own: each takes a tenth of a second, and who has read may have proposals to judge.
fn close(old: Vec<Lent>) {
    // where there are no more threads, it is done here
    let _ = std::thread::Builder::new().name("kafka-closing".into()).spawn(move || drop(old));
}

fn send_to(consumer: &BaseConsumer, name: &str, partition: u32, from: u64) -> Result<(), KafkaError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(name, number(partition), Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX)))?;
    consumer.assign(&assignment)
}

/// Some messages, the offset of the last, and whether the partition's end was reached.
type Collected<T> = (Vec<T>, Option<u64>, bool);

fn collect<T: Send>(lent: &Lent, max: usize, decode: &(impl Fn(&BorrowedMessage<'_>) -> T + Sync)) -> Result<Collected<T>, KafkaError> {
    let (mut messages, mut last, mut bytes, mut at_end) = (Vec::new(), None, 0, false);
    while messages.len() < max && bytes < CHUNK_BYTES && last.is_none_or(|last| last + 1 < lent.end) {
        match lent.consumer.poll(SILENCE_MAX) {
            Some(Ok(message)) => {
                last = Some(codec::offset(&message));
                bytes += message.payload_len();
                messages.push(message);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                at_end = true;
                break;
            }
            // it goes on by itself as soon as it can; only silence is an answer
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(error),
            None if messages.is_empty() => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            None => break,
        }
    }
    Ok((decoded(messages, decode), last, at_end))
}

/// Decodes messages, and lets go of them.
fn decoded<T: Send>(mut messages: Vec<BorrowedMessage<'_>>, decode: &(impl Fn(&BorrowedMessage<'_>) -> T + Sync)) -> Vec<T> {
    let all = |messages: Vec<BorrowedMessage<'_>>| messages.iter().map(decode).collect::<Vec<T>>();
    if messages.len() < SHARED_MIN {
        return all(messages);
    }
    let rest = messages.split_off(messages.len() / 2);
    std::thread::scope(|scope| {
        let rest = scope.spawn(|| all(rest));
        let mut items = all(messages);
        items.extend(rest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        items
    })
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, LeaderNotAvailable, NotLeaderForPartition, UnknownTopicOrPartition};
    let code = error.rdkafka_error_code();
    // with one broker, all are down as soon as one connection is lost
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | LeaderNotAvailable | NotLeaderForPartition | UnknownTopicOrPartition))
}

fn gone(name: &str, partition: u32, from: u64, low: u64) -> ReadError {
    let found = format!("{name} was emptied: nothing is left at offset {from} of partition {partition}, only from {low} on");
    ReadError::Corrupt(found)
}

fn away(error: &KafkaError) -> ReadError {
    ReadError::Unavailable(error.to_string())
}
