//! Rules 1 to 6 of the contract, without an arbiter.

use std::time::{Duration, Instant};

use annals_events::ledger;
use annals_events::verdict::{Outcome, Verdict};

use super::{Kit, create, eventually, fold, judge, key_in, offer, propose, records};
use crate::journal::{AppendError, Journal};

/// Claims, judges what waits from `from` on, appends and commits.
fn settle(journal: &dyn Journal, partition: u32, from: u64) {
    let mut claim = journal.claim(partition).unwrap();
    let queued = journal.proposals(partition, from, 1_000).unwrap();
    claim.append(judge(journal, partition, &queued)).unwrap();
    claim.commit().unwrap();
}

pub fn a_new_journal_holds_the_opening_record_of_every_partition<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    assert_eq!(journal.partitions(), 3);
    assert!(!journal.id().is_empty());
    assert_ne!(journal.id(), K::fresh().journal().id(), "two journals have two names");
    for p in 0..3 {
        let found = records(&*journal, p);
        assert_eq!(found.len(), 1);
        let view = found[0].record.view().unwrap();
        assert_eq!(found[0].record, ledger::opening(p, 3, view.recorded));
        assert_eq!(fold(&*journal, p).partitions, 3);
        assert!(journal.verdicts(p, 0, 10).unwrap().items.is_empty());
    }
}

pub fn offsets_grow_by_one_from_zero_and_times_never_go_back<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for n in 0..20 {
        assert_eq!(propose(&*journal, 1, create(&key_in(&*journal, 1, 0), &n.to_string())), n);
    }
    let queued = journal.proposals(1, 0, 100).unwrap();
    assert_eq!(queued.iter().map(|q| q.src).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(queued.is_sorted_by_key(|q| q.at));
    assert_eq!(journal.proposals(1, 5, 3).unwrap(), queued[5..8], "from an offset, at most so many");
    assert!(journal.proposals(1, 20, 3).unwrap().is_empty());
    assert_eq!(propose(&*journal, 2, create("default/x", "x")), 0, "each partition counts for itself");
}

pub fn a_proposal_is_found_by_its_offset_at_once<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for n in 0..50 {
        let submission = create(&key_in(&*journal, 1, 0), &n.to_string());
        let src = offer(&*journal, 1, submission.clone());
        let found = journal.proposal(1, src).unwrap().expect("whoever reads slowly must not take it for none");
        assert_eq!((found.src, found.submission), (src, submission));
    }
    assert_eq!(journal.proposal(1, 50).unwrap(), None);
    assert_eq!(journal.proposal(0, 0).unwrap(), None);
}

pub fn what_is_appended_is_invisible_until_it_is_committed<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let end = journal.end(0).unwrap();
    let mut claim = journal.claim(0).unwrap();
    claim.append(judge(&*journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    assert_eq!(records(&*journal, 0).len(), 1);
    assert_eq!(journal.end(0).unwrap(), end);
    assert!(journal.verdicts(0, 0, 10).unwrap().items.is_empty());
    assert_eq!(journal.verdict("/suite", "a").unwrap(), None);
    claim.commit().unwrap();
    eventually("the record is visible", || records(&*journal, 0).len() == 2);
    assert!(journal.end(0).unwrap() > end);
}

pub fn records_and_verdicts_of_a_commit_become_visible_together<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for n in 0..50 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &n.to_string()));
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &format!("again {n}"))); // refused: it exists
    }
    let watcher = {
        let journal = kit.journal();
        std::thread::spawn(move || {
            // a reader of several logs may see one before the other, and never a part of one
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let (records, verdicts) = (records(&*journal, 0).len(), refusals(&*journal, 0, 1_000).0.len());
                assert!(K::GROWS || records == 1 || (records == 51 && verdicts == 50), "{records} records and {verdicts} verdicts");
                if (records, verdicts) == (51, 50) {
                    return;
                }
                assert!(Instant::now() < deadline, "{records} records and {verdicts} verdicts are visible");
            }
        })
    };
    settle(&*journal, 0, 0);
    watcher.join().unwrap();
}

