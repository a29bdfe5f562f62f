//! One partition: the fold of its journal under rule R, and the judging of what is proposed next.
//!
//! [`Ledger::apply`] is the fold. [`Overlay`] judges a batch on top of it without touching it: what
//! it decides is thrown away, and counts only once it is read back from the journal.

mod control;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::control::{Dispute, Person, opening};
use crate::RULES;
use crate::control::{PROGRESS_DISTANCE, Progressed};
use crate::design::Refused;
use crate::kind::{About, Kind};
use crate::model::{self, Ask, Decided, Model, RECENT_MAX};
use crate::names::{Key, partition_of};
use crate::proposal::{Proposal, Unreadable};
use crate::record::{Corrupt, Hash, Record, View, join_value};
use crate::rule::{self, Judged, Rule};
use crate::submission::Submission;
use crate::time::Timestamp;
use crate::verdict::{Code, Outcome, Place, Refusal, Verdict};
pub use crate::window::WINDOW_MAX;
use crate::window::{Seen, Window, id_digest};

/// The source of the engine's own events.
pub const SOURCE: &str = "/annals";

/// The folded state of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Which partition.
    pub partition: u32,
    /// Of how many; 0 until `journal.opened` is folded.
    pub partitions: u32,
    rule: Rule,
    generation: u64,
    last_src: Option<u64>,
    disputed: Option<Dispute>,
    announced: Option<u64>,
    recorded: Timestamp,
    models: HashMap<Key, Arc<Model>>,
    window: Window,
}

/// Why a fold stops: a person must look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The chain contradicts itself.
    #[error(transparent)]
    Rule(#[from] rule::Halt),
    /// A record that was never ours.
    #[error("a record behind seq {after:?} is not one of ours: {source}")]
    Corrupt {
        /// The last good record.
        after: Option<u64>,
        /// What is wrong with it.
        source: Corrupt,
    },
    /// A record of rules that this build does not know.
    #[error("seq {seq} was judged by rules {rules}, and this build knows {RULES}: start a newer build")]
    UnknownRules {
        /// The place.
        seq: u64,
        /// The rules' version.
        rules: u32,
    },
}

