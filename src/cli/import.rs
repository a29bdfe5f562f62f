//! `annals import`: an exported journal becomes the journal of a new engine, or records of others become events.

mod elasticsearch;

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::output::{Output, counted, printable, say};
use super::progress::Progress;
use super::{Exit, Failure, offline};
use crate::audit::import::{self, Imported, Source};
use crate::config::offline::{Import, ImportFrom};
use crate::journal::open;
use crate::journal::sqlite::Unopened;

/// Runs the command.
///
/// # Errors
/// [`Failure`]; a directory has no journal then, and topics have one that no engine serves.
pub fn run(args: &Import, out: &mut Output) -> Result<Exit, Failure> {
    let file = match (&args.from, &args.file) {
        (Some(ImportFrom::Elasticsearch(from)), _) => return elasticsearch::run(from, out),
        (None, Some(file)) => file,
        (None, None) => return Err(Failure::Usage("of which file?".into())),
    };
    let source = read(file)?;
    let imported = write(args, &source)?;
    if args.json {
        out.json(&json!({"file": file, "records": imported.records, "heads": imported.heads}))?;
        return Ok(Exit::Done);
    }
    let partitions = counted(imported.heads.len() as u64, "partition");
    out.line(&format!("{}: {} of {partitions}", file.display(), counted(imported.records, "record")))?;
    for (partition, end) in &imported.heads {
        out.line(&format!("head {partition}:{} {}", end.seq, end.hash))?;
    }
    say("an engine can start on it: the views are built anew");
    Ok(Exit::Done)
}

/// Reads the whole file once, and refuses one that does not verify.
fn read(file: &Path) -> Result<Source, Failure> {
    let bytes = std::fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()))?.len();
    let progress = Progress::bytes("verifying", Some(bytes));
    let source = Source::open(file, &mut |bytes| progress.add(bytes));
    progress.finish();
    source.map_err(|error| match error {
        import::ImportError::NotWhole(report) => {
            let why = offline::describe(&report).into_iter().next().unwrap_or_default();
            Failure::Refused(format!("{}: {}; nothing was written", file.display(), printable(&why)))
        }
        other => Failure::Failed(anyhow::Error::from(other)),
    })
}

fn write(args: &Import, source: &Source) -> Result<Imported, Failure> {
    let progress = Progress::records("importing", Some(source.records()));
    let (time, mut step) = (offline::now(), |records| progress.add(records));
    let imported = match args.place.on_kafka() {
        Some(kafka) => {
            let journal = open::open_unopened(kafka).map_err(anyhow::Error::from)?;
            source.write(&*journal, import::Announce::First, &time, &mut step)
        }
        None => {
            let unopened = Unopened::new(&args.place.data, source.partitions()).map_err(anyhow::Error::from)?;
            let imported = source.write(unopened.journal(), import::Announce::Never, &time, &mut step);
            if imported.is_ok() {
                unopened.finish().map_err(anyhow::Error::from)?;
            }
            imported
        }
    };
    progress.finish();
    imported.map_err(|error| match error {
        import::ImportError::Taken { .. } | import::ImportError::OtherPartitions { .. } => Failure::Refused(error.to_string()),
        other => Failure::Failed(anyhow::Error::from(other)),
    })
}
