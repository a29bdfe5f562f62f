//! Figures beside their references, in one run, as ratios. See `tests/bench/run`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod accept;
mod alerts;
mod client;
mod downstream;
mod fold;
mod journal;
mod kafka;
mod kubernetes;
mod scale;
mod search;
mod sqlite;
mod subscribers;
mod webhooks;

use std::path::PathBuf;
use std::time::Duration;

/// That of the program, for the parts that are measured in this process.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A place on the disk that is measured; removed at the end.
pub fn bench_dir(name: &str) -> PathBuf {
    let root = std::env::var_os("ANNALS_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = root.join(format!("bench-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Prints one figure: what it is, ours, the reference, the ratio and what it must reach.
pub fn figure(what: &str, ours: &str, reference: &str, ratio: f64, goal: &str, reached: bool) {
    println!(
        "{} {what}\n       ours {ours}; reference {reference}; ratio {ratio:.2} (goal {goal})",
        if reached { "  ok  " } else { "MISSED" }
    );
}

/// Sorted samples' quantile, in microseconds.
pub fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let index = ((sorted.len() - 1) as f64 * q).round() as usize;
    sorted[index].as_secs_f64() * 1e6
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let named = |name: &str| asked.iter().any(|a| a == name);
    // The first ones need no server.
    for (name, run) in [
        ("accept", accept::run as fn()),
        ("fold", fold::run),
        ("scale", scale::run),
        ("subscribers", subscribers::run),
        ("webhooks", webhooks::run),
        ("alerts", alerts::run),
        ("downstream", downstream::run),
    ] {
        if asked.is_empty() || named(name) {
            run();
        }
    }
    for (name, run) in [
        ("kubernetes", kubernetes::run as fn()),
        ("search", search::run),
        ("kafka-accept", kafka::accept),
        ("kafka-sustained", kafka::sustained),
        ("kafka-replay", kafka::replay_and_takeover),
        ("kafka-downstream", kafka::downstream),
    ] {
        if named(name) {
            run();
        }
    }
}