impl Ledger {
    /// The state before the first record.
    #[must_use]
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            partitions: 0,
            rule: Rule::default(),
            generation: 0,
            last_src: None,
            disputed: None,
            announced: None,
            recorded: Timestamp(0),
            models: HashMap::new(),
            window: Window::default(),
        }
    }

    /// Folds the next record of the log.
    ///
    /// # Errors
    /// [`Halt`] where the log cannot be trusted; the ledger stays where it was.
    pub fn apply(&mut self, record: &Record) -> Result<Judged, Halt> {
        let after = self.rule.last_seq();
        let corrupt = |source| Halt::Corrupt { after, source };
        let view = record.view().map_err(corrupt)?;
        if let Some(judged) = self.apart(&view, record.hash())? {
            return Ok(judged);
        }
        match &Decided::parse(view.kind, view.decided) {
            Ok(decided) => self.accept(&view, record.hash(), decided),
            Err(e) => Err(corrupt(e.clone())),
        }
    }

    /// Folds a record that was read already, and returns its decision if it was accepted.
    ///
    /// # Errors
    /// As [`Ledger::apply`].
    pub fn apply_view(&mut self, view: &View<'_>, hash: Hash) -> Result<(Judged, Option<Decided>), Halt> {
        if let Some(judged) = self.apart(view, hash)? {
            return Ok((judged, None));
        }
        let after = self.rule.last_seq();
        let decided = Decided::parse(view.kind, view.decided).map_err(|source| Halt::Corrupt { after, source })?;
        let judged = self.accept(view, hash, &decided)?;
        Ok((judged, Some(decided)))
    }

    /// What is to be said of a record that is not the next one.
    fn apart(&mut self, view: &View<'_>, hash: Hash) -> Result<Option<Judged>, Halt> {
        if view.rules > RULES {
            return Err(Halt::UnknownRules { seq: view.seq, rules: view.rules });
        }
        if view.seq == self.rule.next_seq() {
            return Ok(None);
        }
        let judged = self.rule.judge(view.seq, view.prevhash, hash)?;
        // an import announces where it will end, in front of all else: see there
        if judged == Judged::Orphan && view.kind == Kind::JournalContinued && self.rule.last_seq().is_none() {
            self.announced = Some(view.seq);
        }
        Ok(Some(judged))
    }

    /// Folds the next record. The decision is lent, for it is large: to move it costs more than to read it.
    fn accept(&mut self, view: &View<'_>, hash: Hash, decided: &Decided) -> Result<Judged, Halt> {
        let after = self.rule.last_seq();
        let corrupt = |source| Halt::Corrupt { after, source };
        if matches!(decided, Decided::JournalOpened(_)) && view.seq > 0 {
            return Err(corrupt(Corrupt(format!("seq {} opens the journal again", view.seq))));
        }
        if let Decided::JournalContinued(continued) = decided
            && continued.generation != self.generation + 1
        {
            return Err(corrupt(Corrupt(format!("generation {} follows generation {}", continued.generation, self.generation))));
        }
        let known = self.models.get_mut(view.key);
        let begun = if known.is_some() { None } else { new_key(view).map_err(corrupt)? };
        let judged = self.rule.judge(view.seq, view.prevhash, hash)?;
        // nothing below can fail: what was accepted is true
        self.last_src = decided.next_src(view.src).map_or(self.last_src, |next| next.checked_sub(1));
        self.recorded = view.recorded;
        if view.kind.about() == About::Engine {
            self.turn(decided);
            return Ok(judged);
        }
        let seen = seen(view, decided.version());
        if let Some(model) = known {
            evolve(Arc::make_mut(model), decided, view.actor, seen);
        } else if let Some(key) = begun {
            evolve(Arc::make_mut(self.models.entry(key).or_default()), decided, view.actor, seen);
        }
        self.window.remember(seen);
        Ok(judged)
    }

    /// The last accepted place; `None` in an empty journal.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        self.rule.last_seq()
    }

    /// The hash at that place.
    #[must_use]
    pub fn last_hash(&self) -> Hash {
        self.rule.last_hash()
    }

    /// The proposal that the last accepted record came from: judging goes on behind it.
    #[must_use]
    pub fn last_src(&self) -> Option<u64> {
        self.last_src
    }

    /// The time of the last accepted record.
    #[must_use]
    pub fn recorded(&self) -> Timestamp {
        self.recorded
    }

    /// A model's state.
    #[must_use]
    pub fn model(&self, key: &str) -> Option<&Arc<Model>> {
        self.models.get(key)
    }

    /// How many models the partition has.
    #[must_use]
    pub fn models(&self) -> usize {
        self.models.len()
    }

    /// Begins to judge a batch on top of this state.
    #[must_use]
    pub fn overlay(&mut self) -> Overlay<'_> {
        self.window.index();
        let base = &*self;
        Overlay {
            base,
            next_seq: base.rule.next_seq(),
            last_hash: base.rule.last_hash(),
            next_src: base.next_src(),
            recorded: base.recorded,
            models: HashMap::new(),
            seen: HashMap::new(),
            accepted: Vec::new(),
        }
    }
}

/// The key of a model that this record begins; checked before anything is changed.
fn new_key(view: &View<'_>) -> Result<Option<Key>, Corrupt> {
    match view.kind.about() {
        About::Engine => Ok(None),
        _ => {
            let (workspace, model) = view.key.split_once('/').unwrap_or((view.key, ""));
            Key::of(view.kind, workspace, model).map(Some).map_err(|e| Corrupt(e.to_string()))
        }
    }
}

fn seen(view: &View<'_>, version: Option<u64>) -> Seen {
    let version = version.and_then(NonZeroU64::new);
    let content = view.content_digest.to_be_bytes();
    Seen { id: id_digest(view.source, view.id), content, seq: view.seq, modelseq: view.modelseq, version }
}

fn evolve(model: &mut Model, decided: &Decided, actor: &str, seen: Seen) {
    model.evolve(decided, actor);
    model.modelseq = seen.modelseq;
    if model.recent.len() == RECENT_MAX {
        model.recent.remove(0);
    }
    model::push(&mut model.recent, seen);
}

/// A batch being judged: the ledger as it would be if the batch were in the journal.
pub struct Overlay<'a> {
    base: &'a Ledger,
    next_seq: u64,
    last_hash: Hash,
    /// Behind the last proposal that a record names.
    next_src: u64,
    recorded: Timestamp,
    models: HashMap<Key, Model>,
    seen: HashMap<[u8; 16], Seen>,
    /// `seq` of what this batch accepted, in order.
    accepted: Vec<u64>,
}

