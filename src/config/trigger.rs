//! The flags of `annals trigger`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::webhook::{All, Change, Deliveries, One, When, Why};
use super::{Remote, Workspace};

/// Rules that act when something happens.
#[derive(Clone, Debug, Subcommand)]
pub enum Trigger {
    /// Make a trigger, or change it
    Add(Add),
    /// Make the triggers of a file: YAML or JSON, one or many; says what changed
    Apply(Apply),
    /// List the triggers
    List(All),
    /// Show one
    Show(One),
    /// Hold a trigger back; events are kept for it
    Pause(Change),
    /// Let a trigger go on, with what was kept
    Resume(Change),
    /// End a trigger: what waits is skipped
    Remove(Change),
    /// List what a trigger did: what caused it, how it went, what came of it
    History(Deliveries),
    /// Do tasks again, such as parked ones
    Replay(Replay),
    /// Show what a trigger would have done, without doing anything
    DryRun(DryRun),
}

/// A trigger.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  annals trigger add retrain --type drifted --model 'fraud-*' \\\n    \
    --do '{\"propose\":{\"type\":\"retrain-requested\",\"data\":{\"cause\":{\"kind\":\"drift\",\"drift\":\"{drift}\"}}}}' --cooldown 86400\n  \
    annals trigger add train --type retrain-requested --do '{\"pipeline\":{\"run\":\"train.sh\"}}'\n\
    \nWhat can be done: webhook, command, pipeline, propose, kubernetes, git, lookup. {model}, {version}, {channel}, {event}, {drift}, {run} are filled in.")]
pub struct Add {
    /// Its name; one that is there already is changed
    pub name: String,
    /// Which events.
    #[command(flatten)]
    pub when: When,
    /// What to do, as JSON
    #[arg(long = "do", value_name = "JSON", value_parser = object)]
    pub act: Value,
    /// At most once per model in so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub cooldown: Option<u64>,
    /// While a task of the same text is under way, another one is not begun
    #[arg(long, value_name = "TEXT")]
    pub dedup: Option<String>,
    /// Note events, but do nothing until it is resumed
    #[arg(long)]
    pub paused: bool,
    /// Who, and why.
    #[command(flatten)]
    pub why: Why,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// The triggers of a file.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// The file: a trigger or a list of them, each with `trigger` (its name), `when`, `do`; - is standard input
    pub file: PathBuf,
    /// Who, and why.
    #[command(flatten)]
    pub why: Why,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// Tasks again.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").args(["parked", "waiting", "since", "task"]).required(true)))]
pub struct Replay {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// All that are parked: they failed for good
    #[arg(long)]
    pub parked: bool,
    /// All that failed and wait for another try: now
    #[arg(long)]
    pub waiting: bool,
    /// All done and parked ones whose event was recorded since then
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The one of this number
    #[arg(long, value_name = "NUMBER")]
    pub task: Option<u64>,
}

/// A rehearsal.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("rule").args(["name", "file"]).required(true)))]
pub struct DryRun {
    /// A trigger that is there
    pub name: Option<String>,
    /// A trigger that is not there yet: a file with one; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only events recorded from then on
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only events recorded until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// List so many events at most
    #[arg(long, value_name = "N", default_value = "100")]
    pub max: u64,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
    if value.is_object() { Ok(value) } else { Err("must be a JSON object".into()) }
}
