//! `annals git`: commits looked up, and hooks that tell of them.

mod hook;
mod install;

use super::output::{Output, plain};
use super::{Exit, Failure};
use crate::config::git::{Check, Git, Hook};
use crate::git::lookup::{self, Code, Found, Outcome};
use crate::git::opened::Access;
use crate::git::place::Place;
use crate::git::work;

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Git, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Git::Check(args) => check(args, out),
        Git::Hook(Hook::Install(args)) => install::run(args, out),
        Git::Hook(Hook::Run(args)) => hook::run(args, out),
        Git::Work => work::run().map(|()| Exit::Done).map_err(|e| Failure::Failed(e.into())),
    }
}

fn check(args: &Check, out: &mut Output) -> Result<Exit, Failure> {
    // a path from where we are, too
    let here = std::fs::canonicalize(&args.repository).ok();
    let repository = here.map_or_else(|| args.repository.clone(), |path| path.display().to_string());
    let code = Code { repository: Some(repository), commit: Some(args.commit.clone()), dirty: None };
    let found = match lookup::named(&code) {
        Ok((place, id)) => looked_up(args, place, &code, &id)?,
        Err(found) => return Err(Failure::Usage(found.reason.unwrap_or_default())),
    };
    if args.json {
        out.json(&found)?;
    } else {
        let mut line = |name: &str, value: &serde_json::Value| out.line(&format!("{name:<9} {}", plain(value)));
        line("outcome", &found.outcome.to_string().into())?;
        line("commit", &found.code.commit.clone().into())?;
        line("branches", &found.branches.clone().into())?;
        line("tags", &found.tags.clone().into())?;
        if let Some(reason) = &found.reason {
            line("reason", &reason.as_str().into())?;
        }
    }
    Ok(if found.outcome == Outcome::Found { Exit::Done } else { Exit::No })
}

/// Behind a URL, in a copy that is thrown away.
fn looked_up(args: &Check, place: Place, code: &Code, id: &str) -> Result<Found, Failure> {
    let copies = std::env::temp_dir().join(format!("annals-git-{}", uuid::Uuid::now_v7().simple()));
    let is_far = matches!(place, Place::There(_));
    if is_far {
        std::fs::create_dir(&copies).map_err(|e| anyhow::anyhow!("no copy can be kept in {}: {e}", copies.display()))?;
    }
    let access = Access::new(place, copies, args.credentials.clone());
    let found = lookup::look_up(&access, code, id, true);
    if is_far {
        let _ = std::fs::remove_dir_all(&access.copies); // of no use to anybody
    }
    Ok(found)
}
