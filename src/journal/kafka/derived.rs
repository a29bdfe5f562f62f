//! The publisher: writes releases and the states of models to topics of their own, behind the journal, each once.
//!
//! ```text
//!  PREFIX.journal ─▶ fold ─▶ one transaction { PREFIX.promotions, PREFIX.models, then PREFIX.progress }
//!                     ▲                                                              │
//!                     └────────────── where to go on, after a fence ◀────────────────┘
//! ```
//!
//! One instance publishes for the whole cluster: the group `PREFIX.publisher` gives it the progress'
//! only partition. That is a hint; the fence of the producer `PREFIX.publisher` keeps two apart. One for
//! all partitions rather than one for each, because a round takes what all of them have into one
//! transaction: a journal of many partitions costs the brokers no more transactions than one of few.
//!
//! The progress is read after the fence, when what the predecessor left open is decided, so it tells
//! exactly what is published. It is written last: should a late EndTxn commit the first half of a
//! transaction, copies come again, with the same id and bytes, and none is missing.

mod document;
mod drive;
mod lane;
mod progress;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use annals_events::ledger::Ledger;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};

use super::connect::{Connection, Topic};
use super::delivery::Outgoing;
use super::history::History;
use super::transaction::Transactions;
use crate::journal::publishing::{Publishing, State};
use crate::journal::{AppendError, Journal, ReadError};
pub use drive::Running;
use lane::{Lane, Round};
use progress::{Copies, Progress};

/// A round of fewer events waits for more, since each costs a transaction.
const EVENTS_MIN: usize = 500;

/// A fold of a partition that was kept, up to this place at most, and the offset of its last record.
pub type Start = Box<dyn Fn(u32, u64) -> Option<(Ledger, u64)> + Send>;

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done: step again.
    Worked,
    /// Nothing to do, or so little that more may gather first.
    Idle,
    /// Something failed: step again after a pause.
    Troubled,
}

enum Phase {
    Standby,
    Ready(Transactions),
    Written(Transactions, Round),
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the cluster cannot be reached: {0}")]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("another instance publishes")]
    Fenced,
    #[error(transparent)]
    Append(AppendError),
}

impl From<AppendError> for Trouble {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Fenced => Self::Fenced,
            other @ (AppendError::Failed(_) | AppendError::Unknown(_)) => Self::Append(other),
        }
    }
}

/// See the module. Without a thread or a clock of its own, so that a test can end it between any two steps.
pub struct Publisher {
    connection: Connection,
    journal: Arc<dyn Journal>,
    history: History,
    start: Start,
    lanes: Vec<Option<Lane>>,
    copies: Vec<Copies>,
    phase: Phase,
    wanted: bool,
    trouble: Option<String>,
    commits: u64,
}

impl Publisher {
    /// A publisher that does nothing yet.
    #[must_use]
    pub fn new(connection: Connection, journal: Arc<dyn Journal>, start: Start) -> Self {
        let partitions = journal.partitions() as usize;
        Self {
            history: History::new(connection.clone()),
            connection,
            start,
            lanes: (0..partitions).map(|_| None).collect(),
            copies: vec![Copies::default(); partitions],
            phase: Phase::Standby,
            wanted: false,
            trouble: None,
            commits: 0,
            journal,
        }
    }

