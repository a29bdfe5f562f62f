//! The flags of `annals trigger`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value};

use super::{Remote, Workspace};

/// Rules that act when something happens.
#[derive(Clone, Debug, Subcommand)]
pub enum Trigger {
    /// Make a trigger, or change it
    Add(Add),
    /// List the triggers, and how their tasks are
    List(All),
    /// Show one
    Show(One),
    /// Hold it back: events are taken down for it, and what they cause waits
    Pause(Change),
    /// Let it go on, with what was taken down
    Resume(Change),
    /// End it: what waits is skipped
    Remove(Change),
    /// Show what it did: each event, and what came of it
    History(History),
    /// Have tasks done again
    Replay(Replay),
    /// Show what a rule would have done over history; nothing is done
    DryRun(DryRun),
    /// Make the triggers what a YAML or JSON file says; what is so already stays
    Apply(Apply),
}

/// A trigger.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    annals trigger add retrain --type drifted --where /data/severity=high --cooldown 3600 \\\n    \
    --do '{\"propose\":{\"type\":\"retrain-requested\",\"data\":{\"cause\":{\"kind\":\"drift\",\"drift\":\"{drift}\"}}}}'\n  \
    annals trigger add train --type retrain-requested --do '{\"command\":{\"run\":\"train.sh\",\"args\":[\"{model}\"],\"timeout_s\":3600}}'\n  \
    annals trigger add release --type evaluated --where /data/verdict=passed \\\n    \
    --do '{\"propose\":{\"type\":\"promoted\",\"version\":\"event\",\"data\":{\"channel\":\"production\",\"reason\":\"passed\"}}}'\n\
    \nIn texts {model}, {version}, {channel}, {event}, {drift}, {run}, {workspace}, {position} and {type} are filled in.")]
pub struct Add {
    /// Its name; one that is there already is changed
    pub name: String,
    /// Events of these types, comma-separated
    #[arg(long = "type", value_name = "TYPE,...", value_delimiter = ',', required = true)]
    pub kinds: Vec<String>,
    /// Only events of this model; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only events about this channel; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Only events that say this, such as /data/severity=high; may be repeated
    #[arg(long = "where", value_name = "POINTER=VALUE", value_parser = member)]
    pub members: Vec<(String, Value)>,
    /// What is done: JSON with one of propose, command, pipeline, webhook, kubernetes
    #[arg(long = "do", value_name = "JSON", value_parser = object)]
    pub act: Map<String, Value>,
    /// At most one action per model in this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub cooldown: Option<u64>,
    /// While an action of this text is under way, another is not begun
    #[arg(long, value_name = "TEXT")]
    pub dedup: Option<String>,
    /// Do nothing until it is resumed
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

/// Who wants it, and why.
#[derive(Clone, Debug, Args)]
pub struct Why {
    /// Who wants it
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// All triggers.
#[derive(Clone, Debug, Args)]
pub struct All {
    /// In which workspace; `*` for all.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A trigger that is there.
#[derive(Clone, Debug, Args)]
pub struct One {
    /// Its name
    pub name: String,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A change of one.
#[derive(Clone, Debug, Args)]
pub struct Change {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Who, and why.
    #[command(flatten)]
    pub why: Why,
}

/// What one did.
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Only in this state: pending, running, done, parked or skipped
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only about this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Most items, the newest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
}

/// Tasks of one again.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").args(["parked", "since", "task"]).required(true)))]
pub struct Replay {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// All that are parked
    #[arg(long)]
    pub parked: bool,
    /// All done and parked ones whose event was recorded at or after this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// This one; `annals trigger history` has the numbers
    #[arg(long, value_name = "N")]
    pub task: Option<u64>,
}

/// A rule on history.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").args(["name", "file"]).required(true)))]
pub struct DryRun {
    /// A trigger that is there
    pub name: Option<String>,
    /// A YAML or JSON file of one rule, as `apply` takes it; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The first moment; the beginning unless named
    #[arg(long, value_name = "TIME|POSITION")]
    pub from: Option<String>,
    /// The last moment; now unless named
    #[arg(long, value_name = "TIME|POSITION")]
    pub until: Option<String>,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// A file of triggers.
#[derive(Clone, Debug, Args)]
#[command(after_help = "A file holds one rule, a list of them, or documents behind `---`:\n  \
    name: release\n  when: {type: [evaluated], where: {/data/verdict: passed}}\n  \
    do: {propose: {type: promoted, version: event, data: {channel: production}}}\n  cooldown_s: 60\n\
    \nTriggers that the file does not name stay as they are.")]
pub struct Apply {
    /// The file; - is standard input
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

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}; say a JSON object, such as {{\"propose\":{{…}}}}"))
}

/// `/data/severity=high`: what is no JSON scalar is text.
fn member(text: &str) -> Result<(String, Value), String> {
    let (pointer, value) = text.split_once('=').ok_or("say POINTER=VALUE, such as /data/severity=high")?;
    let scalar = serde_json::from_str::<Value>(value).ok().filter(|value| value.is_number() || value.is_boolean() || value.is_string());
    Ok((pointer.to_owned(), scalar.unwrap_or_else(|| value.into())))
}
