//! `annals git hook install`: hooks that tell of commits, beside those that are there or not at all.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use annals_events::names::Key;
use serde_json::json;

use crate::cli::output::Output;
use crate::cli::{Exit, Failure};
use crate::config::git::Install;
use crate::git::checkout::{Checkout, Tracked};

/// The hooks, by git's names.
const HOOKS: [&str; 2] = ["post-commit", "post-merge"];
/// By which a hook of ours is known, and one of somebody else's that calls us by itself.
const OURS: &str = "written by `annals git hook install`";
const CALLS_US: &str = "annals git hook run";
/// What a hook that was there is called, if ours runs it first.
const CHAINED: &str = "before-annals";

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Install, out: &mut Output) -> Result<Exit, Failure> {
    Key::new(&args.workspace.workspace, &args.model).map_err(|e| Failure::Usage(e.to_string()))?;
    let work = Checkout::open(Some(&args.repository)).map_err(Failure::Usage)?;
    let path = work.inside(&args.path).map_err(Failure::Usage)?;
    let directory = work.hooks();
    let foreign: Vec<PathBuf> = HOOKS
        .map(|name| directory.join(name))
        .into_iter()
        .filter(|hook| hook.exists() && !says(hook, OURS) && !says(hook, CALLS_US))
        .collect();
    if let (Some(hook), false) = (foreign.first(), args.chain) {
        let text = format!(
            "there is a hook already: {}\n--chain keeps it as {}.{CHAINED} and runs it first; or let it run `annals git hook run {}` itself",
            hook.display(),
            hook.display(),
            hook.file_name().unwrap_or_default().to_string_lossy()
        );
        return Err(Failure::Refused(text));
    }
    let taken = foreign.iter().map(|hook| chained(hook)).find(|kept| kept.exists());
    if let Some(kept) = taken {
        return Err(Failure::Refused(format!("{} is there already: move it away, or into the hook that there is now", kept.display())));
    }
    let tracked = Tracked {
        path,
        model: args.model.clone(),
        workspace: args.workspace.workspace.clone(),
        main: args.main.clone(),
        url: args.url.clone(),
        actor: args.actor.clone(),
    };
    work.track(&tracked).map_err(Failure::Refused)?;
    let written = |hook: &Path, e: std::io::Error| anyhow::anyhow!("the hook {} cannot be written: {e}", hook.display());
    std::fs::create_dir_all(&directory).map_err(|e| written(&directory, e))?;
    for hook in &foreign {
        std::fs::rename(hook, chained(hook)).map_err(|e| written(hook, e))?;
    }
    for name in HOOKS {
        let hook = directory.join(name);
        if says(&hook, CALLS_US) && !says(&hook, OURS) {
            continue; // it is somebody's own
        }
        write(&hook, &script(name)?).map_err(|e| written(&hook, e))?;
    }
    if args.json {
        out.json(&json!({"hooks": directory, "path": tracked.path, "model": args.model, "chained": foreign}))?;
    } else {
        out.line(&format!(
            "commits of {} are told as runs of {}, and what comes onto {} as versions",
            tracked.path, args.model, args.main
        ))?;
        out.line(&format!("hooks: {}", HOOKS.map(|name| directory.join(name).display().to_string()).join(", ")))?;
        if work.shares_hooks() {
            let text = "other repositories may use the hooks in {}, too (core.hooksPath): where nothing is told, they do nothing";
            out.line(&text.replace("{}", &directory.display().to_string()))?;
        }
    }
    Ok(Exit::Done)
}

fn says(hook: &Path, words: &str) -> bool {
    std::fs::read(hook).is_ok_and(|text| String::from_utf8_lossy(&text).contains(words))
}

fn chained(hook: &Path) -> PathBuf {
    let mut name = hook.as_os_str().to_owned();
    name.push(format!(".{CHAINED}"));
    name.into()
}

/// A hook: it runs what was there before, and ends as that ended.
fn script(name: &str) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(anyhow::Error::from)?;
    let program = program.display().to_string().replace('\'', r"'\''");
    Ok(format!(
        "#!/bin/sh\n\
         # Tells Annals of changes of a model's file; {OURS}. Removing this file ends it.\n\
         before=\"$0.{CHAINED}\"\n\
         ended=0\n\
         if [ -x \"$before\" ]; then \"$before\" \"$@\" || ended=$?; fi\n\
         annals='{program}'\n\
         [ -x \"$annals\" ] || annals=annals\n\
         \"$annals\" git hook run {name} || :\n\
         exit $ended\n"
    ))
}

/// In one piece: git may be about to run it.
fn write(hook: &Path, text: &str) -> std::io::Result<()> {
    let mut new = hook.as_os_str().to_owned();
    new.push(".new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(new, hook)
}