    /// Says whether this instance is to publish.
    pub fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
        if !wanted {
            self.phase = Phase::Standby;
            self.trouble = None;
            self.lanes.fill_with(|| None);
        }
    }

    /// How far it is.
    #[must_use]
    pub fn publishing(&self) -> Publishing {
        let state = match (&self.trouble, &self.phase) {
            (Some(reason), _) => State::Troubled(reason.clone()),
            (None, Phase::Standby) => State::Standby,
            (None, Phase::Ready(_) | Phase::Written(..)) => State::Publishing,
        };
        let lanes = || self.lanes.iter().flatten();
        let seqs = if lanes().count() == self.lanes.len() { lanes().map(Lane::published).collect() } else { Vec::new() };
        let halted = (0..).zip(&self.lanes).filter_map(|(p, lane)| Some((p, lane.as_ref()?.halted()?.to_owned()))).collect();
        Publishing { state, seqs, halted, commits: self.commits, repeated: self.copies.iter().map(|copies| copies.repeated).sum() }
    }

    /// Whether the next step should not wait: a release is there, or much else, or nothing is known of what there is.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        !matches!(self.phase, Phase::Ready(_)) || self.lanes.iter().flatten().any(|lane| lane.is_pressed(&*self.journal))
    }

    /// Does the next thing. Never blocks for longer than the cluster's answers may take.
    pub fn step(&mut self) -> Step {
        match self.advance() {
            Ok(step) => {
                self.trouble = None;
                step
            }
            // whoever has it now is as good; the group will say when it is our turn again
            Err(trouble) => {
                tracing::warn!("the publisher pauses: {trouble}");
                self.trouble = Some(trouble.to_string());
                Step::Troubled
            }
        }
    }

    fn advance(&mut self) -> Result<Step, Trouble> {
        match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Standby if self.wanted => self.claim(),
            Phase::Standby => Ok(Step::Idle),
            Phase::Ready(transactions) => self.write(transactions),
            Phase::Written(mut transactions, round) => {
                transactions.commit()?;
                self.commits += 1;
                for (partition, progress) in round.progress {
                    if let Some(lane) = &mut self.lanes[partition as usize] {
                        lane.committed(progress);
                    }
                }
                self.phase = Phase::Ready(transactions);
                Ok(if round.events < EVENTS_MIN { Step::Idle } else { Step::Worked })
            }
        }
    }

    /// Fences first, then looks how far the topics are: nothing can be added behind our back then.
    fn claim(&mut self) -> Result<Step, Trouble> {
        let transactions = Transactions::fence(&self.connection, "publisher")?;
        let known = progress::read(&self.history)?;
        for (partition, (slot, copies)) in (0..).zip(self.lanes.iter_mut().zip(&mut self.copies)) {
            copies.look(&self.history, partition)?;
            let published = known.get(&partition).copied();
            // what was folded for a transaction that is not there must be folded again
            if slot.as_ref().is_none_or(|lane| !lane.is_at(published)) {
                *slot = Some(Lane::open(&*self.journal, partition, published, copies, &self.start)?);
            }
        }
        self.history.tidy();
        self.phase = Phase::Ready(transactions);
        Ok(Step::Worked)
    }

    fn write(&mut self, mut transactions: Transactions) -> Result<Step, Trouble> {
        let (mut round, mut read, mut trouble) = (Round::default(), 0, None);
        // folds one by one: a long read of all at once would hold much of the journal in memory
        let behind = self.lanes.iter().flatten().position(Lane::is_behind);
        let lanes = self.lanes.iter_mut().flatten().enumerate().filter(|(at, _)| behind.is_none_or(|behind| behind == *at));
        for (_, lane) in lanes {
            match lane.take(&self.connection, &*self.journal, &mut round) {
                Ok(count) => read += count,
                Err(error) => trouble = Some(error), // what the others have is published all the same
            }
        }
        if round.progress.is_empty() {
            trouble.map_or(Ok(()), Err)?;
            self.phase = Phase::Ready(transactions);
            return Ok(if read > 0 { Step::Worked } else { Step::Idle });
        }
        let name = |topic| self.connection.topic(topic);
        let (promotions, models, noted) = (name(Topic::Promotions), name(Topic::Models), name(Topic::Progress));
        let messages = round.messages.iter().map(|message| {
            let topic = if message.topic == Topic::Promotions { &promotions } else { &models };
            let (key, headers, value) = (message.key.as_str().into(), message.headers.clone(), message.value.as_slice().into());
            Ok(Outgoing { topic, partition: message.partition, key, headers, value, at: Some(message.at) })
        });
        let progress = round.progress.iter().map(|(partition, progress)| note(&noted, *partition, progress));
        transactions.write(messages, progress)?;
        self.phase = Phase::Written(transactions, round);
        Ok(Step::Worked)
    }
}

fn note<'a>(topic: &'a str, partition: u32, progress: &Progress) -> Result<Outgoing<'a>, AppendError> {
    let value = progress.encode().ok_or_else(|| AppendError::Failed("the progress cannot be written; this is a bug".into()))?;
    let headers = OwnedHeaders::new().insert(Header { key: "content-type", value: Some("application/json") });
    Ok(Outgoing { topic, partition: 0, key: Progress::key(partition).into(), headers, value: value.into(), at: None })
}
