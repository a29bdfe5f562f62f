//! What becomes of messages that were sent: a producer's own thread tells it, and whoever has sent them waits for it.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::connect::number;

/// How long a producer whose queue is full may take to send some of it.
const FULL_MAX: Duration = Duration::from_secs(5);

/// A producer that hears at once what became of a message: `BaseProducer::poll` always takes the whole time that it is given.
pub type Teller = ThreadedProducer<Ear>;

/// A message to be written.
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// And in which partition.
    pub partition: u32,
    /// Its key.
    pub key: Cow<'a, str>,
    /// Its headers.
    pub headers: OwnedHeaders,
    /// Its value.
    pub value: Cow<'a, [u8]>,
    /// Its timestamp in milliseconds; now, if there is none.
    pub at: Option<i64>,
}

/// Hears for everybody who sends with a producer.
#[derive(Clone, Copy)]
pub struct Ear;

impl ClientContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = Arc<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Arc<Sent>) {
        sent.hear(result.as_ref().err().map(|(error, _)| error));
    }
}

/// Some messages, and what is known of them.
#[derive(Default)]
pub struct Sent {
    found: Mutex<Found>,
    heard: Condvar,
}

#[derive(Default)]
struct Found {
    /// How many were sent, and of how many the outcome is known.
    sent: u64,
    known: u64,
    /// The first that failed.
    failed: Option<KafkaError>,
}

impl Sent {
    /// Sends one more message.
    ///
    /// # Errors
    /// The producer did not take it.
    pub fn send(self: &Arc<Self>, producer: &Teller, message: Outgoing<'_>) -> KafkaResult<()> {
        let Outgoing { topic, partition, key, headers, value, at } = message;
        let record = BaseRecord::with_opaque_to(topic, Arc::clone(self)).partition(number(partition)).headers(headers);
        let mut record = record.key(&*key).payload(&*value);
        record.timestamp = at;
        let began = Instant::now();
        self.lock().sent += 1;
        loop {
            record = match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) if began.elapsed() < FULL_MAX => record,
                Err((error, _)) => {
                    self.hear(Some(&error));
                    return Err(error);
                }
            };
            std::thread::sleep(Duration::from_millis(1)); // the brokers take them meanwhile
        }
    }

    /// Waits until the outcome of everything that was sent is known; `false` if it is not in time.
    pub fn all_known(&self, wait_max: Duration) -> bool {
        let waited = self.heard.wait_timeout_while(self.lock(), wait_max, |found| found.known < found.sent);
        let (found, _) = waited.unwrap_or_else(PoisonError::into_inner);
        found.known >= found.sent
    }

    /// The first failure since this was asked last.
    pub fn failed(&self) -> Option<KafkaError> {
        self.lock().failed.take()
    }

    fn hear(&self, failed: Option<&KafkaError>) {
        let mut found = self.lock();
        found.known += 1;
        if let Some(error) = failed {
            found.failed.get_or_insert_with(|| error.clone());
        }
        if found.known >= found.sent {
            self.heard.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
    }
}
