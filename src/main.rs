//! The program: its configuration, its log, and whatever was asked for.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let config = annals::config::Config::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let annals::config::Command::Serve(serve) = config.command else { anyhow::bail!("later") };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(annals::serve::run(serve))
}
