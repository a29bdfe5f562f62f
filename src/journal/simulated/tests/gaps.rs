//! Proposals that were deleted before they were judged: the partition halts, and a person gives them up.

use std::sync::Arc;

use annals_events::ledger::Person;

use super::super::ears::{self, Disk, Ears};
use super::super::{Simulated, forget};
use crate::arbiter::resume::{Decision, ResumeError, resume};
use crate::arbiter::{Arbiter, Status, Step};
use crate::journal::suite::{create, fold, key_in, propose, records};

const ADA: Person<'static> = Person { actor: "unverified:ada", reason: Some("the outage of Tuesday"), time: "2026-01-02T00:00:00Z" };

fn rest(arbiter: &mut Arbiter) -> Step {
    (0..1_000).map(|_| arbiter.step()).find(|step| *step != Step::Worked).expect("it comes to rest")
}

#[test]
fn a_gap_halts_until_a_person_gives_up_what_is_gone() {
    let journal = Arc::new(Simulated::new("simulated", 1));
    for n in 0..10 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &n.to_string()));
    }
    forget(&journal, 0, 6);
    let (ears, heard) = Ears::new(&journal, "a".into(), 0);
    let mut arbiter = Arbiter::new(Arc::clone(&journal) as _, 0, ears, Arc::new(Disk::default()));
    arbiter.want(true);
    assert_eq!(rest(&mut arbiter), Step::Halted);
    assert!(matches!(&ears::open(&heard).status, Status::Halted(why) if why.contains("from offset 0 to 5 are gone")));
    assert_eq!(arbiter.step(), Step::Halted);
    let refused = |decision, words: &str| match resume(&*journal, 0, decision, ADA) {
        Err(ResumeError::Refused(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(Decision::SkipTo(5), "offset 5 either");
    assert_eq!(records(&*journal, 0).len(), 1, "nothing is written");
    let done = resume(&*journal, 0, Decision::SkipTo(7), ADA).unwrap();
    assert_eq!((done.seq, done.next), (1, 7));
    assert_eq!(rest(&mut arbiter), Step::Idle, "the same arbiter goes on");
    assert_eq!(ears::open(&heard).status, Status::Owner);
    let found: Vec<_> = records(&*journal, 0).iter().map(|l| l.record.view().unwrap().src).collect();
    assert_eq!(found, [None, Some(6), Some(7), Some(8), Some(9)]);
    assert_eq!(*arbiter.ledger(), fold(&*journal, 0));
    refused(Decision::SkipTo(12), "has no gap");
}
