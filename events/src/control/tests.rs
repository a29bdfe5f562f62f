//! What the records about a partition itself do to its fold.

use serde_json::json;

use super::PROGRESS_DISTANCE;
use crate::kind::Kind;
use crate::ledger::{Dispute, Ledger, Person, opening};
use crate::model::Decided;
use crate::record::{Hash, Record};
use crate::rule::Judged;
use crate::stage::{NOON, Stage, Step, iris, promoted, registered};
use crate::submission::Submission;
use crate::time::Timestamp;
use crate::verdict::{Outcome, Place};

const ADA: Person<'static> = Person { actor: "unverified:ada", reason: Some("looked at it"), time: "2026-03-02T09:00:00Z" };

fn take(stage: &mut Stage, record: &Record) {
    assert_eq!(stage.ledger.apply(record), Ok(Judged::Accepted));
}

/// A proposal that is refused without a record.
fn refused(n: u64) -> Submission {
    iris("created", "", json!({})).id(&format!("again-{n}")).submission(0)
}

#[test]
fn progress_is_recorded_once_in_so_many_proposals_without_a_record() {
    let mut stage = Stage::given(&[registered('a')]);
    let mut records = Vec::new();
    for src in 1..3 * PROGRESS_DISTANCE {
        let (verdict, record) = stage.ledger.overlay().judge(src, Timestamp(NOON), &refused(src));
        assert!(matches!(verdict.outcome, Outcome::Refused(_)));
        if let Some(record) = record {
            take(&mut stage, &record);
            records.push(record);
        }
    }
    let found: Vec<_> = records.iter().map(|r| r.view().unwrap().src).collect();
    assert_eq!(found, [Some(PROGRESS_DISTANCE), Some(2 * PROGRESS_DISTANCE)]);
    let view = records[0].view().unwrap();
    assert_eq!((view.kind, view.key, view.id, view.actor), (Kind::PartitionProgressed, "_control/0", "progressed-0-1000", "annals"));
    assert_eq!(stage.ledger.next_src(), 2 * PROGRESS_DISTANCE + 1);
    assert_eq!(stage.iris().modelseq, 1, "no model is touched");
}

#[test]
fn progress_does_not_depend_on_where_batches_end() {
    let stage = Stage::given(&[registered('a')]);
    // offsets may leave gaps
    let srcs: Vec<u64> = (1..40).map(|n| n * 97).collect();
    let run = |length: usize| {
        let mut ledger = stage.ledger.clone();
        let mut records = Vec::new();
        for batch in srcs.chunks(length) {
            let mut overlay = ledger.overlay();
            let found: Vec<_> = batch.iter().filter_map(|src| overlay.judge(*src, Timestamp(NOON), &refused(*src)).1).collect();
            found.iter().for_each(|record| assert_eq!(ledger.apply(record), Ok(Judged::Accepted)));
            records.extend(found);
        }
        records
    };
    assert_eq!(run(1).len(), 3);
    for length in [2, 7, 11, 40] {
        assert_eq!(run(length), run(1), "{length}");
    }
}

#[test]
fn a_partition_halts_at_a_record_and_goes_on_when_a_person_accepts_that_record() {
    let mut stage = Stage::given(&[registered('a')]);
    let next = stage.ledger.next_src();
    // an intruder names an offset of his own choice
    let (_, forged) = stage.ledger.overlay().judge(1 << 40, Timestamp(NOON), &promoted("1", "dev").submission(9));
    let forged = forged.unwrap();
    take(&mut stage, &forged);
    let dispute = Dispute { seq: 2, hash: forged.hash(), reason: "nobody decided it".into() };
    let halting = stage.ledger.halting(&dispute, next);
    take(&mut stage, &halting);
    assert_eq!(stage.ledger.halted(), Some(&dispute));
    assert_eq!(stage.ledger.next_src(), next, "no proposal is skipped because of it");
    let restarted: Ledger = serde_json::from_str(&serde_json::to_string(&stage.ledger).unwrap()).unwrap();
    assert_eq!(restarted.halted(), Some(&dispute), "a snapshot knows it");

    let other = Dispute { hash: Hash::of(b"another"), ..dispute.clone() };
    let resuming = stage.ledger.resuming(&other, ADA);
    take(&mut stage, &resuming);
    assert_eq!(stage.ledger.halted(), Some(&dispute), "another record was meant");
    let resuming = stage.ledger.resuming(&dispute, ADA);
    take(&mut stage, &resuming);
    assert_eq!(stage.ledger.halted(), None);
    let view = resuming.view().unwrap();
    assert_eq!((view.actor, view.time, view.id), (ADA.actor, Some(ADA.time), "resumed-0-2"));
    assert_eq!(view.recorded, stage.ledger.recorded(), "a person's clock does not move the journal's");
    let Ok(Decided::PartitionResumed(said)) = Decided::parse(view.kind, view.decided) else { panic!() };
    assert_eq!((said.seq, said.hash, said.reason.as_deref()), (2, forged.hash(), ADA.reason));
}

