//! What is put into a repository: once, on top of what others put there, and never an older thing over a newer one.

use std::path::PathBuf;

use super::*;
use crate::git::place::Place;

struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Repository::init_bare(dir.path().join("deploy.git")).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("deploy.git")
    }

    fn access(&self) -> Access {
        Access::new(Place::Here(self.path()), self.dir.path().join("copies"), None)
    }

    fn repository(&self) -> Repository {
        Repository::open_bare(self.path()).unwrap()
    }

    fn put(&self, wanted: &Wanted) -> Result<Put, Trouble> {
        put(&self.access(), wanted, || 0.5)
    }

    /// The file at the branch's head.
    fn says(&self, path: &str) -> Option<String> {
        let repository = self.repository();
        let tree = repository.find_reference("refs/heads/main").unwrap().peel_to_tree().unwrap();
        let blob = tree.get_path(std::path::Path::new(path)).ok()?.to_object(&repository).unwrap().peel_to_blob().unwrap();
        Some(String::from_utf8(blob.content().to_vec()).unwrap())
    }

    fn commits(&self) -> usize {
        let repository = self.repository();
        let mut walk = repository.revwalk().unwrap();
        walk.push_ref("refs/heads/main").unwrap();
        walk.count()
    }

    fn tags(&self) -> Vec<String> {
        self.repository().tag_names(None).unwrap().iter().map(|name| name.unwrap().unwrap().to_owned()).collect()
    }
}

fn wanted(model: &str, modelseq: u64) -> Wanted {
    Wanted {
        branch: "main".into(),
        path: format!("models/{model}/production.yaml"),
        content: Some(format!("version: {modelseq}\n")),
        title: format!("default/{model}: production holds version {modelseq}"),
        author: ("Annals".into(), "annals@localhost".into()),
        time_s: 1_772_366_400 + i64::try_from(modelseq).unwrap(),
        tag: Some(format!("{model}@production")),
        cause: Cause {
            journal: "j-1".into(),
            target: format!("default/{model} production"),
            event: ("/cli".into(), format!("promote {modelseq}")),
            position: format!("2:{modelseq}"),
            modelseq,
        },
    }
}

