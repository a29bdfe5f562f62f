//! The right to append to one partition: a transactional producer, which fences every other one of its name.
//!
//! A producer that has seen any error is thrown away: an EndTxn of it may still be under way, and only
//! a new epoch keeps that from ending the next transaction (there is no KIP-890 part 2 in librdkafka).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::codec;
use super::connect::{ASK_MAX, Connection, Topic, is_fenced, number};
use crate::journal::{AppendError, Batch, Claim, ClaimError};

/// A commit that takes longer has an outcome that nobody knows.
const COMMIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the brokers to acknowledge a batch.
const APPEND_MAX: Duration = Duration::from_secs(5);

/// Hears what became of each message.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<KafkaError>>,
}

/// Lent to the producer; the claim looks at it.
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

/// See the module.
pub struct KafkaClaim {
    partition: u32,
    connection: Connection,
    producer: Option<BaseProducer<Ear>>,
    ear: Ear,
    journal: String,
    verdicts: String,
}

impl KafkaClaim {
    /// Fences whoever had the partition, and waits until what they left open is aborted or committed.
    pub fn new(connection: &Connection, partition: u32) -> Result<Self, ClaimError> {
        let away = |e: KafkaError| ClaimError::Unavailable(e.to_string());
        let ear = Ear::default();
        let producer: BaseProducer<Ear> = connection.transactional(&format!("arbiter.{partition}"), ear.clone()).map_err(away)?;
        producer.init_transactions(ASK_MAX).map_err(away)?;
        let (journal, verdicts) = (connection.topic(Topic::Journal), connection.topic(Topic::Verdicts));
        Ok(Self { partition, connection: connection.clone(), producer: Some(producer), ear, journal, verdicts })
    }

    /// Verdicts first, and events only when those are stored: librdkafka sends an EndTxn again after a
    /// lost connection, and the first one, arriving late, commits what the next transaction has written
    /// so far. Behind an event nobody looks back, so its verdict must be there by then; a verdict
    /// whose event is missing is only early, since whoever judges the proposal again decides the same.
    fn stage(&self, producer: &BaseProducer<Ear>, batch: &Batch) -> Result<(), AppendError> {
        producer.begin_transaction().map_err(|e| nothing(&e))?;
        for verdict in &batch.verdicts {
            let value =
                serde_json::to_vec(verdict).map_err(|e| AppendError::Failed(format!("a verdict cannot be written: {e}; this is a bug")))?;
            self.send(producer, &self.verdicts, &verdict.id, codec::verdict_headers(verdict), &value, None)?;
        }
        self.delivered(producer)?;
        for record in &batch.records {
            let schema = record.view().ok().and_then(|view| self.connection.schema_header(view.kind));
            let wire = codec::encode_record(record, schema.as_deref())
                .ok_or_else(|| AppendError::Failed("a record cannot be read; this is a bug".into()))?;
            self.send(producer, &self.journal, &wire.key, wire.headers, wire.value.as_bytes(), Some(wire.at))?;
        }
        self.delivered(producer)
    }

    fn send(
        &self,
        producer: &BaseProducer<Ear>,
        topic: &str,
        key: &str,
        headers: OwnedHeaders,
        value: &[u8],
        at: Option<i64>,
    ) -> Result<(), AppendError> {
        let mut record = BaseRecord::to(topic).partition(number(self.partition)).key(key).payload(value).headers(headers);
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

impl Claim for KafkaClaim {
    fn append(&mut self, batch: Batch) -> Result<(), AppendError> {
        let producer = self.producer.take().ok_or_else(dead)?;
        match self.stage(&producer, &batch) {
            Ok(()) => self.producer = Some(producer),
            // what is told of a message is that it was purged; why, the producer knows
            Err(_) if fenced_for_good(&producer) => return Err(AppendError::Fenced),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), AppendError> {
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
}

fn fenced_for_good(producer: &BaseProducer<Ear>) -> bool {
    is_fenced(producer.client().fatal_error().map(|(code, _)| code))
}

fn dead() -> AppendError {
    AppendError::Failed("the claim has ended with an error before: claim again".into())
}

/// Before the commit: nothing will be visible, since whoever claims next aborts it.
fn nothing(error: &KafkaError) -> AppendError {
    if is_fenced(error.rdkafka_error_code()) { AppendError::Fenced } else { AppendError::Failed(error.to_string()) }
}
