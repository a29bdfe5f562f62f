//! What must be true of a finished run: judged from its history alone, by an oracle of its own.
//!
//! The oracle folds the proposals one by one, in the order of the log, without batches, claims or
//! transactions. Whatever went wrong in between, the journal must read as if it had written it.

use std::collections::BTreeMap;
use std::fmt;

use annals_events::ledger::{self, Ledger};
use annals_events::record::{Hash, Record};
use annals_events::rule::Judged;
use annals_events::time::Timestamp;
use annals_events::verdict::{Outcome, Verdict};

use super::EPOCH;
use super::ears::Heard;
use crate::arbiter::Status;
use crate::journal::Queued;

/// A finished run.
#[derive(Clone, Debug)]
pub struct History {
    /// The partitions.
    pub partitions: Vec<PartitionHistory>,
    /// Every arbiter that ever lived.
    pub lives: Vec<Heard>,
    /// Whether claims fence: then nothing may be in the log twice or late.
    pub fenced: bool,
    /// Whether transactions were repeated on purpose.
    pub repeats: bool,
    /// Whether somebody else wrote a record: the proposals before it may have no verdict then.
    pub intruded: bool,
    /// Set if it did not come to rest.
    pub stuck: Option<String>,
}

/// One partition of a finished run.
#[derive(Clone, Debug)]
pub struct PartitionHistory {
    /// What was proposed.
    pub proposals: Vec<Queued>,
    /// What a reader sees.
    pub records: Vec<Record>,
    /// What was told.
    pub verdicts: Vec<Verdict>,
    /// What became visible although its claim was fenced.
    pub late: Vec<String>,
    /// Times that a late commit ended a transaction that it was not meant for.
    pub misled: u32,
}

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// It comes to rest.
    Liveness,
    /// Nobody halts.
    NoHalt,
    /// Under rule R a reader gets the oracle's bytes.
    Stream,
    /// Every state is the oracle's.
    State,
    /// An arbiter tells the oracle's events, each once and in order.
    Tail,
    /// Every proposal has its outcome, which is the oracle's.
    Outcome,
    /// Every answer is true.
    Answer,
    /// No answer comes before its record is visible.
    ReadBack,
    /// Nothing of a fenced claim becomes visible.
    Fence,
    /// Behind a fence the log has neither copies nor orphans.
    Copies,
    /// Sequences are dense and time does not go back.
    Dense,
}

/// A broken rule, and how.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub check: Check,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.found)
    }
}

type Result<T = ()> = std::result::Result<T, Violation>;

fn fail<T>(check: Check, found: impl Into<String>) -> Result<T> {
    Err(Violation { check, found: found.into() })
}

/// What should have come out of a partition.
pub struct Expected {
    /// The events, in order.
    pub stream: Vec<Record>,
    /// The verdict on each proposal.
    pub verdicts: Vec<Verdict>,
    /// The state behind the last event.
    pub ledger: Ledger,
}

/// Judges a partition's proposals one by one.
pub fn oracle(partition: u32, partitions: u32, proposals: &[Queued]) -> Expected {
    let mut expected = Expected { stream: Vec::new(), verdicts: Vec::new(), ledger: Ledger::new(partition) };
    let opening = ledger::opening(partition, partitions, Timestamp(EPOCH));
    expected.ledger.apply(&opening).expect("the opening record is good");
    expected.stream.push(opening);
    for Queued { src, at, submission } in proposals {
        let (verdict, record) = expected.ledger.overlay().judge(*src, *at, submission);
        expected.verdicts.push(verdict);
        if let Some(record) = record {
            expected.ledger.apply(&record).expect("a record on top of its own ledger is good");
            expected.stream.push(record);
        }
    }
    expected
}

/// Finds the first rule that a finished run breaks.
pub fn check(history: &History) -> Result {
    let count = u32::try_from(history.partitions.len()).expect("a few partitions");
    let expected: Vec<_> = (0..count).zip(&history.partitions).map(|(n, p)| oracle(n, count, &p.proposals)).collect();
    for partition in &history.partitions {
        if partition.misled > 0 {
            return fail(Check::Fence, "a late commit ended a transaction that it was not meant for");
        }
        if history.fenced {
            check_fence(partition, history.repeats)?;
        }
    }
    for life in &history.lives {
        check_life(life, &expected[life.partition as usize])?;
    }
    for (partition, expected) in history.partitions.iter().zip(&expected) {
        check_stream(partition, expected)?;
        check_outcomes(partition, expected, history.intruded)?;
    }
    for life in &history.lives {
        check_end(life, &expected[life.partition as usize])?;
    }
    history.stuck.as_ref().map_or(Ok(()), |why| fail(Check::Liveness, why))
}

fn check_fence(partition: &PartitionHistory, repeats: bool) -> Result {
    if let Some(late) = partition.late.first() {
        return fail(Check::Fence, late);
    }
    let mut ledger = Ledger::new(0);
    for record in &partition.records {
        match ledger.apply(record) {
            Ok(Judged::Accepted) => {}
            Ok(Judged::Duplicate) if repeats => {}
            Ok(other) => return fail(Check::Copies, format!("{record:?} is a {other:?}")),
            Err(halt) => return fail(Check::NoHalt, format!("a reader halts: {halt}")),
        }
    }
    Ok(())
}

