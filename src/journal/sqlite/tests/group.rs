//! Group commit: who waits is written together, and one bad batch harms itself only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{OnDisk, judge};
use crate::journal::suite::{Kit, create, eventually, key_in, propose};
use crate::journal::{AppendError, Batch, Journal};

/// Commits a new model in each partition, all while the writer is held; returns their outcomes.
fn commit_together(kit: &OnDisk, meanwhile: impl FnOnce()) -> Vec<Result<(), AppendError>> {
    let writer = Arc::clone(&kit.sqlite().engine.as_ref().unwrap().writer);
    let committers: Vec<_> = (0..3)
        .map(|p| {
            let journal = kit.journal();
            let src = propose(&*journal, p, create(&key_in(&*journal, p, 0), "together"));
            let mut claim = journal.claim(p).unwrap();
            claim.append(judge(&*journal, p, &journal.proposals(p, src, 1).unwrap())).unwrap();
            claim
        })
        .collect();
    meanwhile();
    let mut threads = Vec::new();
    writer
        .alone(|_| {
            threads.extend(committers.into_iter().map(|mut claim| std::thread::spawn(move || claim.commit())));
            eventually("all three wait", || writer.waiting() == 3);
            Ok(())
        })
        .unwrap();
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

#[test]
fn batches_that_wait_share_one_transaction() {
    let kit = OnDisk::fresh();
    let commits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    kit.sqlite().engine.as_ref().unwrap().writer.connection().commit_hook(Some(count)).unwrap();
    assert!(commit_together(&kit, || {}).iter().all(Result::is_ok));
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    assert!((0..3).all(|p| kit.sqlite().end(p).unwrap() == 2));
}

#[test]
fn a_bad_batch_in_a_group_harms_itself_only() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    let taken = crate::journal::Queued {
        src: 9,
        at: annals_events::time::Timestamp(1_800_000_000_000),
        submission: create(&key_in(journal, 1, 7), "an intruder's"),
    };
    // written when all have judged, and before any is committed
    let forged = judge(journal, 1, &[taken]).records.remove(0);
    let outcomes = commit_together(&kit, || kit.forge(1, &forged));
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(AppendError::Failed(why)) if why.contains("something else")), "{:?}", outcomes[1]);
    assert_eq!((journal.end(0).unwrap(), journal.end(2).unwrap()), (2, 2));
}

#[test]
fn a_claim_fences_a_batch_that_waits_for_a_leader() {
    let kit = OnDisk::fresh();
    let journal = kit.journal();
    let writer = Arc::clone(&kit.sqlite().engine.as_ref().unwrap().writer);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    let mut old = journal.claim(0).unwrap();
    old.append(judge(&*journal, 0, &journal.proposals(0, 0, 1).unwrap())).unwrap();
    let mut waiting = None;
    writer
        .alone(|_| {
            waiting = Some(std::thread::spawn(move || old.commit()));
            eventually("it waits", || writer.waiting() == 1);
            assert_eq!(writer.claim(0), Ok(2));
            Ok(())
        })
        .unwrap();
    assert!(matches!(waiting.unwrap().join().unwrap(), Err(AppendError::Fenced)));
    assert_eq!(journal.end(0).unwrap(), 1);
}

#[test]
fn what_somebody_else_wrote_between_ours_is_read_in_its_place() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    for n in 0..4 {
        propose(journal, 0, create(&key_in(journal, 0, n), &n.to_string()));
    }
    let queued = journal.proposals(0, 0, 10).unwrap();
    let mut batch = judge(journal, 0, &queued);
    let (mut claim, all) = (journal.claim(0).unwrap(), batch.records.clone());
    let last = batch.records.split_off(3);
    let foreign = batch.records.split_off(2).remove(0);
    claim.append(batch).unwrap();
    claim.commit().unwrap();
    kit.forge(0, &foreign);
    let seqs = |from| journal.records(0, from, 1).unwrap().items.into_iter().map(|found| found.offset).collect::<Vec<_>>();
    assert_eq!((seqs(2), seqs(3)), (vec![2], vec![3]), "also where the newest of ours end");
    claim.append(Batch { records: last, verdicts: Vec::new() }).unwrap();
    claim.commit().unwrap();
    let (mut found, mut from) = (Vec::new(), 1);
    while let Some(located) = journal.records(0, from, 1).unwrap().items.pop() {
        from = located.offset + 1;
        found.push(located.record);
    }
    assert_eq!(found, all);
}
