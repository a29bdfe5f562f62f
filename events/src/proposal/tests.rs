//! What is a proposal and what is not, in both modes of the CloudEvents binding.

use serde_json::json;

use super::*;
use crate::stage::{IRIS, iris, registered};

const DATA: &str = "{ \"artifact\": {\"uri\": \"s3://iris\"},\n \"performance\": [{\"name\":\"a\",\"value\":1.10e-1}] }";

fn structured(members: &str) -> Submission {
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/p","type":"dev.annals.version.registered.v1","subject":"default/iris",{members}}}"#
    );
    Submission {
        key: Some(IRIS.into()),
        headers: vec![("content-type".into(), b"application/cloudevents+json; charset=utf-8".to_vec())],
        value: event.into_bytes(),
    }
}

fn binary(data: &str) -> Submission {
    Submission { value: data.as_bytes().to_vec(), ..registered('a').submission(1) }
}

/// Replaces, or with `None` removes, a header.
fn with(name: &str, value: Option<&[u8]>) -> Submission {
    let mut submission = registered('a').submission(1);
    submission.headers.retain(|(n, _)| n != name);
    submission.headers.extend(value.map(|v| (name.to_owned(), v.to_vec())));
    submission
}

fn refused(submission: &Submission, code: Code, words: &str) {
    let refusal = Proposal::read(submission).expect_err(words).refusal;
    assert!(refusal.code == code && refusal.message.contains(words), "wanted `{words}`: {refusal:?}");
    assert!(!refusal.remedy.is_empty());
}

