//! Fuzzing of the decoders on stable Rust: golden frames, submissions and snapshots with broken bytes.
//!
//! No input may panic, and what decodes must encode to the same bytes again. Each test runs for a
//! second or so; `ANNALS_FUZZ_SECONDS=600 cargo test --release -p annals-events fuzz` runs each for
//! as many seconds, with other seeds every time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use crate::golden;
use crate::ledger::Ledger;
use crate::proposal::Proposal;
use crate::record::Record;
use crate::stage::{Stage, Step, promoted, registered};
use crate::submission::Submission;

/// How many cases a short run has, and how many a long one runs between two looks at the clock.
const CASES: u32 = 768;

/// One thing that is done to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // what decoders trip over, besides any byte
    let telling: Vec<&[u8]> = vec![
        b"\"",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"{",
        b"}",
        b"[",
        b",",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"1e400",
        b"-",
        b"null",
        b"ce_",
        b":",
    ];
    let bytes = prop_oneof![prop::sample::select(telling).prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 1..8)];
    let index = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => index().prop_map(Change::Cut),
        1 => (index(), 1..9_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        3 => (index(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (index(), index(), 1..40_usize).prop_map(|(from, to, count)| Change::Copy(from, to, count)),
    ];
    prop::collection::vec(change, 0..4)
}

fn mutate(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Flip(at, mask) => bytes[at.index(length)] ^= mask,
            Change::Set(at, byte) => bytes[at.index(length)] = *byte,
            Change::Cut(at) => bytes.truncate(at.index(length)),
            Change::Remove(at, count) => drop(bytes.drain(at.index(length)..(at.index(length) + count).min(length))),
            Change::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new.iter().copied())),
            Change::Copy(from, to, count) => {
                let from = from.index(length);
                let piece = bytes[from..(from + count).min(length)].to_vec();
                bytes.splice(to.index(length)..to.index(length), piece);
            }
        }
    }
    bytes
}

/// Runs a property: the short run, or for as long as the variable says.
fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = std::env::var("ANNALS_FUZZ_SECONDS").ok().map(|s| s.parse().expect("ANNALS_FUZZ_SECONDS is a number of seconds"));
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    loop {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        if let Err(e) = runner.run(strategy, &test) {
            panic!("{e}");
        }
        if Instant::now() >= until {
            return;
        }
    }
}

fn structured(proposal: &Proposal) -> Submission {
    let head = serde_json::json!({
        "specversion": "1.0", "id": proposal.id, "source": proposal.source, "type": proposal.kind.name(),
        "subject": proposal.subject(), "time": proposal.time, "actor": proposal.actor,
    });
    let head = head.to_string();
    let value = format!("{},\"data\":{}}}", head.strip_suffix('}').unwrap(), proposal.data);
    let headers = vec![("content-type".into(), b"application/cloudevents+json".to_vec())];
    Submission { key: Some(proposal.key.as_str().into()), headers, value: value.into_bytes() }
}

/// What a submission is judged to be is told without a panic, and a proposal survives the way through its message.
fn survives(stage: &Stage, submission: &Submission) -> TestCaseResult {
    if let Ok(proposal) = Proposal::read(submission) {
        let again = Proposal::read(&proposal.to_submission());
        prop_assert_eq!(again.as_ref().map(Proposal::content_digest), Ok(proposal.content_digest()));
        prop_assert_eq!(again, Ok(proposal));
    }
    let (verdict, record) = stage.ledger.clone().overlay().judge(9, crate::time::Timestamp(0), submission);
    let text = serde_json::to_string(&verdict).unwrap();
    prop_assert_eq!(serde_json::from_str::<crate::verdict::Verdict>(&text).unwrap(), verdict);
    if let Some(record) = record {
        prop_assert!(stage.ledger.clone().apply(&record).is_ok(), "what we write we can read: {:?}", record);
        let view = record.view().unwrap();
        prop_assert!(submission.value.windows(view.data.len()).any(|w| w == view.data.as_bytes()), "the data is verbatim");
    }
    Ok(())
}

#[test]
fn fuzzed_frames_do_not_panic_and_decode_to_one_form_only() {
    let frames = golden::frames();
    let ledger = Stage::given(&[registered('a')]).ledger;
    run(&(prop::sample::select(frames), changes()), |(frame, changes)| {
        let record = Record::from_frame(mutate(&frame, &changes).into());
        if let Ok(view) = record.view() {
            let mut headers: Vec<_> = view.headers().collect();
            let built = Record::build(view.key, &mut headers, view.value().as_bytes());
            prop_assert_eq!(built.frame(), record.frame());
            prop_assert_eq!(crate::record::join_value(view.data, view.decided), view.value());
            let _ = view.version();
        }
        let _ = format!("{record:?}");
        let mut folded = ledger.clone();
        if folded.apply(&record).is_err() {
            prop_assert_eq!(&folded, &ledger);
        }
        Ok(())
    });
}

#[test]
fn fuzzed_submissions_in_binary_mode_do_not_panic_and_stay_what_they_are() {
    let stage = Stage::given(&[registered('a')]);
    let samples: Vec<_> = golden::samples().iter().map(|(_, step)| step.submission(1)).collect();
    let strategy = (prop::sample::select(samples), any::<prop::sample::Index>(), changes(), changes());
    run(&strategy, |(mut submission, at, header, value)| {
        let at = at.index(submission.headers.len());
        submission.headers[at].1 = mutate(&submission.headers[at].1, &header);
        submission.value = mutate(&submission.value, &value);
        survives(&stage, &submission)
    });
}

#[test]
fn fuzzed_submissions_in_structured_mode_do_not_panic_and_stay_what_they_are() {
    let stage = Stage::given(&[registered('a')]);
    let read = |(_, step): &(_, Step)| structured(&Proposal::read(&step.submission(1)).unwrap());
    let samples: Vec<_> = golden::samples().iter().map(read).collect();
    assert!(samples.iter().all(|s| Proposal::read(s).is_ok()), "else only refusals are fuzzed");
    run(&(prop::sample::select(samples), changes()), |(mut submission, changes)| {
        submission.value = mutate(&submission.value, &changes);
        survives(&stage, &submission)
    });
}

#[test]
fn fuzzed_snapshots_do_not_panic_and_come_back_as_they_are() {
    let stage = Stage::given(&[registered('a'), registered('b'), promoted("1", "dev"), promoted("2", "dev")]);
    let json = serde_json::to_vec(&stage.ledger).unwrap();
    let next = registered('c').submission(7);
    run(&changes(), |changes| {
        if let Ok(mut ledger) = serde_json::from_slice::<Ledger>(&mutate(&json, &changes)) {
            let again: Ledger = serde_json::from_str(&serde_json::to_string(&ledger).unwrap()).unwrap();
            prop_assert_eq!(&again, &ledger);
            let record = ledger.overlay().judge(9, crate::time::Timestamp(0), &next).1;
            if let Some(record) = record {
                let _ = ledger.apply(&record);
            }
        }
        Ok(())
    });
}
