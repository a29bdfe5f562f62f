//! The real arbiter, stepped on a journal without faults.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annals_events::ledger::{Ledger, Person};
use annals_events::model::Decided;
use annals_events::record::{Hash, View};
use annals_events::time::Timestamp;
use annals_events::verdict::{Code, Outcome, Verdict};

use super::{Kit, create, eventually, fold, judge, key_in, propose, records, submission};
use crate::arbiter::resume::{Decision, ResumeError, resume};
use crate::arbiter::snapshot::{Snapshot, Snapshots};
use crate::arbiter::{Arbiter, Listener, Status, Step};
use crate::journal::{Journal, Located, Queued};

/// What an arbiter told.
#[derive(Default)]
struct Heard {
    accepted: Vec<Hash>,
    told: Vec<Verdict>,
    status: Option<Status>,
}

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Heard>>);

impl Ear {
    fn owns(&self) -> bool {
        self.0.lock().unwrap().status == Some(Status::Owner)
    }

    /// Acceptances, and other verdicts: a journal may leave those of accepted proposals out.
    fn outcomes(&self) -> usize {
        let heard = self.0.lock().unwrap();
        heard.accepted.len() + heard.others().len()
    }
}

impl Heard {
    fn others(&self) -> Vec<&Verdict> {
        self.told.iter().filter(|v| !matches!(v.outcome, Outcome::Accepted(_))).collect()
    }
}

impl Listener for Ear {
    fn accepted(&mut self, located: &Located, _: &View<'_>, decided: &Decided) {
        if matches!(decided, Decided::ProposalRefused(_)) {
            return; // its verdict is told
        }
        self.0.lock().unwrap().accepted.push(located.record.hash());
    }

    fn told(&mut self, verdict: &Verdict) {
        self.0.lock().unwrap().told.push(verdict.clone());
    }

    fn moved(&mut self, _: &Ledger, status: &Status) {
        self.0.lock().unwrap().status = Some(status.clone());
    }
}

struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn save(&self, _: Snapshot) -> std::io::Result<()> {
        Ok(())
    }

    fn kept(&self, _: u32) -> Vec<Snapshot> {
        Vec::new()
    }
}

fn start(journal: Arc<dyn Journal>, partition: u32) -> (Arbiter, Ear) {
    let ear = Ear::default();
    let mut arbiter = Arbiter::new(journal, partition, Box::new(ear.clone()), Arc::new(NoSnapshots));
    arbiter.want(true);
    (arbiter, ear)
}

/// Steps until it has halted, or has nothing to do and `is_so`: a journal may show things a while later.
fn run_until(arbiter: &mut Arbiter, what: &str, mut is_so: impl FnMut(&Arbiter) -> bool) -> Step {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match arbiter.step() {
            Step::Worked => {}
            Step::Idle if is_so(arbiter) => return Step::Idle,
            Step::Idle => arbiter.wait(Duration::from_millis(20)),
            step => return step,
        }
        assert!(Instant::now() < deadline, "did not happen within 60 s: {what}");
    }
}

/// Steps until it owns the partition and has told so many verdicts and acceptances.
fn run(arbiter: &mut Arbiter, ear: &Ear, outcomes: usize) -> Step {
    run_until(arbiter, "it has told everything", |_| ear.outcomes() >= outcomes && ear.owns())
}

fn halted_with(ear: &Ear) -> String {
    match &ear.0.lock().unwrap().status {
        Some(Status::Halted(reason)) => reason.clone(),
        other => panic!("expected a halt, and it is {other:?}"),
    }
}

pub fn a_proposal_is_accepted_and_read_back<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    assert_eq!(run(&mut arbiter, &ear, 0), Step::Idle);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    assert_eq!(run(&mut arbiter, &ear, 1), Step::Idle);
    let found = records(&*journal, 0);
    assert_eq!(found.len(), 2);
    assert_eq!(ear.0.lock().unwrap().accepted, [found[1].record.hash()]);
    assert_eq!(*arbiter.ledger(), fold(&*journal, 0));
    let view = found[1].record.view().unwrap();
    assert_eq!((view.id, view.seq, view.modelseq, view.src), ("a", 1, 1, Some(0)));
}

pub fn a_retry_is_a_duplicate_and_other_content_is_refused<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    let key = key_in(&*journal, 0, 0);
    propose(&*journal, 0, create(&key, "a"));
    run(&mut arbiter, &ear, 1);
    propose(&*journal, 0, create(&key, "a"));
    propose(&*journal, 0, submission(&key, "a", "dev.annals.model.created.v1", "{\"policy\":\"open\"}"));
    run(&mut arbiter, &ear, 3);
    assert_eq!(records(&*journal, 0).len(), 2, "one event");
    let heard = ear.0.lock().unwrap();
    let told = heard.others();
    assert!(matches!(&told[0].outcome, Outcome::Duplicate(place) if place.seq == 1));
    assert!(matches!(&told[1].outcome, Outcome::Refused(refusal) if refusal.code == Code::IdConflict));
}

