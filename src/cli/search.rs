//! `annals search`: what is found by words; and the search cluster's index made anew.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, Path};
use super::output::{Output, counted, plain, printable, say};
use super::progress::Progress;
use super::read::items;
use super::replay::copy_lines;
use super::{Exit, Failure};
use crate::config::Remote;
use crate::config::search::{Search, SearchCommand};

const TITLES: [&str; 7] = ["NAME", "VERSION", "LABEL", "ALGORITHM", "CHANNELS", "CREATED", "DESCRIPTION"];
/// Documents of a page.
const PAGE: u32 = 1000;

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Search, out: &mut Output) -> Result<Exit, Failure> {
    if let Some(SearchCommand::Reindex(remote)) = &args.command {
        return reindex(remote, out);
    }
    let found = find(args)?;
    if args.remote.json {
        out.json(&found)?;
        return Ok(Exit::Done);
    }
    let documents = items(&found);
    out.table(&TITLES, &documents.iter().map(row).collect::<Vec<_>>())?;
    if documents.is_empty() {
        say("nothing was found");
    }
    if let Some(reason) = found["instead"]["reason"].as_str() {
        say(&format!("the database answered, not the search cluster: {}", printable(reason)));
    }
    Ok(Exit::Done)
}

/// All pages, up to the limit, as one.
fn find(args: &Search) -> Result<Value, Failure> {
    let client = Client::new(&args.remote.url);
    let path = Path::new(&["v1", "search"]).with("q", &args.query.join(" ")).with("workspace", &args.workspace.workspace);
    let mut left = args.limit.map_or(u64::MAX, u64::from);
    let (mut all, mut after): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let limit = left.min(PAGE.into());
        let page = path.clone().with("limit", &limit.to_string()).maybe("after", after.as_deref());
        let mut page = if after.is_none() { client.get_fresh(&page)? } else { client.get(&page)? };
        let some = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        left -= some.len() as u64;
        all.extend(some);
        after = page["next"].as_str().map(Into::into);
        if after.is_none() || left == 0 {
            page["items"] = Value::Array(all);
            return Ok(page);
        }
    }
}

fn row(document: &Value) -> Vec<String> {
    let of = |name: &str| plain(&document[name]);
    ["name", "version", "label", "algorithm", "channels", "created", "description"].map(of).into()
}

/// A line of the engine's answer.
#[derive(Debug, Deserialize)]
struct Step {
    state: String,
    #[serde(default)]
    documents: u64,
    #[serde(default)]
    of: u64,
    #[serde(default)]
    index: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    remedy: String,
}

fn reindex(remote: &Remote, out: &mut Output) -> Result<Exit, Failure> {
    let progress = Progress::records("reindexing", Some(0));
    let mut last = None;
    let stream = Client::new(&remote.url).post_stream(&Path::new(&["v1", "search", "reindex"]))?;
    let read = copy_lines(stream, &mut |line| {
        let step: Step = serde_json::from_slice(line).map_err(|e| anyhow::anyhow!("the engine's answer cannot be read: {e}"))?;
        progress.set(step.documents, step.of.max(step.documents));
        last = Some(step);
        Ok(())
    });
    progress.finish();
    read?;
    match last {
        Some(step) if step.state == "done" => {
            if remote.json {
                out.json(&json!({"index": step.index, "documents": step.documents}))?;
            } else {
                out.line(&format!("{}: made from {}, and read from now on", step.index, counted(step.documents, "document")))?;
            }
            Ok(Exit::Done)
        }
        Some(step) if step.state == "failed" => Err(Failure::Refused(format!("{}\nwhat to do: {}", step.detail, step.remedy))),
        _ => Err(Failure::Unsettled("the answer broke off: the reindex goes on, and `annals doctor` shows it".into())),
    }
}
