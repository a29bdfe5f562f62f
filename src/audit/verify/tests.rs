//! Each way to tamper with a small journal, and the record that must be named.

use std::time::Duration;

use annals_events::ledger::{Ledger, opening};
use annals_events::names::partition_of;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Verdict;

use super::*;
use crate::audit::bundle::{Line, export};
use crate::journal::{Claim, ClaimError, Proposed, Queued};

const PARTITIONS: u32 = 3;

/// A journal that is only read.
struct Shelf {
    partitions: Vec<Vec<Located>>,
    damaged_from: Option<(u32, u64)>,
}

impl Journal for Shelf {
    fn id(&self) -> &'static str {
        "shelf"
    }
    fn partitions(&self) -> u32 {
        PARTITIONS
    }
    fn propose(&self, _: u32, _: Submission) -> Proposed<'_> {
        unreachable!("only read")
    }
    fn claim(&self, _: u32) -> Result<Box<dyn Claim>, ClaimError> {
        unreachable!("only read")
    }
    fn proposals(&self, _: u32, _: u64, _: usize) -> Result<Vec<Queued>, ReadError> {
        Ok(Vec::new())
    }
    fn records(&self, partition: u32, from: u64, max: usize) -> Result<Chunk<Located>, ReadError> {
        // two at a time, so that chunks have seams
        let items: Vec<_> = self.partitions[partition as usize].iter().filter(|l| l.offset >= from).take(max.min(2)).cloned().collect();
        if self.damaged_from.is_some_and(|(p, offset)| p == partition && items.last().is_some_and(|l| l.offset >= offset)) {
            return Err(ReadError::Corrupt("a page cannot be read".into()));
        }
        let next = items.last().map_or(from, |l| l.offset + 1);
        Ok(Chunk { items, next })
    }
    fn end(&self, partition: u32) -> Result<u64, ReadError> {
        Ok(self.partitions[partition as usize].last().map_or(0, |l| l.offset + 1))
    }
    fn verdicts(&self, _: u32, from: u64, _: usize) -> Result<Chunk<Verdict>, ReadError> {
        Ok(Chunk { items: Vec::new(), next: from })
    }
    fn verdicts_end(&self, _: u32) -> Result<u64, ReadError> {
        Ok(0)
    }
    fn verdict(&self, _: &str, _: &str) -> Result<Option<(u32, Verdict)>, ReadError> {
        Ok(None)
    }
    fn settled_until(&self, _: u32) -> Timestamp {
        Timestamp(0)
    }
    fn wait(&self, _: u32, _: Duration) {}
}

fn submission(id: &str, kind: &str, subject: &str, data: &str) -> Submission {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let key = subject.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let headers = vec![
        header("content-type", "application/json"),
        header("ce_specversion", "1.0"),
        header("ce_id", id),
        header("ce_source", "/tests"),
        header("ce_type", kind),
        header("ce_subject", subject),
        header("ce_correlationid", "c-1"),
    ];
    Submission { key: Some(key.into_bytes()), headers, value: data.as_bytes().to_vec() }
}

