//! The journal suite on the simulated journal, and what only a log with transactions has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annals_events::record::Record;

use super::super::log::Log;
use super::super::{Faults, Simulated, intrude};
use crate::journal::suite::{Kit, create, judge, key_in, propose, records, suite};
use crate::journal::{AppendError, Batch, Claim, Journal};

/// A journal in memory; a restart fences whoever wrote, as the coordinator would.
pub struct InMemory(Arc<Simulated>);

impl Kit for InMemory {
    fn fresh() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Simulated::new(&format!("simulated-{}", NUMBER.fetch_add(1, Ordering::Relaxed)), 3)))
    }

    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.0) as _
    }

    fn restart(&mut self) {
        for partition in &mut self.0.state().partitions {
            for number in partition.all_undecided() {
                partition.expire(number, false);
            }
        }
        let Simulated { id, partitions, state } = &*self.0;
        self.0 = Arc::new(Simulated { id: id.clone(), partitions: *partitions, state: Arc::clone(state) });
    }

    fn forge(&self, partition: u32, record: &Record) {
        intrude(&self.0, partition, record.clone());
    }

    fn empty(&self, partition: u32) {
        self.0.state().partitions[partition as usize].records = Log::default();
    }
}

suite!(InMemory);

/// A journal with a fault that always comes, and a batch for it.
fn failing(faults: Faults, fencing: bool) -> (Simulated, Batch) {
    let journal = Simulated::seeded("simulated", 1, 1, Faults::default(), fencing);
    propose(&journal, 0, create(&key_in(&journal, 0, 0), "a"));
    let batch = judge(&journal, 0, &journal.proposals(0, 0, 10).expect("no faults yet"));
    journal.state().faults = faults;
    (journal, batch)
}

/// Commits without an answer until the request hangs, on one claim after the other.
fn hanging(journal: &Simulated, batch: &Batch) -> Box<dyn Claim> {
    loop {
        let mut claim = journal.claim(0).expect("claims have no fault");
        claim.append(batch.clone()).expect("appends have no fault");
        assert!(matches!(claim.commit(), Err(AppendError::Unknown(_))));
        if !journal.state().partitions[0].all_undecided().is_empty() {
            return claim;
        }
    }
}

#[test]
fn readers_stop_at_the_first_open_transaction_and_skip_aborted_ones() {
    let (journal, batch) = failing(Faults::default(), false);
    let mut first = journal.claim(0).expect("no faults");
    let mut second = journal.claim(0).expect("no faults");
    first.append(batch.clone()).expect("no faults");
    second.append(batch.clone()).expect("no faults");
    second.commit().expect("no faults");
    assert_eq!(records(&journal, 0).len(), 1, "what lies behind the open transaction is not shown yet");
    assert_eq!(journal.end(0).expect("no faults"), 1);
    journal.state().partitions[0].expire(0, false);
    let found = records(&journal, 0);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].offset, 2, "the aborted record keeps its offset");
    assert!(matches!(first.commit(), Err(AppendError::Fenced)), "whoever ran out of time is fenced");
}

#[test]
fn an_unknown_commit_is_decided_by_the_next_claim_either_way() {
    let mut seen = [0, 0];
    for _ in 0..2 {
        let (journal, batch) = failing(Faults { unknown: 1000, ..Faults::default() }, true);
        for _ in 0..50 {
            let before = records(&journal, 0).len();
            let _claim = hanging(&journal, &batch);
            let hidden = records(&journal, 0).len();
            let _next = journal.claim(0).expect("claims have no fault");
            let after = records(&journal, 0).len();
            assert!(before <= hidden && hidden <= after && after <= hidden + 1);
            seen[after - hidden] += 1;
            assert!(journal.state().partitions[0].all_undecided().is_empty());
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10, "both ends are reached: {seen:?}");
}

#[test]
fn a_late_commit_hits_the_next_transaction_of_the_same_epoch_and_nothing_of_a_new_one() {
    let unknown = Faults { unknown: 1000, ..Faults::default() };
    // whoever goes on with the same claim has a transaction committed that it had not finished
    let (journal, batch) = failing(unknown.clone(), true);
    let mut claim = hanging(&journal, &batch);
    let before = records(&journal, 0).len();
    claim.append(batch.clone()).expect("the simulated client lets it go on, as librdkafka would");
    journal.state().partitions[0].deliver(true);
    assert_eq!(records(&journal, 0).len(), before + 1);
    assert_eq!(journal.state().partitions[0].misled, 1);

    // a new claim has a new epoch
    let (journal, batch) = failing(unknown, true);
    let _old = hanging(&journal, &batch);
    let mut claim = journal.claim(0).expect("claims have no fault");
    let before = records(&journal, 0).len();
    claim.append(batch).expect("appends have no fault");
    journal.state().partitions[0].deliver(true);
    assert_eq!(records(&journal, 0).len(), before, "what is open stays open");
    assert_eq!(journal.state().partitions[0].misled, 0);
}
