//! The commands that take the journal away or check it: export, audit verify and backup.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use annals_events::time::Timestamp;
use anyhow::{Context, anyhow};
use serde_json::json;

use super::client::{Client, Path};
use super::output::{Output, counted, printable, say};
use super::progress::Progress;
use super::replay::copy_lines;
use super::{Exit, Failure};
use crate::audit::bundle::{self, Trailer};
use crate::audit::verify::{self, Report};
use crate::config::offline::Place;
use crate::config::{Backup, Export, Verify};
use crate::journal::sqlite::{self, SqliteJournal};
use crate::journal::{self, Journal};

/// Opens the journal of a directory for reading; an engine may run on it.
///
/// # Errors
/// [`Failure`] says what a person has to do.
pub fn open(dir: &FilePath) -> Result<Arc<dyn Journal>, Failure> {
    Ok(Arc::new(SqliteJournal::open_read_only(dir).map_err(anyhow::Error::from)?))
}

/// Opens a journal to write what no arbiter decides: in a directory on which no engine runs, or on Kafka.
///
/// # Errors
/// [`Failure`] says what a person has to do.
pub fn open_to_write(place: &Place) -> Result<Arc<dyn Journal>, Failure> {
    let kafka = place.on_kafka();
    if kafka.is_none() {
        open(&place.data)?; // a directory without a journal must not get one by this
    }
    Ok(journal::open::open(&place.data, kafka, false, None).map_err(anyhow::Error::from)?)
}

/// The time by this machine's clock, RFC 3339.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).to_string()
}

/// Runs `export`.
///
/// # Errors
/// [`Failure`]; there is no new file then, and an old one is as it was.
pub fn export(args: &Export, out: &mut Output) -> Result<Exit, Failure> {
    if args.file.as_os_str() == "-" {
        write_export(args, &mut |line| out.bytes(line))?;
        return Ok(Exit::Done);
    }
    let beside = beside(&args.file);
    let trailer = write_file(args, &beside).inspect_err(|_| {
        let _ = fs::remove_file(&beside); // it is half an export, or was never made
    })?;
    fs::rename(&beside, &args.file).with_context(|| format!("{} cannot be written", args.file.display()))?;
    if args.remote.json {
        out.json(&json!({"file": args.file, "records": trailer.records, "end": trailer.end}))?;
    } else {
        out.line(&format!(
            "{}: {} of {}",
            args.file.display(),
            counted(trailer.records, "record"),
            counted(trailer.end.len() as u64, "partition")
        ))?;
    }
    Ok(Exit::Done)
}

/// `journal.ndjson.tmp`, in the same directory, so that the rename at the end is atomic.
fn beside(file: &FilePath) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    file.with_file_name(name)
}

fn write_file(args: &Export, path: &FilePath) -> Result<Trailer, Failure> {
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = BufWriter::with_capacity(256 * 1024, File::create(path).with_context(cannot)?);
    let trailer = write_export(args, &mut |line| Ok(file.write_all(line).with_context(cannot)?))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    Ok(trailer)
}

/// Hands every line on, and returns what the last one says.
fn write_export(args: &Export, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<Trailer, Failure> {
    let mut last = Vec::new();
    let mut take = |line: &[u8]| {
        last.clear();
        last.extend_from_slice(line);
        take(line)
    };
    match &args.data {
        Some(dir) => export_directory(dir, &mut take)?,
        None => {
            let client = Client::new(&args.remote.url);
            let progress = Progress::records("exporting", Some(client.partitions()?.events()));
            let stream = client.stream(&Path::new(&["v1", "journal"]), &[])?;
            copy_lines(stream, &mut |line| {
                progress.add(1);
                take(line)
            })?;
            progress.finish();
        }
    }
    let trailer = serde_json::from_slice(&last);
    trailer.map_err(|_| Failure::Unavailable("the export broke off before its last line: ask again".into()))
}

fn export_directory(dir: &FilePath, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let journal = open(dir)?;
    let progress = Progress::records("exporting", total(&*journal));
    // the exporter knows only of `io::Error`; ours is kept beside it
    let mut failure = None;
    let exported = bundle::export(&*journal, &mut |line, records| {
        progress.add(records);
        take(line.as_bytes()).map_err(|e| {
            failure = Some(e);
            io::Error::other("stopped")
        })
    });
    progress.finish();
    match (failure, exported) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(Failure::Failed(error.into())),
        (None, Ok(_)) => Ok(()),
    }
}

