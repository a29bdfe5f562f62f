//! The program: its configuration, its log, and whatever was asked for.

use std::process::ExitCode;

use annals::config::{Config, LogFormat};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// What one thread allocates another one frees here, all the time: the system's allocator keeps such memory, and takes longer.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rdkafka=off,librdkafka=off"));
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    annals::cli::run(config)
}
