//! `annals replay`: the journal's events again, as CloudEvents, from an engine, a directory or a file.

use std::io::{BufRead, BufReader, Read};
use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::client::{Client, Path};
use super::offline::open;
use super::output::Output;
use super::progress::Progress;
use super::{Exit, Failure};
use crate::audit::shelf::Shelf;
use crate::config::ask::Replay;
use crate::http::cloudevent;
use crate::http::filter::Filter;
use crate::http::position::Moment;
use crate::http::problem::Problem;
use crate::journal::Journal;
use crate::journal::follow::{Follower, Mark, Until};

/// Runs the command.
///
/// # Errors
/// [`Failure`]; what was written so far is a beginning only.
pub fn run(args: &Replay, out: &mut Output) -> Result<Exit, Failure> {
    let journal: Arc<dyn Journal> = match (&args.data, &args.file) {
        (Some(dir), _) => open(dir)?,
        (None, Some(file)) => Arc::new(shelf(file)?),
        (None, None) => return remote(args, out),
    };
    local(args, journal, out)
}

fn shelf(file: &FilePath) -> Result<Shelf, Failure> {
    let shelf = Shelf::open(file).with_context(|| format!("{} cannot be replayed", file.display()));
    shelf.map_err(Failure::Failed)
}

fn remote(args: &Replay, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.url);
    let filtered = args.kind.is_some() || args.model.is_some() || args.until.is_some() || args.workspace.is_some();
    let total = if filtered { None } else { Some(client.partitions()?.events()) };
    let path = Path::new(&["v1", "events"])
        .maybe("type", args.kind.as_deref())
        .maybe("model", args.model.as_deref())
        .maybe("workspace", args.workspace.as_deref())
        .maybe("until", args.until.as_deref());
    let progress = Progress::records("replaying", total);
    let lines = copy_lines(client.stream(&path, &[])?, &mut |line| {
        progress.add(1);
        out.bytes(line)
    });
    progress.finish();
    lines.map(|()| Exit::Done)
}

/// Hands on line by line. A stream that breaks off is a failure: half an answer is no answer.
pub fn copy_lines(stream: impl Read, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut lines = BufReader::with_capacity(64 * 1024, stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(()),
            Ok(_) if line.ends_with(b"\n") => take(&line)?,
            Ok(_) => return Err(broken_off("it ends within a line")),
            Err(e) => return Err(broken_off(&e.to_string())),
        }
    }
}

fn broken_off(why: &str) -> Failure {
    Failure::Unavailable(format!("the engine's answer broke off: {why}; what came so far is not the whole, so ask again"))
}

fn local(args: &Replay, journal: Arc<dyn Journal>, out: &mut Output) -> Result<Exit, Failure> {
    let partitions = journal.partitions();
    let usage = |problem: Problem| Failure::Usage(problem.detail);
    let filter = Filter::new(args.kind.as_deref(), args.workspace.clone(), args.model.clone(), None).map_err(usage)?;
    let moment = args.until.as_deref().map(|until| Moment::parse(until, partitions)).transpose().map_err(usage)?;
    let ends: Vec<u64> = (0..partitions).map(|p| journal.end(p)).collect::<Result<_, _>>().map_err(anyhow::Error::from)?;
    let progress = Progress::records("replaying", Some(ends.iter().sum()));
    let (time, positions) = match moment {
        Some(Moment::Time(time)) => (Some(time), None),
        Some(Moment::Positions(positions)) => (None, Some(positions.0)),
        None => (None, None),
    };
    let marks = vec![Mark::default(); partitions as usize];
    let mut follower = Follower::new(journal, marks, Until { time, positions, ends });
    let mut line = Vec::new();
    while let Some(event) = follower.next_event().map_err(anyhow::Error::from)? {
        progress.add(1);
        let corrupt = |e| anyhow!("partition {}, seq {}: {e}; `annals audit verify` tells more", event.partition, event.seq);
        if filter.wants(&event.record.view().map_err(corrupt)?) {
            line.clear();
            cloudevent::write(event.partition, &event.record, &mut line).map_err(corrupt)?;
            line.push(b'\n');
            out.bytes(&line)?;
        }
    }
    progress.finish();
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_within_a_line_is_not_taken_for_whole() {
        let mut taken = 0;
        let mut count = |_: &[u8]| {
            taken += 1;
            Ok(())
        };
        assert!(copy_lines("a\nb\n".as_bytes(), &mut count).is_ok());
        assert_eq!(copy_lines("a\nb".as_bytes(), &mut count).unwrap_err().code(), 69);
        assert_eq!(taken, 3);
    }
}