/// Seven events, one of them a refusal, for each of a few models, written by the real ledger.
fn shelf() -> Shelf {
    let mut ledgers: Vec<Ledger> = (0..PARTITIONS).map(Ledger::new).collect();
    let mut partitions: Vec<Vec<Located>> = vec![Vec::new(); PARTITIONS as usize];
    let mut put = |partition: u32, ledger: &mut Ledger, record: Record| {
        ledger.apply(&record).unwrap();
        let log = &mut partitions[partition as usize];
        log.push(Located { offset: log.len() as u64, record });
    };
    for (partition, ledger) in (0..).zip(&mut ledgers) {
        put(partition, ledger, opening(partition, PARTITIONS, Timestamp(1_000)));
    }
    let mut src = 0;
    let of = |partition| move |model: &String| partition_of(&format!("default/{model}"), PARTITIONS) == partition;
    let names = |partition| (0..).map(|n| format!("grün-{n}")).filter(of(partition)).take(3);
    for model in (0..PARTITIONS).flat_map(names) {
        let key = format!("default/{model}");
        let version = format!("{key}/1");
        let (key, version) = (key.as_str(), version.as_str());
        let digest = "ab".repeat(32);
        let registered = format!(r#"{{"artifact":{{"digest":"sha256:{digest}"}},"description":"äöü \"quoted\" 1.10"}}"#);
        let life = [
            ("version.registered", key, registered.as_str()),
            ("version.promoted", version, r#"{"channel":"staging","reason":"good"}"#),
            ("version.promoted", version, r#"{"channel":"staging","reason":"again"}"#), // refused, and that matters
            ("version.promoted", version, r#"{"channel":"production","reason":"better"}"#),
            ("alias.set", version, r#"{"alias":"champion"}"#),
            ("model.measured", version, r#"{"metric":"accuracy","value":0.970}"#),
            ("model.measured", version, r#"{"metric":"accuracy","value":1.0e-3}"#),
        ];
        for (n, (kind, subject, data)) in life.iter().enumerate() {
            let partition = partition_of(key, PARTITIONS);
            let ledger = &mut ledgers[partition as usize];
            let submission = submission(&format!("{model}-{n}"), &format!("dev.annals.{kind}.v1"), subject, data);
            let (verdict, record) = ledger.overlay().judge(src, Timestamp(2_000), &submission);
            src += 1;
            put(partition, ledger, record.unwrap_or_else(|| panic!("{verdict:?}")));
        }
    }
    Shelf { partitions, damaged_from: None }
}

fn exported() -> Vec<String> {
    let mut lines = Vec::new();
    export(&shelf(), &mut |line, _| {
        lines.push(line);
        Ok(())
    })
    .unwrap();
    lines
}

fn verified(lines: &[String]) -> Report {
    file::verify(&mut lines.concat().as_bytes(), &mut |_| {}).unwrap()
}

/// The line index of a record that has at least two records before and behind it in its partition,
/// and its place.
fn middle(lines: &[String]) -> (usize, u32, u64) {
    let partition = (0..PARTITIONS).find(|p| count(lines, *p) > 8).unwrap();
    let index = lines.iter().position(|l| l.starts_with(&format!("{{\"partition\":{partition},")) && seq(l) == 4).unwrap();
    (index, partition, 4)
}

fn count(lines: &[String], partition: u32) -> usize {
    lines.iter().filter(|l| l.starts_with(&format!("{{\"partition\":{partition},"))).count()
}

fn seq(line: &str) -> u64 {
    serde_json::from_str::<Line<'_>>(line).unwrap().claimed_seq().unwrap()
}

/// The same line with something changed and the hash made right again: what a careful forger writes.
fn forged(line: &str, change: impl Fn(&str) -> String) -> String {
    let changed = change(line);
    assert_ne!(changed, line, "the change changed nothing");
    let mut parsed: Line<'_> = serde_json::from_str(&changed).unwrap();
    parsed.hash = parsed.record().hash().to_string().into();
    serde_json::to_string(&parsed).unwrap() + "\n"
}

fn named(lines: &[String], what: What, partition: u32, seq: u64, index: usize) {
    let report = verified(lines);
    let finding = report.finding.clone().unwrap_or_else(|| panic!("nothing was found: {report:?}"));
    let found = (finding.what, finding.partition, finding.seq, finding.line);
    assert_eq!(found, (what, Some(partition), Some(seq), Some(index as u64 + 1)), "{}", finding.message);
    assert!(!report.ok);
}

#[test]
fn a_whole_journal_passes_as_a_file_and_as_a_directory() {
    let lines = exported();
    let (file, directory) = (verified(&lines), journal(&shelf(), &mut |_| {}).unwrap());
    assert!(file.ok, "{:?}", file.finding);
    assert_eq!(file, directory);
    assert_eq!((file.records, file.models, file.heads.len()), (lines.len() as u64 - 2, 9, 3));
}

#[test]
fn an_exported_file_reads_like_the_journal_that_it_came_from() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), exported().concat()).unwrap();
    let shelf = crate::audit::shelf::Shelf::open(file.path()).unwrap();
    let mut lines = Vec::new();
    export(&shelf, &mut |line, _| {
        lines.push(line);
        Ok(())
    })
    .unwrap();
    assert_eq!(lines, exported());
    std::fs::write(file.path(), exported()[..4].concat()).unwrap();
    assert!(crate::audit::shelf::Shelf::open(file.path()).is_err());
}

#[test]
fn an_edited_value_header_key_or_hash_is_named() {
    let lines = exported();
    let (index, partition, place) = middle(&lines);
    let edits = [
        ("\"value\":\"{\\\"data\\\":{", "\"value\":\"{\\\"data\\\": {"),
        ("\"ce_actor\":\"", "\"ce_actor\":\"x"),
        ("\"hash\":\"", "\"hash\":\"0"),
        ("\"key\":\"default/", "\"key\":\"other/"),
    ];
    for (from, to) in edits {
        let mut edited = lines.clone();
        edited[index] = edited[index].replacen(from, to, 1);
        assert_ne!(edited[index], lines[index], "{from}");
        named(&edited, What::Edited, partition, place, index);
    }
}

fn partition_at(line: &str) -> u32 {
    serde_json::from_str::<Line<'_>>(line).unwrap().partition
}

#[test]
fn a_record_that_was_rewritten_together_with_its_hash_is_named_by_the_one_behind_it() {
    let mut lines = exported();
    let (index, partition, place) = middle(&lines);
    lines[index] = forged(&lines[index], |l| l.replacen("\"ce_correlationid\":\"c-1", "\"ce_correlationid\":\"c-2", 1));
    named(&lines, What::Edited, partition, place, index);
}

#[test]
fn a_rewritten_last_record_is_named_by_the_last_line() {
    let mut lines = exported();
    let index = lines.len() - 2;
    let (partition, place) = (partition_at(&lines[index]), seq(&lines[index]));
    lines[index] = forged(&lines[index], |l| l.replacen("\"ce_correlationid\":\"c-1", "\"ce_correlationid\":\"c-2", 1));
    named(&lines, What::Edited, partition, place, index);
}

#[test]
fn a_dropped_record_is_named() {
    let mut lines = exported();
    let (index, partition, place) = middle(&lines);
    lines.remove(index);
    named(&lines, What::Dropped, partition, place, index);
}

#[test]
fn swapped_records_are_named() {
    let mut lines = exported();
    let (index, partition, place) = middle(&lines);
    lines.swap(index, index + 1);
    named(&lines, What::Swapped, partition, place, index);
}

#[test]
fn a_repeated_record_is_named() {
    let mut lines = exported();
    let (index, partition, place) = middle(&lines);
    lines.insert(index + 1, lines[index].clone());
    named(&lines, What::Repeated, partition, place, index + 1);
}

#[test]
fn an_inserted_record_is_named_wherever_it_stands() {
    let lines = exported();
    let (index, partition, place) = middle(&lines);
    let intruder = forged(&lines[index], |l| l.replacen("\"ce_correlationid\":\"c-1", "\"ce_correlationid\":\"c-2", 1));
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines.insert(at, line.to_owned());
        lines
    };
    named(&with(index, &intruder), What::Inserted, partition, place, index);
    named(&with(index + 1, &intruder), What::Inserted, partition, place, index + 1);
    let mut unfounded: Line<'_> = serde_json::from_str(&intruder).unwrap();
    let prevhash = unfounded.headers.iter_mut().find(|(name, _)| name == "ce_prevhash").unwrap();
    prevhash.1 = "00".repeat(32).into();
    unfounded.hash = unfounded.record().hash().to_string().into();
    let unfounded = serde_json::to_string(&unfounded).unwrap() + "\n";
    named(&with(index, &unfounded), What::Inserted, partition, place, index);
}

#[test]
fn a_truncated_file_is_noticed_wherever_it_ends() {
    let lines = exported();
    for kept in 0..lines.len() {
        let finding = verified(&lines[..kept]).finding.unwrap();
        assert_eq!(finding.what, What::Truncated, "{kept} lines: {}", finding.message);
    }
    let whole = lines.concat();
    for bytes in (0..whole.len() - 1).step_by(97) {
        let cut = String::from_utf8_lossy(&whole.as_bytes()[..bytes]).into_owned();
        assert!(!verified(&[cut]).ok, "{bytes} bytes");
    }
}

#[test]
fn records_that_are_missing_at_the_end_of_a_partition_are_named() {
    let lines = exported();
    for partition in 0..PARTITIONS {
        let mut cut = lines.clone();
        let last = cut.iter().rposition(|l| l.starts_with(&format!("{{\"partition\":{partition},"))).unwrap();
        let place = seq(&lines[last]);
        cut.remove(last);
        named(&cut, What::Truncated, partition, place, cut.len() - 1);
    }
}

#[test]
fn a_partition_that_is_missing_altogether_is_named_even_if_the_last_line_agrees() {
    let mut lines: Vec<_> = exported().into_iter().filter(|l| !l.starts_with("{\"partition\":1,")).collect();
    let place = lines.len() - 1;
    named(&lines, What::Truncated, 1, 0, place);
    let mut trailer: serde_json::Value = serde_json::from_str(&lines[place]).unwrap();
    trailer["end"].as_object_mut().unwrap().remove("1");
    lines[place] = format!("{trailer}\n");
    named(&lines, What::Dropped, 1, 0, place);
}

#[test]
fn a_lie_in_the_first_or_last_line_is_noticed() {
    let lines = exported();
    let last = lines.len() - 1;
    let records = format!("\"records\":{}", lines.len() - 2);
    for (index, from, to) in [
        (0, "\"partitions\":3", "\"partitions\":4"),
        (0, "\"partitions\":3", "\"partitions\":2"),
        (0, "\"partitions\":3", "\"partitions\":4000000000"),
        (0, "journal-export", "something-else"),
        (0, "\"version\":1", "\"version\":2"),
        (last, records.as_str(), "\"records\":1"),
        (last, "\"seq\":", "\"seq\":1"),
        (last, "\"hash\":\"", "\"hash\":\"x"),
    ] {
        let mut edited = lines.clone();
        edited[index] = edited[index].replacen(from, to, 1);
        assert_ne!(edited[index], lines[index], "{from}");
        assert!(!verified(&edited).ok, "{from} -> {to}");
    }
}

#[test]
fn something_behind_the_end_or_a_field_outside_the_hash_is_noticed() {
    let mut lines = exported();
    let (index, ..) = middle(&lines);
    let mut added = lines.clone();
    added[index] = added[index].replacen("{\"partition\"", "{\"note\":\"x\",\"partition\"", 1);
    assert_eq!(verified(&added).finding.map(|f| (f.what, f.line)), Some((What::Unreadable, Some(index as u64 + 1))));
    added[index] = lines[index].replacen("\"ce_correlationid\"", "\"ce_actor\":\"x\",\"ce_correlationid\"", 1);
    assert_eq!(verified(&added).finding.map(|f| (f.what, f.line)), Some((What::Unreadable, Some(index as u64 + 1))));
    lines.push(lines[index].clone());
    assert_eq!(verified(&lines).finding.map(|f| (f.what, f.line)), Some((What::Inserted, Some(lines.len() as u64))));
}

#[test]
fn bytes_that_are_no_text_are_named_and_nothing_panics() {
    let lines = exported();
    let mut bytes = lines.concat().into_bytes();
    let second = lines[0].len() + 20;
    for (place, byte) in [(second, 0xff), (second, 0), (3, 0xff)] {
        let kept = std::mem::replace(&mut bytes[place], byte);
        assert!(!file::verify(&mut &bytes[..], &mut |_| {}).unwrap().ok);
        bytes[place] = kept;
    }
}

#[test]
fn a_record_that_the_engine_would_never_write_is_named_although_its_chain_is_whole() {
    let mut shelf = shelf();
    let log = &mut shelf.partitions[0];
    let (last, offset) = (log.last().unwrap().record.clone(), log.len() as u64);
    let view = last.view().unwrap();
    let (seq, prevhash) = ((view.seq + 1).to_string(), last.hash().to_string());
    let mut headers: Vec<(&str, &str)> = view
        .headers()
        .map(|(name, value)| match name {
            "ce_seq" => (name, seq.as_str()),
            "ce_prevhash" => (name, prevhash.as_str()),
            "ce_src" => (name, "1000000"),
            _ => (name, value),
        })
        .collect();
    let record = Record::build(view.key, &mut headers, view.value().as_bytes());
    log.push(Located { offset, record });
    let finding = journal(&shelf, &mut |_| {}).unwrap().finding.unwrap();
    assert_eq!((finding.what, finding.partition, finding.seq), (What::Edited, Some(0), Some(offset)));
    assert!(finding.message.contains("comes next"), "{}", finding.message);
}

#[test]
fn a_log_may_hold_copies_and_orphans_and_an_export_of_it_has_none() {
    let mut shelf = shelf();
    for log in &mut shelf.partitions {
        let (first, last) = (log[1].record.clone(), log.last().unwrap().record.clone());
        log.insert(2, Located { offset: 0, record: last }); // an orphan there
        log.push(Located { offset: 0, record: first });
        for (offset, located) in (0..).zip(log.iter_mut()) {
            located.offset = offset;
        }
    }
    let report = journal(&shelf, &mut |_| {}).unwrap();
    assert_eq!((report.ok, report.duplicates, report.orphans), (true, 3, 3), "{report:?}");
    let mut lines = String::new();
    export(&shelf, &mut |line, _| {
        lines.push_str(&line);
        Ok(())
    })
    .unwrap();
    let exported = file::verify(&mut lines.as_bytes(), &mut |_| {}).unwrap();
    assert_eq!((exported.ok, exported.heads), (true, report.heads));
}

#[test]
fn a_damaged_or_emptied_journal_is_a_finding_that_says_what_to_do() {
    let mut shelf = shelf();
    for seq in 0..shelf.end(1).unwrap() {
        shelf.damaged_from = Some((1, seq));
        let finding = journal(&shelf, &mut |_| {}).unwrap().finding.unwrap();
        assert_eq!((finding.what, finding.partition, finding.seq), (What::Unreadable, Some(1), Some(seq)));
        assert!(finding.message.contains("restore it from a backup"), "{}", finding.message);
    }
    shelf.damaged_from = None;
    shelf.partitions[2].clear();
    let finding = journal(&shelf, &mut |_| {}).unwrap().finding.unwrap();
    assert_eq!((finding.what, finding.partition, finding.seq), (What::Truncated, Some(2), Some(0)));
}
