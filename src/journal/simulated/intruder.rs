//! Somebody else writes a record into the journal, with the right chain, while an arbiter owns it.

use annals_events::ledger::{Ledger, Person};
use annals_events::names::partition_of;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;

use super::checker::Disputed;
use super::world::World;
use super::{Simulated, intrude};
use crate::arbiter::resume::{Decision, resume};
use crate::arbiter::{Status, Step};
use crate::journal::Queued;

/// What an intruder did, and what the owner made of it.
#[derive(Clone, Debug)]
pub struct Intrusion {
    /// Whether the record is what the rules decide anyhow.
    pub legal: bool,
    /// The name of the life that owned the partition.
    pub owner: String,
    /// Whether it halted.
    pub halted: bool,
    /// What was written.
    pub record: Record,
    /// Whether it stands in another's place: then no fold comes behind it, and there is nothing to decide.
    pub diverged: bool,
    /// Who accepted it in the end.
    pub accepted: Option<Person<'static>>,
}

impl Intrusion {
    /// The record, if it is one about which a person decides.
    pub fn disputed(&self) -> Option<Disputed> {
        let is_disputed = !self.legal && !self.diverged;
        is_disputed.then(|| Disputed { record: self.record.clone(), accepted: self.accepted })
    }
}

/// Who accepts what was found.
const PERSON: Person<'static> = Person { actor: "unverified:ada", reason: None, time: "2026-01-02T00:00:00Z" };

/// Lets an intruder write into partition 0 while somebody owns it, and watches the owner.
pub fn visit(world: &mut World) {
    let owner = world.assigned[0];
    for index in 0..world.workers.len() {
        world.rouse(index);
    }
    // the owner may have its share of trouble while it takes over, and at any time later
    let takes_over = (0..2_000).any(|_| {
        world.step(owner);
        world.owns(owner)
    });
    assert!(takes_over, "seed {}: worker {owner} never owns its partition", world.setting.seed);
    for _ in 0..world.dice.below(6) {
        if world.dice.chance(500) {
            world.produce();
        }
        world.step(owner);
    }
    let (legal, record) = forge(world);
    intrude(&world.journal, 0, record.clone());
    let mut idle = 0;
    for _ in 0..3_000 {
        match world.step(owner) {
            Some(Step::Halted) => break,
            Some(Step::Idle) => idle += 1,
            _ => idle = 0,
        }
        if idle == 20 {
            break;
        }
    }
    let heard = super::ears::open(&world.workers[owner].heard).clone();
    let halted = world.step(owner) == Some(Step::Halted);
    world.intrusion = Some(Intrusion { legal, owner: heard.name, halted, record, diverged: false, accepted: None });
    while world.unsent() > 0 {
        world.produce();
    }
}

/// All is healed, and the partition stands still: it must do so through restarts and takeovers, until
/// somebody accepts the record; and then all must go on by themselves. Says what is wrong.
pub fn stay(world: &mut World) -> Option<String> {
    if world.intrusion.as_ref().is_none_or(|intrusion| intrusion.legal) {
        return None;
    }
    let mut intrusion = world.intrusion.take()?;
    let mut ledger = Ledger::new(0);
    intrusion.diverged = visible(&world.journal).0.iter().any(|record| ledger.apply(record).is_err());
    let record = intrusion.record.view().map(|view| (view.seq, intrusion.record.hash())).ok()?;
    let stays = !intrusion.diverged;
    world.intrusion = Some(intrusion);
    if !stays {
        return None;
    }
    if ledger.halted().map(|found| (found.seq, found.hash)) != Some(record) {
        return Some(format!("the journal does not say that {record:?} is disputed, but {:?}", ledger.halted()));
    }
    // the owner dies, or another one takes over
    let owner = world.assigned[0];
    let of_zero: Vec<_> = (0..world.workers.len()).filter(|index| world.workers[*index].partition == 0).collect();
    if world.dice.chance(500) {
        world.workers[owner].arbiter = None;
    }
    world.assigned[0] = *world.dice.pick(&of_zero);
    of_zero.iter().for_each(|index| world.rouse(*index));
    let stuck = world.rest();
    let all_halted = of_zero.iter().all(|index| matches!(super::ears::open(&world.workers[*index].heard).status, Status::Halted(_)));
    if stuck.is_some() || !all_halted {
        return stuck.or_else(|| Some("a restart or a takeover has forgotten the halt".into()));
    }
    if world.dice.chance(300) {
        return None; // nobody decides
    }
    let decision = Decision::Accept { seq: record.0, hash: record.1 };
    if let Err(refused) = resume(&*world.journal, 0, decision, PERSON) {
        return Some(format!("the decision is refused: {refused}"));
    }
    if let Some(intrusion) = &mut world.intrusion {
        intrusion.accepted = Some(PERSON);
    }
    world.rest()
}

/// The next record in the chain: a legal one, or one that nobody decided.
fn forge(world: &mut World) -> (bool, Record) {
    let (records, proposals, partitions) = visible(&world.journal);
    let mut ledger = Ledger::new(0);
    for record in &records {
        ledger.apply(record).expect("the journal is good until now");
    }
    let from = ledger.last_src().map_or(0, |src| src + 1);
    let recorded = ledger.recorded();
    let later = |q: &Queued| Timestamp(q.at.max(recorded).0 + 1);
    let pending: Vec<_> = proposals.iter().filter(|q| q.src >= from).collect();
    let mut decided = |at: &dyn Fn(&Queued) -> Timestamp| {
        pending.iter().find_map(|q| {
            let (_, right) = ledger.overlay().judge(q.src, q.at, &q.submission);
            right.and_then(|_| ledger.overlay().judge(q.src, at(q), &q.submission).1)
        })
    };
    let choice = world.dice.below(5);
    if let (0 | 1, Some(record)) = (choice, decided(&|q| q.at)) {
        return (true, record);
    }
    if let (2, Some(record)) = (choice, decided(&later)) {
        return (false, record); // right but for its time
    }
    let last = proposals.last().map_or(0, |q| q.src);
    let src = if choice == 3 { last + 5 } else { world.dice.roll() % (last + 1) };
    let record = ledger.overlay().judge(src, recorded, &unasked(partitions)).1;
    (false, record.expect("a new model may always be created"))
}

fn visible(journal: &Simulated) -> (Vec<Record>, Vec<Queued>, u32) {
    let state = journal.state();
    let p = &state.partitions[0];
    let records = p.records.visible(&p.transactions).into_iter().map(|(_, record)| record).collect();
    (records, p.proposals.clone(), journal.partitions)
}

/// A proposal that is in no log.
fn unasked(partitions: u32) -> Submission {
    let key = (0..).map(|n| format!("w/foreign{n}")).find(|key| partition_of(key, partitions) == 0).expect("some name fits");
    let text = |name: &str, value: &str| (format!("ce_{name}"), value.as_bytes().to_vec());
    let headers = vec![
        text("specversion", "1.0"),
        text("id", "foreign"),
        text("source", "/elsewhere"),
        text("type", "dev.annals.model.created.v1"),
        text("subject", &key),
    ];
    Submission { key: Some(key.into_bytes()), headers, value: b"{}".to_vec() }
}