pub fn a_claim_that_was_dropped_leaves_nothing<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let mut claim = journal.claim(0).unwrap();
    claim.append(judge(&*journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    drop(claim);
    let _next = journal.claim(0).unwrap();
    assert_eq!(records(&*journal, 0).len(), 1);
    assert_eq!(journal.proposals(0, 0, 10).unwrap().len(), 1, "it still waits for a verdict");
}

pub fn a_later_claim_fences_append<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let batch = judge(&*journal, 0, &journal.proposals(0, 0, 10).unwrap());
    let mut old = journal.claim(0).unwrap();
    let mut new = journal.claim(0).unwrap();
    // an implementation may notice at the commit only
    let fenced = old.append(batch.clone()).and_then(|()| old.commit());
    assert!(matches!(fenced, Err(AppendError::Fenced)), "{fenced:?}");
    new.append(batch).unwrap();
    new.commit().unwrap();
    eventually("the new claim's record is visible", || records(&*journal, 0).len() == 2);
    assert!(old.append(crate::journal::Batch::default()).and_then(|()| old.commit()).is_err(), "the old claim stays dead");
}

pub fn a_later_claim_fences_commit<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let batch = judge(&*journal, 0, &journal.proposals(0, 0, 10).unwrap());
    let mut old = journal.claim(0).unwrap();
    old.append(batch).unwrap();
    let _new = journal.claim(0).unwrap();
    assert!(matches!(old.commit(), Err(AppendError::Fenced)));
    assert_eq!(records(&*journal, 0).len(), 1);
    assert!(journal.verdicts(0, 0, 10).unwrap().items.is_empty());
}

pub fn partitions_are_independent<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for p in 0..2 {
        propose(&*journal, p, create(&key_in(&*journal, p, 0), "same id"));
    }
    let mut zero = journal.claim(0).unwrap();
    let mut one = journal.claim(1).unwrap();
    zero.append(judge(&*journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    one.append(judge(&*journal, 1, &journal.proposals(1, 0, 10).unwrap())).unwrap();
    one.commit().unwrap();
    eventually("the record of one is visible", || records(&*journal, 1).len() == 2);
    assert_eq!(records(&*journal, 0).len(), 1, "and the other's is not");
    zero.commit().unwrap();
    eventually("now it is", || records(&*journal, 0).len() == 2);
    assert_eq!(records(&*journal, 2).len(), 1);
}

pub fn records_are_paged_in_one_order<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for n in 0..30 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &n.to_string()));
    }
    settle(&*journal, 0, 0);
    eventually("all are visible", || records(&*journal, 0).len() == 31);
    let whole = records(&*journal, 0);
    assert!(whole.is_sorted_by(|a, b| a.offset < b.offset));
    let (mut paged, mut from) = (Vec::new(), 0);
    while paged.len() < whole.len() {
        let chunk = journal.records(0, from, 7).unwrap();
        assert!(chunk.items.len() <= 7);
        assert!(chunk.next > from, "a page goes on");
        paged.extend(chunk.items);
        from = chunk.next;
    }
    assert_eq!(paged, whole);
    let end = journal.end(0).unwrap();
    assert!(end > whole[30].offset && from <= end);
    assert!(journal.records(0, end, 7).unwrap().items.is_empty());
    let middle = journal.records(0, whole[12].offset, 1).unwrap();
    assert_eq!(middle.items, whole[12..13]);
}

/// Told verdicts that are not of accepted proposals: a journal may leave those to the records.
fn refusals(journal: &dyn Journal, from: u64, max: usize) -> (Vec<Verdict>, u64) {
    let chunk = journal.verdicts(0, from, max).unwrap();
    (chunk.items.into_iter().filter(|v| !matches!(v.outcome, Outcome::Accepted(_))).collect(), chunk.next)
}

