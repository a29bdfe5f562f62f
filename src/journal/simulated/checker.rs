//! What must be true of a finished run: judged from its history alone, by an oracle of its own.
//!
//! The oracle folds the proposals one by one, in the order of the log, without batches, claims or
//! transactions. Whatever went wrong in between, the journal must read as if it had written it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use annals_events::ledger::{self, Dispute, Ledger, Person};
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
    /// What somebody else wrote in between, and was disputed.
    pub disputed: Option<Disputed>,
    /// What a reader sees.
    pub records: Vec<Record>,
    /// What was told.
    pub verdicts: Vec<Verdict>,
    /// What became visible although its claim was fenced.
    pub late: Vec<String>,
    /// Times that a late commit ended a transaction that it was not meant for.
    pub misled: u32,
}

/// A record that nobody decided.
#[derive(Clone, Debug)]
pub struct Disputed {
    /// The record.
    pub record: Record,
    /// Who accepted it, if somebody did.
    pub accepted: Option<Person<'static>>,
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
    /// The verdicts on each proposal, by its offset: one, or with a disputed record in between two.
    pub verdicts: BTreeMap<u64, Vec<Verdict>>,
    /// The state behind the last event.
    pub ledger: Ledger,
    /// Places that nobody has to be told of: the disputed record's, and that of what says so.
    pub quiet: Range<u64>,
}

impl Expected {
    fn take(&mut self, record: Record) {
        self.ledger.apply(&record).expect("a record on top of its own ledger is good");
        self.stream.push(record);
    }

    fn judge(&mut self, queued: &Queued) {
        let (verdict, record) = self.ledger.overlay().judge(queued.src, queued.at, &queued.submission);
        self.verdicts.entry(queued.src).or_default().push(verdict);
        record.into_iter().for_each(|record| self.take(record));
    }

    fn has(&self, verdict: &Verdict) -> bool {
        self.verdicts.get(&verdict.src).is_some_and(|right| right.contains(verdict))
    }

    /// Whether judging stands still at the end.
    fn stands_still(&self) -> bool {
        self.ledger.halted().is_some()
    }

    /// The disputed record, what the owner leaves behind it, and a person's decision.
    fn dispute(&mut self, disputed: &Disputed) {
        let (resume, seq) = (self.ledger.next_src(), self.stream.len() as u64);
        self.take(disputed.record.clone());
        let reason = "not decided by the rules: somebody else wrote to the journal".into();
        let dispute = Dispute { seq, hash: disputed.record.hash(), reason };
        self.take(self.ledger.halting(&dispute, resume));
        self.quiet = seq..seq + 2;
        if let Some(person) = disputed.accepted {
            self.take(self.ledger.resuming(&dispute, person));
        }
    }
}

/// Judges a partition's proposals one by one.
pub fn oracle(partition: u32, partitions: u32, proposals: &[Queued]) -> Expected {
    oracle_with(partition, partitions, proposals, None)
}

fn oracle_with(partition: u32, partitions: u32, proposals: &[Queued], disputed: Option<&Disputed>) -> Expected {
    let mut expected = Expected { stream: Vec::new(), verdicts: BTreeMap::new(), ledger: Ledger::new(partition), quiet: 0..0 };
    expected.take(ledger::opening(partition, partitions, Timestamp(EPOCH)));
    let place = disputed.map(|d| d.record.view().expect("it is well formed").seq);
    let mut rest = proposals.iter();
    if let (Some(disputed), Some(place)) = (disputed, place) {
        while (expected.stream.len() as u64) < place {
            expected.judge(rest.next().expect("what lies before the disputed record came from proposals"));
        }
        // what was judged before it appeared, and left no record, is judged again behind it
        let mut before = Expected { stream: Vec::new(), verdicts: BTreeMap::new(), ledger: expected.ledger.clone(), quiet: 0..0 };
        for queued in rest.clone() {
            before.judge(queued);
            if !before.stream.is_empty() {
                break;
            }
            expected.verdicts.entry(queued.src).or_default().extend(before.verdicts.remove(&queued.src).unwrap_or_default());
        }
        expected.dispute(disputed);
    }
    if !expected.stands_still() {
        rest.for_each(|queued| expected.judge(queued));
    }
    expected
}