fn done(put: Result<Put, Trouble>) -> (String, Option<String>, bool) {
    match put {
        Ok(Put::Done { commit, tag, before }) => (commit.unwrap(), tag, before),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_repository_gets_its_first_commit_and_a_repeat_changes_nothing() {
    let stage = Stage::bare();
    let (commit, tag, before) = done(stage.put(&wanted("iris", 4)));
    assert_eq!((tag.as_deref(), before, stage.commits()), (Some("iris@production#1"), false, 1));
    assert_eq!(done(stage.put(&wanted("iris", 4))), (commit.clone(), Some("iris@production#1".into()), true));
    assert_eq!((stage.says("models/iris/production.yaml").as_deref(), stage.commits()), (Some("version: 4\n"), 1));
    let repository = stage.repository();
    let message = repository.find_commit(Oid::from_str(&commit).unwrap()).unwrap().message().unwrap().to_owned();
    assert!(message.ends_with("Annals-Event: /cli promote%204\nAnnals-Position: 2:4\nAnnals-Modelseq: 4\n"), "{message}");
    // killed between the commit and the tag
    repository.tag_delete("iris@production#1").unwrap();
    assert_eq!(done(stage.put(&wanted("iris", 4))), (commit, Some("iris@production#1".into()), true));
}

#[test]
fn what_somebody_changed_back_a_repeat_puts_there_again() {
    let stage = Stage::bare();
    let (first, ..) = done(stage.put(&wanted("iris", 4)));
    let mut somebody = wanted("iris", 4);
    somebody.content = Some("version: 3\n".into());
    somebody.cause.target = "by hand".into();
    done(stage.put(&somebody));
    let (again, tag, before) = done(stage.put(&wanted("iris", 4)));
    assert!(again != first && !before && tag.as_deref() == Some("iris@production#1"), "{tag:?}");
    assert_eq!((stage.says("models/iris/production.yaml").as_deref(), stage.commits()), (Some("version: 4\n"), 3));
    assert_eq!(done(stage.put(&wanted("iris", 4))), (again, tag, true));
}

#[test]
fn what_is_newer_stays_and_other_journals_and_models_are_none_of_it() {
    let stage = Stage::bare();
    done(stage.put(&wanted("iris", 9)));
    assert!(matches!(stage.put(&wanted("iris", 4)), Ok(Put::Newer { .. })));
    done(stage.put(&wanted("oak", 2)));
    let mut other = wanted("iris", 4);
    other.cause.journal = "j-2".into();
    let (_, tag, _) = done(stage.put(&other));
    assert_eq!((tag.as_deref(), stage.says("models/iris/production.yaml").as_deref()), (Some("iris@production#2"), Some("version: 4\n")));
    assert_eq!(stage.tags(), ["iris@production#1", "iris@production#2", "oak@production#1"]);
    assert!(matches!(stage.put(&wanted("iris", 4)), Ok(Put::Newer { .. })), "also behind what others put there");
}

#[test]
fn what_is_taken_away_takes_its_folders_along_and_is_not_tagged() {
    let stage = Stage::bare();
    done(stage.put(&wanted("iris", 1)));
    done(stage.put(&wanted("oak", 1)));
    let gone = Wanted { content: None, ..wanted("iris", 2) };
    let (_, tag, before) = done(stage.put(&gone));
    assert_eq!((tag, before, stage.says("models/iris/production.yaml")), (None, false, None));
    assert!(done(stage.put(&gone)).2 && stage.commits() == 3);
    assert_eq!(stage.says("models/oak/production.yaml").as_deref(), Some("version: 1\n"));
    let nothing = Stage::bare();
    assert_eq!(nothing.put(&gone), Ok(Put::Done { commit: None, tag: None, before: true }), "there was nothing");
}

#[test]
fn what_cannot_be_written_is_told_with_its_remedy() {
    let stage = Stage::bare();
    let why = |result: Result<Put, Trouble>| result.unwrap_err().to_string();
    done(stage.put(&wanted("iris", 1)));
    assert!(why(stage.put(&Wanted { branch: "live".into(), ..wanted("iris", 2) })).contains("no branch `live`"));
    assert!(why(stage.put(&Wanted { path: "models".into(), ..wanted("iris", 2) })).contains("is no file"));
    assert!(why(stage.put(&Wanted { path: "models/iris/production.yaml/x".into(), ..wanted("iris", 2) })).contains("is no folder"));
    std::fs::write(stage.path().join("refs/heads/main.lock"), "").unwrap();
    let locked = put(&stage.access(), &wanted("iris", 2), || 0.0).unwrap_err();
    assert!(matches!(&locked, Trouble::Locked(text) if text.contains(".lock")), "{locked}");
    std::fs::remove_file(stage.path().join("refs/heads/main.lock")).unwrap();
    let hook = stage.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(why(stage.put(&wanted("iris", 2))).contains("has the hook"), "it would not be asked");
    std::fs::remove_dir_all(stage.path()).unwrap();
    assert!(matches!(stage.put(&wanted("iris", 2)), Err(Trouble::Missing(_))));
}

#[test]
fn many_at_once_leave_all_their_commits_and_tags() {
    let stage = Stage::bare();
    done(stage.put(&wanted("first", 1)));
    std::thread::scope(|scope| {
        for model in ["iris", "oak", "wine", "tulip"] {
            let stage = &stage;
            scope.spawn(move || {
                for n in 1..=5 {
                    let mut seed = n;
                    let dice = || {
                        seed = (seed * 7 + 3) % 11;
                        f64::from(u32::try_from(seed).unwrap()) / 11.0
                    };
                    // others may be faster twelve times: whoever asked tries again then
                    let mut put = put(&stage.access(), &wanted(model, n), dice);
                    while put.as_ref().is_err_and(Trouble::passes) {
                        put = super::put(&stage.access(), &wanted(model, n), || 0.5);
                    }
                    done(put);
                }
            });
        }
    });
    assert_eq!((stage.commits(), stage.tags().len()), (21, 21));
    for model in ["iris", "oak", "wine", "tulip"] {
        assert_eq!(stage.says(&format!("models/{model}/production.yaml")).as_deref(), Some("version: 5\n"));
        assert!(stage.tags().contains(&format!("{model}@production#5")));
    }
}

#[test]
fn every_model_has_a_name_that_git_takes_for_a_tag() {
    for (text, name) in [
        ("iris@production", "iris@production"),
        ("fraud v2@dev", "fraud%20v2@dev"),
        ("a..b.@x", "a%2E%2Eb%2E@x"),
        (".hidden.lock@x", "%2Ehidden%2Elock@x"),
        ("v1.5@x", "v1.5@x"),
        ("a@{b}^~:?*[\\", "a@%7Bb%7D%5E%7E%3A%3F%2A%5B%5C"),
    ] {
        assert_eq!(reference_word(text), name);
        assert!(Reference::is_valid_name(&format!("refs/tags/{name}#1")), "{name}");
    }
    assert!(is_branch("release/1.x") && !is_branch("a b") && !is_branch("-x") && !is_branch(""));
}
