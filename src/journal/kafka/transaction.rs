//! Transactions of a producer that fences every other one of its name.
//!
//! A producer that has seen any error is thrown away: an EndTxn of it may still be under way, and only
//! a new epoch keeps that from ending the next transaction (there is no KIP-890 part 2 in librdkafka).

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::connect::{ASK_MAX, Connection, is_fenced, number};
use crate::journal::AppendError;

/// A commit that takes longer has an outcome that nobody knows.
const COMMIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the brokers to acknowledge a batch.
const APPEND_MAX: Duration = Duration::from_secs(5);

/// What became of the messages of a transaction so far.
#[derive(Default)]
struct Deliveries {
    /// How many were sent, and of how many the outcome is known.
    sent: u64,
    known: u64,
    /// The first that failed.
    failed: Option<KafkaError>,
}

/// Lent to the producer, whose thread tells it; who writes waits on it.
#[derive(Clone, Default)]
struct Ear(Arc<(Mutex<Deliveries>, Condvar)>);

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two statements
    }

    /// Waits until the outcome of everything that was sent is known; `false` if it is not in time.
    fn all_known(&self, wait_max: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.lock(), wait_max, |found| found.known < found.sent);
        let (found, _) = waited.unwrap_or_else(PoisonError::into_inner);
        found.known >= found.sent
    }
}

impl ClientContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut found = self.lock();
        found.known += 1;
        if let Err((error, _)) = result {
            found.failed.get_or_insert_with(|| error.clone());
        }
        if found.known >= found.sent {
            self.0.1.notify_all();
        }
    }
}

/// Told by a thread of its own, at once: `BaseProducer::poll` always takes the whole time that it is given.
type Teller = ThreadedProducer<Ear>;

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

/// See the module. After an error it is dead: nothing can be written with it.
pub struct Transactions {
    producer: Option<Teller>,
    ear: Ear,
}

impl Transactions {
    /// Fences whoever has the name, and waits until what they left open is aborted or committed.
    pub fn fence(connection: &Connection, name: &str) -> KafkaResult<Self> {
        let ear = Ear::default();
        let producer: Teller = connection.transactional(name, ear.clone())?;
        producer.init_transactions(ASK_MAX)?;
        Ok(Self { producer: Some(producer), ear })
    }

    /// Writes messages into a new transaction. Nothing is visible yet.
    ///
    /// `first` is stored before any of `then` is sent: librdkafka sends an EndTxn again after a lost
    /// connection, and the first one, arriving late, commits what the next transaction has written so far.
    pub fn write<'a>(
        &mut self,
        first: impl IntoIterator<Item = Result<Outgoing<'a>, AppendError>>,
        then: impl IntoIterator<Item = Result<Outgoing<'a>, AppendError>>,
    ) -> Result<(), AppendError> {
        let producer = self.producer.take().ok_or_else(dead)?;
        let begun = producer.begin_transaction().map_err(|e| nothing(&e));
        match begun.and_then(|()| self.store(&producer, first)).and_then(|()| self.store(&producer, then)) {
            Ok(()) => self.producer = Some(producer),
            // what is told of a message is that it was purged; why, the producer knows
            Err(_) if fenced_for_good(&producer) => return Err(AppendError::Fenced),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Makes what was written visible and durable.
    pub fn commit(&mut self) -> Result<(), AppendError> {
        let producer = self.producer.take().ok_or_else(dead)?;
        match producer.commit_transaction(COMMIT_MAX) {
            Ok(()) => {
                self.producer = Some(producer);
                Ok(())
            }
            Err(error) if is_fenced(error.rdkafka_error_code()) || fenced_for_good(&producer) => Err(AppendError::Fenced),
            Err(error) => Err(AppendError::Unknown(error.to_string())),
        }
    }

    fn store<'a>(
        &self,
        producer: &Teller,
        messages: impl IntoIterator<Item = Result<Outgoing<'a>, AppendError>>,
    ) -> Result<(), AppendError> {
        for message in messages {
            self.send(producer, message?)?;
        }
        self.delivered(producer)
    }

    fn send(&self, producer: &Teller, message: Outgoing<'_>) -> Result<(), AppendError> {
        let Outgoing { topic, partition, key, headers, value, at } = message;
        let mut record = BaseRecord::to(topic).partition(number(partition)).key(&*key).payload(&*value).headers(headers);
        record.timestamp = at;
        let began = Instant::now();
        self.ear.lock().sent += 1;
        loop {
            record = match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) if began.elapsed() < APPEND_MAX => record,
                Err((error, _)) => return Err(nothing(&error)),
            };
            std::thread::sleep(Duration::from_millis(1)); // the brokers take them meanwhile
        }
    }

    /// Waits until every message is acknowledged: to commit before that would let `flush` sleep 100 ms.
    fn delivered(&self, producer: &Teller) -> Result<(), AppendError> {
        if !self.ear.all_known(APPEND_MAX) {
            return Err(AppendError::Failed(format!("no broker acknowledged the batch within {} s", APPEND_MAX.as_secs())));
        }
        // the producer's thread has told us, and puts the message away
        while producer.in_flight_count() > 0 {
            std::thread::yield_now();
        }
        match self.ear.lock().failed.take() {
            Some(error) => Err(nothing(&error)),
            None => Ok(()),
        }
    }
}

fn fenced_for_good(producer: &Teller) -> bool {
    is_fenced(producer.client().fatal_error().map(|(code, _)| code))
}

fn dead() -> AppendError {
    AppendError::Failed("the producer has ended with an error before: claim again".into())
}

/// Before the commit: nothing will be visible, since whoever fences next aborts it.
fn nothing(error: &KafkaError) -> AppendError {
    if is_fenced(error.rdkafka_error_code()) { AppendError::Fenced } else { AppendError::Failed(error.to_string()) }
}