impl Overlay<'_> {
    /// Judges one proposal: the verdict, and the record to append if there is one. A refusal that
    /// matters has a record too; so has any other that is [`PROGRESS_DISTANCE`] or more behind the
    /// last proposal that has one: `partition.progressed`.
    pub fn judge(&mut self, src: u64, at: Timestamp, submission: &Submission) -> (Verdict, Option<Record>) {
        let (verdict, record) = match Proposal::read(submission) {
            Ok(proposal) => {
                let (outcome, record) = self.judge_proposal(src, at, &proposal);
                (Verdict { src, id: proposal.id, source: proposal.source, outcome }, record)
            }
            Err(Unreadable { id, source, refusal }) => (Verdict { src, id, source, outcome: Outcome::Malformed(refusal) }, None),
        };
        let is_due = record.is_none() && src.saturating_sub(self.next_src) >= PROGRESS_DISTANCE - 1;
        let record = if is_due { Some(self.progress(src, at)) } else { record };
        if record.is_some() {
            self.next_src = src + 1;
        }
        (verdict, record)
    }

    fn progress(&mut self, src: u64, at: Timestamp) -> Record {
        let (id, key) = (self.base.numbered("progressed", src), Key::control(self.base.partition));
        let decided = Decided::PartitionProgressed(Progressed { src, reason: None });
        let attributes = Attributes { src: Some(src), recorded: at, ..Attributes::own(&id, Kind::PartitionProgressed, &key) };
        self.chain(key.as_str(), attributes, &[], "{}", &decided)
    }

    fn judge_proposal(&mut self, src: u64, at: Timestamp, proposal: &Proposal) -> (Outcome, Option<Record>) {
        if let Err(refusal) = self.check_partition(proposal) {
            return (Outcome::Refused(refusal), None);
        }
        let id = id_digest(&proposal.source, &proposal.id);
        let content = proposal.content_digest();
        if let Some(seen) = self.seen_before(&proposal.key, id) {
            let same = seen.content == content.to_be_bytes();
            return (if same { Outcome::Duplicate(seen.place()) } else { Outcome::Refused(id_conflict(proposal, seen)) }, None);
        }
        let base = self.base;
        let existing = self.models.get(&proposal.key).or_else(|| base.model(proposal.key.as_str()).map(Arc::as_ref));
        let modelseq = existing.map_or(0, |m| m.modelseq);
        match model::decide(&Ask { proposal, existing, at }) {
            Ok(decided) => {
                let version = decided.version();
                let place = Place { seq: self.next_seq, modelseq: modelseq + 1, version };
                let record = self.record(src, at, proposal, content, &decided, place.modelseq);
                let version = version.and_then(NonZeroU64::new);
                let seen = Seen { id, content: content.to_be_bytes(), seq: place.seq, modelseq: place.modelseq, version };
                let model = self.models.entry(proposal.key.clone());
                let model = model.or_insert_with(|| base.model(proposal.key.as_str()).map(|m| Model::clone(m)).unwrap_or_default());
                evolve(model, &decided, &model::actor(proposal), seen);
                self.seen.insert(id, seen);
                self.accepted.push(seen.seq);
                (Outcome::Accepted(place), Some(record))
            }
            Err(refusal) => {
                let record = model::refusal_matters(proposal.kind).then(|| {
                    let decided = Decided::ProposalRefused(Refused {
                        id: proposal.id.clone(),
                        source: proposal.source.clone(),
                        kind: proposal.kind.name().into(),
                        code: refusal.code,
                        message: refusal.message.clone(),
                    });
                    self.record(src, at, proposal, content, &decided, modelseq)
                });
                (Outcome::Refused(refusal), record)
            }
        }
    }

    /// A model in two partitions would be decided twice.
    fn check_partition(&self, proposal: &Proposal) -> Result<(), Refusal> {
        let right = partition_of(proposal.key.as_str(), self.base.partitions.max(1));
        if right == self.base.partition {
            return Ok(());
        }
        let message = format!("the key `{}` belongs into partition {right}, and the message is in {}", proposal.key, self.base.partition);
        Err(Refusal::new(Code::WrongPartition, message, "set `partitioner=murmur2_random` in librdkafka clients; Java's default is right"))
    }

    fn seen_before(&self, key: &Key, id: [u8; 16]) -> Option<Seen> {
        let oldest = self.oldest_remembered();
        let in_window = self.seen.get(&id).or_else(|| self.base.window.find(&id)).filter(|s| s.seq >= oldest);
        let model = || self.models.get(key).or_else(|| self.base.model(key.as_str()).map(Arc::as_ref));
        in_window.or_else(|| model()?.recent.iter().find(|s| s.id == id)).copied()
    }

    /// `seq` of the oldest id that the window would hold if the batch were in the journal: what was
    /// pushed out must be forgotten now, or a verdict would depend on where batches end.
    fn oldest_remembered(&self) -> u64 {
        let window = &self.base.window;
        let dropped = (window.len() + self.accepted.len()).saturating_sub(WINDOW_MAX);
        match window.nth(dropped) {
            Some(oldest) => oldest.seq,
            None => self.accepted.get(dropped - window.len()).copied().unwrap_or(0),
        }
    }

    /// The record of a proposal that was accepted, or refused so that it matters.
    fn record(&mut self, src: u64, at: Timestamp, proposal: &Proposal, content: u128, decided: &Decided, modelseq: u64) -> Record {
        let refused = matches!(decided, Decided::ProposalRefused(_));
        let subject = match decided.version() {
            Some(version) => format!("{}/{version}", proposal.key),
            _ if refused => proposal.subject(),
            _ => proposal.key.to_string(),
        };
        let own_id = self.base.numbered("refused", src);
        let (id, source, kind) = if refused {
            (own_id.as_str(), SOURCE, Kind::ProposalRefused)
        } else {
            (proposal.id.as_str(), proposal.source.as_str(), proposal.kind)
        };
        let attributes = Attributes {
            id,
            source,
            kind,
            subject: &subject,
            time: proposal.time.as_deref(),
            actor: &model::actor(proposal),
            content,
            modelseq,
            src: Some(src),
            // the place comes with the chain
            seq: 0,
            recorded: at,
            prevhash: Hash::default(),
        };
        let extensions: Vec<_> = proposal.extensions.iter().map(|(n, v)| (format!("ce_{n}"), v.as_str())).collect();
        self.chain(proposal.key.as_str(), attributes, &extensions, &proposal.data, decided)
    }

    /// Builds a record and moves the head of the chain onto it.
    fn chain(&mut self, key: &str, attributes: Attributes<'_>, extensions: &[(String, &str)], data: &str, decided: &Decided) -> Record {
        self.recorded = self.recorded.max(attributes.recorded);
        let place = Attributes { seq: self.next_seq, recorded: self.recorded, prevhash: self.last_hash, ..attributes };
        let record = build(key, &place, extensions, data, decided);
        self.next_seq += 1;
        self.last_hash = record.hash();
        record
    }
}

