//! What is not a file of a library: broken ones, and the form of what is proposed. Real files are in tests/it/drift.rs.

use annals_events::kind::Kind;
use annals_events::proposal::Proposal;
use proptest::prelude::*;

use super::*;

const HEAD: &str = "chunk_key,chunk_start_index,chunk_end_index,chunk_start_date,chunk_end_date,chunk_period";

fn nannyml(metrics: &str, rows: &[&str]) -> Result<Report, Unreadable> {
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    read(Tool::Nannyml, format!("{HEAD}{metrics}\n{rows}").as_bytes())
}

#[test]
fn a_drift_is_a_proposal_that_the_engine_reads_and_the_same_one_each_time() {
    let metrics = ",\"a \"\"b\"\", c_chi2_value\",\"a \"\"b\"\", c_chi2_upper_threshold\",\"a \"\"b\"\", c_chi2_alert\"";
    let report = nannyml(metrics, &["x,0,9,2026-03-01 00:00:00+00:00,2026-03-01 10:00:00+00:00,analysis,2.5,1,True"]).unwrap();
    let drift = report.drift.unwrap();
    assert_eq!(drift.features, ["a \"b\", c"]);
    let (iris, lily) = (Key::new("default", "iris").unwrap(), Key::new("default", "lily").unwrap());
    let proposed = propose(Tool::Nannyml, b"file", &iris, &drift, None).unwrap();
    assert_eq!(propose(Tool::Nannyml, b"file", &iris, &drift, None).unwrap(), proposed);
    assert_ne!(propose(Tool::Nannyml, b"file", &lily, &drift, None).unwrap().id, proposed.id);
    assert_ne!(propose(Tool::Nannyml, b"elif", &iris, &drift, None).unwrap().id, proposed.id);
    let attributes = [("specversion", "1.0"), ("id", &proposed.id), ("source", proposed.source), ("type", Kind::DriftDetected.name())]
        .into_iter()
        .chain([("subject", "default/iris/1")]);
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let proposal = Proposal::from_parts(attributes, proposed.data, Some(b"default/iris")).unwrap();
    let data: serde_json::Value = serde_json::from_str(&proposal.data).unwrap();
    assert_eq!((data["observed"].as_f64(), data["threshold"].as_f64(), data["window"]["n"].as_u64()), (Some(2.5), Some(1.0), Some(10)));
    assert_eq!(data["window"]["start"], "2026-03-01T00:00:00+00:00");
    assert_eq!(data["source"]["digest"], digest(b"file"));
}

#[test]
fn the_crossed_threshold_is_named_and_an_alert_that_crosses_none_names_none() {
    let metrics =
        ",reconstruction_error_value,reconstruction_error_upper_threshold,reconstruction_error_lower_threshold,reconstruction_error_alert";
    let of =
        |row: &str| nannyml(metrics, &[&format!("x,0,9,,,analysis,{row}")]).map(|report| report.drift.map(|drift| drift.head.threshold));
    assert_eq!(of("3,2,1,True"), Ok(Some(Some(2.0))));
    assert_eq!(of("0.5,2,1,True"), Ok(Some(Some(1.0))));
    assert_eq!(of("1.5,2,1,True"), Ok(Some(None)));
    assert_eq!(of("3,2,1,False"), Ok(None));
    for row in ["nan,2,1,True", ",2,1,True", "inf,2,1,True", "3,2,1,perhaps"] {
        assert_eq!(of(row).unwrap_err().code(), "report-malformed", "{row}");
    }
}

#[test]
fn the_gravest_finding_is_the_head_and_the_reason_has_all() {
    let finding = |moved, metric: &str| Finding { moved, metric: metric.into(), observed: 1.0, threshold: None, feature: None };
    let findings = vec![finding(Moved::Quality, "q"), finding(Moved::Data, "d"), finding(Moved::Performance, "p")];
    let drift = Drift::of(findings, vec!["x".into(); 2000], None, "").unwrap();
    assert_eq!((drift.head.metric.as_str(), drift.features.len()), ("p", FEATURES_MAX));
    assert!(drift.reason.starts_with("p 1, d 1, q 1; columns: x, x") && drift.reason.ends_with("and 1988 more"), "{}", drift.reason);
    let long = Drift::of(vec![finding(Moved::Data, &"é".repeat(9999)); 999], vec!["y".repeat(9999); 9], None, "").unwrap();
    assert!(long.reason.chars().count() < 4096);
}

#[test]
fn every_state_has_its_word_and_its_remedy() {
    for (tool, file, code) in [
        (Tool::Evidently, &b""[..], "report-truncated"),
        (Tool::Evidently, b"{\"metrics\": [", "report-truncated"),
        (Tool::Evidently, b"\xff", "report-malformed"),
        (Tool::Evidently, b"{\"metrics\": [], \"tests\": NaN}", "report-malformed"),
        (Tool::Evidently, b"[]", "report-malformed"),
        (Tool::Evidently, b"{\"metrics\": []}", "report-malformed"),
        (Tool::Evidently, b"{\"metrics\": [], \"tests\": []}", "report-undecided"),
        (Tool::Nannyml, b" \n", "report-truncated"),
        (Tool::Nannyml, b"a,b", "report-truncated"),
        (Tool::Nannyml, b"a,b\n", "report-unsupported"),
        (Tool::Nannyml, b"PAR1\x15\x04", "report-unsupported"),
        (Tool::Nannyml, b"a\xff\n", "report-malformed"),
        (Tool::Nannyml, b"{}", "report-unsupported"),
    ] {
        let unreadable = read(tool, file).unwrap_err();
        assert_eq!(unreadable.code(), code, "{unreadable}");
        assert!(unreadable.remedy().contains("emit drifted") || code == "report-truncated", "{unreadable:?}");
    }
    let large = vec![b' '; REPORT_BYTES_MAX + 1];
    assert_eq!(read(Tool::Evidently, &large), Err(Unreadable::TooLarge));
    assert_eq!(nannyml(",target_chi2_alert", &[]).unwrap_err().code(), "report-malformed");
    assert_eq!(nannyml("", &["x,0,9,,,analysis"]).unwrap_err().code(), "report-undecided");
    assert_eq!(nannyml("", &["x,0,9,,,reference"]).unwrap_err().code(), "report-undecided");
    assert_eq!(nannyml("", &["x,0,9,,,analysis,7"]).unwrap_err().code(), "report-malformed");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:a-z0-9\n ]{0,80}") {
        for tool in Tool::ALL {
            let _ = read(tool, &bytes);
            let _ = read(tool, text.as_bytes());
        }
    }
}