fn total(journal: &dyn Journal) -> Option<u64> {
    (0..journal.partitions()).map(|p| journal.end(p).ok()).sum()
}

/// Runs `audit verify`.
///
/// # Errors
/// [`Failure`] if nothing could be checked; what is wrong in the journal is a report.
pub fn verify(args: &Verify, out: &mut Output) -> Result<Exit, Failure> {
    let report = match (&args.data, &args.file) {
        (Some(dir), _) => verify_directory(dir)?,
        (None, Some(file)) => verify_file(file)?,
        (None, None) => return Err(Failure::Usage("name a file, or --data DIR".into())),
    };
    if args.json {
        out.json(&report)?;
    } else {
        for line in describe(&report) {
            out.line(&line)?;
        }
    }
    Ok(if report.ok { Exit::Done } else { Exit::No })
}

/// Checks the journal of a directory.
///
/// # Errors
/// [`Failure`] if it cannot be opened or read.
pub fn verify_directory(dir: &FilePath) -> Result<Report, Failure> {
    let journal = open(dir)?;
    let progress = Progress::records("verifying", total(&*journal));
    let report = verify::journal(&*journal, &mut |records| progress.add(records));
    progress.finish();
    Ok(report.map_err(anyhow::Error::from)?)
}

fn verify_file(file: &FilePath) -> Result<Report, Failure> {
    if file.as_os_str() == "-" {
        return Ok(check(&mut io::stdin().lock(), None)?);
    }
    let cannot = || format!("{} cannot be read", file.display());
    let opened = File::open(file).with_context(cannot)?;
    let bytes = opened.metadata().with_context(cannot)?.len();
    Ok(check(&mut BufReader::with_capacity(256 * 1024, opened), Some(bytes))?)
}

fn check(input: &mut dyn BufRead, bytes: Option<u64>) -> anyhow::Result<Report> {
    let progress = Progress::bytes("verifying", bytes);
    let report = verify::file::verify(input, &mut |bytes| progress.add(bytes));
    progress.finish();
    Ok(report?)
}

/// A report in words: the verdict first.
pub fn describe(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    match &report.finding {
        None => lines.push(format!(
            "whole: {} of {} in {}",
            counted(report.records, "record"),
            counted(report.models as u64, "model"),
            counted(report.partitions.into(), "partition")
        )),
        Some(finding) => {
            let mut place = Vec::new();
            place.extend(finding.partition.map(|p| format!("partition {p}")));
            place.extend(finding.seq.map(|s| format!("seq {s}")));
            place.extend(finding.line.map(|l| format!("line {l}")));
            lines.push(format!("NOT WHOLE: {}: {}", place.join(", "), printable(&finding.message)));
            lines.push(format!("good before it: {}", counted(report.records, "record")));
        }
    }
    lines.push(format!("journal {}", printable(&report.journal)));
    if report.duplicates + report.orphans > 0 {
        lines.push(format!("dropped by the rules, harmless: {} copies, {} orphans", report.duplicates, report.orphans));
    }
    lines.extend(report.heads.iter().map(|(partition, end)| format!("head {partition}:{} {}", end.seq, end.hash)));
    lines
}