/// Reads the log under R and compares every byte; then the sequences by themselves.
fn check_stream(partition: &PartitionHistory, expected: &Expected) -> Result {
    let mut ledger = Ledger::new(expected.ledger.partition);
    let mut stream = Vec::new();
    for record in &partition.records {
        match ledger.apply(record) {
            Ok(Judged::Accepted) => stream.push(record),
            Ok(_) => {}
            Err(halt) => return fail(Check::NoHalt, format!("a reader halts: {halt}")),
        }
    }
    check_dense(&stream)?;
    for (index, (found, wanted)) in stream.iter().zip(&expected.stream).enumerate() {
        if found.frame() != wanted.frame() {
            return fail(Check::Stream, format!("seq {index} is {found:?}, and should be {wanted:?}"));
        }
    }
    if stream.len() != expected.stream.len() {
        return fail(Check::Stream, format!("there are {} events, and should be {}", stream.len(), expected.stream.len()));
    }
    if ledger == expected.ledger { Ok(()) } else { fail(Check::State, "a fresh reader has another state than the oracle") }
}

fn check_dense(stream: &[&Record]) -> Result {
    let mut models = BTreeMap::<String, u64>::new();
    let mut time = Timestamp(i64::MIN);
    for (seq, record) in (0..).zip(stream) {
        let view = record.view().or_else(|e| fail(Check::Dense, e.to_string()))?;
        let last = models.entry(view.key.to_owned()).or_default();
        let engine = matches!(view.kind, annals_events::kind::Kind::JournalOpened | annals_events::kind::Kind::ProposalRefused);
        let next = *last + u64::from(!engine);
        if view.seq != seq || view.modelseq != next || view.recorded < time {
            return fail(Check::Dense, format!("{record:?}: seq {seq}, modelseq {next}, not before {time} was expected"));
        }
        (*last, time) = (next, view.recorded);
    }
    Ok(())
}

fn check_outcomes(partition: &PartitionHistory, expected: &Expected, intruded: bool) -> Result {
    let mut judged = vec![false; partition.proposals.len()];
    for verdict in &partition.verdicts {
        let src = usize::try_from(verdict.src).unwrap_or(usize::MAX);
        match expected.verdicts.get(src) {
            Some(right) if right == verdict => judged[src] = true,
            Some(right) => return fail(Check::Outcome, format!("the journal says {verdict:?}, and right is {right:?}")),
            None => return fail(Check::Outcome, format!("a verdict on a proposal that nobody made: {verdict:?}")),
        }
    }
    match judged.iter().position(|j| !j) {
        Some(src) if !intruded => fail(Check::Outcome, format!("the proposal {src} has no verdict; right is {:?}", expected.verdicts[src])),
        _ => Ok(()),
    }
}

/// What an arbiter said, whenever it died.
fn check_life(life: &Heard, expected: &Expected) -> Result {
    let name = &life.name;
    if let Some(early) = life.early.first() {
        return fail(Check::ReadBack, format!("{name}: {early}"));
    }
    if let Status::Halted(why) = &life.status {
        return fail(Check::NoHalt, format!("{name} halts: {why}"));
    }
    let hash_at = |seq: u64| expected.stream.get(usize::try_from(seq).ok()?).map(Record::hash);
    let mut last = None::<u64>;
    for (seq, hash, answer) in &life.events {
        if last.is_some_and(|last| last + 1 != *seq) {
            return fail(Check::Tail, format!("{name} told of seq {seq} behind {last:?}"));
        }
        if hash_at(*seq) != Some(*hash) {
            return fail(Check::Answer, format!("{name} told of seq {seq} with a hash that the journal does not have there"));
        }
        check_answer(name, answer, expected)?;
        last = Some(*seq);
    }
    life.told.iter().try_for_each(|verdict| match expected.verdicts.get(usize::try_from(verdict.src).unwrap_or(usize::MAX)) {
        Some(right) if right == verdict => Ok(()),
        right => fail(Check::Answer, format!("{name} told {verdict:?}, and right is {right:?}")),
    })
}

/// An event's caller was told a place: it must be the one of its verdict.
fn check_answer(name: &str, answer: &Verdict, expected: &Expected) -> Result {
    let Some(right) = usize::try_from(answer.src).ok().and_then(|src| expected.verdicts.get(src)) else { return Ok(()) };
    let refusal_that_mattered = answer.source == ledger::SOURCE && !matches!(right.outcome, Outcome::Accepted(_));
    if right == answer || refusal_that_mattered {
        return Ok(());
    }
    fail(Check::Answer, format!("{name} answered {answer:?}, and right is {right:?}"))
}

/// Who lived until the end must have come as far as the journal.
fn check_end(life: &Heard, expected: &Expected) -> Result {
    let Some(ledger) = &life.ledger else { return Ok(()) };
    let (last, hash): (_, Hash) = (ledger.last_seq(), ledger.last_hash());
    if *ledger != expected.ledger {
        let wanted = (expected.ledger.last_seq(), expected.ledger.last_hash());
        return fail(Check::State, format!("{} ends at {last:?} {hash}, and should at {wanted:?}", life.name));
    }
    match life.events.last() {
        Some((seq, ..)) if Some(*seq) != last => fail(Check::Tail, format!("{} told of nothing behind seq {seq}", life.name)),
        _ => Ok(()),
    }
}
