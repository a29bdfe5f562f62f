//! Hooks: commits and merges of a model's file are told, once, and nobody is kept from committing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{Stage, git, git_command, text};
use crate::stage::{Engine, program};

/// A clone with the hooks.
struct Desk {
    stage: Stage,
    engine: Engine,
    clone: PathBuf,
}

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

impl Desk {
    fn fresh() -> Self {
        let stage = Stage::fresh();
        let engine = stage.engine();
        let clone = stage.clone_of(&stage.bare("iris.git"), "iris");
        Self { stage, engine, clone }
    }

    fn install(&self, clone: &Path, more: &[&str]) -> Output {
        let mut command = program();
        command.args(["git", "hook", "install", "--repository", clone.to_str().unwrap()]);
        for (flag, usual) in [("--model", "iris"), ("--path", "model.pkl"), ("--url", &self.engine.url)] {
            if !more.contains(&flag) {
                command.args([flag, usual]);
            }
        }
        command.args(more).env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap()
    }

    /// Writes the model and commits it; what the hook said.
    fn commit(&self, content: &str) -> Output {
        std::fs::write(self.clone.join("model.pkl"), content).unwrap();
        git(&self.clone, &["add", "model.pkl"]);
        git_command(&self.clone).args(["commit", "--quiet", "--message", "a model"]).output().unwrap()
    }

