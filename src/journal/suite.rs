//! The contract as tests: one suite for every journal. `suite!(MyKit)` makes a test of each rule.

pub mod arbiter;
pub mod rules;

use std::sync::Arc;
use std::time::{Duration, Instant};

use annals_events::ledger::Ledger;
use annals_events::names::partition_of;
use annals_events::record::Record;
use annals_events::rule::Judged;
use annals_events::submission::Submission;

use super::{Batch, Journal, Located, Queued};

/// A journal to be tested, without faults: partitions opened by their `seq` 0, nothing else in it.
pub trait Kit: Sized {
    /// Whether a commit may come into sight piece by piece, since its logs are read one by one.
    const GROWS: bool = false;

    /// A new journal of 3 partitions.
    fn fresh() -> Self;

    /// The journal. Whoever calls must drop it before a restart.
    fn journal(&self) -> Arc<dyn Journal>;

    /// Ends the process that held the journal, without a goodbye where that can be done, and starts
    /// another one.
    fn restart(&mut self);

    /// Writes a record into the log behind the arbiter's back, visible at once.
    fn forge(&self, partition: u32, record: &Record);

    /// Takes all records out of a partition.
    fn empty(&self, partition: u32);
}

/// Makes a test of every rule for a [`Kit`].
macro_rules! suite {
    ($kit:ty: $($module:ident { $($rule:ident)* })*) => {
        $(mod $module {
            #[allow(unused_imports)] // a kit may be named from the module around
            use super::*;
            $(#[test]
            fn $rule() {
                crate::journal::suite::$module::$rule::<$kit>();
            })*
        })*
    };
    ($kit:ty) => {
        crate::journal::suite::suite! { $kit:
            rules {
                a_new_journal_holds_the_opening_record_of_every_partition
                offsets_grow_by_one_from_zero_and_times_never_go_back
                what_is_appended_is_invisible_until_it_is_committed
                records_and_verdicts_of_a_commit_become_visible_together
                a_claim_that_was_dropped_leaves_nothing
                a_later_claim_fences_append
                a_later_claim_fences_commit
                partitions_are_independent
                records_are_paged_in_one_order
                verdicts_are_paged_and_found_by_source_and_id
                a_proposal_is_found_by_its_offset_at_once
                a_wait_misses_no_proposal
                a_wait_ends_by_itself
                settled_until_stays_behind_what_waits
                what_was_visible_is_there_after_a_restart
            }
            arbiter {
                a_proposal_is_accepted_and_read_back
                a_retry_is_a_duplicate_and_other_content_is_refused
                refusals_are_told_and_those_that_matter_are_records
                after_a_restart_it_goes_on_with_the_same_chain
                a_takeover_judges_what_was_left
                an_emptied_partition_halts
                a_forged_record_halts
                a_halt_outlives_a_restart_until_a_person_accepts_the_record
                a_decision_about_what_is_not_so_is_refused
                a_large_backlog_is_judged_in_order
            }
        }
    };
}
pub(crate) use suite;

/// A proposal to create this model.
pub fn create(key: &str, id: &str) -> Submission {
    submission(key, id, "dev.annals.model.created.v1", "{}")
}

/// A proposal in binary mode.
pub fn submission(subject: &str, id: &str, kind: &str, data: &str) -> Submission {
    let key = subject.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    Submission {
        key: Some(key.into_bytes()),
        headers: vec![
            header("content-type", "application/json"),
            header("ce_specversion", "1.0"),
            header("ce_id", id),
            header("ce_source", "/suite"),
            header("ce_type", kind),
            header("ce_subject", subject),
        ],
        value: data.as_bytes().to_vec(),
    }
}

/// The `n`th model key that belongs into a partition.
pub fn key_in(journal: &dyn Journal, partition: u32, n: usize) -> String {
    let mut keys = (0..).map(|i| format!("default/m{i}")).filter(|key| partition_of(key, journal.partitions()) == partition);
    keys.nth(n).expect("murmur2 reaches every partition")
}

/// Proposes, and returns the offset.
pub fn offer(journal: &dyn Journal, partition: u32, submission: Submission) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(journal.propose(partition, submission)).expect("a kit has no faults")
}

/// Proposes, waits until the proposal can be read, and returns its offset.
pub fn propose(journal: &dyn Journal, partition: u32, submission: Submission) -> u64 {
    let src = offer(journal, partition, submission);
    eventually("the proposal can be read", || !journal.proposals(partition, src, 1).unwrap().is_empty());
    src
}

/// All records of a partition.
pub fn records(journal: &dyn Journal, partition: u32) -> Vec<Located> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let chunk = journal.records(partition, from, 1_000).unwrap();
        if chunk.items.is_empty() && chunk.next == from {
            return all;
        }
        all.extend(chunk.items);
        from = chunk.next;
    }
}

/// The fold of a partition; every record must be accepted or a copy.
pub fn fold(journal: &dyn Journal, partition: u32) -> Ledger {
    let mut ledger = Ledger::new(partition);
    for located in records(journal, partition) {
        let judged = ledger.apply(&located.record).unwrap();
        assert_ne!(judged, Judged::Orphan, "{:?}", located.record);
    }
    ledger
}

/// What an arbiter would append for these proposals.
pub fn judge(journal: &dyn Journal, partition: u32, queued: &[Queued]) -> Batch {
    let mut ledger = fold(journal, partition);
    let mut overlay = ledger.overlay();
    let mut batch = Batch::default();
    for proposal in queued {
        let (verdict, record) = overlay.judge(proposal.src, proposal.at, &proposal.submission);
        batch.verdicts.push(verdict);
        batch.records.extend(record);
    }
    batch
}

/// Waits until something is so, for as long as a slow machine may take.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "did not happen within 30 s: {what}");
        std::thread::yield_now();
    }
}
