//! Watches how far the logs are ahead of what is judged and what can be read, so that a person need not ask the cluster.
//!
//! A thread asks in rounds; whoever wants to know gets what the last round found, at once, also
//! while no broker answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;

use super::codec;
use super::connect::{Connection, Topic, offsets};
use super::history::History;
use super::tail::Shelf;
use crate::journal::facts::{Facts, Log, Partition};

/// Time between two rounds.
const PACE: Duration = Duration::from_secs(5);
/// How long one question of a round may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Proposals that are counted one by one; of more, the distance of their offsets is told.
const COUNTED_MAX: usize = 1_000;

const LOGS: [Topic; 3] = [Topic::Proposals, Topic::Journal, Topic::Verdicts];

/// See the module. Dropping it lets its thread end after the question that it is asking: a stop must
/// not wait for a cluster that is away.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Seen {
    answered: Instant,
    facts: Facts,
}

impl Watch {
    /// Begins with the first round.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn start(connection: &Connection, history: &Arc<History>, shelves: Arc<Vec<Shelf>>) -> KafkaResult<Self> {
        let facts =
            Facts { prefix: connection.prefix().to_owned(), partitions: vec![Partition::default(); shelves.len()], ..Facts::default() };
        let seen = Arc::new(Mutex::new(Seen { answered: Instant::now(), facts }));
        let stop = Arc::new(AtomicBool::new(false));
        let mut rounds = Rounds {
            names: LOGS.map(|topic| connection.topic(topic)),
            group: connection.group(),
            stable: connection.gauge(true)?,
            latest: connection.gauge(false)?,
            history: Arc::clone(history),
            tracks: shelves.iter().map(|_| Track::new()).collect(),
            shelves,
            seen: Arc::clone(&seen),
        };
        let stopped = Arc::clone(&stop);
        let run = move || {
            while !stopped.load(Ordering::Acquire) {
                rounds.go();
                std::thread::park_timeout(PACE);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-watch".into()).spawn(run);
        let thread = thread.map_err(|_| KafkaError::ClientCreation("the system gives no more threads".into()))?;
        Ok(Self { seen, stop, thread })
    }

    /// What the last round found.
    pub fn facts(&self) -> Facts {
        let seen = lock(&self.seen);
        Facts { silent: seen.answered.elapsed(), ..seen.facts.clone() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
}

struct Rounds {
    names: [String; 3],
    group: String,
    stable: BaseConsumer,
    latest: BaseConsumer,
    history: Arc<History>,
    shelves: Arc<Vec<Shelf>>,
    tracks: Vec<Track>,
    seen: Arc<Mutex<Seen>>,
}

/// What one partition was like in the last rounds.
struct Track {
    /// First proposal without a verdict, and since when that is so.
    judged: Still,
    /// By log, where its last stable message is.
    logs: [Still; 3],
    /// From there to there only transactions' markers lie.
    empty: (u64, u64),
}

/// A place that should move, and since when it does not.
struct Still {
    at: u64,
    since: Instant,
}

impl Still {
    /// For how long it has been in this place while it had somewhere to go.
    fn told(&mut self, at: u64, must_move: bool) -> Duration {
        if !must_move || self.at != at {
            *self = Self { at, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

impl Track {
    fn new() -> Self {
        let still = || Still { at: 0, since: Instant::now() };
        Self { judged: still(), logs: [still(), still(), still()], empty: (0, 0) }
    }
}

impl Rounds {
    fn go(&mut self) {
        let found = self.ask();
        let mut seen = lock(&self.seen);
        match found {
            Ok((partitions, arbiters)) => {
                let clocks = self.shelves.iter().filter_map(|shelf| shelf.lane().clock_ahead_ms.take());
                let clock = clocks.max().or(seen.facts.clock_ahead_ms);
                seen.answered = Instant::now();
                seen.facts = Facts { trouble: None, arbiters, clock_ahead_ms: clock, partitions, ..seen.facts.clone() };
            }
            Err(error) => seen.facts.trouble = Some(error.to_string()),
        }
    }

    fn ask(&mut self) -> KafkaResult<(Vec<Partition>, Option<u64>)> {
        let (names, count) = (&self.names, self.shelves.len());
        let lows = offsets(&self.stable, &names[..1], count, Offset::Beginning)?;
        // in this order: a log that grows in between looks shorter than it is, never unstable
        let ends = offsets(&self.latest, names, count, Offset::End)?;
        let stables = offsets(&self.stable, names, count, Offset::End)?;
        let mut partitions = Vec::with_capacity(self.shelves.len());
        for (partition, track) in (0..).zip(&mut self.tracks) {
            let at = partition as usize;
            let (shelf, low, end) = (&self.shelves[at], lows[0][at], stables[0][at]);
            let judged = shelf.lane().judged.map_or(low, |src| low.max(src + 1));
            let waiting = waiting(&self.history, shelf, partition, (judged, end), &mut track.empty);
            let stalled = track.judged.told(judged, waiting > 0);
            let log = |(index, still): (usize, &mut Still)| {
                let unstable = ends[index][at].saturating_sub(stables[index][at]);
                Log { name: LOGS[index].word(), unstable, stuck: still.told(stables[index][at], unstable > 0) }
            };
            let logs = track.logs.iter_mut().enumerate().map(log).collect();
            partitions.push(Partition { waiting, stalled: if waiting > 0 { stalled } else { Duration::ZERO }, logs });
        }
        Ok((partitions, self.arbiters()))
    }

    /// Members of the group, if it exists and we may see it.
    fn arbiters(&self) -> Option<u64> {
        let found = self.stable.fetch_group_list(Some(&self.group), ANSWER_MAX).ok()?;
        found.groups().first().map(|group| group.members().len() as u64)
    }
}

/// How many proposals lie between what is judged and the end: not every offset is one, since
/// pipelines' transactions leave markers and what they aborted.
fn waiting(history: &History, shelf: &Shelf, partition: u32, range: (u64, u64), empty: &mut (u64, u64)) -> u64 {
    let (judged, end) = range;
    let distance = end.saturating_sub(judged);
    if distance == 0 || *empty == range {
        return 0;
    }
    let counted = shelf.lane().proposals.count(judged);
    match counted {
        Some(counted) if counted > 0 => counted,
        None if distance > COUNTED_MAX as u64 => distance,
        // the tail may be behind, or what is there is no proposal
        _ => match history.read(Topic::Proposals, partition, judged, COUNTED_MAX, codec::offset) {
            Ok(chunk) if chunk.items.is_empty() => {
                *empty = range;
                0
            }
            Ok(chunk) => chunk.items.len() as u64,
            Err(_) => distance,
        },
    }
}
