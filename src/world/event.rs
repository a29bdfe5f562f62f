//! An event of the journal as rules and actors see it, and where they get it from.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use annals_events::decided::Decided;
use annals_events::kind::Kind;
use annals_events::record::{Corrupt, Record};
use annals_events::time::Timestamp;
use serde_json::Value;

use super::HOPS;
use crate::http::cloudevent;
use crate::journal::{Journal, ReadError};

/// How many events are kept that were read last: what is dispatched is acted on at once, mostly.
const KEPT_MAX: usize = 512;

/// An event of the journal, read for rules and actors.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `workspace/model`; for what is about no model, `workspace/_system` or `_control/<partition>`.
    pub key: String,
    /// The part of the key before the slash.
    pub workspace: String,
    /// The part behind it.
    pub model: String,
    /// What happened.
    pub kind: Kind,
    /// The CloudEvents id.
    pub id: String,
    /// The CloudEvents source; unique together with the id.
    pub source: String,
    /// `workspace/model` or `workspace/model/version`.
    pub subject: String,
    /// The version that it is about, as the engine decided.
    pub version: Option<u64>,
    /// The channel that it is about.
    pub channel: Option<String>,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition's log.
    pub offset: u64,
    /// Its place in the partition.
    pub seq: u64,
    /// Count of the events of its model, this one included.
    pub modelseq: u64,
    /// Who asked for it.
    pub actor: String,
    /// The event that caused it, if it says so.
    pub causation: Option<String>,
    /// What belongs together, if it says so.
    pub correlation: Option<String>,
    /// How many rules caused it, one after the other.
    pub hops: u32,
    /// The producer's `data`.
    pub data: Value,
    /// What the engine decided.
    pub decided: Value,
    /// The whole event as the stream writes it: a CloudEvent in structured mode, one line of JSON.
    pub cloudevent: Vec<u8>,
}

impl Event {
    /// Reads an accepted record.
    ///
    /// # Errors
    /// If it is not one of ours.
    pub fn read(partition: u32, offset: u64, record: &Record) -> Result<Self, Corrupt> {
        let view = record.view()?;
        let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| Corrupt(format!("the value is not JSON: {e}")));
        let (data, decided) = (json(view.data)?, json(view.decided)?);
        let mut cloudevent = Vec::with_capacity(record.frame().len() * 2);
        cloudevent::write(partition, record, &mut cloudevent)?;
        let attribute = |name: &str| view.headers().find(|(n, _)| n.strip_prefix("ce_") == Some(name)).map(|(_, value)| value.to_owned());
        let channel = [&decided, &data].iter().find_map(|half| half.get("channel")?.as_str()).map(str::to_owned);
        let (workspace, model) = view.key.split_once('/').unwrap_or((view.key, ""));
        Ok(Self {
            workspace: workspace.into(),
            model: model.into(),
            key: view.key.into(),
            kind: view.kind,
            id: view.id.into(),
            source: view.source.into(),
            subject: view.subject.into(),
            version: Decided::parse(view.kind, view.decided)?.version(),
            channel,
            recorded: view.recorded,
            partition,
            offset,
            seq: view.seq,
            modelseq: view.modelseq,
            actor: view.actor.into(),
            causation: attribute("causationid"),
            correlation: attribute("correlationid"),
            // a number that is none is no excuse for going on for ever
            hops: attribute(HOPS).map_or(0, |text| text.parse().unwrap_or(u32::MAX)),
            data,
            decided,
            cloudevent,
        })
    }

    /// `partition:seq`.
    #[must_use]
    pub fn position(&self) -> String {
        format!("{}:{}", self.partition, self.seq)
    }

    /// What its consequences carry as `correlationid`.
    #[must_use]
    pub fn correlation(&self) -> &str {
        self.correlation.as_deref().unwrap_or(&self.id)
    }

    /// A member of `{"data":…,"decided":…}` by JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let rest = |half: &str| pointer.strip_prefix(half).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (rest("/data"), rest("/decided")) {
            (Some(rest), _) => self.data.pointer(rest),
            (_, Some(rest)) => self.decided.pointer(rest),
            _ => None,
        }
    }
}

/// Events by their place: those of last, and the journal for all others.
pub struct Events {
    journal: Arc<dyn Journal>,
    recent: Mutex<VecDeque<Arc<Event>>>,
}

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
pub enum NoEvent {
    /// The journal could not be read: try again.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is another one, or none: the operational store is of another journal.
    #[error("the journal has no event {id} at partition {partition}, offset {offset}")]
    Missing {
        /// The id that was looked for.
        id: String,
        /// Where.
        partition: u32,
        /// Where.
        offset: u64,
    },
    /// It is not one of ours.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The thread that read it panicked.
    #[error("the thread that read the journal panicked: this is a bug, see the log")]
    Lost,
}

impl Events {
    /// The events of this journal.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal, recent: Mutex::default() }
    }

    /// Keeps an event that will be asked for soon.
    pub fn keep(&self, event: Arc<Event>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT_MAX {
            recent.pop_front();
        }
        recent.push_back(event);
    }

    /// The event of this id at this place.
    ///
    /// # Errors
    /// [`NoEvent`].
    pub async fn get(&self, partition: u32, offset: u64, id: &str) -> Result<Arc<Event>, NoEvent> {
        let here = |event: &&Arc<Event>| event.partition == partition && event.offset == offset && event.id == id;
        if let Some(event) = self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().find(here) {
            return Ok(Arc::clone(event));
        }
        let journal = Arc::clone(&self.journal);
        let read = tokio::task::spawn_blocking(move || journal.records(partition, offset, 1));
        let chunk = read.await.map_err(|_| NoEvent::Lost)??;
        let missing = || NoEvent::Missing { id: id.into(), partition, offset };
        let found = chunk.items.into_iter().find(|located| located.offset == offset).ok_or_else(missing)?;
        let event = Event::read(partition, offset, &found.record)?;
        if event.id == id { Ok(Arc::new(event)) } else { Err(missing()) }
    }
}
