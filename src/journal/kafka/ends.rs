//! Up to which time each partition is judged: asks the broker once a second where the proposals end.
//!
//! Nobody waits for a broker here: who asks gets what was found out last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use annals_events::time::Timestamp;
use rdkafka::error::{KafkaError, KafkaResult};

use super::codec;
use super::connect::Topic;
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
    pub fn start(partitions: u32, tail: Arc<Tail>, history: Arc<History>) -> KafkaResult<Self> {
        let settled: Arc<Vec<AtomicI64>> = Arc::new((0..partitions).map(|_| AtomicI64::new(0)).collect());
        let stop: Arc<AtomicBool> = Arc::default();
        let (told, stopping) = (Arc::clone(&settled), Arc::clone(&stop));
        let run = move || {
            while !stopping.load(Ordering::Acquire) {
                for (partition, settled) in (0..).zip(told.iter()) {
                    // before the question: what comes after it may be later than that
                    let until = wall_clock().0 - SKEW_MAX_MS;
                    let Ok(judged) = is_judged(&tail, &history, partition) else { break };
                    if judged {
                        settled.fetch_max(until, Ordering::AcqRel);
                    }
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

/// Whether every proposal that there is has its verdict. Behind the last one there may be the marker
/// of its producer's transaction, which only who reads there tells from a proposal.
fn is_judged(tail: &Tail, history: &History, partition: u32) -> Result<bool, ReadError> {
    let (low, end) = history.range(Topic::Proposals, partition)?;
    let (next, known) = {
        let lane = tail.shelf(partition).lane();
        let next = lane.judged.map_or(0, |src| src + 1).max(low);
        (next, lane.proposals.from(next, 1).is_some_and(|chunk| !chunk.items.is_empty()))
    };
    if next >= end || known {
        return Ok(next >= end);
    }
    let rest = history.read(Topic::Proposals, partition, next, 1, codec::offset)?;
    Ok(rest.items.is_empty() && rest.next >= end)
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
