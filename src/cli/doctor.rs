//! `annals doctor`: how the engine is, in plain words, and what a person should do.

mod acting;
mod cluster;
mod deployments;
mod halted;
mod publisher;
mod search;
mod webhooks;

use std::path::Path as FilePath;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Answer, Client, Partitions, Path};
use super::offline::{open, verify_directory};
use super::output::{Output, counted, printable};
use super::{Exit, Failure};
use crate::config::Doctor;

/// Seconds that a view may be behind before somebody should look.
const STALE_S: f64 = 60.0;

/// How often, and after which pause, the journal's heads are asked for again where a view seems to
/// be ahead: an event is committed a moment before they tell of it.
const HEADS_TRIES: usize = 10;
const HEADS_PAUSE: Duration = Duration::from_millis(200);

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

/// What a command needs besides to be about this workspace.
fn within(workspace: &str) -> String {
    if workspace == "default" { String::new() } else { format!(" --workspace {workspace}") }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    notes: Vec<String>,
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
    position: String,
    lag_events: u64,
    stale_s: f64,
}

impl View {
    /// The first partition in which the view has events that the journal has not: partition, the
    /// view's `seq`, the journal's. A partition that is not folded yet says nothing.
    fn ahead(&self, partitions: &Partitions) -> Option<(u32, u64, u64)> {
        let ahead = |pair: &str| {
            let (partition, seq) = pair.split_once(':')?;
            let (partition, seq) = (partition.parse().ok()?, seq.parse().ok()?);
            let head = partitions.partitions.iter().find(|p| p.partition == partition)?.seq?;
            (seq > head).then_some((partition, seq, head))
        };
        self.position.split(',').find_map(ahead)
    }
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
    // the views first: heads that are asked for later cannot be behind them
    let answer = client.try_get(&Path::new(&["v1", "views"]), &[])?;
    let all = AllViews::deserialize(&answer.body).unwrap_or_default();
    let mut heads = client.partitions()?;
    let around = client.get(&Path::new(&["v1", "partitions"]))?;
    for _ in 0..HEADS_TRIES {
        if all.views.iter().all(|view| view.ahead(&heads).is_none()) {
            break;
        }
        thread::sleep(HEADS_PAUSE);
        heads = client.partitions()?;
    }
    findings.extend(partitions(&heads));
    findings.extend(cluster::findings(&around));
    findings.extend(publisher::findings(client)?);
    findings.extend(webhooks::findings(client)?);
    findings.extend(deployments::findings(client)?);
    findings.extend(search::findings(client)?);
    findings.extend(views(&answer, &all, &heads));
    findings.extend(acting::findings(client)?);
    Ok(findings)
}

fn readiness(readiness: &Readiness) -> Vec<Finding> {
    let mut findings = if readiness.ready {
        vec![Finding::well("the engine is ready")]
    } else {
        // what the reasons mean is said where the partition or the view is looked at
        vec![Finding::wait(format!("the engine is not ready: {}", readiness.reasons.join("; ")), "see below")]
    };
    // the schema registry is explained where the cluster is
    let notes = readiness.notes.iter().filter(|note| !note.starts_with("the schema registry"));
    findings.extend(notes.map(|note| {
        if note.starts_with("events are not dispatched") {
            Finding::wait(note, "see below: it is tried again and again, and nothing is lost")
        } else if note.starts_with("the operational store cannot be opened") {
            Finding::act(
                note,
                "do what it says; proposals and reads go on, but webhooks, triggers and named cursors stand still until then",
            )
        } else {
            Finding::wait(note, "proposals are judged and answered all the same; see the log")
        }
    }));
    findings
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
                "if it stays so, look at the disk (space, permissions) or at the brokers, and at the engine's log",
            )),
            "halted" => findings.push(Finding::act(format!("partition {number} has halted, {at}: {reason}"), &halted::todo(reason))),
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

fn views(answer: &Answer, all: &AllViews, heads: &Partitions) -> Vec<Finding> {
    let (what, remedy) = answer.wrong();
    if answer.status == 503 {
        return vec![Finding::wait(what, "wait: reads are answered when the views are open")];
    }
    if answer.status >= 300 {
        return vec![Finding::act(what, if remedy.is_empty() { "look at the engine's log" } else { &remedy })];
    }
    all.views.iter().map(|one| view(one, heads)).collect()
}

