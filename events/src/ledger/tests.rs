//! What the fold and the judging of a batch promise, whatever the kind.

use serde_json::json;

use super::*;
use crate::stage::{IRIS, NOON, Stage, Step, Then, check, digest, iris, promoted, registered, trained};
use crate::window::id_digest as id_of;

fn measured(n: usize) -> Step {
    iris("measured", "", json!({ "metric": "accuracy", "value": n })).id(&format!("m-{n}"))
}

#[test]
fn a_retry_is_a_duplicate_and_gets_the_first_place() {
    let step = registered('a').id("once");
    check(std::slice::from_ref(&step), &step, &Then::Duplicate(1));
    check(&[trained("run-1", 'a'), step.clone(), registered('b'), promoted("1", "dev")], &step, &Then::Duplicate(2));
}

#[test]
fn a_retry_may_differ_in_time_actor_and_extensions_but_not_in_what_it_asks() {
    let step = promoted("1", "dev").id("once");
    let given = [registered('a'), registered('b'), step.clone()];
    let retry = step.by("eve").with("time", "2026-03-01T12:00:00Z").with("traceparent", "x");
    check(&given, &retry, &Then::Duplicate(3));
    let conflict = || Then::Refused(Code::IdConflict, "`once` was accepted before, at seq 3");
    check(&given, &promoted("1", "staging").id("once"), &conflict());
    check(&given, &promoted("2", "dev").id("once"), &conflict());
    check(&given, &promoted("1", "dev").id("once").with("expectedseq", "3"), &conflict());
    check(&given, &iris("demoted", "1", json!({ "channel": "dev", "reason": "x" })).id("once"), &conflict());
    check(&given, &iris("created", "", json!({})).id("once").of("default/rose"), &conflict());
}

#[test]
fn the_same_id_of_another_source_is_another_proposal() {
    let mut stage = Stage::given(&[registered('a').id("once")]);
    let mut other = registered('a').id("once").submission(0);
    other.headers.iter_mut().find(|(n, _)| n == "ce_source").unwrap().1 = b"/elsewhere".to_vec();
    assert!(matches!(stage.submit(&other).0.outcome, Outcome::Accepted(Place { seq: 2, .. })));
}

#[test]
fn a_refused_id_is_judged_again() {
    let step = promoted("1", "dev").id("again");
    let mut stage = Stage::new();
    assert!(matches!(stage.judge(&step).outcome, Outcome::Refused(_)));
    stage.judge(&registered('a'));
    assert!(matches!(stage.judge(&step).outcome, Outcome::Accepted(_)));
    assert!(matches!(stage.judge(&step).outcome, Outcome::Duplicate(_)));
}

#[test]
fn a_model_remembers_its_last_ids_beyond_the_partitions_window() {
    let steps: Vec<_> = (0..RECENT_MAX + 3).map(measured).collect();
    let mut given = vec![registered('a')];
    given.extend(steps.iter().cloned());
    let mut stage = Stage::given(&given);
    stage.ledger.window = Window::default(); // as if 262,144 others had come since
    let outcome = |stage: &mut Stage, n: usize| stage.judge(&steps[n]).outcome;
    for n in 3..RECENT_MAX + 3 {
        assert!(matches!(outcome(&mut stage, n), Outcome::Duplicate(p) if p.seq == n as u64 + 2), "{n}");
    }
    assert!(matches!(outcome(&mut stage, 2), Outcome::Accepted(_)), "what both have forgotten is judged again");
    let mut conflict = measured(RECENT_MAX + 2).submission(0);
    conflict.value = br#"{"metric":"accuracy","value":0.5}"#.to_vec();
    assert!(matches!(stage.submit(&conflict).0.outcome, Outcome::Refused(r) if r.code == Code::IdConflict));
}

#[test]
fn an_expectation_that_the_model_has_left_is_refused_with_where_it_is() {
    let stale = Then::Refused(Code::StaleExpectation, "at sequence 1, not 0");
    check(&[registered('a')], &promoted("1", "dev").with("expectedseq", "0"), &stale);
    let none = Then::Refused(Code::StaleExpectation, "at sequence 0, not 3");
    check(&[], &registered('a').with("expectedseq", "3"), &none);
    let decided = json!({ "version": 2, "digest": digest('b'), "external": false, "created": false });
    check(&[registered('a')], &registered('b').with("expectedseq", "1"), &Then::Accepted(decided));
    let decided = json!({ "version": 1, "digest": digest('a'), "external": false, "created": true });
    check(&[], &registered('a').with("expectedseq", "0"), &Then::Accepted(decided));
}

