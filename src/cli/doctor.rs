//! `annals doctor`: how the engine is, in plain words, and what a person should do.

use std::path::Path as FilePath;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Answer, Client, Partitions, Path};
use super::offline::{open, verify_directory};
use super::output::{Output, counted, printable};
use super::{Exit, Failure};
use crate::config::Doctor;

/// Seconds that a view may be behind before somebody should look.
const STALE_S: f64 = 60.0;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Well,
    /// Passes by itself.
    Wait,
    /// Needs a person.
    Act,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

impl Finding {
    fn well(what: impl Into<String>) -> Self {
        Self { level: Level::Well, what: what.into(), todo: None }
    }

    fn wait(what: impl Into<String>, todo: &str) -> Self {
        Self { level: Level::Wait, what: what.into(), todo: Some(todo.into()) }
    }

    fn act(what: impl Into<String>, todo: &str) -> Self {
        Self { level: Level::Act, what: what.into(), todo: Some(todo.into()) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AllViews {
    views: Vec<View>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    name: String,
    state: String,
    reason: Option<String>,
    lag_events: u64,
    stale_s: f64,
}

/// Runs the command; [`Exit::No`] if something needs a person.
///
/// # Errors
/// [`Failure`] if the engine does not answer at all, or the directory cannot be opened.
pub fn run(args: &Doctor, out: &mut Output) -> Result<Exit, Failure> {
    let findings = match &args.data {
        Some(dir) => directory(dir)?,
        None => engine(&Client::new(&args.remote.url))?,
    };
    let well = findings.iter().all(|finding| finding.level != Level::Act);
    if args.remote.json {
        out.json(&json!({"well": well, "findings": findings}))?;
    } else {
        for finding in &findings {
            let word = match finding.level {
                Level::Well => "well",
                Level::Wait => "WAIT",
                Level::Act => "ACT ",
            };
            out.line(&format!("{word}  {}", printable(&finding.what)))?;
            if let Some(todo) = &finding.todo {
                out.line(&format!("      what to do: {}", printable(todo)))?;
            }
        }
        out.line(if well { "nothing needs a person" } else { "something needs a person" })?;
    }
    Ok(if well { Exit::Done } else { Exit::No })
}

fn engine(client: &Client) -> Result<Vec<Finding>, Failure> {
    let ready = client.try_get(&Path::new(&["readyz"]), &[])?;
    let mut findings = readiness(&Readiness::deserialize(&ready.body).unwrap_or_default());
    findings.extend(partitions(&client.partitions()?));
    findings.extend(views(&client.try_get(&Path::new(&["v1", "views"]), &[])?));
    Ok(findings)
}

fn readiness(readiness: &Readiness) -> Vec<Finding> {
    if readiness.ready {
        return vec![Finding::well("the engine is ready")];
    }
    // what the reasons mean is said where the partition or the view is looked at
    vec![Finding::wait(format!("the engine is not ready: {}", readiness.reasons.join("; ")), "see below")]
}

fn partitions(partitions: &Partitions) -> Vec<Finding> {
    let models: u64 = partitions.partitions.iter().map(|p| p.models).sum();
    let count = partitions.partitions.len();
    let mut findings = Vec::new();
    for partition in &partitions.partitions {
        let (number, reason) = (partition.partition, partition.reason.as_deref().unwrap_or("it does not say why"));
        let at = partition.seq.map_or_else(|| "before its first event".to_owned(), |seq| format!("at seq {seq}"));
        match partition.state.as_str() {
            "owner" | "standby" => {}
            "folding" => findings.push(Finding::wait(
                format!("partition {number} folds its journal, {at}"),
                "wait: proposals of its models are answered when it is done",
            )),
            "troubled" => findings.push(Finding::act(
                format!("partition {number} cannot work for now and tries again, {at}: {reason}"),
                "if it stays so, look at the disk (space, permissions) and at the engine's log",
            )),
            "halted" => findings.push(Finding::act(
                format!("partition {number} has halted, {at}: {reason}"),
                "run `annals audit verify --data DIR`; if the journal is damaged, stop the engine and restore a backup; if somebody \
                 else wrote to it, keep the directory as evidence",
            )),
            other => findings.push(Finding::act(
                format!("partition {number} is `{other}`, which this build does not know"),
                "use the engine's own build of this program",
            )),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::well(format!(
            "{count} partitions work: {} of {} in journal {}",
            counted(partitions.events(), "event"),
            counted(models, "model"),
            partitions.journal
        )));
    }
    findings
}

fn views(answer: &Answer) -> Vec<Finding> {
    let (what, remedy) = answer.wrong();
    if answer.status == 503 {
        return vec![Finding::wait(what, "wait: reads are answered when the views are open")];
    }
    if answer.status >= 300 {
        return vec![Finding::act(what, if remedy.is_empty() { "look at the engine's log" } else { &remedy })];
    }
    let all = AllViews::deserialize(&answer.body).unwrap_or_default();
    all.views.iter().map(view).collect()
}

fn view(view: &View) -> Finding {
    let (name, lag) = (&view.name, view.lag_events);
    let reason = view.reason.as_deref().unwrap_or("it does not say why");
    match view.state.as_str() {
        "stopped" => Finding::act(
            format!("view {name} does not go on, {lag} events behind: {reason}"),
            &format!("run `annals rebuild {name}`: nothing is lost, for a view is made from the journal"),
        ),
        "rebuilding" => Finding::wait(format!("view {name} is being rebuilt"), "wait: the old one answers until then"),
        "following" if view.stale_s > STALE_S => Finding::act(
            format!("view {name} follows, {lag} events and {:.0} s behind", view.stale_s),
            "if it falls further behind, look at the machine's load and the disk; `annals rebuild` is quicker than catching up on millions",
        ),
        "following" => Finding::well(format!("view {name} follows, {lag} events behind")),
        other => {
            Finding::act(format!("view {name} is `{other}`, which this build does not know"), "use the engine's own build of this program")
        }
    }
}

/// Looks into a directory; an engine may run on it.
fn directory(dir: &FilePath) -> Result<Vec<Finding>, Failure> {
    let journal = open(dir)?;
    let mut findings =
        vec![Finding::well(format!("{} holds journal {} of {} partitions", dir.display(), journal.id(), journal.partitions()))];
    drop(journal);
    let report = verify_directory(dir)?;
    findings.push(match &report.finding {
        None => Finding::well(format!("its {} records are whole", report.records)),
        Some(finding) => {
            let place = format!("partition {}, seq {}", finding.partition.unwrap_or_default(), finding.seq.unwrap_or_default());
            Finding::act(
                format!("its records are not whole: {place}: {}", finding.message),
                "keep the directory as evidence, stop the engine, and start it on a restored backup",
            )
        }
    });
    let views = dir.join(annals_projections::views::FILE);
    findings.push(if views.exists() {
        Finding::well("its views are there; `annals doctor` asks a running engine how they are")
    } else {
        Finding::wait("it has no views", "start the engine: it makes them from the journal")
    });
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    fn of(state: &str) -> Vec<Finding> {
        let body = json!({"journal": "j", "partitions": [
            {"partition": 0, "state": "owner", "seq": 3, "models": 1, "hash": ""}, {"partition": 1, "state": state, "seq": null, "reason": "r"}]});
        partitions(&Partitions::deserialize(&body).unwrap())
    }

    #[test]
    fn every_state_of_a_partition_is_explained() {
        assert_eq!(levels(&of("owner")), [Level::Well]);
        assert_eq!(levels(&of("standby")), [Level::Well]);
        assert_eq!(levels(&of("folding")), [Level::Wait]);
        for state in ["troubled", "halted", "new-state"] {
            let found = of(state);
            assert_eq!(levels(&found), [Level::Act], "{state}");
            assert!(found[0].todo.is_some());
        }
        assert!(of("owner")[0].what.contains("4 events of 1 model in"), "{:?}", of("owner"));
    }

    fn seen(status: u16, body: Value) -> Vec<Level> {
        levels(&views(&Answer { status, retry_after_s: None, body }))
    }

    #[test]
    fn every_state_of_a_view_is_explained() {
        let one = |state: &str, stale: f64| json!({"views": [{"name": "registry", "state": state, "stale_s": stale, "lag_events": 2, "position": ""}]});
        assert_eq!(seen(200, one("following", 0.1)), [Level::Well]);
        assert_eq!(seen(200, one("following", 600.0)), [Level::Act]);
        assert_eq!(seen(200, one("stopped", 0.0)), [Level::Act]);
        assert_eq!(seen(200, one("rebuilding", 0.0)), [Level::Wait]);
        assert_eq!(seen(200, one("new-state", 0.0)), [Level::Act]);
        assert_eq!((seen(503, Value::Null), seen(500, Value::Null)), (vec![Level::Wait], vec![Level::Act]));
    }

    #[test]
    fn a_directory_is_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(directory(dir.path()).unwrap_err().code(), 1);
        drop(crate::journal::sqlite::SqliteJournal::open(dir.path()).unwrap());
        assert_eq!(levels(&directory(dir.path()).unwrap()), [Level::Well, Level::Well, Level::Wait]);
    }
}
