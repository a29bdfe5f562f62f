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
    bootstrap: String,
    dir: TempDir,
    /// How to reach the brokers, beside their address.
    reach: Vec<String>,
    extra: Vec<String>,
}

impl Cluster {
    /// A prefix on the shared broker of which there are no topics yet.
    pub fn unmade() -> Self {
        Self::reached(&bootstrap(), &format!("it-{}", uuid::Uuid::now_v7()), &[])
    }

    fn reached(bootstrap: &str, prefix: &str, reach: &[&str]) -> Self {
        let reach = reach.iter().map(ToString::to_string).collect();
        Self { prefix: prefix.into(), bootstrap: bootstrap.into(), dir: directory(), reach, extra: Vec::new() }
    }

    /// New topics of 4 partitions on the shared broker.
    pub fn fresh() -> Self {
        Self::unmade().made()
    }

    /// New topics of 4 partitions on this broker, reached with these arguments.
    pub fn on(bootstrap: &str, prefix: &str, reach: &[&str]) -> Self {
        Self::reached(bootstrap, prefix, reach).made()
    }

    fn made(self) -> Self {
        let made = self.topics("create", &["--partitions", "4", "--replication-factor", "1", "--min-insync-replicas", "1"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self
    }

    /// Every instance gets these arguments, too.
    pub fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(ToString::to_string));
        self
    }

    /// Runs `annals topics …`.
    pub fn topics(&self, command: &str, args: &[&str]) -> std::process::Output {
        let mut topics = program();
        topics.args(["topics", command, "--kafka", &self.bootstrap, "--kafka-prefix", &self.prefix]).args(&self.reach).args(args);
        topics.output().unwrap()
    }

    /// The command of an instance that has its name for itself.
    pub fn command(&self, name: &str) -> Command {
        let mut command = program();
        let data = self.dir.path().join(name);
        command.args(["serve", "--kafka", &self.bootstrap, "--kafka-prefix", &self.prefix, "--data", data.to_str().unwrap()]);
        command.args(["--listen", "127.0.0.1:0"]).args(&self.reach).args(&self.extra);
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
