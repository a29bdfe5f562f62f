//! Flags for repositories: which the engine may touch, and the commands about commits and hooks.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, value_parser};

use super::Workspace;

/// How long a repository's host may be silent, in seconds: it may have to count and compress a large one first.
const SILENCE: u64 = 300;

/// What the engine may do with repositories.
#[derive(Clone, Debug, Args)]
pub struct Repositories {
    /// A repository that rules and checks may touch: a URL or an absolute path, or what they begin with and `/*`; none unless
    /// given; repeatable
    #[arg(long, env = "ANNALS_GIT_ALLOW", value_name = "URL|PATH", value_delimiter = ',')]
    pub git_allow: Vec<String>,
    /// Users and tokens for repositories behind URLs, as git's `store` helper writes them: https://USER:TOKEN@HOST[/PATH], a line
    /// each; read anew each time
    #[arg(long, env = "ANNALS_GIT_CREDENTIALS", value_name = "FILE")]
    pub git_credentials: Option<PathBuf>,
    /// How long a job on a repository may give no sign before it is given up: nothing is sent or taken, no history walked; in
    /// seconds
    #[arg(long, env = "ANNALS_GIT_SILENCE", value_name = "SECONDS", default_value_t = SILENCE, value_parser = value_parser!(u64).range(1..))]
    pub git_silence: u64,
    /// What becomes of a `trained` whose commit is dirty, missing or cannot be looked up, over HTTP; a rule with `lookup` records
    /// what was found, whichever way it came
    #[arg(long, env = "ANNALS_GIT_CHECK", value_enum, default_value = "off", hide_env_values = true)]
    pub git_check: Policy,
}

/// What becomes of a run whose code is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// It is taken
    #[default]
    Off,
    /// It is refused
    Refuse,
}

/// Commits and hooks.
#[derive(Clone, Debug, Subcommand)]
pub enum Git {
    /// Look a commit up in a repository: whether it is there, and which branches and tags lead to it
    Check(Check),
    /// Tell the engine of commits and merges of a model's file
    #[command(subcommand)]
    Hook(Hook),
    /// Do one job on a repository: what the engine starts for itself
    #[command(hide = true)]
    Work,
}

/// A commit.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The repository: a path, or an https:// URL
    pub repository: String,
    /// The commit's id, whole or cut to seven digits and more
    pub commit: String,
    /// Users and tokens, as of `annals serve`
    #[arg(long, env = "ANNALS_GIT_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Hooks of a repository.
#[derive(Clone, Debug, Subcommand)]
pub enum Hook {
    /// Make commits of a model's file propose `trained`, and what comes onto the main branch `registered`
    Install(Install),
    /// Tell of a commit or a merge: what the hooks call, and what makes up for one that the engine did not hear of
    Run(Run),
}

/// Hooks to be written.
#[derive(Clone, Debug, Args)]
#[command(after_help = "It writes post-commit and post-merge hooks, and what they need to know into the repository's configuration \
    (annals.FILE.*). They never keep anybody from committing: if the engine is away, they say what to run later. Installed again \
    with another --path, they tell of both.")]
pub struct Install {
    /// The model
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Its file in the repository, which may be a pointer of Git LFS
    #[arg(long, value_name = "FILE")]
    pub path: PathBuf,
    /// The branch whose state is registered
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub main: String,
    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repository: PathBuf,
    /// Keep hooks that are there, and run them first
    #[arg(long)]
    pub chain: bool,
    /// The engine that the hooks tell; http://127.0.0.1:8400 unless ANNALS_URL says otherwise then
    #[arg(long, value_name = "URL", value_parser = super::url)]
    pub url: Option<String>,
    /// Who the events are by; `git` unless ANNALS_ACTOR says otherwise then
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// In which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// What is told.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("what").args(["event", "since", "all"]).required(true)))]
pub struct Run {
    /// Which hook calls
    #[arg(value_enum)]
    pub event: Option<HookEvent>,
    /// Tell of all commits behind this one, up to where the repository stands
    #[arg(long, value_name = "COMMIT")]
    pub since: Option<String>,
    /// Tell of all commits
    #[arg(long)]
    pub all: bool,
    /// The repository
    #[arg(long, value_name = "DIR")]
    pub repository: Option<PathBuf>,
    /// The engine
    #[arg(long, env = "ANNALS_URL", value_name = "URL", value_parser = super::url)]
    pub url: Option<String>,
    /// Who says so
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
}

/// Which hook calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HookEvent {
    /// A commit was made
    PostCommit,
    /// A merge was made, or the branch was moved on to what another one has
    PostMerge,
}
