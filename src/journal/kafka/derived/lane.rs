//! One partition as the publisher follows it: the fold of its journal, and what of it is published.

use std::collections::HashMap;

use annals_events::kind::Kind;
use annals_events::ledger::Ledger;
use annals_events::rule::Judged;
use annals_events::time::Timestamp;
use rdkafka::message::{Header, OwnedHeaders};

use super::super::codec;
use super::super::connect::{Connection, Topic};
use super::progress::{Copies, Progress};
use super::{Start, document};
use crate::journal::{Journal, Located, ReadError};

/// Most records of a partition in one transaction.
const CHUNK_MAX: usize = 500;

/// What one transaction writes.
#[derive(Default)]
pub struct Round {
    /// The copies and the states.
    pub messages: Vec<Message>,
    /// By partition how far the topics are with them.
    pub progress: Vec<(u32, Progress)>,
    /// How many events are published by it.
    pub events: usize,
}

/// A message of a derived topic.
pub struct Message {
    /// Which topic.
    pub topic: Topic,
    /// The partition, which is the journal's.
    pub partition: u32,
    /// `workspace/model`.
    pub key: String,
    /// Its headers.
    pub headers: OwnedHeaders,
    /// Its value.
    pub value: Vec<u8>,
    /// When the event was recorded, in milliseconds.
    pub at: i64,
}

/// See the module.
pub struct Lane {
    partition: u32,
    ledger: Ledger,
    /// Where to read on.
    next: u64,
    folded: Option<Progress>,
    published: Option<Progress>,
    halted: Option<String>,
}

impl Lane {
    /// Begins where the topics say that they are. The states need a fold from the journal's beginning,
    /// or from one that was kept; none from behind the progress, or a state could go back in time.
    pub fn open(
        journal: &dyn Journal,
        partition: u32,
        published: Option<Progress>,
        copies: &Copies,
        start: &Start,
    ) -> Result<Self, ReadError> {
        let halted = match published {
            Some(progress) => progress.contradiction(journal, partition)?,
            None => copies.last.map(|_| {
                "there are promotions, and no progress says how far they are: that topic was emptied; delete the topics promotions, \
                 models and progress of the prefix and run `annals topics create`: everything is published again"
                    .into()
            }),
        };
        let kept = published.filter(|_| halted.is_none()).and_then(|progress| start(partition, progress.seq));
        let (ledger, next, folded) = match kept {
            Some((ledger, offset)) => {
                let folded = ledger.last_seq().map(|seq| Progress { seq, offset, hash: ledger.last_hash() });
                (ledger, offset + 1, folded)
            }
            None => (Ledger::new(partition), 0, None),
        };
        Ok(Self { partition, ledger, next, folded, published, halted })
    }

    /// Whether everything that was folded is published, and nothing else.
    pub fn is_at(&self, published: Option<Progress>) -> bool {
        self.halted.is_none() && self.folded == published && self.published == published
    }

    /// Whether what is published must be folded first.
    pub fn is_behind(&self) -> bool {
        self.halted.is_none() && self.folded.map(|folded| folded.seq) < self.published()
    }

    /// The last published event.
    pub fn published(&self) -> Option<u64> {
        self.published.map(|progress| progress.seq)
    }

    /// Why it does not go on.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Whether a release is to be read, or a whole chunk.
    pub fn is_pressed(&self, journal: &dyn Journal) -> bool {
        if self.halted.is_some() {
            return false;
        }
        let Ok(chunk) = journal.records(self.partition, self.next, CHUNK_MAX) else { return true };
        chunk.items.len() == CHUNK_MAX || chunk.items.iter().any(|located| located.record.view().is_ok_and(|view| is_release(view.kind)))
    }

    /// A transaction was committed in which the topics came to here.
    pub fn committed(&mut self, progress: Progress) {
        self.published = Some(progress);
    }

    /// Folds some records, and adds to the round what is to be published of them. How many came.
    pub fn take(&mut self, connection: &Connection, journal: &dyn Journal, round: &mut Round) -> Result<usize, ReadError> {
        if self.halted.is_some() {
            return Ok(0);
        }
        let chunk = match journal.records(self.partition, self.next, CHUNK_MAX) {
            Ok(chunk) => chunk,
            Err(ReadError::Unavailable(reason)) => return Err(ReadError::Unavailable(reason)),
            Err(damage) => {
                self.halt(damage.to_string());
                return Ok(0);
            }
        };
        let before = self.next;
        let mut touched = HashMap::new();
        for located in &chunk.items {
            if let Err(reason) = self.fold(connection, located, &mut touched, round) {
                self.halt(reason);
                break;
            }
            self.next = located.offset + 1;
        }
        if self.halted.is_none() {
            self.next = chunk.next;
        }
        round.messages.extend(touched.into_iter().filter_map(|(key, recorded)| self.state(key, recorded)));
        if let Some(folded) = self.folded.filter(|folded| Some(folded.seq) > self.published()) {
            round.progress.push((self.partition, folded));
        }
        Ok(usize::try_from(self.next - before).unwrap_or(usize::MAX))
    }

    fn fold(
        &mut self,
        connection: &Connection,
        located: &Located,
        touched: &mut HashMap<String, Timestamp>,
        round: &mut Round,
    ) -> Result<(), String> {
        let record = &located.record;
        let view = record.view().map_err(|e| format!("the record at offset {} is not one of ours: {e}", located.offset))?;
        let (judged, _) = self.ledger.apply_view(&view, record.hash()).map_err(|e| e.to_string())?;
        if judged != Judged::Accepted {
            return Ok(());
        }
        self.folded = Some(Progress { seq: view.seq, offset: located.offset, hash: record.hash() });
        if self.published.is_some_and(|published| view.seq <= published.seq) {
            return Ok(());
        }
        round.events += 1;
        if is_release(view.kind) {
            let wire = codec::encode_record(record, connection.schema_header(view.kind).as_deref())
                .ok_or("a record cannot be written; this is a bug")?;
            round.messages.push(Message {
                topic: Topic::Promotions,
                partition: self.partition,
                key: wire.key,
                headers: wire.headers,
                value: wire.value.into_bytes(),
                at: wire.at,
            });
        }
        // a refusal has a model's key, and changes nothing in it
        if self.ledger.model(view.key).and_then(|model| model.recent.last()).is_some_and(|last| last.seq == view.seq) {
            touched.insert(view.key.to_owned(), view.recorded);
        }
        Ok(())
    }

    /// A model as it is now.
    fn state(&self, key: String, recorded: Timestamp) -> Option<Message> {
        let model = self.ledger.model(&key)?;
        let position = format!("{}:{}", self.partition, model.recent.last()?.seq);
        let modelseq = model.modelseq.to_string();
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "content-type", value: Some("application/json") })
            .insert(Header { key: "annals_position", value: Some(&position) })
            .insert(Header { key: "ce_modelseq", value: Some(&modelseq) });
        let value = document::write(&key, model, recorded)?;
        Some(Message { topic: Topic::Models, partition: self.partition, key, headers, value, at: recorded.0 })
    }

    fn halt(&mut self, reason: String) {
        tracing::error!(partition = self.partition, "the derived topics stop for this partition: {reason}");
        self.halted = Some(reason);
    }
}

/// Whether an event changes what is released; a rollback is a promotion.
fn is_release(kind: Kind) -> bool {
    matches!(kind, Kind::VersionPromoted | Kind::VersionDemoted | Kind::VersionRetired)
}
