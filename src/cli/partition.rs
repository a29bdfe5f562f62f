//! `annals partition`: a person's decision about a partition that stands still.

use annals_events::ledger::Person;
use annals_events::names::identifier;
use serde_json::json;

use super::output::{Output, printable, say};
use super::{Exit, Failure, offline};
use crate::arbiter::resume::{self, Decision, Done, ResumeError};
use crate::config::offline::{Partition, Resume};

/// Runs the command.
///
/// # Errors
/// [`Failure`] says what was not so, or what is not known.
pub fn run(args: &Partition, out: &mut Output) -> Result<Exit, Failure> {
    let Partition::Resume(args) = args;
    let decision = match (args.accept, args.skip_to) {
        (Some((seq, hash)), _) => Decision::Accept { seq, hash },
        (None, Some(offset)) => Decision::SkipTo(offset),
        (None, None) => return Err(Failure::Usage("say --accept SEQ:HASH or --skip-to OFFSET".into())),
    };
    let done = decide(args, decision)?;
    if args.json {
        let place = format!("{}:{}", args.partition, done.seq);
        out.json(&json!({"position": place, "hash": done.hash.to_string(), "accepted": done.accepted, "next": done.next}))?;
    } else {
        for record in &done.accepted {
            out.line(&format!("accepted {}", printable(record)))?;
        }
        out.line(&format!("recorded at {}:{} (hash {})", args.partition, done.seq, done.hash))?;
        say(&format!("partition {} goes on with the proposal at offset {}", args.partition, done.next));
    }
    Ok(Exit::Done)
}

fn decide(args: &Resume, decision: Decision) -> Result<Done, Failure> {
    // nobody asks who it is: as with a proposal, the name stays a claim
    let actor = match &args.actor {
        Some(name) => {
            identifier("actor", name).map_err(|e| Failure::Usage(e.to_string()))?;
            format!("unverified:{name}")
        }
        None => "unverified".into(),
    };
    let time = offline::now();
    let person = Person { actor: &actor, reason: args.reason.as_deref().filter(|text| !text.is_empty()), time: &time };
    let journal = offline::open_to_write(&args.place)?;
    resume::resume(&*journal, args.partition, decision, person).map_err(|error| match error {
        ResumeError::Refused(_) | ResumeError::Halt { .. } => Failure::Refused(error.to_string()),
        ResumeError::Read(_) | ResumeError::Claim(_) => Failure::Unavailable(error.to_string()),
        ResumeError::Append(_) | ResumeError::Unseen => Failure::Unsettled(error.to_string()),
    })
}
