//! `annals drift report`: the drift that another tool's report found, as one proposal.

use std::io::Read;

use annals_events::names::Key;
use serde_json::json;

use super::client::{Client, Path};
use super::output::Output;
use super::{Exit, Failure, emit};
use crate::config::ask::{DriftReport, DriftTool, Emit};
use crate::drift::{self, REPORT_BYTES_MAX, Tool};

/// Runs the command.
///
/// # Errors
/// [`Failure`]; a file that says nothing is a [`Failure::Usage`], a refusal is an [`Exit`].
pub fn report(args: &DriftReport, out: &mut Output) -> Result<Exit, Failure> {
    let tool = match args.from {
        DriftTool::Evidently => Tool::Evidently,
        DriftTool::Nannyml => Tool::Nannyml,
    };
    let key = Key::new(&args.workspace.workspace, &args.model).map_err(|e| Failure::Usage(e.to_string()))?;
    let name = args.file.display();
    let file = content(args).map_err(|e| Failure::Usage(format!("the report cannot be read from {name}: {e}")))?;
    let report = drift::read(tool, &file).map_err(|e| Failure::Usage(format!("{name}: {e}\nwhat to do: {}", e.remedy())))?;
    let Some(found) = report.drift else {
        if args.remote.json {
            let digest = drift::digest(&file);
            out.json(&json!({"outcome": "no-drift", "from": tool.name(), "digest": digest, "judged": report.judged}))?;
        } else {
            out.line(&format!("no drift in {name} ({} verdicts): nothing was recorded", report.judged))?;
        }
        return Ok(Exit::Done);
    };
    let proposed = drift::propose(tool, &file, &key, &found, args.detector.as_deref()).map_err(anyhow::Error::from)?;
    let version = match &args.channel {
        Some(channel) => Some(held(args, channel)?),
        None => args.version.clone(),
    };
    let emit = Emit {
        kind: "drifted".into(),
        model: args.model.clone(),
        version,
        data: proposed.data,
        id: Some(proposed.id),
        source: proposed.source.into(),
        expect: None,
        must_exist: false,
        time: None,
        actor: args.actor.clone(),
        attribute: Vec::new(),
        caused_by: None,
        correlation: None,
        hops: None,
        no_wait: false,
        workspace: args.workspace.clone(),
        remote: args.remote.clone(),
    };
    emit::run(&emit, out)
}

/// The file, and one byte more than is allowed, so that a larger one is seen.
fn content(args: &DriftReport) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = REPORT_BYTES_MAX as u64 + 1;
    if args.file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(&args.file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The number of the version that a channel holds now.
fn held(args: &DriftReport, channel: &str) -> Result<String, Failure> {
    let path = Path::new(&["v1", "models", &args.model, "channels", channel]).with("workspace", &args.workspace.workspace);
    let found = Client::new(&args.remote.url).get_fresh(&path)?;
    let version = found.get("version").and_then(serde_json::Value::as_u64);
    version.map(|version| version.to_string()).ok_or_else(|| Failure::Unavailable("the engine's answer names no version".into()))
}
