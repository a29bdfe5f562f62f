//! Histories that are changed after the run: the checker must reject each.

use annals_events::record::Record;
use annals_events::verdict::Outcome;

use super::super::checker::{self, Check, History, oracle};
use super::super::world::World;
use super::{SOUND, Setting};
use crate::arbiter::Status;

/// A run of one partition that is right, with enough in it, and an arbiter that told enough of it.
fn sound() -> (History, usize) {
    let histories = (0..200).map(|seed| World::new(Setting { seed, ..SOUND }).history().0);
    let mut fit = histories.filter_map(|history| {
        let life = history.lives.iter().position(|l| l.events.len() > 5 && l.told.len() > 2 && l.ledger.is_some())?;
        let fits = history.partitions.len() == 1 && !history.repeats && checker::check(&history).is_ok();
        fits.then_some((history, life))
    });
    fit.next().expect("one of two hundred seeds has enough in it")
}

fn rejected(by: Check, tamper: impl Fn(&mut History, usize)) {
    let (mut history, life) = sound();
    tamper(&mut history, life);
    match checker::check(&history) {
        Err(violation) => assert_eq!(violation.check, by, "{violation}"),
        Ok(()) => panic!("the checker takes it, and {by:?} should not"),
    }
}

#[test]
fn a_record_dropped_doubled_swapped_edited_or_added_is_rejected() {
    rejected(Check::Copies, |h, _| drop(h.partitions[0].records.remove(3)));
    rejected(Check::Stream, |h, _| drop(h.partitions[0].records.pop()));
    rejected(Check::Copies, |h, _| {
        let copy = h.partitions[0].records[3].clone();
        h.partitions[0].records.push(copy);
    });
    rejected(Check::Copies, |h, _| h.partitions[0].records.swap(2, 3));
    rejected(Check::NoHalt, |h, _| {
        let mut frame = h.partitions[0].records[2].frame().to_vec();
        let hash = frame.windows(12).position(|w| w == b"ce_prevhash\0").expect("every record has one");
        frame[hash + 15] ^= 1; // another digit
        h.partitions[0].records[2] = Record::from_frame(frame.into());
    });
    rejected(Check::Stream, |h, _| {
        // one event more than was decided, well formed and well chained
        let (proposals, last) = (h.partitions[0].proposals.clone(), h.partitions[0].proposals.last().map_or(0, |q| q.src));
        let mut expected = oracle(0, 1, &proposals);
        let next = proposals.iter().find_map(|q| {
            let mut other = q.submission.clone();
            other.headers.iter_mut().filter(|(name, _)| name == "ce_id").for_each(|(_, id)| *id = b"more".to_vec());
            expected.ledger.overlay().judge(last + 1, q.at, &other).1
        });
        h.partitions[0].records.push(next.expect("one of them would be accepted again under a new id"));
    });
}

#[test]
fn a_verdict_dropped_or_changed_is_rejected() {
    rejected(Check::Outcome, |h, _| {
        let src = h.partitions[0].verdicts[4].src;
        h.partitions[0].verdicts.retain(|v| v.src != src);
    });
    rejected(Check::Outcome, |h, _| {
        let verdicts = &mut h.partitions[0].verdicts;
        let place = verdicts.iter_mut().find_map(|v| if let Outcome::Accepted(place) = &mut v.outcome { Some(place) } else { None });
        place.expect("something was accepted").seq += 1;
    });
    rejected(Check::Outcome, |h, _| h.partitions[0].verdicts[2].src = 1_000_000);
}

#[test]
fn an_answer_that_is_missing_doubled_wrong_or_early_is_rejected() {
    rejected(Check::Tail, |h, life| drop(h.lives[life].events.remove(2)));
    rejected(Check::Tail, |h, life| {
        let copy = h.lives[life].events[2].clone();
        h.lives[life].events.insert(2, copy);
    });
    rejected(Check::Tail, |h, life| drop(h.lives[life].events.pop()));
    rejected(Check::Answer, |h, life| h.lives[life].events[2].1 = annals_events::record::Hash::of(b"other"));
    rejected(Check::Answer, |h, life| h.lives[life].events.iter_mut().for_each(|e| e.2.id.push('x')));
    rejected(Check::Answer, |h, life| h.lives[life].told[1].id.push('x'));
    rejected(Check::ReadBack, |h, life| h.lives[life].early.push("seq 3".into()));
}

#[test]
fn a_state_a_halt_a_late_record_and_no_rest_are_rejected() {
    rejected(Check::State, |h, life| h.lives[life].ledger = Some(annals_events::ledger::Ledger::new(0)));
    rejected(Check::NoHalt, |h, life| h.lives[life].status = Status::Halted("why".into()));
    rejected(Check::Fence, |h, _| h.partitions[0].late.push("transaction 3".into()));
    rejected(Check::Fence, |h, _| h.partitions[0].misled = 1);
    rejected(Check::Liveness, |h, _| h.stuck = Some("for ever".into()));
}
