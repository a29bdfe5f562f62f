//! A promotion becomes a commit and a tag: once, whatever dies and whoever else pushes.

use std::path::Path;

use serde_json::json;

use super::{Stage, all_are, git, gitops, promote, says, tags, tasks};
use crate::stage::{data_of, eventually, register};

fn file(repository: &Path, path: &str) -> Option<String> {
    let object = format!("{}:{path}", git(repository, &["rev-parse", "main"])); // meanwhile the branch may move on
    super::try_git(repository, &["cat-file", "-e", &object]).then(|| git(repository, &["show", &object]))
}

#[test]
fn a_promotion_is_a_commit_and_a_tag_and_a_demotion_takes_it_away() {
    let stage = Stage::fresh();
    let bare = stage.bare("deploy.git");
    let engine = stage.engine();
    gitops(&engine, bare.to_str().unwrap(), &json!({"author": "Release Bot <bot@example.org>"}));
    for n in [1, 2] {
        register(&engine, "iris", n);
        promote(&engine, "iris", n);
        eventually("the tag is there", || tags(&bare).len() == usize::try_from(n).unwrap());
    }
    let manifest = file(&bare, "default/iris/production.yaml").unwrap();
    for line in ["model: \"iris\"", "version: 2", "uri: \"file:///models/iris/2.pkl\"", &format!("digest: \"{}\"", crate::stage::digest(2))]
    {
        assert!(manifest.lines().any(|found| found == line), "{line} is not in {manifest}");
    }
    assert_eq!(tags(&bare), ["iris@production#1", "iris@production#2"]);
    assert_eq!(git(&bare, &["cat-file", "-t", "iris@production#2"]), "tag");
    assert_eq!(
        git(&bare, &["log", "--format=%an <%ae> %s", "-1", "iris@production#1"]),
        "Release Bot <bot@example.org> default/iris: production holds version 1"
    );
    assert_eq!(git(&bare, &["rev-parse", "iris@production#2^{commit}"]), git(&bare, &["rev-parse", "main"]));
    all_are(&engine, "gitops", "done", 2);
    assert!(tasks(&engine, "gitops")[1].1.contains("tag iris@production#2"));
    // again: it finds what it did
    engine.post("/v1/triggers/gitops/replay", &[("content-type", "application/json")], br#"{"since":"2020-01-01T00:00:00Z"}"#).ok(200);
    says(&engine, "gitops", "(it was there already)");
    says(&engine, "gitops", "superseded by version 2");
    assert_eq!((git(&bare, &["rev-list", "--count", "main"]).as_str(), tags(&bare).len()), ("2", 2));
    // its own manifest, where it wants it, in its own words; what was there before stays
    let mine = json!({"path": "clusters/eu/{model}.json", "manifest": "{{\"image\":\"registry/{model}:{version}\",\"bytes\":\"{digest}\"}", "tag": false});
    gitops(&engine, bare.to_str().unwrap(), &mine);
    promote(&engine, "iris", 1);
    eventually("it is where the rule says", || file(&bare, "clusters/eu/iris.json").is_some());
    let bytes = crate::stage::digest(1);
    assert_eq!(file(&bare, "clusters/eu/iris.json").unwrap(), format!("{{\"image\":\"registry/iris:1\",\"bytes\":\"{bytes}\"}}"));
    // a second rule puts the same promotion elsewhere in the same repository
    let second = json!({"repository": bare, "path": "second/{model}.yaml", "tag": false});
    super::rule(&engine, "second", &["promoted"], &json!({"git": second}));
    register(&engine, "oak", 3);
    promote(&engine, "oak", 1);
    eventually("both are there", || file(&bare, "clusters/eu/oak.json").is_some() && file(&bare, "second/oak.yaml").is_some());
    engine.accept("version.demoted", "default/iris/1", json!({"channel": "production", "reason": "done"}));
    eventually("it is taken away", || file(&bare, "clusters/eu/iris.json").is_none());
    assert_eq!((tags(&bare).len(), file(&bare, "default/iris/production.yaml").is_some()), (2, true));
}

#[test]
fn nothing_is_lost_when_two_engines_and_somebody_else_push_at_once() {
    let stage = Stage::fresh();
    let bare = stage.bare("deploy.git");
    let clone = stage.clone_of(&bare, "somebody");
    let engines = ["a", "b"].map(|name| stage.start(&stage.path(name), &[]));
    for engine in &engines {
        gitops(engine, bare.to_str().unwrap(), &json!({}));
        (1..=6).for_each(|n| drop(register(engine, &format!("model-{n}"), n)));
    }
    std::thread::scope(|scope| {
        for engine in &engines {
            scope.spawn(move || (1..=6).for_each(|n| promote(engine, &format!("model-{n}"), 1)));
        }
        scope.spawn(|| {
            for n in 0..8 {
                git(&clone, &["commit", "--quiet", "--allow-empty", "--message", &format!("somebody's {n}")]);
                eventually("somebody's push goes through", || {
                    super::try_git(&clone, &["push", "--quiet", "origin", "main"])
                        || !super::try_git(&clone, &["pull", "--quiet", "--rebase", "origin", "main"])
                });
            }
        });
    });
    engines.iter().for_each(|engine| all_are(engine, "gitops", "done", 6));
    // the second engine's promotion of a model is another journal's, and so another commit
    let log = git(&bare, &["log", "--format=%s", "main"]);
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((count("somebody's"), count("production holds version 1")), (8, 12), "{log}");
    let wanted: Vec<String> = (1..=6).flat_map(|n| [1, 2].map(|tag| format!("model-{n}@production#{tag}"))).collect();
    assert_eq!(tags(&bare), wanted);
    git(&bare, &["fsck", "--strict"]);
}

#[test]
fn an_engine_that_is_killed_at_any_moment_commits_and_tags_each_promotion_once() {
    let stage = Stage::fresh();
    let bare = stage.bare("deploy.git");
    let mut engine = stage.engine();
    gitops(&engine, bare.to_str().unwrap(), &json!({}));
    let models = 5;
    for n in 1..=models {
        let model = format!("model-{n}");
        register(&engine, &model, n);
        promote(&engine, &model, 1);
        std::thread::sleep(std::time::Duration::from_millis(15 * (n - 1))); // somewhere else in the work each time
        engine.kill();
        engine = stage.engine();
    }
    eventually("each is tagged", || tags(&bare).len() >= usize::try_from(models).unwrap());
    all_are(&engine, "gitops", "done", usize::try_from(models).unwrap());
    let wanted: Vec<String> = (1..=models).map(|n| format!("model-{n}@production#1")).collect();
    assert_eq!(tags(&bare), wanted);
    assert_eq!(git(&bare, &["rev-list", "--count", "main"]), models.to_string());
}

#[test]
fn a_repository_that_is_gone_unfit_or_not_ours_is_told_and_tried_again() {
    let stage = Stage::fresh();
    let bare = stage.bare("deploy.git");
    let engine = stage.engine();
    gitops(&engine, bare.to_str().unwrap(), &json!({}));
    register(&engine, "iris", 1);
    std::fs::rename(&bare, stage.path("away.git")).unwrap();
    promote(&engine, "iris", 1);
    says(&engine, "gitops", "deploy.git is not there; put it back, or correct its name");
    let doctor = super::text(&engine.annals(&["doctor"]).stdout);
    assert!(doctor.contains(&format!("the repository {}: there is no such repository", bare.display())), "{doctor}");
    std::fs::rename(stage.path("away.git"), &bare).unwrap();
    all_are(&engine, "gitops", "done", 1);
    // a branch that is not there is not made up
    let clone = stage.clone_of(&stage.bare("other.git"), "clone");
    gitops(&engine, &stage.named("other.git"), &json!({"branch": "live"}));
    register(&engine, "oak", 1);
    promote(&engine, "oak", 1);
    says(&engine, "gitops", "the repository has no branch `live`: make it");
    git(&clone, &["push", "--quiet", "origin", "main:live"]);
    all_are(&engine, "gitops", "done", 2);
    // what the engine may not touch, it does not touch, and doctor says so
    let outside = crate::stage::directory();
    git(outside.path(), &["init", "--quiet", "--bare", "x.git"]);
    gitops(&engine, outside.path().join("x.git").to_str().unwrap(), &json!({}));
    register(&engine, "oak", 2);
    promote(&engine, "oak", 2);
    says(&engine, "gitops", "start it with --git-allow");
    let doctor = super::text(&engine.annals(&["doctor"]).stdout);
    assert!(doctor.contains("the trigger gitops can do nothing: the repository denies it"), "{doctor}");
    drop(engine);
    let engine = stage.start(&data_of(&stage.dir), &["--git-allow", &format!("{}/*", outside.path().display())]);
    engine.post("/v1/triggers/gitops/replay", &[("content-type", "application/json")], br#"{"parked":true}"#).ok(200);
    eventually("it may now", || tags(&outside.path().join("x.git")) == ["oak@production#1"]);
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused_with_what_is_wrong() {
    let stage = Stage::fresh();
    let engine = stage.engine();
    let refused = |kinds: &[&str], act: serde_json::Value, words: &str| {
        let answer = engine.put("/v1/triggers/bad", json!({"when": {"type": kinds}, "do": act}).to_string().as_bytes());
        assert!((400..=422).contains(&answer.status) && answer.text.contains(words), "{words}: {}", answer.text);
    };
    let to = |more: serde_json::Value| {
        let mut to = json!({"repository": "/srv/git/deploy.git"});
        to.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"git": to})
    };
    refused(&["promoted"], to(json!({"repository": "https://ada:secret@git.example/x.git"})), "--git-credentials");
    refused(&["promoted"], to(json!({"repository": "git@git.example:x.git"})), "SSH is not spoken");
    refused(&["promoted"], to(json!({"branch": "a..b"})), "no name that git takes");
    refused(&["promoted"], to(json!({"path": "../{model}"})), "no path of a file");
    refused(&["promoted"], to(json!({"manifest": "{digits}"})), "`{digits}` stands for nothing");
    refused(&["trained"], to(json!({})), "say promoted or demoted");
    refused(&["promoted"], json!({"lookup": {}}), "say trained");
}