pub fn verdicts_are_paged_and_found_by_source_and_id<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    for n in 0..9 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &format!("id {n}")));
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &format!("again {n}"))); // refused: it exists
    }
    settle(&*journal, 0, 0);
    eventually("all are told", || refusals(&*journal, 0, 100).0.len() == 9);
    let (whole, end) = refusals(&*journal, 0, 100);
    assert!(end <= journal.verdicts_end(0).unwrap());
    let (mut paged, mut from) = (Vec::new(), 0);
    while from < end {
        let (items, next) = refusals(&*journal, from, 4);
        assert!(items.len() <= 4 && next > from);
        paged.extend(items);
        from = next;
    }
    assert_eq!(paged, whole);
    assert!(journal.verdicts(0, end, 4).unwrap().items.is_empty());
    let (partition, found) = journal.verdict("/suite", "again 4").unwrap().unwrap();
    assert_eq!((partition, &found), (0, &whole[4]));
    assert!(matches!(found.outcome, Outcome::Refused(_)));
    assert_eq!(journal.verdict("/suite", "id 99").unwrap(), None);
    assert_eq!(journal.verdict("/other", "again 4").unwrap(), None);
    // a retry of an accepted one is told; the last verdict is the one that is found
    propose(&*journal, 0, create(&key_in(&*journal, 0, 4), "id 4"));
    settle(&*journal, 0, 18);
    eventually("the retry is told", || journal.verdict("/suite", "id 4").unwrap().is_some_and(|(_, v)| v.src == 18));
    let (_, retried) = journal.verdict("/suite", "id 4").unwrap().unwrap();
    assert!(matches!(retried.outcome, Outcome::Duplicate(_)));
}

pub fn a_wait_misses_no_proposal<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let long = Duration::from_secs(60);
    let start = Instant::now();
    propose(&*journal, 0, create("default/a", "before")); // before the wait: it must not begin
    journal.wait(0, long);
    for n in 0..200 {
        let proposer = {
            let journal = kit.journal();
            std::thread::spawn(move || propose(&*journal, 0, create("default/a", &n.to_string())))
        };
        while journal.proposals(0, n + 1, 1).unwrap().is_empty() {
            journal.wait(0, long);
        }
        proposer.join().unwrap();
    }
    assert!(start.elapsed() < long, "a wake-up was lost");
}

pub fn a_wait_ends_by_itself<K: Kit>() {
    let kit = K::fresh();
    let start = Instant::now();
    kit.journal().wait(0, Duration::from_millis(20));
    assert!(start.elapsed() < Duration::from_secs(20));
}

pub fn settled_until_stays_behind_what_waits<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let before = journal.settled_until(0);
    let src = propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let at = journal.proposals(0, src, 1).unwrap()[0].at;
    assert!(before <= at, "nothing may come before what was called settled");
    assert!(journal.settled_until(0) <= at, "it has no verdict yet");
    settle(&*journal, 0, 0);
    eventually("time passes", || journal.settled_until(0) >= at);
    let after = journal.settled_until(0);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 1), "b"));
    assert!(journal.proposals(0, src + 1, 1).unwrap()[0].at >= after);
}

pub fn what_was_visible_is_there_after_a_restart<K: Kit>() {
    let mut kit = K::fresh();
    let journal = kit.journal();
    let id = journal.id().to_owned();
    for n in 0..5 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &n.to_string()));
    }
    settle(&*journal, 0, 0);
    eventually("all are visible", || records(&*journal, 0).len() == 6);
    let (before, told, last) = (records(&*journal, 0), journal.verdicts(0, 0, 100).unwrap().items, journal.settled_until(0));
    drop(journal);
    kit.restart();
    let journal = kit.journal();
    assert_eq!(journal.id(), id);
    assert_eq!(records(&*journal, 0), before);
    assert_eq!(journal.verdicts(0, 0, 100).unwrap().items, told);
    let src = propose(&*journal, 0, create(&key_in(&*journal, 0, 5), "5"));
    assert_eq!(src, 5, "offsets go on");
    let at = journal.proposals(0, 5, 1).unwrap()[0].at;
    assert!(at >= before[5].record.view().unwrap().recorded);
    assert!(last.0 > 0);
    settle(&*journal, 0, 5);
    eventually("the next one follows", || fold(&*journal, 0).last_seq() == Some(6));
}
