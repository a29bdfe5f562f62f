//! Transactions of a producer that fences every other one of its name.
//!
//! A producer that has seen any error is thrown away: an EndTxn of it may still be under way, and only
//! a new epoch keeps that from ending the next transaction (there is no KIP-890 part 2 in librdkafka).

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::connect::{ASK_MAX, Connection, is_fenced, number};
use crate::journal::AppendError;

/// A commit that takes longer has an outcome that nobody knows.
const COMMIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the brokers to acknowledge a batch.
const APPEND_MAX: Duration = Duration::from_secs(5);

/// Hears what became of each message.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<KafkaError>>,
}

/// Lent to the producer; who writes looks at it.
#[derive(Clone, Default)]
struct Ear(Arc<Deliveries>);

impl ClientContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.clone());
        }
    }
}

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
    producer: Option<BaseProducer<Ear>>,
    ear: Ear,
}

impl Transactions {
    /// Fences whoever has the name, and waits until what they left open is aborted or committed.
    pub fn fence(connection: &Connection, name: &str) -> KafkaResult<Self> {
        let ear = Ear::default();
        let producer: BaseProducer<Ear> = connection.transactional(name, ear.clone())?;
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
        producer: &BaseProducer<Ear>,
        messages: impl IntoIterator<Item = Result<Outgoing<'a>, AppendError>>,
    ) -> Result<(), AppendError> {
        for message in messages {
            send(producer, message?)?;
        }
        self.delivered(producer)
    }

    /// Waits until every message is acknowledged: to commit before that would let `flush` sleep 100 ms.
    fn delivered(&self, producer: &BaseProducer<Ear>) -> Result<(), AppendError> {
        let deadline = Instant::now() + APPEND_MAX;
        while producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(AppendError::Failed(format!("no broker acknowledged the batch within {} s", APPEND_MAX.as_secs())));
            }
            producer.poll(Duration::from_millis(20));
        }
        match self.ear.0.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(nothing(&error)),
            None => Ok(()),
        }
    }
}

fn send(producer: &BaseProducer<Ear>, message: Outgoing<'_>) -> Result<(), AppendError> {
    let Outgoing { topic, partition, key, headers, value, at } = message;
    let mut record = BaseRecord::to(topic).partition(number(partition)).key(&*key).payload(&*value).headers(headers);
    record.timestamp = at;
    let began = Instant::now();
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) if began.elapsed() < APPEND_MAX => record,
            Err((error, _)) => return Err(nothing(&error)),
        };
        producer.poll(Duration::from_millis(10));
    }
}

fn fenced_for_good(producer: &BaseProducer<Ear>) -> bool {
    is_fenced(producer.client().fatal_error().map(|(code, _)| code))
}

fn dead() -> AppendError {
    AppendError::Failed("the producer has ended with an error before: claim again".into())
}

/// Before the commit: nothing will be visible, since whoever fences next aborts it.
fn nothing(error: &KafkaError) -> AppendError {
    if is_fenced(error.rdkafka_error_code()) { AppendError::Fenced } else { AppendError::Failed(error.to_string()) }
}
