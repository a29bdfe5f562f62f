//! Engines on Kafka: topics of their own for each test, and as many instances as it wants.

use std::process::Command;

use tempfile::TempDir;

use crate::stage::{Engine, directory, program};

/// The broker that `tests/run` starts.
pub fn bootstrap() -> String {
    std::env::var("ANNALS_TEST_KAFKA").unwrap_or_else(|_| panic!("ANNALS_TEST_KAFKA names no broker: run `tests/run`, which starts one"))
}

/// Topics on the shared broker, and a directory for what the instances keep.
pub struct Cluster {
    pub prefix: String,
    dir: TempDir,
    extra: Vec<String>,
}

impl Cluster {
    /// New topics of 4 partitions.
    pub fn fresh() -> Self {
        let cluster = Self { prefix: format!("it-{}", uuid::Uuid::now_v7()), dir: directory(), extra: Vec::new() };
        let made = cluster.topics("create", &["--partitions", "4", "--replication-factor", "1", "--min-insync-replicas", "1"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    /// Every instance gets these arguments, too.
    pub fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(ToString::to_string));
        self
    }

    /// Runs `annals topics …`.
    pub fn topics(&self, command: &str, args: &[&str]) -> std::process::Output {
        let mut topics = program();
        topics.args(["topics", command, "--kafka", &bootstrap(), "--kafka-prefix", &self.prefix]).args(args);
        topics.output().unwrap()
    }

    /// The command of an instance that has its name for itself.
    pub fn command(&self, name: &str) -> Command {
        let mut command = program();
        let data = self.dir.path().join(name);
        command.args(["serve", "--kafka", &bootstrap(), "--kafka-prefix", &self.prefix, "--data", data.to_str().unwrap()]);
        command.args(["--listen", "127.0.0.1:0"]).args(&self.extra);
        command
    }

    /// Starts an instance and waits until it is ready.
    pub fn start(&self, name: &str) -> Engine {
        Engine::spawn(self.command(name))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // the broker lives as long as the whole run, and each log has files open
        let _ = self.topics("delete", &["--yes"]);
    }
}
