//! Verdicts that were never told: their events became visible without them.

use std::collections::{BTreeSet, HashMap};

use annals_events::model::Decided;
use annals_events::record::{Hash, Record};
use annals_events::verdict::Verdict;

use super::Batch;

/// Whether the records say all that the verdicts do.
pub fn is_told_by_its_records(batch: &Batch) -> bool {
    let mut both = batch.records.iter().zip(&batch.verdicts);
    batch.records.len() == batch.verdicts.len() && both.all(|(record, verdict)| told_by(record).as_ref() == Some(verdict))
}

/// What a record says by itself of the proposal that it came from.
fn told_by(record: &Record) -> Option<Verdict> {
    let view = record.view().ok()?;
    Verdict::of_event(&view, Decided::parse(view.kind, view.decided).ok()?.version())
}

/// The verdicts of the events from `head` backwards on whose proposal nothing was told. `since` is the first proposal
/// of which that can be known. The chain shows which of the newest records are events; what was imported came from
/// another journal's proposals, and what was disputed from none, whatever it says.
pub fn owed(newest: impl IntoIterator<Item = Record>, head: Hash, told: &BTreeSet<u64>, since: u64) -> Vec<Verdict> {
    let newest: HashMap<Hash, Record> = newest.into_iter().map(|record| (record.hash(), record)).collect();
    let (mut owed, mut disputed, mut at) = (Vec::new(), None, head);
    while let Some(record) = newest.get(&at)
        && let Ok(view) = record.view()
        && let Ok(decided) = Decided::parse(view.kind, view.decided)
    {
        at = view.prevhash;
        match &decided {
            Decided::JournalContinued(_) => break,
            Decided::PartitionHalted(halted) => disputed = Some(halted.hash),
            _ if disputed == Some(record.hash()) => {}
            _ if view.src.is_some_and(|src| src < since) => break,
            _ => owed.extend(Verdict::of_event(&view, decided.version()).filter(|verdict| !told.contains(&verdict.src))),
        }
    }
    owed.reverse();
    owed
}
