//! Commits in a repository of the tests' own: what leads to them, and what is not known.

use std::path::Path;

use git2::{Repository, Signature, Time};

use super::*;

fn commit(repository: &Repository, reference: Option<&str>, parents: &[Oid], n: i64) -> Oid {
    let by = Signature::new("Ada", "ada@example.org", &Time::new(1_772_366_400 + n, 0)).unwrap();
    let tree = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let parents: Vec<_> = parents.iter().map(|id| repository.find_commit(*id).unwrap()).collect();
    repository.commit(reference, &by, &by, &format!("commit {n}"), &tree, &parents.iter().collect::<Vec<_>>()).unwrap()
}

fn found(path: &Path, id: &str, dirty: Option<bool>) -> Found {
    let code = Code { repository: Some(path.display().to_string()), commit: Some(id.into()), dirty };
    let (place, id) = named(&code).unwrap();
    look_up(&Access::new(place, path.join("copies"), None), &code, &id, true)
}

#[test]
fn a_commit_is_found_with_what_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(dir.path()).unwrap();
    let first = commit(&repository, Some("refs/heads/main"), &[], 1);
    let side = commit(&repository, Some("refs/heads/side"), &[first], 2);
    let merge = commit(&repository, Some("refs/heads/main"), &[first, side], 3);
    repository.tag_lightweight("v1", &repository.find_object(side, None).unwrap(), false).unwrap();
    let by = Signature::new("Ada", "ada@example.org", &Time::new(1_772_366_400, 0)).unwrap();
    repository.tag("v2", &repository.find_object(merge, None).unwrap(), &by, "two", false).unwrap();
    let names = |id: Oid| {
        let found = found(dir.path(), &id.to_string(), None);
        assert_eq!((found.outcome, found.truncated, found.reason), (Outcome::Found, false, None));
        (found.branches.join(" "), found.tags.join(" "))
    };
    assert_eq!(names(first), ("main side".into(), "v1 v2".into()));
    assert_eq!(names(side), ("main side".into(), "v1 v2".into()));
    assert_eq!(names(merge), ("main".into(), "v2".into()));
    let cut = found(dir.path(), &side.to_string()[..10].to_uppercase(), Some(true));
    assert_eq!((cut.outcome, cut.code.commit), (Outcome::Dirty, Some(side.to_string())));
}

#[test]
fn what_no_branch_or_tag_leads_to_is_missing_and_what_is_no_id_is_not_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(dir.path()).unwrap();
    assert_eq!(found(dir.path(), &"a".repeat(40), None).outcome, Outcome::Missing, "it is empty");
    let first = commit(&repository, Some("refs/heads/main"), &[], 1);
    let lost = commit(&repository, None, &[first], 2);
    let there = found(dir.path(), &lost.to_string(), None);
    assert_eq!((there.outcome, there.reason.as_deref()), (Outcome::Missing, Some("it is there, but no branch or tag leads to it")));
    assert_eq!(found(dir.path(), &"b".repeat(8), None).outcome, Outcome::Missing);
    let tree = repository.find_commit(first).unwrap().tree_id().to_string();
    assert_eq!(found(dir.path(), &tree, None).outcome, Outcome::Missing, "a tree is no commit");
    let gone = found(&dir.path().join("gone"), &first.to_string(), None);
    assert!(gone.outcome == Outcome::Unreachable && gone.reason.as_deref().unwrap().contains("is not there"), "{gone:?}");
    let outcome = |repository: Option<&str>, commit: Option<&str>| {
        let code = Code { repository: repository.map(Into::into), commit: commit.map(Into::into), dirty: None };
        named(&code).unwrap_err().outcome
    };
    assert_eq!(outcome(None, Some("abcdef1")), Outcome::Unnamed);
    assert_eq!(outcome(Some("/x"), None), Outcome::Unnamed);
    assert_eq!(outcome(Some("/x"), Some("HEAD")), Outcome::Unnamed);
    assert_eq!(outcome(Some("/x"), Some("abcdef")), Outcome::Unnamed);
    assert_eq!(outcome(Some("git@host:x"), Some("abcdef1")), Outcome::Unreachable);
}