fn view(view: &View, heads: &Partitions) -> Finding {
    let (name, lag) = (&view.name, view.lag_events);
    if let Some((partition, seq, head)) = view.ahead(heads) {
        return Finding::act(
            format!("view {name} has seq {seq} of partition {partition}, and the journal ends at seq {head}"),
            "the journal seems to have lost records, which the view still shows: stop the engine, keep the directory, and restore a \
             backup that has them; rebuild no view before that",
        );
    }
    let reason = view.reason.as_deref().unwrap_or("it does not say why");
    if view.state == "stopped" && reason.contains("database does not answer") {
        return Finding::act(
            format!("view {name} waits for its database, {lag} events behind: {reason}"),
            "start the database, or see that it can be reached; proposals are taken meanwhile, and the view goes on by itself: rebuild nothing",
        );
    }
    let halted = heads.partitions.iter().find(|p| p.state == "halted").map(|p| p.partition);
    match (view.state.as_str(), halted) {
        ("stopped", Some(partition)) => Finding::act(
            format!("view {name} does not go on, {lag} events behind: {reason}"),
            &format!("see partition {partition} first, which has halted: rebuild no view before the journal is as it should be"),
        ),
        ("stopped", None) => Finding::act(
            format!("view {name} does not go on, {lag} events behind: {reason}"),
            &format!(
                "do what it says; `annals audit verify --data DIR` tells whether the journal is whole, and if it is, `annals rebuild \
                 {name}` makes the view anew from it"
            ),
        ),
        ("waiting", _) => Finding::wait(
            format!("view {name} waits, {lag} events behind: {reason}"),
            "it tries again and goes on by itself; if it stays so, look at the database that keeps the views, and at the network to it",
        ),
        ("rebuilding", _) => Finding::wait(format!("view {name} is being rebuilt"), "wait: the old one answers until then"),
        ("following", _) if view.stale_s > STALE_S => Finding::act(
            format!("view {name} follows, {lag} events and {:.0} s behind", view.stale_s),
            "if it falls further behind, look at the machine's load and the disk; `annals rebuild` is quicker than catching up on millions",
        ),
        ("following", _) => Finding::well(format!("view {name} follows, {lag} events behind")),
        (other, _) => {
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
        Finding::wait("it has no views", "start the engine: it makes them from the journal, here or in the database that --database names")
    });
    findings.push(if dir.join(annals_projections::ops::FILE).exists() {
        Finding::well("its operational store is there (deliveries, cursors, secrets): it is in no export, `annals backup` copies it")
    } else {
        Finding::wait(
            "it has no operational store",
            "if there was one, put it back from a backup before the start; else the start makes it, here or in the database that --database names",
        )
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
        levels(&views_of(status, body))
    }

    fn views_of(status: u16, body: Value) -> Vec<Finding> {
        let all = AllViews::deserialize(&body).unwrap_or_default();
        let heads = json!({"journal": "j", "partitions": [
            {"partition": 0, "state": "owner", "seq": 3, "models": 1, "hash": ""}, {"partition": 1, "state": "folding", "seq": null}]});
        views(&Answer { status, retry_after_s: None, body }, &all, &Partitions::deserialize(&heads).unwrap())
    }

    #[test]
    fn every_state_of_a_view_is_explained() {
        let one = |state: &str, stale: f64| json!({"views": [{"name": "registry", "state": state, "stale_s": stale, "lag_events": 2, "position": ""}]});
        assert_eq!(seen(200, one("following", 0.1)), [Level::Well]);
        assert_eq!(seen(200, one("following", 600.0)), [Level::Act]);
        assert_eq!(seen(200, one("stopped", 0.0)), [Level::Act]);
        assert_eq!(seen(200, one("rebuilding", 0.0)), [Level::Wait]);
        assert_eq!(seen(200, one("waiting", 0.0)), [Level::Wait]);
        assert_eq!(seen(200, one("new-state", 0.0)), [Level::Act]);
        assert_eq!((seen(503, Value::Null), seen(500, Value::Null)), (vec![Level::Wait], vec![Level::Act]));
        let away = json!({"views": [{"name": "registry", "state": "stopped", "reason": "the views' database does not answer: refused"}]});
        let todo = views_of(200, away)[0].todo.clone().unwrap();
        assert!(todo.contains("goes on by itself") && !todo.contains("annals rebuild"), "{todo}");
    }

    #[test]
    fn a_view_that_is_ahead_of_the_journal_is_not_to_be_rebuilt() {
        for state in ["following", "stopped"] {
            let one = |position: &str| views_of(200, json!({"views": [{"name": "registry", "state": state, "position": position}]}));
            let found = one("0:4,1:7");
            assert_eq!(levels(&found), [Level::Act]);
            assert!(found[0].what.contains("seq 4 of partition 0") && found[0].what.contains("seq 3"), "{found:?}");
            let todo = found[0].todo.as_deref().unwrap();
            assert!(todo.contains("lost records") && todo.contains("backup") && !todo.contains("annals rebuild"), "{todo}");
            // as far as the journal, and nothing is known of a partition that is being folded
            assert!(!one("0:3,1:7")[0].todo.as_deref().unwrap_or_default().contains("lost records"));
        }
    }

    #[test]
    fn a_directory_is_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(directory(dir.path()).unwrap_err().code(), 1);
        drop(crate::journal::sqlite::SqliteJournal::open(dir.path()).unwrap());
        assert_eq!(levels(&directory(dir.path()).unwrap()), [Level::Well, Level::Well, Level::Wait, Level::Wait]);
    }
}