pub fn refusals_are_told_and_those_that_matter_are_records<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    let key = key_in(&*journal, 0, 0);
    run(&mut arbiter, &ear, 0);
    propose(&*journal, 0, submission(&key, "n", "dev.annals.no.such.v1", "{}"));
    propose(&*journal, 0, submission(&format!("{key}/1"), "p", "dev.annals.version.promoted.v1", "{\"channel\":\"production\"}"));
    run(&mut arbiter, &ear, 2);
    let heard = ear.0.lock().unwrap();
    assert!(matches!(heard.told[0].outcome, Outcome::Malformed(_)));
    assert!(matches!(heard.told[1].outcome, Outcome::Refused(_)));
    let found = records(&*journal, 0);
    assert_eq!(found.len(), 2, "the refused promotion is history");
    assert_eq!(found[1].record.view().unwrap().src, Some(1));
}

pub fn after_a_restart_it_goes_on_with_the_same_chain<K: Kit>() {
    let mut kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    for n in 0..10 {
        propose(&*journal, 0, create(&key_in(&*journal, 0, n), &n.to_string()));
        run(&mut arbiter, &ear, n + 1);
    }
    propose(&*journal, 0, create(&key_in(&*journal, 0, 2), "refused, and last"));
    run(&mut arbiter, &ear, 11);
    let (before, state) = (records(&*journal, 0), arbiter.ledger().clone());
    drop((journal, arbiter));
    kit.restart();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    run(&mut arbiter, &ear, 0);
    assert_eq!(*arbiter.ledger(), state);
    assert_eq!(records(&*journal, 0), before, "byte for byte");
    assert!(ear.0.lock().unwrap().accepted.is_empty(), "nobody waits for what was before");
    propose(&*journal, 0, create(&key_in(&*journal, 0, 10), "next"));
    propose(&*journal, 0, create(&key_in(&*journal, 0, 3), "3"));
    run_until(&mut arbiter, "both are told", |_| {
        ear.0.lock().unwrap().accepted.len() == 1 && ear.0.lock().unwrap().others().iter().any(|v| v.id == "3")
    });
    let after = records(&*journal, 0);
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[11].record.view().unwrap().prevhash, before[10].record.hash());
    let (_, retry) = journal.verdict("/suite", "3").unwrap().unwrap();
    assert!(matches!(retry.outcome, Outcome::Duplicate(_)));
}

pub fn a_takeover_judges_what_was_left<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let (mut first, first_ear) = start(kit.journal(), 0);
    run(&mut first, &first_ear, 0);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    assert_eq!(first.step(), Step::Worked, "judged and appended, not committed");
    let (mut second, ear) = start(kit.journal(), 0);
    assert_eq!(run(&mut second, &ear, 1), Step::Idle);
    assert_eq!(records(&*journal, 0).len(), 2);
    assert_eq!(ear.0.lock().unwrap().accepted.len(), 1);
    assert_eq!(first.step(), Step::Troubled, "its commit is fenced");
    first.want(false);
    run_until(&mut first, "it has folded what the other wrote", |first| first.ledger().last_seq() == Some(1));
    assert_eq!(records(&*journal, 0).len(), 2, "decided once");
    assert_eq!(first.ledger(), second.ledger());
}

pub fn an_emptied_partition_halts<K: Kit>() {
    let kit = K::fresh();
    kit.empty(0);
    let (mut arbiter, ear) = start(kit.journal(), 0);
    assert_eq!(run_until(&mut arbiter, "it has halted", |_| false), Step::Halted);
    assert!(halted_with(&ear).contains("empt"), "{}", halted_with(&ear));
}

pub fn a_forged_record_halts<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    run(&mut arbiter, &ear, 0);
    // well formed and well chained, but about a proposal that nobody made
    let made_up = Queued { src: 0, at: Timestamp(1_800_000_000_000), submission: create(&key_in(&*journal, 0, 0), "forged") };
    let batch = judge(&*journal, 0, &[made_up]);
    kit.forge(0, &batch.records[0]);
    assert_eq!(run_until(&mut arbiter, "it has halted", |_| false), Step::Halted);
    assert!(halted_with(&ear).contains("somebody else"), "{}", halted_with(&ear));
    assert!(ear.0.lock().unwrap().accepted.is_empty());
}

/// Forges a record while an arbiter owns the partition, and lets it halt. Returns the forged record's
/// place and hash.
fn forge_and_halt<K: Kit>(kit: &K, arbiter: &mut Arbiter, ear: &Ear) -> (u64, Hash) {
    let journal = kit.journal();
    let made_up = Queued { src: 7, at: Timestamp(1_800_000_000_000), submission: create(&key_in(&*journal, 0, 9), "forged") };
    let batch = judge(&*journal, 0, &[made_up]);
    let seq = batch.records[0].view().unwrap().seq;
    kit.forge(0, &batch.records[0]);
    assert_eq!(run_until(arbiter, "it halts", |_| false), Step::Halted, "{:?}", ear.0.lock().unwrap().status);
    assert!(halted_with(ear).contains(&format!("--accept {seq}:{}", batch.records[0].hash())), "{}", halted_with(ear));
    (seq, batch.records[0].hash())
}

