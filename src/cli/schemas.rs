//! `annals schemas`: the event types, and the JSON Schema of each.

use annals_events::kind::{About, Kind};
use annals_events::schema::{self, Half};
use serde_json::{Value, json};

use super::output::Output;
use super::{Exit, Failure};
use crate::config::Schemas;

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Schemas, out: &mut Output) -> Result<Exit, Failure> {
    let Some(name) = &args.kind else { return list(args.json, out) };
    let unknown = || Failure::Usage(format!("`{name}` is not an event type: `annals schemas` lists them"));
    let kind = Kind::from_any(name).ok_or_else(unknown)?;
    let text = schema::text(kind, if args.decided { Half::Decided } else { Half::Data });
    if args.json {
        let value: Value = serde_json::from_str(text).map_err(anyhow::Error::from)?;
        out.json(&value)?;
    } else {
        out.line(text.trim_end())?;
    }
    Ok(Exit::Done)
}

fn list(as_json: bool, out: &mut Output) -> Result<Exit, Failure> {
    if as_json {
        let kind = |kind: &Kind| json!({"type": kind.name(), "short": kind.short(), "subject": subject(*kind)});
        let kinds: Vec<Value> = Kind::ALL.iter().map(kind).collect();
        out.json(&json!({"items": kinds}))?;
        return Ok(Exit::Done);
    }
    let row = |kind: &Kind| vec![kind.short().to_owned(), subject(*kind).to_owned(), kind.name().to_owned()];
    out.table(&["SHORT", "SUBJECT", "TYPE"], &Kind::ALL.iter().map(row).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}

/// What the subject of a type names.
fn subject(kind: Kind) -> &'static str {
    match kind.about() {
        About::Model => "model",
        About::Version => "version",
        About::Either => "model or version",
        About::Workspace => "workspace",
        About::Target => "model, version or workspace",
        About::Engine => "written by the engine",
    }
}