#[test]
fn a_refusal_that_matters_is_journalled_without_advancing_the_model() {
    let mut stage = Stage::given(&[registered('a')]);
    let (verdict, record) = stage.submit(&promoted("9", "dev").id("bad").by("bob").submission(0));
    let record = record.unwrap();
    let view = record.view().unwrap();
    assert_eq!((view.seq, view.modelseq, view.id, view.source), (2, 1, "refused-0-1", SOURCE));
    assert_eq!((view.subject, view.actor, view.src), ("default/iris/9", "unverified:bob", Some(1)));
    assert_eq!(view.data, r#"{"channel":"dev"}"#);
    let refused: Refused = serde_json::from_str(view.decided).unwrap();
    let Outcome::Refused(refusal) = verdict.outcome else { panic!() };
    assert_eq!((refused.id.as_str(), refused.code, refused.message), ("bad", Code::UnknownVersion, refusal.message));
    assert_eq!(stage.iris().modelseq, 1);
    stage.judge(&promoted("1", "dev"));
    assert_eq!(stage.iris().modelseq, 2);
}

#[test]
fn a_message_in_the_wrong_partition_is_refused_with_the_remedy() {
    let first = opening(0, 12, Timestamp(NOON));
    let mut ledger = Ledger::new(0);
    ledger.apply(&first).unwrap();
    assert_ne!(partition_of(IRIS, 12), 0, "else this test says nothing");
    let (verdict, record) = ledger.overlay().judge(0, Timestamp(NOON), &promoted("1", "dev").submission(0));
    let Outcome::Refused(refusal) = verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!((refusal.code, record.is_none()), (Code::WrongPartition, true));
    assert!(refusal.remedy.contains("murmur2_random"));
}

#[test]
fn the_chain_is_dense_and_time_never_goes_back() {
    let mut stage = Stage::given(&[registered('a'), promoted("1", "dev")]);
    let early = Timestamp(NOON - 5000);
    let (_, record) = stage.ledger.overlay().judge(9, early, &registered('b').id("late").submission(0));
    stage.ledger.apply(record.as_ref().unwrap()).unwrap();
    stage.records.extend(record);
    let views: Vec<_> = stage.records.iter().map(|r| r.view().unwrap()).collect();
    for (pair, records) in views.windows(2).zip(stage.records.windows(2)) {
        assert_eq!((pair[1].seq, pair[1].prevhash), (pair[0].seq + 1, records[0].hash()));
        assert!(pair[1].recorded >= pair[0].recorded);
    }
    assert_eq!(stage.ledger.last_src(), Some(9));
    assert_eq!(stage.ledger.recorded(), views.last().unwrap().recorded);
}

#[test]
fn what_cannot_be_trusted_halts_the_fold_and_leaves_the_ledger_as_it_was() {
    let stage = Stage::given(&[registered('a')]);
    let good = &stage.records[1];
    let forged = |change: &dyn Fn(&str, &str) -> String, key: Option<&str>, value: Option<&str>| {
        let view = good.view().unwrap();
        let hash = stage.ledger.last_hash().to_string();
        let owned: Vec<_> = view
            .headers()
            .map(|(n, v)| match n {
                "ce_seq" => (n, "2".to_owned()),
                "ce_prevhash" => (n, hash.clone()),
                _ => (n, change(n, v)),
            })
            .collect();
        let mut headers: Vec<_> = owned.iter().map(|(n, v)| (*n, v.as_str())).collect();
        Record::build(key.unwrap_or(view.key), &mut headers, value.unwrap_or(view.value()).as_bytes())
    };
    let keep = |_: &str, v: &str| v.to_owned();
    let rules = |n: &str, v: &str| if n == "ce_rules" { "2".into() } else { v.to_owned() };
    let opened = |n: &str, v: &str| if n == "ce_type" { Kind::JournalOpened.name().into() } else { v.to_owned() };
    let again = r#"{"data":{},"decided":{"generation":1,"partitions":3}}"#;
    let before = stage.ledger.clone();
    for (what, record) in [
        ("another build's rules", forged(&rules, None, None)),
        ("a bad key", forged(&keep, Some("default/_iris"), None)),
        ("a decision that is none", forged(&keep, None, Some(r#"{"data":{},"decided":{}}"#))),
        ("no decision", forged(&keep, None, Some("{}"))),
        ("a second opening", forged(&opened, None, Some(again))),
        ("no frame", Record::from_frame(Box::from(*b"not a frame"))),
    ] {
        let mut ledger = stage.ledger.clone();
        assert!(ledger.apply(&record).is_err(), "{what}");
        assert_eq!(ledger, before, "{what}");
    }
    assert_eq!(stage.ledger.clone().apply(&forged(&keep, None, None)), Ok(Judged::Accepted), "else this test says nothing");
}

#[test]
fn a_batch_is_thrown_away_unless_it_is_read_back() {
    let mut stage = Stage::given(&[registered('a')]);
    let before = stage.ledger.clone();
    let mut overlay = stage.ledger.overlay();
    overlay.judge(7, Timestamp(NOON), &registered('b').submission(7));
    drop(overlay);
    assert_eq!(stage.ledger, before);
}

#[test]
fn a_stored_ledger_comes_back_and_decides_the_same() {
    let mut one = Stage::given(&[registered('a').id("once"), trained("run-1", 'b'), promoted("1", "dev")]);
    let json = serde_json::to_string(&one.ledger).unwrap();
    let mut back: Ledger = serde_json::from_str(&json).unwrap();
    assert_eq!(back, one.ledger);
    let step = registered('b').submission(9);
    assert_eq!(back.overlay().judge(9, Timestamp(NOON), &step).0, one.ledger.overlay().judge(9, Timestamp(NOON), &step).0);
    assert!(back.window.find(&id_of("/pipelines/iris", "once")).is_some());
    one.ledger = back;
    assert!(matches!(one.judge(&registered('a').id("once")).outcome, Outcome::Duplicate(_)));
}
