//! `annals import elasticsearch`: records that somebody has written into an index by hand become registered versions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::client::{Client, NoAnswer, Path};
use super::super::output::{Output, complain, counted, printable};
use super::super::progress::Progress;
use super::super::{Exit, Failure};
use crate::config::search::{ImportElasticsearch, SearchCluster};
use crate::world::search::cluster::{Cluster, Trouble};
use crate::world::search::foreign::Record;

/// Most records that are told of one by one.
const BAD_MAX: usize = 1_000;
/// Most bytes of a request, about: the engine takes no more than twice as much.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const BATCH: &str = "application/cloudevents-batch+json";

/// What became of the records.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    known: u64,
    /// The record's id, and why it is no event.
    bad: Vec<(String, String)>,
    bad_in_all: u64,
}

/// Runs the command; [`Exit::No`] if a record could not become an event.
///
/// # Errors
/// [`Failure`]: what was accepted stays, and the same import goes on from there.
pub fn run(args: &ImportElasticsearch, out: &mut Output) -> Result<Exit, Failure> {
    let authorization = SearchCluster::authorization(args.auth_file.as_deref()).map_err(Failure::Usage)?;
    let cluster = Cluster::new(&args.cluster, authorization.as_deref(), args.ca.as_deref()).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let progress = Progress::records("importing", Some(0));
    let tally = runtime.block_on(import(args, &cluster, &progress));
    progress.finish();
    let tally = tally?;
    for (id, why) in &tally.bad {
        complain(&format!("{}/{}: {}", args.index, printable(id), printable(why)));
    }
    if args.remote.json {
        let bad: Vec<Value> = tally.bad.iter().map(|(id, why)| json!({"id": id, "reason": why})).collect();
        out.json(
            &json!({"index": args.index, "accepted": tally.accepted, "duplicates": tally.known, "bad": tally.bad_in_all, "reasons": bad}),
        )?;
    } else {
        let registered = counted(tally.accepted, "record");
        out.line(&format!("{}: {registered} registered, {} known already, {} not imported", args.index, tally.known, tally.bad_in_all))?;
    }
    Ok(if tally.bad_in_all == 0 { Exit::Done } else { Exit::No })
}

async fn import(args: &ImportElasticsearch, cluster: &Cluster, progress: &Progress) -> Result<Tally, Failure> {
    let client = Client::new(&args.remote.url);
    if let Some(made) = cluster.made_by_annals(&args.index).await.map_err(away)? {
        return Err(Failure::Refused(format!(
            "`{made}` is an index that Annals keeps: what is in it is registered already\nwhat to do: name an index of records that somebody wrote by hand with --index"
        )));
    }
    let mut tally = Tally::default();
    let mut page = Some(cluster.records(&args.index).await.map_err(away)?);
    let mut done = 0;
    while let Some(now) = page {
        let mut events = Vec::new();
        for record in &now.records {
            match record.proposal(&args.workspace.workspace, args.actor.as_deref()) {
                Ok(event) => events.push((record, event)),
                Err(why) => tally.fail(record, why),
            }
        }
        let mut rest = &events[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest));
            propose(&client, now, &mut tally)?;
            rest = later;
        }
        done += now.records.len() as u64;
        progress.set(done, now.total.max(done));
        page = cluster.more(&now).await.map_err(away)?;
    }
    Ok(tally)
}

fn away(trouble: Trouble) -> Failure {
    let words = format!("{trouble}\nwhat to do: see that the cluster runs, and that --index names what is there");
    if matches!(trouble, Trouble::Refused(404, _)) { Failure::Refused(words) } else { Failure::Unavailable(words) }
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    status: u16,
    problem: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    remedy: String,
}

/// How many of the events go in one request; one at least.
fn fitting(events: &[(&Record, Value)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, event): &&(&Record, Value)| {
        bytes += event.to_string().len() + 1;
        bytes <= BYTES_MAX
    };
    events.iter().take_while(fits).count().max(1)
}

/// Proposes some events at once, and takes down what became of each.
fn propose(client: &Client, events: &[(&Record, Value)], tally: &mut Tally) -> Result<(), Failure> {
    let body = Value::Array(events.iter().map(|(_, event)| event.clone()).collect()).to_string();
    let lost = |none: NoAnswer| client.unavailable(none);
    let answer = client.post(&Path::new(&["v1", "events"]), &[("content-type", BATCH)], &body).map_err(lost)?;
    if answer.status != 200 {
        return Err(super::super::client::refused(&answer));
    }
    let results = Results::deserialize(&answer.body).map_err(|e| anyhow::anyhow!("the engine's answer cannot be read: {e}"))?;
    for ((record, _), verdict) in events.iter().zip(results.results) {
        match (verdict.status, verdict.problem) {
            (201, _) => tally.accepted += 1,
            (200, _) => tally.known += 1,
            (status, Some(problem)) if status < 500 => tally.fail(record, format!("{}; {}", problem.detail, problem.remedy)),
            _ => {
                return Err(Failure::Unsettled(
                    "the engine has not settled all of it: import again, what is known already is passed over".into(),
                ));
            }
        }
    }
    Ok(())
}

impl Tally {
    fn fail(&mut self, record: &Record, why: String) {
        self.bad_in_all += 1;
        if self.bad.len() < BAD_MAX {
            self.bad.push((record.id.clone(), why));
        }
    }
}
