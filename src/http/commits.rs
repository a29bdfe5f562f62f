//! `--git-check refuse`: a run whose commit is dirty, missing or cannot be looked up is not taken at this door. What is decided
//! stays pure: a pipeline on Kafka passes no door, and is flagged by a rule that looks commits up.

use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::proposal::Proposal;
use annals_events::verdict::{Code, Outcome, Refusal};
use serde_json::Value;

use super::App;
use crate::git::lookup::{self, Found};
use crate::git::worker::Worker;

/// How long a look may take while the caller waits.
const LOOK_MAX: Duration = Duration::from_secs(20);

/// The proposal, if it may go on.
///
/// # Errors
/// Why it may not.
pub async fn let_in(app: &App, proposal: Proposal) -> Result<Proposal, Refusal> {
    let Some(worker) = app.commits.as_ref().filter(|_| proposal.kind == Kind::RunTrained) else { return Ok(proposal) };
    let Err(refusal) = judge(worker, &proposal).await else { return Ok(proposal) };
    // a retry of what was taken once is answered as such, whatever became of the commit
    if was_taken(app, &proposal).await { Ok(proposal) } else { Err(refusal) }
}

async fn judge(worker: &Worker, proposal: &Proposal) -> Result<(), Refusal> {
    // what is not readable is refused by the rules
    let Ok(data) = serde_json::from_str::<Value>(&proposal.data) else { return Ok(()) };
    let code: lookup::Code = data.get("code").and_then(|code| serde_json::from_value(code.clone()).ok()).unwrap_or_default();
    let dirty = || {
        let message = "the run's code had changes that no commit holds (`code.dirty`)";
        Refusal::new(Code::CommitDirty, message, "commit them, train again and propose that run")
    };
    if code.dirty == Some(true) {
        return Err(dirty());
    }
    let Found { outcome, reason, .. } = worker.look_up(&code, false, Some(LOOK_MAX)).await;
    let why = reason.unwrap_or_default();
    let commit = code.commit.as_deref().unwrap_or("without an id");
    match outcome {
        lookup::Outcome::Found => Ok(()),
        lookup::Outcome::Dirty => Err(dirty()),
        lookup::Outcome::Missing => {
            let message = format!("the commit {commit} is not in its repository: {why}");
            Err(Refusal::new(Code::CommitMissing, message, "push the branch that has it, then send the run again with the same id"))
        }
        lookup::Outcome::Ambiguous
        | lookup::Outcome::Shallow
        | lookup::Outcome::Unreachable
        | lookup::Outcome::Denied
        | lookup::Outcome::Unnamed => {
            let message = format!("nobody knows whether the commit {commit} is in its repository ({outcome}): {why}");
            let remedy = "name the repository and the whole commit in `code`, see that the engine can ask it, and send the run again with the same id";
            Err(Refusal::new(Code::CommitUnknown, message, remedy))
        }
    }
}

async fn was_taken(app: &App, proposal: &Proposal) -> bool {
    let runner = app.viewing.borrow().runner();
    if let Some(runner) = runner
        && let Ok(Some(_)) = runner.views().timeline_event(&proposal.source, &proposal.id).await
    {
        return true;
    }
    let (door, source, id) = (app.door.clone(), proposal.source.clone(), proposal.id.clone());
    let verdict = super::blocking(move || door.verdict(&source, &id)).await;
    matches!(verdict, Ok(Ok(Some((_, verdict)))) if matches!(verdict.outcome, Outcome::Accepted(_) | Outcome::Duplicate(_)))
}
