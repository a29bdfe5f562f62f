//! Frames that are not ours are named as such, and one record has one frame.

use super::*;

const VALUE: &str = r#"{"data":{"a":",\"decided\":"},"decided":{"b":"x,\"decided\":y"}}"#;

fn headers() -> Vec<(&'static str, &'static str)> {
    vec![
        ("ce_actor", "unverified"),
        ("ce_contentdigest", "000102030405060708090a0b0c0d0e0f"),
        ("ce_id", "1"),
        ("ce_modelseq", "1"),
        ("ce_prevhash", "00000000000000000000000000000000000000000000000000000000000000ff"),
        ("ce_recordedtime", "2026-03-01T12:00:00.000Z"),
        ("ce_rules", "1"),
        ("ce_seq", "5"),
        ("ce_source", "/p"),
        ("ce_subject", "default/iris/3"),
        ("ce_type", "dev.annals.model.measured.v1"),
    ]
}

/// A frame with its headers as they are given, unsorted.
fn raw(items: &[&[u8]]) -> Record {
    let framed = items.iter().flat_map(|i| [&u32::try_from(i.len()).unwrap().to_be_bytes()[..], i].concat());
    Record::from_frame(framed.collect())
}

fn with(name: &'static str, value: Option<&'static str>) -> Record {
    let mut headers = headers();
    headers.retain(|(n, _)| *n != name);
    headers.extend(value.map(|v| (name, v)));
    Record::build("default/iris", &mut headers, VALUE.as_bytes())
}

fn corrupt(record: &Record, words: &str) {
    let Corrupt(message) = record.view().expect_err(words);
    assert!(message.contains(words), "`{words}` is not in `{message}`");
}

#[test]
fn a_record_is_read_and_the_last_decided_is_the_engines() {
    let record = with("ce_zone", Some("z"));
    let view = record.view().unwrap();
    assert_eq!((view.seq, view.version(), view.src, view.prevhash.0[31]), (5, Some(3), None, 255));
    assert_eq!(view.content_digest, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    assert_eq!((view.data, view.decided), (r#"{"a":",\"decided\":"}"#, r#"{"b":"x,\"decided\":y"}"#));
    assert_eq!(view.headers().last(), Some(("ce_zone", "z")));
}

#[test]
fn every_header_that_is_needed_is_missed_by_name() {
    for (name, _) in headers() {
        corrupt(&with(name, None), &format!("{name} is missing"));
    }
}

#[test]
fn a_header_that_is_wrong_is_named() {
    for (name, value, words) in [
        ("ce_type", "dev.annals.nothing.v1", "not an event type"),
        ("ce_seq", "x", "not a number"),
        ("ce_seq", "-1", "not a number"),
        ("ce_modelseq", "18446744073709551616", "not a number"),
        ("ce_src", "", "not a number"),
        ("ce_rules", "4294967296", "ce_rules"),
        ("ce_recordedtime", "noon", "RFC 3339"),
        ("ce_contentdigest", "00", "ce_contentdigest"),
        ("ce_contentdigest", "000102030405060708090A0B0C0D0E0F", "ce_contentdigest"),
        ("ce_prevhash", "00", "64 lower-case"),
        ("ce_prevhash", "00000000000000000000000000000000000000000000000000000000000000f\u{e9}", "64 lower-case"),
        ("ce_hash", "00", "ce_hash"),
        ("traceparent", "x", "not a CloudEvents attribute"),
    ] {
        corrupt(&with(name, Some(value)), words);
    }
}

#[test]
fn a_frame_in_another_form_is_not_ours() {
    corrupt(&raw(&[b"annals.record.v2", b"k", b"v"]), "does not begin");
    corrupt(&raw(&[MAGIC.as_bytes()]), "cut short");
    corrupt(&raw(&[MAGIC.as_bytes(), b"k", b"ce_b", b"1", b"ce_a", b"1", b"v"]), "out of order");
    corrupt(&raw(&[MAGIC.as_bytes(), b"k", b"ce_a", b"1", b"ce_a", b"2", b"v"]), "comes twice");
    corrupt(&raw(&[MAGIC.as_bytes(), b"k", b"ce_a", b"\xff", b"v"]), "not UTF-8");
    let spoilt = with("ce_specversion", Some("%%%")).frame().to_vec();
    let at = spoilt.windows(3).position(|w| w == b"%%%").unwrap();
    corrupt(&Record::from_frame([&spoilt[..at], b"\x80%%", &spoilt[at + 3..]].concat().into()), "not UTF-8");
    // the length 0xc3 and the byte behind it would be one character of UTF-8 together
    let mut long = vec![0xa9];
    long.resize(0xc3, b'x');
    corrupt(&raw(&[MAGIC.as_bytes(), b"k", b"ce_a", &long, b"v"]), "not UTF-8");
    let whole = with("ce_zone", Some("z"));
    for cut in 0..whole.frame().len() {
        assert!(Record::from_frame(whole.frame()[..cut].into()).view().is_err(), "cut at {cut}");
    }
}

#[test]
fn a_hash_is_64_lower_case_digits() {
    let text = "00ff102030405060708090a0b0c0d0e0f0112233445566778899aabbccddeeff";
    assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
    for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}00"), &text.replace('0', "g")] {
        assert!(bad.parse::<Hash>().is_err(), "{bad}");
    }
}