#[test]
fn a_person_may_give_up_proposals_that_are_gone() {
    let mut stage = Stage::given(&[registered('a')]);
    let skipping = stage.ledger.skipping(499, ADA);
    take(&mut stage, &skipping);
    assert_eq!(stage.ledger.next_src(), 500);
    assert_eq!(skipping.view().unwrap().src, Some(499));
}

#[test]
fn behind_an_import_offsets_begin_anew_and_ids_do_not() {
    let mut stage = Stage::given(&[registered('a').id("once"), promoted("1", "dev")]);
    let continuing = stage.ledger.continuing(0, ADA);
    take(&mut stage, &continuing);
    assert_eq!((stage.ledger.generation(), stage.ledger.next_src(), stage.ledger.last_src()), (2, 0, None));
    let judge = |stage: &mut Stage, step: &Step| stage.ledger.overlay().judge(0, Timestamp(NOON), &step.submission(0));
    let (verdict, _) = judge(&mut stage, &registered('a').id("once"));
    assert!(matches!(verdict.outcome, Outcome::Duplicate(Place { seq: 1, .. })), "{verdict:?}");
    let (_, record) = judge(&mut stage, &promoted("9", "dev").id("bad"));
    let record = record.unwrap();
    assert_eq!((record.view().unwrap().src, record.view().unwrap().id), (Some(0), "refused-0-g2-0"));
    take(&mut stage, &record);
    assert_eq!(stage.ledger.next_src(), 1);
    let again = stage.ledger.continuing(7, ADA);
    take(&mut stage, &again);
    assert_eq!((stage.ledger.generation(), stage.ledger.next_src()), (3, 7));
}

#[test]
fn a_generation_that_does_not_follow_cannot_be_folded() {
    let mut ahead = Stage::given(&[registered('a')]);
    let continuing = ahead.ledger.continuing(0, ADA);
    take(&mut ahead, &continuing);
    let third = ahead.ledger.continuing(0, ADA);
    // as if the second generation had never begun: same place, other generation
    let mut ledger = Ledger::new(0);
    ahead.records.iter().for_each(|record| drop(ledger.apply(record)));
    let (seq, hash) = ("2".to_owned(), ledger.last_hash().to_string());
    let view = third.view().unwrap();
    let place = |n: &str| [("ce_seq", &seq), ("ce_prevhash", &hash)].into_iter().find(|(name, _)| *name == n).map(|(_, v)| v.as_str());
    let mut headers: Vec<_> = view.headers().map(|(n, v)| (n, place(n).unwrap_or(v))).collect();
    let forged = Record::build(view.key, &mut headers, view.value().as_bytes());
    assert!(ledger.apply(&forged).is_err());
    assert_eq!(ledger.apply(&continuing), Ok(Judged::Accepted), "else this test says nothing");
}

#[test]
fn an_import_that_has_announced_its_end_is_unfinished_until_it_gets_there() {
    let stage = Stage::given(&[registered('a'), promoted("1", "dev")]);
    let end = stage.ledger.continuing(0, ADA);
    let mut ledger = Ledger::new(0);
    assert_eq!(ledger.apply(&end), Ok(Judged::Orphan));
    for record in &stage.records {
        assert_eq!(ledger.unfinished(), Some(3));
        assert_eq!(ledger.apply(record), Ok(Judged::Accepted));
    }
    assert_eq!(ledger.unfinished(), Some(3));
    assert_eq!(ledger.apply(&end), Ok(Judged::Accepted));
    assert_eq!((ledger.unfinished(), ledger.generation()), (None, 2));
    let mut ledger = Ledger::new(0);
    let first = opening(0, 1, Timestamp(NOON));
    assert_eq!((ledger.apply(&first), ledger.apply(&end)), (Ok(Judged::Accepted), Ok(Judged::Orphan)));
    assert_eq!(ledger.unfinished(), None, "an orphan behind the beginning announces nothing");
}
