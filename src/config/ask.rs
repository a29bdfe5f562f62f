//! The flags of the commands that propose, ask and follow.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::{Question, Remote, URL, Workspace, url};

/// A proposal.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    annals emit created --model iris --data '{\"owner\":\"ada\"}'\n  \
    annals emit promoted --model iris --version 1 --data '{\"channel\":\"production\",\"reason\":\"passed\"}'\n  \
    train | annals emit registered --model iris --data - --json\n\
    \nA retry with the same --id and the same content is never applied twice.")]
pub struct Emit {
    /// Event type in any form: promoted, version.promoted or dev.annals.version.promoted.v1
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// The model
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Its version: a number, a label, or run:ID
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// The payload: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE|-")]
    pub data: String,
    /// The proposal's id; made if it is not given
    #[arg(long)]
    pub id: Option<String>,
    /// Who produces it, as a URI reference; ids are unique per source
    #[arg(long, default_value = "/cli", env = "ANNALS_SOURCE", value_name = "URI")]
    pub source: String,
    /// Refuse it unless the model is at this sequence
    #[arg(long, value_name = "MODELSEQ")]
    pub expect: Option<u64>,
    /// Refuse it rather than create the model
    #[arg(long)]
    pub must_exist: bool,
    /// When it happened, if that is known
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// Who asks for it
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// A CloudEvents attribute of your own, such as correlationid=42; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub attribute: Vec<(String, String)>,
    /// Id of the event that caused it: the attribute `causationid`. In a program that a trigger runs it is known
    #[arg(long, env = "ANNALS_EVENT_ID", value_name = "ID")]
    pub caused_by: Option<String>,
    /// What it belongs to: the attribute `correlationid`, likewise
    #[arg(long, env = "ANNALS_CORRELATION_ID", value_name = "ID")]
    pub correlation: Option<String>,
    /// How many rules caused it, one after the other, likewise
    #[arg(long, env = "ANNALS_HOPS", value_name = "N", hide = true)]
    pub hops: Option<u32>,
    /// Do not wait for the verdict: `annals get --proposal ID` tells it later. Until the verdict is stored the proposal
    /// waits in the engine's memory only (embedded journal), so a crash loses it: ask again, and send it again with the
    /// same --id if it is not known
    #[arg(long)]
    pub no_wait: bool,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// Drift.
#[derive(Clone, Debug, Subcommand)]
pub enum Drift {
    /// Propose the drift that a tool's report found; one that found none changes nothing
    Report(DriftReport),
}

/// A tool's report.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("watched").args(["version", "channel"])))]
#[command(after_help = "Examples:\n  \
    annals drift report --from evidently --model iris --channel production report.json\n  \
    annals drift report --from nannyml --model iris --version 2 --detector \"nannyml 0.13.1\" - < drift.csv\n\
    \nThe id follows from the file and the model: the same file may be reported again. For other tools: `annals emit drifted`.")]
pub struct DriftReport {
    /// The tool that wrote the file
    #[arg(long, value_enum, value_name = "TOOL")]
    pub from: DriftTool,
    /// The model that was watched
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Its version: a number, a label, or run:ID
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// The version that this channel holds now
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Who noticed it, with the version, which no file tells: such as "evidently 0.7.23"
    #[arg(long, value_name = "TEXT")]
    pub detector: Option<String>,
    /// Who reports it
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// The file; - is standard input
    pub file: PathBuf,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// Whose reports are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriftTool {
    /// The JSON of Evidently 0.7
    Evidently,
    /// The CSV of NannyML 0.13
    Nannyml,
}

/// One thing.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("part").args(["version", "channel", "alias", "deployment"])))]
#[command(after_help = "Examples:\n  annals get iris\n  annals get iris 2\n  annals get iris --channel production\n  \
    annals get iris --alias champion --as-of 2026-03-01T12:00:00Z\n  annals get --proposal 018f-1")]
