//! Somebody else writes a record into the journal, with the right chain, while an arbiter owns it.

use annals_events::ledger::Ledger;
use annals_events::names::partition_of;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;

use super::world::World;
use super::{Simulated, intrude};
use crate::arbiter::Step;
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
}

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
    intrude(&world.journal, 0, record);
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
    world.intrusion = Some(Intrusion { legal, owner: heard.name, halted });
    while world.unsent() > 0 {
        world.produce();
    }
}

/// The next record in the chain: a legal one, or one that nobody decided.
fn forge(world: &mut World) -> (bool, Record) {
    let (records, proposals, partitions) = visible(&world.journal);
    let mut ledger = Ledger::new(0);
    for record in &records {
        ledger.apply(record).expect("the journal is good until now");
    }
    let from = ledger.last_src().map_or(0, |src| src + 1);
    let later = |q: &Queued| Timestamp(q.at.max(ledger.recorded()).0 + 1);
    let pending: Vec<_> = proposals.iter().filter(|q| q.src >= from).collect();
    let decided = |at: &dyn Fn(&Queued) -> Timestamp| {
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
    let src = if choice == 3 { proposals.len() as u64 + 5 } else { world.dice.below(proposals.len().max(1)) as u64 };
    let record = ledger.overlay().judge(src, ledger.recorded(), &unasked(partitions)).1;
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