fn id_conflict(proposal: &Proposal, seen: Seen) -> Refusal {
    let message = format!("the id `{}` was accepted before, at seq {}, with other content", proposal.id, seen.seq);
    Refusal::new(Code::IdConflict, message, "give every proposal an id of its own, and a retry the same bytes")
}

struct Attributes<'a> {
    id: &'a str,
    source: &'a str,
    kind: Kind,
    subject: &'a str,
    time: Option<&'a str>,
    actor: &'a str,
    content: u128,
    seq: u64,
    modelseq: u64,
    src: Option<u64>,
    recorded: Timestamp,
    prevhash: Hash,
}

fn build(key: &str, a: &Attributes<'_>, extensions: &[(String, &str)], data: &str, decided: &Decided) -> Record {
    let (content, seq, modelseq) = (format!("{:032x}", a.content), a.seq.to_string(), a.modelseq.to_string());
    let (src, recorded, prevhash, rules) =
        (a.src.map(|s| s.to_string()), a.recorded.to_string(), a.prevhash.to_string(), RULES.to_string());
    let mut headers: Vec<(&str, &str)> = vec![
        ("ce_specversion", "1.0"),
        ("ce_id", a.id),
        ("ce_source", a.source),
        ("ce_type", a.kind.name()),
        ("ce_subject", a.subject),
        ("ce_actor", a.actor),
        ("ce_contentdigest", &content),
        ("ce_seq", &seq),
        ("ce_modelseq", &modelseq),
        ("ce_recordedtime", &recorded),
        ("ce_rules", &rules),
        ("ce_prevhash", &prevhash),
    ];
    headers.extend(src.as_deref().map(|src| ("ce_src", src)));
    headers.extend(a.time.map(|time| ("ce_time", time)));
    headers.extend(extensions.iter().map(|(name, value)| (name.as_str(), *value)));
    let decided = serde_json::to_string(decided).expect("a decision is strings, integers and lists of them");
    Record::build(key, &mut headers, join_value(data, &decided).as_bytes())
}

#[cfg(test)]
mod batches;
#[cfg(test)]
mod tests;