pub struct Get {
    /// The model
    #[arg(required_unless_present = "proposal")]
    pub model: Option<String>,
    /// Its version: a number, a label, or run:ID
    pub version: Option<String>,
    /// What this channel holds
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// What this alias names
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    /// This deployment
    #[arg(long, value_name = "ID")]
    pub deployment: Option<String>,
    /// What became of a proposal
    #[arg(long, value_name = "ID", conflicts_with_all = ["model", "part", "as_of"])]
    pub proposal: Option<String>,
    /// The source of that proposal
    #[arg(long, default_value = "/cli", env = "ANNALS_SOURCE", value_name = "URI")]
    pub source: String,
    /// Whom, and as of when.
    #[command(flatten)]
    pub question: Question,
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Things {
    /// Every model of the workspace
    Models,
    /// A model's versions
    Versions,
    /// What a model's channels hold
    Channels,
    /// What a model's aliases name
    Aliases,
    /// A model's deployments, also the ended ones
    Deployments,
    /// A model's drifts, also the resolved ones
    Drifts,
    /// The places of named subscribers
    Cursors,
}

/// A list.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  annals list models\n  annals list versions iris --json\n  annals list deployments iris")]
pub struct List {
    /// What to list
    pub things: Things,
    /// Whose: needed for everything but models and cursors
    pub model: Option<String>,
    /// Whom, and as of when.
    #[command(flatten)]
    pub question: Question,
}

/// What happened.
#[derive(Clone, Debug, Args)]
pub struct Timeline {
    /// Only this model
    pub model: Option<String>,
    /// Whom, and as of when.
    #[command(flatten)]
    pub question: Question,
}

/// What is wanted and found on each target.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  annals deployments\n  annals deployments --channel production --state failed\n  \
    annals deployments --target 'kubernetes/*' --as-of 2026-03-01T12:00:00Z --json\n\
    \nStates: in-sync, progressing, failed, rolled-back, foreign (nobody asked for it here), missing, changed.")]
pub struct Deployments {
    /// Only targets that serve this channel
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Only targets in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only these targets; `*` stands for anything
    #[arg(long, value_name = "PLATFORM/CLUSTER/NAMESPACE/NAME")]
    pub target: Option<String>,
    /// Whom, and as of when.
    #[command(flatten)]
    pub question: Question,
}

/// Where a version comes from.
#[derive(Clone, Debug, Args)]
pub struct Lineage {
    /// The model
    pub model: String,
    /// Its version: a number, a label, or run:ID
    pub version: String,
    /// Whom, and as of when.
    #[command(flatten)]
    pub question: Question,
}

/// What the channels held.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  annals at 2026-03-01T12:00:00Z\n  annals at 2026-03-01T12:00:00Z --model iris --channel production")]
pub struct At {
    /// A time (RFC 3339) or a position
    #[arg(value_name = "TIME|POSITION")]
    pub time: String,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only this channel
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// The journal again.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("from").args(["data", "file"])))]
#[command(
    after_help = "Examples:\n  annals replay --model iris > iris.ndjson\n  annals replay --until 2026-03-01T12:00:00Z --type promoted\n  \
    annals replay --file journal.ndjson"
)]
pub struct Replay {
    /// Only events of this model; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only events of these types, comma-separated
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only events up to this time or these positions
    #[arg(long, value_name = "TIME|POSITION")]
    pub until: Option<String>,
    /// Read this directory, not a running engine; one may run on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Read this exported file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only events of this workspace
    #[arg(long, env = "ANNALS_WORKSPACE", value_name = "NAME")]
    pub workspace: Option<String>,
    /// The engine
    #[arg(long, env = "ANNALS_URL", default_value = URL, value_name = "URL", value_parser = url)]
    pub url: String,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// With the first event of the journal
    Beginning,
    /// With the next event
    Now,
}

/// The events as they happen.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  annals subscribe\n  annals subscribe --type promoted,retired --channel production --json\n  \
    annals subscribe --name mailer --from beginning --type promoted --exec ./mail -- --to team@example.org\n\
    \nEnds with Ctrl-C, or after --max events. Each event comes at least once: tell copies by source and id. With --name the engine \
    keeps the place: it moves when a line was written, or when the program has ended with 0. One that fails is run again with \
    the same event, after growing pauses; it finds the event (JSON) on its standard input, and its parts in ANNALS_EVENT_ID, \
    ANNALS_EVENT_SOURCE, ANNALS_TYPE, ANNALS_WORKSPACE, ANNALS_MODEL, ANNALS_VERSION, ANNALS_CHANNEL, ANNALS_POSITION, ANNALS_URL.")]
pub struct Subscribe {
    /// Only events of these types, comma-separated
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only events of this model; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only events about this channel
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Where to begin, if no place is kept under --name
    #[arg(long, value_enum, default_value = "now")]
    pub from: From,
    /// Go on where the last subscriber of this name stopped; the engine keeps the place
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Forget the place that is kept under --name, and begin where --from says
    #[arg(long, requires = "name")]
    pub forget: bool,
    /// Run this program for each event, one after the other; nothing is printed then
    #[arg(long, value_name = "PROGRAM")]
    pub exec: Option<PathBuf>,
    /// Arguments of the program, behind --
    #[arg(last = true, requires = "exec", value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// Only events of this workspace
    #[arg(long, env = "ANNALS_WORKSPACE", value_name = "NAME")]
    pub workspace: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

impl List {
    /// Everything but models belongs to a model.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(&self) -> Result<(), String> {
        let word = self.things.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        match (self.things, &self.model) {
            (Things::Models, Some(_)) => Err("`annals list models` takes no model; `annals get MODEL` shows one".into()),
            (Things::Cursors, Some(_)) => Err("`annals list cursors` takes no model".into()),
            (Things::Cursors, None) if self.question.as_of.is_some() => Err("cursors have no past: leave --as-of out".into()),
            (Things::Models | Things::Cursors, None) => Ok(()),
            (_, None) => Err(format!("of which model? say `annals list {word} MODEL`")),
            (_, Some(_)) => Ok(()),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