const ADA: Person<'static> = Person { actor: "unverified:ada", reason: Some("it is ours"), time: "2027-02-01T00:00:00Z" };

pub fn a_halt_outlives_a_restart_until_a_person_accepts_the_record<K: Kit>() {
    let mut kit = K::fresh();
    let journal = kit.journal();
    let (mut arbiter, ear) = start(kit.journal(), 0);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    run(&mut arbiter, &ear, 1);
    let (seq, hash) = forge_and_halt(&kit, &mut arbiter, &ear);
    eventually("the journal says so", || fold(&*journal, 0).halted().is_some_and(|found| (found.seq, found.hash) == (seq, hash)));
    assert_eq!(arbiter.step(), Step::Halted);
    drop((journal, arbiter));
    kit.restart();
    let journal = kit.journal();
    let (mut arbiter, _) = start(kit.journal(), 0);
    assert_eq!(run_until(&mut arbiter, "it is halted again", |_| false), Step::Halted);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 1), "b"));
    assert_eq!(arbiter.step(), Step::Halted, "nothing is judged");

    let done = resume(&*journal, 0, Decision::Accept { seq, hash }, ADA).unwrap();
    assert_eq!((done.seq, done.next, done.accepted.len()), (seq + 2, 1, 2));
    assert_eq!(fold(&*journal, 0).halted(), None);
    // the same arbiter goes on, with the proposal that no record has answered
    eventually("it goes on", || arbiter.step() != Step::Halted);
    let judged = |arbiter: &Arbiter| arbiter.ledger().last_seq() == Some(seq + 3);
    assert_eq!(run_until(&mut arbiter, "the proposal is judged", judged), Step::Idle);
    let last = records(&*journal, 0).pop().unwrap().record;
    assert_eq!((last.view().unwrap().id, last.view().unwrap().seq, last.view().unwrap().src), ("b", seq + 3, Some(1)));
    assert_eq!(*arbiter.ledger(), fold(&*journal, 0));
}

pub fn a_decision_about_what_is_not_so_is_refused<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let refused = |decision: Decision, words: &str| {
        let end = journal.end(0).unwrap();
        match resume(&*journal, 0, decision, ADA) {
            Err(ResumeError::Refused(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{decision:?}: {other:?}"),
        }
        assert_eq!(journal.end(0).unwrap(), end, "nothing is written");
    };
    let (mut arbiter, ear) = start(kit.journal(), 0);
    propose(&*journal, 0, create(&key_in(&*journal, 0, 0), "a"));
    run(&mut arbiter, &ear, 1);
    refused(Decision::Accept { seq: 1, hash: fold(&*journal, 0).last_hash() }, "is not halted");
    refused(Decision::SkipTo(3), "has no gap");
    let (seq, hash) = forge_and_halt(&kit, &mut arbiter, &ear);
    refused(Decision::Accept { seq: seq - 1, hash }, &format!("another record: {seq}:{hash}"));
    refused(Decision::Accept { seq, hash: Hash::of(b"another") }, &format!("another record: {seq}:{hash}"));
    refused(Decision::SkipTo(3), "has no gap");
    assert!(resume(&*journal, 3, Decision::SkipTo(3), ADA).unwrap_err().to_string().contains("no partition 3"));
    assert_eq!(arbiter.step(), Step::Halted);
}

pub fn a_large_backlog_is_judged_in_order<K: Kit>() {
    let kit = K::fresh();
    let journal = kit.journal();
    let key = key_in(&*journal, 0, 0);
    for n in 0..1_200 {
        let kind = if n == 0 { "dev.annals.model.created.v1" } else { "dev.annals.alias.removed.v1" };
        propose(&*journal, 0, submission(&key, &n.to_string(), kind, "{}"));
    }
    let (mut arbiter, ear) = start(kit.journal(), 0);
    // what the first batch refuses may be told before anybody listens
    run_until(&mut arbiter, "the last is told", |_| ear.0.lock().unwrap().told.last().is_some_and(|v| v.src == 1_199));
    // so many refusals in a row leave a record, too: a restart need not judge them again
    assert_eq!((arbiter.ledger().last_seq(), arbiter.ledger().next_src()), (Some(2), 1_001));
    let heard = ear.0.lock().unwrap();
    let told: Vec<_> = heard.others().iter().map(|v| v.src).collect();
    assert!(told.is_sorted() && told.len() >= 1_199, "every refusal was told, in order: {}", told.len());
    let (mut stored, mut from) = (0, 0);
    loop {
        let chunk = journal.verdicts(0, from, 10_000).unwrap();
        if chunk.next == from {
            break;
        }
        stored += chunk.items.iter().filter(|v| !matches!(v.outcome, Outcome::Accepted(_))).count();
        from = chunk.next;
    }
    assert_eq!(stored, 1_199);
}
