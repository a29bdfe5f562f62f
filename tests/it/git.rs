//! Git with the real program: commits looked up, promotions pushed, hooks that tell; the repositories are git's own.

mod far;
mod hooks;
mod lookup;
mod promote;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Engine, data_of, directory, eventually, program};

/// git, with nobody's own settings.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env_remove("ANNALS_URL").env_remove("ANNALS_ACTOR"); // hooks would listen to them
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Runs git, which must succeed, and returns what it printed.
#[track_caller]
pub fn git(directory: &Path, args: &[&str]) -> String {
    let output: Output = git_command(directory).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Whether git succeeds.
pub fn try_git(directory: &Path, args: &[&str]) -> bool {
    git_command(directory).args(args).output().unwrap().status.success()
}

/// A directory with an engine that may touch the repositories below it.
pub struct Stage {
    pub dir: TempDir,
}

impl Stage {
    pub fn fresh() -> Self {
        Self { dir: directory() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn named(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// An empty bare repository.
    pub fn bare(&self, name: &str) -> PathBuf {
        git(self.dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", name]);
        self.path(name)
    }

    /// A clone of it, with a first commit on main that is pushed.
    pub fn clone_of(&self, bare: &Path, name: &str) -> PathBuf {
        git(self.dir.path(), &["clone", "--quiet", bare.to_str().unwrap(), name]);
        let clone = self.path(name);
        git(&clone, &["switch", "--quiet", "--create", "main"]);
        git(&clone, &["commit", "--quiet", "--allow-empty", "--message", "begin"]);
        git(&clone, &["push", "--quiet", "origin", "main"]);
        clone
    }

    pub fn command(&self, data: &Path, more: &[&str]) -> Command {
        let mut command = program();
        command.args(["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--git-allow", &self.named("*")]).args(more);
        command
    }

    pub fn start(&self, data: &Path, more: &[&str]) -> Engine {
        Engine::spawn(self.command(data, more))
    }

    pub fn engine(&self) -> Engine {
        self.start(&data_of(&self.dir), &[])
    }
}

/// Makes a trigger.
#[track_caller]
pub fn rule(engine: &Engine, name: &str, kinds: &[&str], act: &Value) {
    let body = json!({"when": {"type": kinds}, "do": act});
    let answer = engine.put(&format!("/v1/triggers/{name}"), body.to_string().as_bytes());
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

/// The trigger that promotes into a repository.
#[track_caller]
pub fn gitops(engine: &Engine, repository: &str, more: &Value) {
    let mut to = json!({"repository": repository});
    to.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({"when": {"type": ["promoted", "demoted"], "channel": "production"}, "do": {"git": to}});
    let answer = engine.put("/v1/triggers/gitops", body.to_string().as_bytes());
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

#[track_caller]
pub fn promote(engine: &Engine, model: &str, version: u64) {
    engine.accept("version.promoted", &format!("default/{model}/{version}"), json!({"channel": "production"}));
}

/// The tasks of a trigger, the oldest first: state and note.
pub fn tasks(engine: &Engine, name: &str) -> Vec<(String, String)> {
    let found = engine.get(&format!("/v1/triggers/{name}/history?limit=1000")).ok(200);
    let part = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    found["items"].as_array().unwrap().iter().rev().map(|item| (part(item, "state"), part(item, "note"))).collect()
}

/// Waits until a task of the trigger says these words.
#[track_caller]
pub fn says(engine: &Engine, name: &str, words: &str) {
    let mut last = Vec::new();
    let deadline = std::time::Instant::now() + crate::stage::DEADLINE;
    while !last.iter().any(|(_, note): &(String, String)| note.contains(words)) {
        assert!(std::time::Instant::now() < deadline, "`{words}` is not in {last:?}");
        last = tasks(engine, name);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until all tasks of a trigger are in this state, and there are so many.
#[track_caller]
pub fn all_are(engine: &Engine, name: &str, state: &str, count: usize) {
    eventually(&format!("{count} tasks of {name} are {state}"), || {
        let tasks = tasks(engine, name);
        tasks.len() == count && tasks.iter().all(|(now, _)| now == state)
    });
}

/// The names of all tags.
pub fn tags(repository: &Path) -> Vec<String> {
    git(repository, &["tag"]).lines().map(str::to_owned).collect()
}

#[test]
fn the_example_goes_from_a_branch_to_a_tag() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/git/run");
    let done = Command::new(example).env("ANNALS_BIN", env!("CARGO_BIN_EXE_annals")).output().unwrap();
    // what hooks say, git hands on to standard error
    let said = text(&done.stdout) + &text(&done.stderr);
    assert!(done.status.success(), "{said}");
    for words in ["accepted run.trained", "accepted version.registered", "iris@production#1", "Annals-Event: /cli", "commit_is=found"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}