/// Finds the first rule that a finished run breaks.
pub fn check(history: &History) -> Result {
    let count = u32::try_from(history.partitions.len()).expect("a few partitions");
    let expected: Vec<_> =
        (0..count).zip(&history.partitions).map(|(n, p)| oracle_with(n, count, &p.proposals, p.disputed.as_ref())).collect();
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
        let engine = view.kind.about() == annals_events::kind::About::Engine;
        let next = *last + u64::from(!engine);
        if view.seq != seq || view.modelseq != next || view.recorded < time {
            return fail(Check::Dense, format!("{record:?}: seq {seq}, modelseq {next}, not before {time} was expected"));
        }
        (*last, time) = (next, view.recorded);
    }
    Ok(())
}

fn check_outcomes(partition: &PartitionHistory, expected: &Expected, intruded: bool) -> Result {
    let mut judged = BTreeSet::new();
    for verdict in &partition.verdicts {
        if !expected.has(verdict) {
            let right = expected.verdicts.get(&verdict.src);
            return fail(Check::Outcome, format!("the journal says {verdict:?}, and right is {right:?}"));
        }
        judged.insert(verdict.src);
    }
    match partition.proposals.iter().find(|q| !judged.contains(&q.src)) {
        Some(q) if !intruded => {
            fail(Check::Outcome, format!("the proposal {} has no verdict; right is {:?}", q.src, expected.verdicts.get(&q.src)))
        }
        _ => Ok(()),
    }
}

/// What an arbiter said, whenever it died.
fn check_life(life: &Heard, expected: &Expected) -> Result {
    let name = &life.name;
    if let Some(early) = life.early.first() {
        return fail(Check::ReadBack, format!("{name}: {early}"));
    }
    match &life.status {
        // who died before a person had decided was right to halt
        Status::Halted(_) if expected.stands_still() || (life.ledger.is_none() && !expected.quiet.is_empty()) => {}
        Status::Halted(why) => return fail(Check::NoHalt, format!("{name} halts: {why}")),
        other if expected.stands_still() && life.ledger.is_some() => {
            return fail(Check::NoHalt, format!("{name} goes on behind a disputed record: {other:?}"));
        }
        _ => {}
    }
    let hash_at = |seq: u64| expected.stream.get(usize::try_from(seq).ok()?).map(Record::hash);
    let mut last = None::<u64>;
    for (seq, hash, answer) in &life.events {
        let is_quiet = |from: u64| (from..*seq).all(|seq| expected.quiet.contains(&seq));
        if last.is_some_and(|last| last + 1 != *seq && !(last < *seq && is_quiet(last + 1))) {
            return fail(Check::Tail, format!("{name} told of seq {seq} behind {last:?}"));
        }
        if hash_at(*seq) != Some(*hash) {
            return fail(Check::Answer, format!("{name} told of seq {seq} with a hash that the journal does not have there"));
        }
        if !expected.quiet.contains(seq) {
            check_answer(name, answer, expected)?;
        }
        last = Some(*seq);
    }
    life.told.iter().try_for_each(|verdict| match expected.has(verdict) {
        true => Ok(()),
        false => fail(Check::Answer, format!("{name} told {verdict:?}, and right is {:?}", expected.verdicts.get(&verdict.src))),
    })
}

/// An event's caller was told a place: it must be the one of its verdict.
fn check_answer(name: &str, answer: &Verdict, expected: &Expected) -> Result {
    let Some(right) = expected.verdicts.get(&answer.src) else { return Ok(()) };
    // a refusal that mattered, or the partition's own record: whoever waits is told the verdict
    let is_the_engines = answer.source == ledger::SOURCE && right.iter().all(|right| !matches!(right.outcome, Outcome::Accepted(_)));
    if right.contains(answer) || is_the_engines {
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
        Some((seq, ..)) if Some(*seq) != last && !last.is_some_and(|last| expected.quiet.contains(&last)) => {
            fail(Check::Tail, format!("{} told of nothing behind seq {seq}", life.name))
        }
        _ => Ok(()),
    }
}
