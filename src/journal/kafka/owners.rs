//! Which partitions this instance is to arbitrate, or to publish: a consumer group shares them out, and that is all it does.
//!
//! The group is a hint. What keeps two apart is the fence of the producer, and what makes two arbiters
//! agree if even that fails is rule R. Its committed offsets are for people who watch the lag.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connect::{Connection, Topic, number};

/// How often progress is committed for the dashboards.
const COMMIT_PACE: Duration = Duration::from_secs(1);
/// How long the member waits for an event before it looks around.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for the group when an instance stops.
const LEAVE_MAX: Duration = Duration::from_secs(6);

/// What the group has given us.
#[derive(Default)]
struct Held {
    partitions: Mutex<BTreeSet<u32>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told of each partition that comes or goes: who works on it may sleep.
pub type Changed = Box<dyn Fn(u32) + Send + Sync>;

struct Watch {
    group: String,
    held: Arc<Held>,
    changed: Changed,
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    /// Before a partition goes to somebody else, its arbiter here stops.
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let lost = partitions(list);
            tracing::info!(group = self.group, partitions = ?lost, "the group took partitions back");
            self.held.lock().retain(|p| !lost.contains(p));
            lost.into_iter().for_each(&self.changed);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // the group only says who owns what: the messages are read elsewhere
                if let Err(e) = consumer.pause(list) {
                    tracing::debug!("the member's partitions cannot be paused: {e}");
                }
                let given = partitions(list);
                if !given.is_empty() {
                    tracing::info!(group = self.group, partitions = ?given, "the group gave us partitions");
                }
                self.held.lock().extend(&given);
                given.into_iter().for_each(&self.changed);
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(e) => {
                tracing::warn!(group = self.group, "the group cannot share out the partitions: {e}");
                self.held.lock().clear();
            }
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}

/// A member of the group. Dropping it leaves the group, so that others take over at once.
pub struct Owners {
    held: Arc<Held>,
    judged: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Owners {
    /// Joins the group that shares out the partitions of a topic; `changed` is told what comes and goes.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn join(connection: &Connection, group: &str, topic: Topic, partitions: u32, changed: Changed) -> KafkaResult<Self> {
        let held = Arc::new(Held::default());
        let consumer = connection.member(group, Watch { group: group.to_owned(), held: Arc::clone(&held), changed })?;
        let topic = connection.topic(topic);
        consumer.subscribe(&[&topic])?;
        let judged: Arc<Vec<AtomicU64>> = Arc::new((0..partitions).map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let member = Member { consumer, topic, held: Arc::clone(&held), judged: Arc::clone(&judged), stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("kafka-owner".into()).spawn(move || member.run());
        let thread = thread.map_err(|_| KafkaError::ClientCreation("the system gives no more threads".into()))?;
        Ok(Self { held, judged, stop, thread: Some(thread) })
    }

    /// Whether the partition is ours for now.
    pub fn has(&self, partition: u32) -> bool {
        self.held.lock().contains(&partition)
    }

    /// Every proposal of the partition before this offset has its verdict.
    pub fn judged(&self, partition: u32, next: u64) {
        self.judged[partition as usize].store(next, Ordering::Relaxed);
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + LEAVE_MAX;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        match thread.is_finished() {
            true => _ = thread.join(),
            // librdkafka's own end of a consumer has no time limit; the group misses us by itself
            false => tracing::warn!("the group did not let go within {} s, and is left without a word", LEAVE_MAX.as_secs()),
        }
    }
}

struct Member {
    consumer: BaseConsumer<Watch>,
    topic: String,
    held: Arc<Held>,
    judged: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

impl Member {
    fn run(&self) {
        let mut committed = vec![0; self.judged.len()];
        let mut last = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            if let Some(Err(error)) = self.consumer.poll(POLL) {
                tracing::debug!("the member of the group waits: {error}");
            }
            if last.elapsed() >= COMMIT_PACE {
                last = Instant::now();
                if let Err(error) = self.commit(&mut committed) {
                    tracing::debug!("progress was not committed: {error}");
                }
            }
        }
    }

    fn commit(&self, committed: &mut [u64]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.held.lock().iter().copied() {
            let next = self.judged[partition as usize].load(Ordering::Relaxed);
            if next > committed[partition as usize] {
                committed[partition as usize] = next;
                list.add_partition_offset(&self.topic, number(partition), Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX)))?;
            }
        }
        if list.count() > 0 { self.consumer.commit(&list, CommitMode::Async) } else { Ok(()) }
    }
}