/// Runs `backup`.
///
/// # Errors
/// [`Failure`]; there is no journal in the target then.
pub fn backup(args: &Backup, out: &mut Output) -> Result<Exit, Failure> {
    let progress = Progress::records("copying pages", Some(0));
    let copied = sqlite::backup(&args.data, &args.target, &mut |done, all| progress.set(done, all));
    progress.finish();
    copied.map_err(|e| anyhow!(e))?;
    if args.json {
        out.json(&json!({"backup": args.target, "of": args.data}))?;
    } else {
        let with = if args.target.join(annals_projections::ops::FILE).exists() { " and of the operational store" } else { "" };
        out.line(&format!("{}: a copy of the journal{with} in {}", args.target.display(), args.data.display()))?;
        say("an engine can start on it: the views are built anew; `annals audit verify --data` checks it");
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::{Finding, What};

    #[test]
    fn a_half_export_lies_beside_its_place() {
        assert_eq!(beside(FilePath::new("a/journal.ndjson")), FilePath::new("a/journal.ndjson.tmp"));
        assert_eq!(beside(FilePath::new("x")), FilePath::new("x.tmp"));
    }

    fn report(finding: Option<Finding>) -> Report {
        Report {
            ok: finding.is_none(),
            journal: "j".into(),
            partitions: 3,
            records: 12,
            models: 2,
            duplicates: 0,
            orphans: 0,
            heads: [(0, bundle::End { seq: 4, hash: "ab".into() })].into(),
            finding,
        }
    }

    #[test]
    fn a_report_says_the_verdict_first_and_names_the_place() {
        assert_eq!(describe(&report(None)), ["whole: 12 records of 2 models in 3 partitions", "journal j", "head 0:4 ab"]);
        let finding = Finding { what: What::Edited, partition: Some(1), seq: Some(7), line: Some(9), message: "it was changed".into() };
        assert_eq!(describe(&report(Some(finding)))[0], "NOT WHOLE: partition 1, seq 7, line 9: it was changed");
    }

    #[test]
    fn an_export_of_no_journal_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.ndjson");
        let remote = crate::config::Remote { url: String::new(), json: false };
        let args = Export { file: file.clone(), data: Some(dir.path().join("nothing")), remote };
        assert_eq!(export(&args, &mut Output::stdout()).unwrap_err().code(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// A directory with a few hundred events, closed again.
    fn directory() -> tempfile::TempDir {
        use crate::journal::Batch;
        use annals_events::{kind::Kind, ledger::Ledger, names::partition_of, proposal::Proposal, time::Timestamp};
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let partition = partition_of("default/iris", journal.partitions());
        let mut ledger = Ledger::new(partition);
        ledger.apply(&journal.records(partition, 0, 1).unwrap().items[0].record).unwrap();
        let mut claim = journal.claim(partition).unwrap();
        for n in 0..300 {
            let (kind, data) = match n {
                0 => (Kind::ModelCreated, "{}"),
                _ => (Kind::ModelMeasured, r#"{"metric":"accuracy","value":0.97,"reason":"measured once more, as every hour"}"#),
            };
            let attributes =
                [("specversion", "1.0"), ("id", &n.to_string()), ("source", "/t"), ("type", kind.name()), ("subject", "default/iris")];
            let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let proposal = Proposal::from_parts(attributes, data.into(), Some(b"default/iris")).unwrap();
            let (verdict, record) = ledger.overlay().judge(n, Timestamp(i64::MAX / 4_000_000), &proposal.to_submission());
            let record = record.unwrap_or_else(|| panic!("{verdict:?}"));
            ledger.apply(&record).unwrap();
            claim.append(Batch { records: vec![record], verdicts: Vec::new() }).unwrap();
            claim.commit().unwrap();
        }
        dir
    }

    #[test]
    fn a_damaged_page_is_a_clear_failure_wherever_it_is() {
        let whole = directory();
        assert_eq!(verify_directory(whole.path()).unwrap().records, 12 + 300);
        let file = whole.path().join(sqlite::FILE);
        let bytes = fs::read(&file).unwrap();
        let mut noticed = 0;
        for page in (0..bytes.len()).step_by(4096) {
            let mut damaged = bytes.clone();
            damaged[page..(page + 4096).min(bytes.len())].fill(0xa5);
            fs::write(&file, damaged).unwrap();
            let said = match verify_directory(whole.path()) {
                Ok(report) if report.ok => continue, // nothing of the journal was in that page
                Ok(report) => report.finding.unwrap().message,
                Err(failure) => failure.to_string(),
            };
            noticed += 1;
            assert!(said.contains("backup") || said.contains("choose"), "page at {page}: {said}");
        }
        assert!(noticed > bytes.len() / 4096 / 2, "{noticed} of {} pages", bytes.len() / 4096);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_failure_and_a_foreign_one_is_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("foreign");
        assert_eq!(verify_file(&file).unwrap_err().code(), 1);
        fs::write(&file, "hello\n").unwrap();
        assert!(!verify_file(&file).unwrap().ok);
    }
}
