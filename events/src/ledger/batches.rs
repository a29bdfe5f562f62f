//! Where a batch begins and ends must not be seen in what is decided: two arbiters may cut differently.

use super::*;
use crate::record::Record;
use crate::verdict::Verdict;

/// A run of a model was trained.
fn submission(id: usize, model: usize, run: usize) -> Submission {
    let text = |name: &str, value: String| (format!("ce_{name}"), value.into_bytes());
    let key = format!("w/m{model}");
    let headers = vec![
        text("specversion", "1.0".into()),
        text("id", format!("p{id}")),
        text("source", "/test".into()),
        text("type", Kind::RunTrained.name().into()),
        text("subject", key.clone()),
    ];
    let data = format!(r#"{{"run":{{"id":"r{run}"}},"artifact":{{"uri":"u"}}}}"#);
    Submission { key: Some(key.into_bytes()), headers, value: data.into_bytes() }
}

fn judged(submissions: &[Submission], cut: impl Fn(usize) -> bool) -> (Vec<Verdict>, Vec<Record>, Ledger) {
    let mut ledger = Ledger::new(0);
    ledger.apply(&opening(0, 1, Timestamp(0))).expect("the opening record is good");
    let (mut verdicts, mut records) = (Vec::new(), Vec::new());
    let mut from = 0;
    while from < submissions.len() {
        let to = (from + 1..submissions.len()).find(|n| cut(*n)).unwrap_or(submissions.len());
        let mut overlay = ledger.overlay();
        let mut batch = Vec::new();
        for (src, submission) in (from as u64..).zip(&submissions[from..to]) {
            let (verdict, record) = overlay.judge(src, Timestamp(0), submission);
            verdicts.push(verdict);
            batch.extend(record);
        }
        for record in batch {
            ledger.apply(&record).expect("a record on top of its own ledger is good");
            records.push(record);
        }
        from = to;
    }
    (verdicts, records, ledger)
}

#[test]
fn verdicts_do_not_depend_on_where_batches_end() {
    let mut random = 1_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap_or(0) % n
    };
    for round in 0..20 {
        // more ids than the window and a model remember together, and many of them again
        let count = 400;
        let submissions: Vec<_> = (0..count)
            .map(|n| {
                let id = if below(3) == 0 { below(n + 1) } else { n };
                submission(id, id % 2, id)
            })
            .collect();
        let lengths: Vec<bool> = (0..count).map(|_| below(2 + round % 30) == 0).collect();
        let one_by_one = judged(&submissions, |_| true);
        assert_eq!(judged(&submissions, |n| lengths[n]), one_by_one, "round {round}");
        assert_eq!(judged(&submissions, |_| false), one_by_one, "round {round}, one batch");
    }
}
