//! `annals deployments`: what is wanted on each target beside what was found there.

use serde_json::Value;

use super::client::{Client, Path};
use super::output::{Output, plain, say};
use super::read::{all_pages, ask, items};
use super::{Exit, Failure};
use crate::config::ask::Deployments;

const TITLES: [&str; 10] = ["TARGET", "CHANNEL", "MODEL", "WANTED", "FOUND", "STATE", "SINCE", "EVENT", "POSITION", "NOTE"];

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Deployments, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.question.remote.url);
    let path = ask(Path::new(&["v1", "deployments"]), &args.question)
        .maybe("channel", args.channel.as_deref())
        .maybe("state", args.state.as_deref())
        .maybe("target", args.target.as_deref());
    let listing = all_pages(&client, &path)?;
    if args.question.remote.json {
        out.json(&listing)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = items(&listing).iter().map(row).collect();
    out.table(&TITLES, &rows)?;
    if rows.is_empty() {
        say("nothing is wanted or found anywhere");
    }
    Ok(Exit::Done)
}

fn row(target: &Value) -> Vec<String> {
    let of = |place: &str| plain(target.pointer(place).unwrap_or(&Value::Null));
    // of what is none of ours there is an image, and no version
    let found = [of("/found/version"), of("/found/image")].into_iter().find(|text| text != "-");
    let mut row: Vec<String> = ["/target", "/channel", "/model", "/wanted/version"].map(of).into();
    row.push(found.unwrap_or_else(|| if target["found"].is_object() { "?".into() } else { "-".into() }));
    row.extend(["/state", "/since", "/event", "/position", "/note/text"].map(of));
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_what_is_wanted_and_found_why_and_since_when() {
        let target = json!({
            "target": "kubernetes/kind/ml/iris", "channel": "production", "model": "iris", "state": "failed",
            "since": "T", "event": "e-1", "position": "3:17", "note": {"text": "no such image", "event": "e-1"},
            "wanted": {"deployment": "d2", "version": 2}, "found": {"deployment": "d1", "version": 1, "image": null},
        });
        let cells = ["kubernetes/kind/ml/iris", "production", "iris", "2", "1", "failed", "T", "e-1", "3:17", "no such image"];
        assert_eq!(row(&target), cells);
        let foreign = json!({"target": "t", "model": null, "state": "foreign", "wanted": null, "found": {"version": null, "image": "i:1"}});
        assert_eq!(row(&foreign)[..6], ["t", "-", "-", "-", "i:1", "foreign"]);
        assert_eq!(row(&json!({"found": {"image": null}}))[4], "?", "something is there");
        assert_eq!((row(&json!({"found": null}))[4].as_str(), row(&json!({})).len()), ("-", TITLES.len()));
    }
}