#[test]
fn data_is_kept_byte_for_byte_in_both_modes() {
    assert_eq!(Proposal::read(&binary(DATA)).unwrap().data, DATA);
    assert_eq!(Proposal::read(&structured(&format!("\"data\": {DATA}"))).unwrap().data, DATA);
    for number in ["1.0", "1.10", "1e-7", "0.1000000000000000055511151231257827", "123456789012345678901234567890", "-0.0"] {
        let data = format!(r#"{{"artifact":{{"uri":"x"}},"performance":[{{"name":"a","value":{number}}}]}}"#);
        assert_eq!(Proposal::read(&structured(&format!("\"data\":{data}"))).unwrap().data, data);
    }
}

/// As Confluent's serializers write a value: `0x00`, the schema's id, then the JSON.
fn framed(submission: Submission) -> Submission {
    Submission { value: [&[0, 0, 0, 1, 7], &submission.value[..]].concat(), ..submission }
}

#[test]
fn a_schema_registrys_prefix_is_passed_over_in_both_modes() {
    for plain in [binary(DATA), structured(&format!("\"data\": {DATA}"))] {
        let (with, without) = (Proposal::read(&framed(plain.clone())).unwrap(), Proposal::read(&plain).unwrap());
        assert_eq!(with.data, DATA);
        assert_eq!(with.content_digest(), without.content_digest());
        assert_eq!(with, without);
    }
}

#[test]
fn what_only_looks_like_a_prefix_is_refused() {
    refused(&framed(binary("")), Code::Malformed, "not proper JSON");
    refused(&Submission { value: vec![0, 0, 0, 1], ..binary("") }, Code::Malformed, "not proper JSON");
    refused(&framed(framed(binary(DATA))), Code::Malformed, "not proper JSON");
    // the framing with a GUID belongs into a header, where it is not read
    refused(&Submission { value: [&[1; 17], DATA.as_bytes()].concat(), ..binary("") }, Code::Malformed, "not proper JSON");
}

#[test]
fn the_limit_is_for_the_data_without_the_prefix() {
    let fill = |bytes: usize| {
        let frame = r#"{"artifact":{"uri":"x"},"labels":{}}"#.len();
        format!(r#"{{"artifact":{{"uri":"x"}},"labels":{{}}{}}}"#, " ".repeat(bytes - frame))
    };
    assert_eq!(Proposal::read(&framed(binary(&fill(VALUE_BYTES_MAX)))).unwrap().data.len(), VALUE_BYTES_MAX);
    refused(&framed(binary(&fill(VALUE_BYTES_MAX + 1))), Code::TooLarge, "262145 bytes");
}

#[test]
fn both_modes_of_one_event_are_one_proposal() {
    let one = Proposal::read(&structured(&format!(r#""expectedseq":3,"modelexists":true,"zone":null,"traceid":"t","data":{DATA}"#)));
    let one = one.unwrap();
    assert_eq!((one.expected, one.must_exist, one.extensions.len()), (Some(3), true, 1));
    assert_eq!(Proposal::read(&one.to_submission()), Ok(one));
}

#[test]
fn a_number_that_no_program_can_hold_is_refused_not_changed() {
    for number in ["1e400", "-1e999"] {
        let data = format!(r#"{{"artifact":{{"uri":"x"}},"performance":[{{"name":"a","value":{number}}}]}}"#);
        refused(&binary(&data), Code::Malformed, "out of range");
        refused(&structured(&format!("\"data\":{data}")), Code::Malformed, "out of range");
    }
}

#[test]
fn json_that_readers_could_read_differently_is_refused() {
    for (data, words) in [
        (r#"{"artifact":{"uri":"x"},"artifact":{"uri":"y"}}"#, "`artifact` comes twice"),
        (r#"{"artifact":{"uri":"x","\u0075ri":"y"}}"#, "`uri` comes twice"),
        (r#"{"artifact":{"uri":"a\u0000b"}}"#, "null character"),
        (r#"{"artifact":{"uri":"x"},"labels":{"a\u0000":"b"}}"#, "null character"),
        (r#"{"artifact":{"uri":"\ud800"}}"#, "not proper JSON"),
        (r#"{"artifact":{"uri":"x"}} {}"#, "trailing"),
        (r#"{"artifact":NaN}"#, "not proper JSON"),
        ("", "not proper JSON"),
        ("{", "not proper JSON"),
        ("\u{feff}{}", "not proper JSON"),
    ] {
        refused(&binary(data), Code::Malformed, words);
    }
    let deep = format!("{}{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    refused(&binary(&deep), Code::Malformed, "recursion limit");
    refused(&structured(&format!("\"data\":{deep}")), Code::Malformed, "recursion limit");
    refused(&structured(r#""data":{},"data":{}"#), Code::Malformed, "`data` comes twice");
    refused(&structured(r#""id":"2","data":{}"#), Code::Malformed, "`id` comes twice");
    for (data, code) in [("[]", Code::SchemaViolation), ("null", Code::SchemaViolation), ("1", Code::SchemaViolation)] {
        refused(&binary(data), code, "does not fit");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_wherever_they_are() {
    let bad = b"\xff\xfe";
    refused(&Submission { value: bad.to_vec(), ..binary("") }, Code::Malformed, "not UTF-8");
    refused(&Submission { value: bad.to_vec(), ..structured("") }, Code::Malformed, "not UTF-8");
    refused(&with("ce_actor", Some(bad)), Code::Malformed, "ce_actor is not UTF-8");
    refused(&Submission { key: Some(bad.to_vec()), ..binary(DATA) }, Code::Malformed, "not the subject's");
}

#[test]
fn every_attribute_that_is_needed_is_missed_by_name() {
    for name in ["specversion", "id", "source", "type", "subject"] {
        refused(&with(&format!("ce_{name}"), None), Code::Malformed, name);
        refused(&with(&format!("ce_{name}"), Some(b"")), Code::Malformed, name);
    }
    refused(&Submission { headers: Vec::new(), ..binary(DATA) }, Code::Malformed, "not a CloudEvent");
    refused(&structured(r#""dataschema":"x""#), Code::Malformed, "has no data");
    refused(&structured(r#""data_base64":"e30=""#), Code::Malformed, "data_base64");
    refused(&structured(r#""zone":{},"data":{}"#), Code::Malformed, "`zone`");
    refused(&structured(r#""zone":1.5,"data":{}"#), Code::Malformed, "`zone`");
    refused(&Submission { key: None, ..binary(DATA) }, Code::Malformed, "no key");
    refused(&Submission { key: Some("default/rose".into()), ..binary(DATA) }, Code::Malformed, "not the subject's");
}

#[test]
fn an_attribute_that_is_wrong_is_named() {
    for (name, value, words) in [
        ("ce_specversion", "0.3", "specversion"),
        ("ce_id", "a\u{7}b", "`id` holds a control character"),
        ("ce_time", "yesterday", "`time` is wrong"),
        ("ce_time", "2026-03-01 12:00:00Z", "`time` is wrong"),
        ("ce_datacontenttype", "text/plain", "datacontenttype"),
        ("ce_expectedseq", "many", "`expectedseq` is not a number"),
        ("ce_Zone", "x", "a-z and 0-9"),
        ("ce_data", "x", "`data`"),
        ("ce_zone", "a\nb", "`zone`"),
        ("ce_actor", "", "`actor` is missing"),
    ] {
        refused(&with(name, Some(value.as_bytes())), Code::Malformed, words);
    }
    for name in ENGINE {
        refused(&with(&format!("ce_{name}"), Some(b"1")), Code::Malformed, "by the engine only");
    }
    refused(&with("ce_id", Some("x".repeat(129).as_bytes())), Code::Malformed, "longer than 128 bytes");
    refused(&with("ce_source", Some("x".repeat(1025).as_bytes())), Code::Malformed, "longer than 1024 bytes");
    let mut twice = binary(DATA);
    twice.headers.push(("ce_id".into(), b"2".to_vec()));
    refused(&twice, Code::Malformed, "ce_id comes twice");
    let mut many = binary(DATA);
    many.headers.extend((0..=EXTENSIONS_MAX).map(|n| (format!("ce_x{n}"), b"1".to_vec())));
    refused(&many, Code::Malformed, "more than 32");
}

#[test]
fn only_our_types_and_of_those_only_the_producers() {
    for bad in ["dev.annals.version.registered.v2", "registered", "com.example.x"] {
        refused(&with("ce_type", Some(bad.as_bytes())), Code::UnknownType, "not an event type");
    }
    for kind in Kind::ALL.iter().filter(|kind| kind.about() == crate::kind::About::Engine) {
        refused(&with("ce_type", Some(kind.name().as_bytes())), Code::UnknownType, "by the engine only");
    }
}

#[test]
fn a_subject_names_a_model_and_a_version_where_the_kind_has_one() {
    for (subject, words) in [
        ("iris", "subject is wrong"),
        ("/iris", "must not be empty"),
        ("default/", "must not be empty"),
        ("default/_system", "reserved"),
        ("_control/0", "reserved"),
        ("default/a:b", "must not contain"),
        ("default/..", "path"),
        ("default/iris/1", "names a version"),
        ("default/iris/", "must not be empty"),
        ("default/iris/1/2", "must not contain"),
    ] {
        refused(&with("ce_subject", Some(subject.as_bytes())), Code::Malformed, words);
    }
    refused(&iris("promoted", "", json!({ "channel": "dev" })).submission(1), Code::Malformed, "names none");
    refused(&iris("promoted", "0", json!({ "channel": "dev" })).submission(1), Code::Malformed, "from 1");
}

#[test]
fn a_payload_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let sized = |bytes: usize| {
        let empty = r#"{"artifact":{"uri":"x"},"signature":{"a":""}}"#;
        empty.replace(r#""a":"""#, &format!(r#""a":"{}""#, "x".repeat(bytes - empty.len())))
    };
    assert!(Proposal::read(&binary(&sized(VALUE_BYTES_MAX))).is_ok());
    refused(&binary(&sized(VALUE_BYTES_MAX + 1)), Code::TooLarge, "262145 bytes");
    refused(&structured(&format!("\"data\":{}", sized(VALUE_BYTES_MAX))), Code::TooLarge, "are allowed");
}

#[test]
fn what_could_be_read_of_its_identity_is_told_with_a_bad_proposal() {
    let unreadable = Proposal::read(&with("ce_type", Some(b"nonsense"))).unwrap_err();
    assert_eq!((unreadable.id.as_str(), unreadable.source.as_str()), ("step-1", "/pipelines/iris"));
}

#[test]
fn each_field_that_does_not_fit_is_named() {
    let data = r#"{"artifact":{"uri":"x","size":-1},"label":7,"performance":[{"name":"a","value":"b"}],"colour":"red"}"#;
    let refusal = Proposal::read(&binary(data)).unwrap_err().refusal;
    let mut fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!((refusal.code, fields), (Code::SchemaViolation, vec!["", "/artifact/size", "/label", "/performance/0/value"]));
}
