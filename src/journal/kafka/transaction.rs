//! Transactions of a producer that fences every other one of its name.
//!
//! A producer that has seen any error is thrown away: an EndTxn of it may still be under way, and only
//! a new epoch keeps that from ending the next transaction (there is no KIP-890 part 2 in librdkafka).

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer;

use super::connect::{ASK_MAX, Connection, is_fenced};
use super::delivery::{Ear, Outgoing, Sent, Teller};
use crate::journal::AppendError;

/// A commit that takes longer has an outcome that nobody knows.
const COMMIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the brokers to acknowledge a batch.
pub const APPEND_MAX: Duration = Duration::from_secs(5);

/// See the module. After an error it is dead: nothing can be written with it.
pub struct Transactions {
    producer: Option<Teller>,
    sent: Arc<Sent>,
}

impl Transactions {
    /// Fences whoever has the name, and waits until what they left open is aborted or committed.
    pub fn fence(connection: &Connection, name: &str) -> KafkaResult<Self> {
        let producer: Teller = connection.transactional(name, Ear)?;
        producer.init_transactions(ASK_MAX)?;
        Ok(Self { producer: Some(producer), sent: Arc::default() })
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
            self.sent.send(producer, message?).map_err(|e| nothing(&e))?;
        }
        self.delivered(producer)
    }

    /// Waits until every message is acknowledged: to commit before that would let `flush` sleep 100 ms.
    fn delivered(&self, producer: &Teller) -> Result<(), AppendError> {
        if !self.sent.all_known(APPEND_MAX) {
            return Err(AppendError::Failed(format!("no broker acknowledged the batch within {} s", APPEND_MAX.as_secs())));
        }
        // the producer's thread has told us, and puts the message away
        while producer.in_flight_count() > 0 {
            std::thread::yield_now();
        }
        match self.sent.failed() {
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
