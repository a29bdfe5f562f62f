//! Every flag and every variable, read once: nothing else in the program looks at either.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where a server listens, and clients look for it, unless told otherwise.
pub const URL: &str = "http://127.0.0.1:8400";

const AFTER_HELP: &str = "Exit codes: 0 accepted or duplicate; 1 refused, or verification failed; 2 usage; \
                          69 unavailable; 75 not settled yet.\n\
                          Times are RFC 3339 (2026-03-01T12:00:00Z); a position is what answers name, such as 3:17.";

/// An event-sourced lifecycle engine for machine-learning models.
#[derive(Debug, Parser)]
#[command(name = "annals", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Config {
    /// How log lines look; they go to standard error, and RUST_LOG chooses which
    #[arg(long, global = true, env = "ANNALS_LOG_FORMAT", value_enum, default_value = "text", hide_env_values = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the engine: the journal, its views and the HTTP door
    Serve(Serve),
}

/// The engine.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Directory of the journal and the views; made if it is missing
    #[arg(long, env = "ANNALS_DATA", default_value = "./annals-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "ANNALS_LISTEN", default_value = "127.0.0.1:8400", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Listen on an address that others can reach although nobody is asked who they are
    #[arg(long, env = "ANNALS_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
}