    fn head(&self) -> String {
        git(&self.clone, &["rev-parse", "HEAD"])
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let replay = self.engine.get(&format!("/v1/events?type={kind}"));
        replay.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

fn sha256(content: &str) -> String {
    format!("sha256:{}", annals_events::record::Hash::of(content.as_bytes()))
}

#[test]
fn a_branch_is_a_run_and_its_merge_a_version() {
    let desk = Desk::fresh();
    good(&desk.install(&desk.clone, &[]));
    git(&desk.clone, &["switch", "--quiet", "--create", "petals"]);
    std::fs::write(desk.clone.join("train.py"), "first").unwrap();
    git(&desk.clone, &["add", "train.py"]);
    let said = good(&desk.commit("first"));
    let run = desk.head();
    assert!(said.contains(&format!("accepted run.trained of iris in {}", &run[..12])), "{said}");
    git(&desk.clone, &["commit", "--quiet", "--allow-empty", "--message", "nothing of the model"]);
    let trained = desk.events("trained");
    let data = &trained[0]["data"]["data"];
    assert_eq!((trained.len(), &data["run"]), (1, &json!({"id": run, "system": "git"})));
    let repository = desk.stage.path("iris.git").canonicalize().unwrap();
    assert_eq!(data["code"], json!({"repository": repository, "commit": run, "dirty": false}));
    let uri = format!("git+{}@{run}#model.pkl", repository.display());
    assert_eq!(data["artifact"], json!({"uri": uri, "digest": sha256("first"), "size": 5}));
    assert!(desk.events("registered").is_empty(), "a branch is no version");
    // a merge with a commit of its own, and one that only moves the branch on
    git(&desk.clone, &["switch", "--quiet", "main"]);
    git(&desk.clone, &["merge", "--quiet", "--no-ff", "petals", "--message", "merge"]);
    git(&desk.clone, &["switch", "--quiet", "--create", "larger"]);
    std::fs::write(desk.clone.join("train.py"), "not committed").unwrap();
    good(&desk.commit(POINTER));
    let second = desk.head();
    git(&desk.clone, &["switch", "--quiet", "main"]);
    git(&desk.clone, &["merge", "--quiet", "larger"]);
    let registered = desk.events("registered");
    let of = |n: usize| (registered[n]["data"]["data"]["run"].clone(), registered[n]["data"]["decided"]["external"].clone());
    assert_eq!((registered.len(), of(0), of(1)), (2, (json!(run), json!(false)), (json!(second), json!(false))));
    let pointed = &registered[1]["data"]["data"]["artifact"];
    assert_eq!((&pointed["size"], pointed["digest"].as_str().unwrap().split_at(11).1.len()), (&json!(12345), 60), "{pointed}");
    assert_eq!(desk.events("trained")[1]["data"]["data"]["code"]["dirty"], true);
    // somebody else's clone, whose merge is the same: told twice is told once
    let other = desk.stage.path("other");
    git(&desk.clone, &["push", "--quiet", "origin", "main~1:refs/heads/main"]);
    git(desk.stage.dir.path(), &["clone", "--quiet", desk.stage.path("iris.git").to_str().unwrap(), "other"]);
    good(&desk.install(&other, &[]));
    git(&desk.clone, &["push", "--quiet", "origin", "main"]);
    git(&other, &["pull", "--quiet", "--ff-only", "origin", "main"]);
    assert_eq!((desk.events("trained").len(), desk.events("registered").len()), (2, 2));
}

#[test]
fn an_engine_that_is_away_keeps_nobody_from_committing_and_is_told_later() {
    let mut desk = Desk::fresh();
    good(&desk.install(&desk.clone, &["--url", "http://127.0.0.1:9"]));
    let before = desk.head();
    let said = good(&desk.commit("one"));
    assert!(said.contains("nothing is lost") && said.contains(&format!("annals git hook run --since {before}")), "{said}");
    good(&desk.commit("two"));
    let run = |args: &[&str], url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annals"));
        command
            .args(["git", "hook", "run", "--repository", desk.clone.to_str().unwrap()])
            .args(args)
            .env("ANNALS_URL", url)
            .output()
            .unwrap()
    };
    assert_eq!(run(&["--since", &before], "http://127.0.0.1:9").status.code(), Some(69));
    good(&run(&["--since", &before], &desk.engine.url));
    // each is a run; what the main branch has now is a version
    assert_eq!((desk.events("trained").len(), desk.events("registered").len()), (2, 1));
    let again = good(&run(&["--all"], &desk.engine.url));
    assert!(again.contains("known already: run.trained") && desk.events("trained").len() == 2, "{again}");
    assert_eq!(run(&["--since", "nothing"], &desk.engine.url).status.code(), Some(1));
    let broken = good(&desk.commit("version https://git-lfs.github.com/spec/v1\nsize 3\n"));
    assert!(broken.contains("begins like a pointer of Git LFS"), "{broken}");
    desk.clone = desk.stage.path("nowhere");
    assert_eq!(desk.install(&desk.clone, &[]).status.code(), Some(2));
}

#[test]
fn hooks_that_are_there_are_kept() {
    let desk = Desk::fresh();
    let hooks = desk.clone.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let write = |directory: &Path, text: &str| {
        std::fs::write(directory.join("post-commit"), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(directory.join("post-commit"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(&hooks, "echo mine >> \"$(git rev-parse --show-toplevel)/../mine\"");
    let refused = desk.install(&desk.clone, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--chain") && !hooks.join("post-merge").exists(), "{}", text(&refused.stderr));
    good(&desk.install(&desk.clone, &["--chain"]));
    good(&desk.install(&desk.clone, &["--chain"]));
    good(&desk.commit("one"));
    assert_eq!(std::fs::read_to_string(desk.stage.path("mine")).unwrap(), "mine\n");
    assert_eq!((desk.events("trained").len(), desk.events("registered").len()), (1, 1), "what is committed on main is on main");
    // hooks lie elsewhere if git is told so; a second file is told of, too
    let elsewhere = desk.clone.join("tools/hooks");
    git(&desk.clone, &["config", "core.hooksPath", "tools/hooks"]);
    good(&desk.install(&desk.clone, &["--model", "oak", "--path", "oak/model.onnx"]));
    assert!(elsewhere.join("post-merge").exists());
    std::fs::create_dir(desk.clone.join("oak")).unwrap();
    std::fs::write(desk.clone.join("oak/model.onnx"), "oak").unwrap();
    git(&desk.clone, &["add", "oak"]);
    let both = good(&desk.commit("two"));
    assert!(both.contains("version.registered of iris") && both.contains("version.registered of oak"), "{both}");
}

#[test]
fn an_engine_that_says_nothing_or_wants_a_push_first_keeps_nobody_from_committing() {
    let mut desk = Desk::fresh();
    // it takes the connection and never answers
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    good(&desk.install(&desk.clone, &["--url", &format!("http://{}", silent.local_addr().unwrap())]));
    let begun = std::time::Instant::now();
    let said = good(&desk.commit("one"));
    assert!(said.contains("once it answers: annals git hook run") && begun.elapsed().as_secs() < 30, "{said}");
    desk.engine = desk.stage.start(&desk.stage.path("strict"), &["--git-check", "refuse"]);
    good(&desk.install(&desk.clone, &[]));
    let before = desk.head();
    let said = good(&desk.commit("two"));
    assert!(said.contains(&format!("push the commit, then run: annals git hook run --since {before}")), "{said}");
    git(&desk.clone, &["push", "--quiet", "origin", "main"]);
    let mut run = program();
    good(&run.args(["git", "hook", "run", "--repository", desk.clone.to_str().unwrap(), "--since", &before]).output().unwrap());
    assert_eq!((desk.events("trained").len(), desk.events("registered").len()), (1, 1));
    // the same hooks in a repository of which nothing is told
    git(&desk.clone, &["config", "--remove-section", "annals.model.pkl"]);
    assert_eq!(good(&desk.commit("three")), "");
}
