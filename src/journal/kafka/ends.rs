//! Up to which time each partition is judged: asks the brokers once a second where the proposals end.
//!
//! Nobody waits for a broker here: who asks gets what was found out last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use annals_events::time::Timestamp;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;

use super::codec;
use super::connect::{Connection, Topic, offsets};
use super::history::History;
use super::tail::Tail;
use crate::journal::{ReadError, wall_clock};

/// Time between two questions.
const PACE: Duration = Duration::from_secs(1);
/// Clocks of a broker and of this machine may differ by so much without harm.
const SKEW_MAX_MS: i64 = 1_000;

/// See the module. Dropping it ends its thread.
pub struct Ends {
    settled: Arc<Vec<AtomicI64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ends {
    /// Begins to ask.
    ///
    /// # Errors
    /// librdkafka's, about a setting.
    pub fn start(connection: &Connection, partitions: u32, tail: Arc<Tail>, history: Arc<History>) -> KafkaResult<Self> {
        let settled: Arc<Vec<AtomicI64>> = Arc::new((0..partitions).map(|_| AtomicI64::new(0)).collect());
        let stop: Arc<AtomicBool> = Arc::default();
        let asking = Asking { client: connection.gauge(true)?, name: connection.topic(Topic::Proposals), tail, history };
        let (told, stopping) = (Arc::clone(&settled), Arc::clone(&stop));
        let run = move || {
            while !stopping.load(Ordering::Acquire) {
                if let Err(error) = asking.round(&told) {
                    tracing::debug!("nobody says where the proposals end: {error}"); // whoever waits for it is told so
                }
                std::thread::park_timeout(PACE); // a stop ends it early
            }
        };
        let thread = std::thread::Builder::new().name("kafka-ends".into()).spawn(run);
        let thread = thread.map_err(|_| KafkaError::ClientCreation("the system gives no more threads".into()))?;
        Ok(Self { settled, stop, thread: Some(thread) })
    }

    /// Every proposal that came before this time has its verdict.
    pub fn settled_until(&self, partition: u32) -> Timestamp {
        Timestamp(self.settled[partition as usize].load(Ordering::Acquire))
    }
}

struct Asking {
    client: BaseConsumer,
    name: String,
    tail: Arc<Tail>,
    history: Arc<History>,
}

impl Asking {
    fn round(&self, settled: &[AtomicI64]) -> KafkaResult<()> {
        // before the questions: what comes after them may be later than that
        let until = wall_clock().0 - SKEW_MAX_MS;
        let ask = |what| offsets(&self.client, std::slice::from_ref(&self.name), settled.len(), what);
        let (lows, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        for ((partition, settled), range) in (0..).zip(settled).zip(lows[0].iter().copied().zip(ends[0].iter().copied())) {
            if self.is_judged(partition, range).unwrap_or(false) {
                settled.fetch_max(until, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Whether every proposal that there is has its verdict. Behind the last one there may be the marker
    /// of its producer's transaction, which only who reads there tells from a proposal.
    fn is_judged(&self, partition: u32, (low, end): (u64, u64)) -> Result<bool, ReadError> {
        let (next, known) = {
            let lane = self.tail.shelf(partition).lane();
            let next = lane.judged.map_or(0, |src| src + 1).max(low);
            (next, lane.proposals.from(next, 1).is_some_and(|chunk| !chunk.items.is_empty()))
        };
        if next >= end || known {
            return Ok(next >= end);
        }
        let rest = self.history.read(Topic::Proposals, partition, next, 1, codec::offset)?;
        Ok(rest.items.is_empty() && rest.next >= end)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
