//! What a partition's fold knows of itself, and the records that say so: opened, judged so far, halted, resumed, continued.

use serde::{Deserialize, Serialize};

use super::{Attributes, Ledger, SOURCE, build};
use crate::control::{Continued, Halted, Progressed, Resumed};
use crate::design::Opened;
use crate::kind::Kind;
use crate::model::Decided;
use crate::names::Key;
use crate::record::{Hash, Record};
use crate::time::Timestamp;

/// A record that no arbiter has decided, and that no person has accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Why it is disputed.
    pub reason: String,
}

/// Who decided something about a partition, why, and when by their own clock.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// Who, as `ce_actor` has it.
    pub actor: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
    /// When (RFC 3339): a claim. What is recorded takes its time from the journal, so that a clock
    /// that is ahead cannot pull all later events with it.
    pub time: &'a str,
}

impl Ledger {
    /// Offset of the first proposal that is not judged yet, as far as the records say.
    #[must_use]
    pub fn next_src(&self) -> u64 {
        self.last_src.map_or(0, |src| src + 1)
    }

    /// Which log of proposals `src` counts in: 1, and one more for each import.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The record for which the partition is halted.
    #[must_use]
    pub fn halted(&self) -> Option<&Dispute> {
        self.disputed.as_ref()
    }

    /// The place of the `journal.continued` that an import has announced and not reached.
    #[must_use]
    pub fn unfinished(&self) -> Option<u64> {
        self.announced
    }

    /// The next record: it was found that `dispute` was never decided. Judging is to go on at the
    /// proposal `resume`.
    #[must_use]
    pub fn halting(&self, dispute: &Dispute, resume: u64) -> Record {
        let Dispute { seq, hash, reason } = dispute.clone();
        let id = format!("halted-{}-{seq}", self.partition);
        self.own(&id, Kind::PartitionHalted, None, None, &Decided::PartitionHalted(Halted { seq, hash, reason, resume }))
    }

    /// The next record: a person accepts what is disputed.
    #[must_use]
    pub fn resuming(&self, dispute: &Dispute, person: Person<'_>) -> Record {
        let id = format!("resumed-{}-{}", self.partition, dispute.seq);
        let (actor, reason) = (person.actor.to_owned(), person.reason.map(str::to_owned));
        let decided = Decided::PartitionResumed(Resumed { seq: dispute.seq, hash: dispute.hash, actor, reason });
        self.own(&id, Kind::PartitionResumed, None, Some(person), &decided)
    }

    /// The next record: a person gives up the proposals up to `src`, because they are gone.
    #[must_use]
    pub fn skipping(&self, src: u64, person: Person<'_>) -> Record {
        let id = self.numbered("progressed", src);
        let decided = Decided::PartitionProgressed(Progressed { src, reason: person.reason.map(str::to_owned) });
        self.own(&id, Kind::PartitionProgressed, Some(src), Some(person), &decided)
    }

    /// The next record: behind it, proposals come from another log, beginning at offset `base`.
    #[must_use]
    pub fn continuing(&self, base: u64, person: Person<'_>) -> Record {
        let generation = self.generation + 1;
        let id = format!("continued-{}-{generation}", self.partition);
        let decided = Decided::JournalContinued(Continued { generation, base, note: person.reason.map(str::to_owned) });
        self.own(&id, Kind::JournalContinued, None, Some(person), &decided)
    }

    /// `refused-3-17`: the id of what the engine writes about a proposal. Offsets begin anew in each
    /// generation, and ids must not: `refused-3-g2-17`.
    pub(super) fn numbered(&self, what: &str, src: u64) -> String {
        match self.generation {
            0 | 1 => format!("{what}-{}-{src}", self.partition),
            generation => format!("{what}-{}-g{generation}-{src}", self.partition),
        }
    }

    fn own(&self, id: &str, kind: Kind, src: Option<u64>, person: Option<Person<'_>>, decided: &Decided) -> Record {
        let key = Key::control(self.partition);
        let attributes = Attributes {
            time: person.map(|person| person.time),
            actor: person.map_or("annals", |person| person.actor),
            seq: self.rule.next_seq(),
            src,
            recorded: self.recorded,
            prevhash: self.rule.last_hash(),
            ..Attributes::own(id, kind, &key)
        };
        build(key.as_str(), &attributes, &[], "{}", decided)
    }

    /// Takes what a record says about the partition itself into the state.
    pub(super) fn turn(&mut self, decided: &Decided) {
        match decided {
            Decided::JournalOpened(opened) => (self.partitions, self.generation) = (opened.partitions, opened.generation),
            Decided::JournalContinued(continued) => {
                self.generation = continued.generation;
                self.announced = None;
            }
            Decided::PartitionHalted(Halted { seq, hash, reason, .. }) => {
                self.disputed = Some(Dispute { seq: *seq, hash: *hash, reason: reason.clone() });
            }
            Decided::PartitionResumed(resumed) => {
                // another's decision about another record leaves it halted
                self.disputed.take_if(|d| (d.seq, d.hash) == (resumed.seq, resumed.hash));
            }
            _ => {} // what is about a model, and `partition.progressed`: where judging goes on is known already
        }
    }
}

impl<'a> Attributes<'a> {
    /// Those of a record that is about its partition.
    pub(super) fn own(id: &'a str, kind: Kind, key: &'a Key) -> Self {
        Self {
            id,
            source: SOURCE,
            kind,
            subject: key.as_str(),
            time: None,
            actor: "annals",
            content: 0,
            seq: 0,
            modelseq: 0,
            src: None,
            recorded: Timestamp(0),
            prevhash: Hash::default(),
        }
    }
}

/// The record that opens a partition's journal: `seq` 0, written once, by whoever makes the journal.
#[must_use]
pub fn opening(partition: u32, partitions: u32, at: Timestamp) -> Record {
    let key = Key::control(partition);
    let id = format!("opened-{partition}");
    let attributes = Attributes { recorded: at, ..Attributes::own(&id, Kind::JournalOpened, &key) };
    build(key.as_str(), &attributes, &[], "{}", &Decided::JournalOpened(Opened { generation: 1, partitions }))
}
