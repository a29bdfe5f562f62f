//! A commit looked up: whether it is there, and which branches and tags lead to it. What cannot be known is said to be so.

use std::collections::{HashMap, HashSet};
use std::fmt;

use git2::{ErrorCode, ObjectType, Oid};
use serde::{Deserialize, Serialize};

use super::opened::{Access, Opened};
use super::place::{Place, without_secrets};
use super::{Trouble, short};

/// Most branches and tags that are looked at.
const REFERENCES_MAX: usize = 10_000;
/// Most commits behind it that are walked.
const COMMITS_MAX: usize = 1_000_000;
/// Most branches, and most tags, that are named: the schema's limit.
const NAMED_MAX: usize = 100;
/// Characters of a whole id, and the fewest that one may be cut to.
const ID_CHARS: usize = 40;
const ID_CHARS_MIN: usize = 7;

/// What can come of it: the words of `run.checked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A branch or a tag leads to it.
    Found,
    /// So it is, but changes ran that no commit holds.
    Dirty,
    /// No branch or tag leads to it.
    Missing,
    /// Its id is cut so short that it names several.
    Ambiguous,
    /// The repository's history is cut off, and it is not in what is there.
    Shallow,
    /// The repository gives no answer.
    Unreachable,
    /// The engine may not ask the repository.
    Denied,
    /// Nobody said which commit of which repository.
    Unnamed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found => "found",
            Self::Dirty => "dirty",
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Shallow => "shallow",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Unnamed => "unnamed",
        })
    }
}

/// What a run says of its code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Code {
    /// Where the code is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether there were changes that no commit holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In one word.
    pub outcome: Outcome,
    /// What was looked up; the commit's whole id once it is known.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub code: Code,
    /// Branches that lead to it.
    #[serde(default)]
    pub branches: Vec<String>,
    /// Tags that lead to it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether there may be more of them.
    #[serde(default)]
    pub truncated: bool,
    /// Why it is not known, or what else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn is_empty(code: &Code) -> bool {
    *code == Code::default()
}

impl Found {
    /// An outcome with its reason.
    #[must_use]
    pub fn only(outcome: Outcome, code: &Code, reason: impl Into<String>) -> Self {
        let repository = code.repository.as_deref().map(without_secrets);
        let code = Code { repository, ..code.clone() };
        Self { outcome, code, branches: Vec::new(), tags: Vec::new(), truncated: false, reason: Some(reason.into()) }
    }

    /// What a repository that could not be looked into says.
    #[must_use]
    pub fn of_trouble(trouble: &Trouble, code: &Code) -> Self {
        let outcome = if matches!(trouble, Trouble::Denied(_)) { Outcome::Denied } else { Outcome::Unreachable };
        Self::only(outcome, code, trouble.to_string())
    }
}

/// What is to be looked up: a place and an id, or the answer if there is neither.
///
/// # Errors
/// The answer.
pub fn named(code: &Code) -> Result<(Place, String), Box<Found>> {
    let not = |outcome, reason: String| Err(Box::new(Found::only(outcome, code, reason)));
    let Some(repository) = &code.repository else { return not(Outcome::Unnamed, "the run names no repository".into()) };
    let Some(commit) = &code.commit else { return not(Outcome::Unnamed, "the run names no commit".into()) };
    let id = commit.to_ascii_lowercase();
    if !(ID_CHARS_MIN..=ID_CHARS).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return not(Outcome::Unnamed, format!("`{}` is no commit's id of {ID_CHARS_MIN} to {ID_CHARS} hexadecimal digits", short(commit)));
    }
    match Place::parse(repository) {
        Ok(place) => Ok((place, id)),
        Err(e) => not(Outcome::Unreachable, e.to_string()),
    }
}

/// Looks a commit up. With `fresh` the repository is asked, else only if the copy of it does not have the commit.
#[must_use]
pub fn look_up(access: &Access, code: &Code, id: &str, fresh: bool) -> Found {
    let known = if fresh { None } else { access.open().and_then(|opened| look(&opened, code, id)).ok() };
    if let Some(found) = known.filter(|found| matches!(found.outcome, Outcome::Found | Outcome::Dirty)) {
        return found;
    }
    access.open_fresh().and_then(|opened| look(&opened, code, id)).unwrap_or_else(|trouble| Found::of_trouble(&trouble, code))
}

fn look(opened: &Opened, code: &Code, id: &str) -> Result<Found, Trouble> {
    let repository = &opened.repository;
    let whole = if id.len() == ID_CHARS { Oid::from_str(id).ok() } else { None };
    let is_cut_off = repository.is_shallow();
    let absent = |there: bool| {
        if is_cut_off {
            return Found::only(
                Outcome::Shallow,
                code,
                "the repository's history is cut off (a shallow clone), and it is not in what is there",
            );
        }
        let there = if there { "it is there, but no branch or tag leads to it" } else { "no branch or tag leads to it" };
        Found::only(Outcome::Missing, code, there)
    };
    let commit = match whole {
        Some(id) => id,
        None => match repository.find_commit_by_prefix(id) {
            Ok(commit) => commit.id(),
            Err(e) if e.code() == ErrorCode::Ambiguous => {
                return Ok(Found::only(Outcome::Ambiguous, code, format!("several commits begin with {id}: give the whole id")));
            }
            Err(_) => return Ok(absent(false)),
        },
    };
    if !opened.has(commit, ObjectType::Commit) {
        return Ok(absent(false));
    }
    let (tips, more) = tips(opened)?;
    let Some(leading) = descendants(opened, commit, &tips)? else {
        let reason = format!("its history has more than {COMMITS_MAX} commits, which is too many to look through");
        return Ok(Found::only(Outcome::Unreachable, code, reason));
    };
    let names = |prefix: &str| {
        let leads = tips.iter().filter(|(_, tip)| leading.contains(tip));
        let mut names: Vec<String> = leads.filter_map(|(name, _)| name.strip_prefix(prefix).map(str::to_owned)).collect();
        names.sort_unstable();
        names
    };
    let (mut branches, mut tags) = (names("refs/heads/"), names("refs/tags/"));
    if branches.is_empty() && tags.is_empty() && !more {
        return Ok(absent(matches!(Place::parse(code.repository.as_deref().unwrap_or_default()), Ok(Place::Here(_)))));
    }
    let truncated = more || is_cut_off || branches.len() > NAMED_MAX || tags.len() > NAMED_MAX;
    branches.truncate(NAMED_MAX);
    tags.truncate(NAMED_MAX);
    let reason =
        is_cut_off.then(|| "the repository's history is cut off (a shallow clone): other branches and tags may lead to it, too".into());
    let outcome = if code.dirty == Some(true) { Outcome::Dirty } else { Outcome::Found };
    let code = Code { repository: code.repository.as_deref().map(without_secrets), commit: Some(commit.to_string()), dirty: code.dirty };
    Ok(Found { outcome, code, branches, tags, truncated, reason })
}

/// Branches and tags with their commits, and whether there are more.
fn tips(opened: &Opened) -> Result<(Vec<(String, Oid)>, bool), Trouble> {
    let mut tips = Vec::new();
    for glob in ["refs/heads/*", "refs/tags/*"] {
        for reference in opened.repository.references_glob(glob)? {
            opened.moves();
            let reference = reference?;
            // a tag may name something that is no commit, and a broken reference leads nowhere
            let (Ok(name), Ok(commit)) = (reference.name(), reference.peel_to_commit()) else { continue };
            if tips.len() == REFERENCES_MAX {
                return Ok((tips, true));
            }
            tips.push((name.to_owned(), commit.id()));
        }
    }
    Ok((tips, false))
}

/// The commit and all those of the tips' histories that descend from it; none if that is too many.
fn descendants(opened: &Opened, commit: Oid, tips: &[(String, Oid)]) -> Result<Option<HashSet<Oid>>, Trouble> {
    let repository = &opened.repository;
    let mut walk = repository.revwalk()?;
    for (_, tip) in tips {
        walk.push(*tip)?;
    }
    // nothing before it descends from it
    for parent in repository.find_commit(commit)?.parent_ids() {
        if opened.has(parent, ObjectType::Commit) {
            walk.hide(parent)?;
        }
    }
    let (mut children, mut is_there, mut count): (HashMap<Oid, Vec<Oid>>, bool, usize) = (HashMap::new(), false, 0);
    for id in walk {
        opened.moves();
        let id = id?;
        count += 1;
        if count > COMMITS_MAX {
            return Ok(None);
        }
        is_there |= id == commit;
        for parent in repository.find_commit(id)?.parent_ids() {
            children.entry(parent).or_default().push(id);
        }
    }
    let (mut found, mut next) = (HashSet::new(), if is_there { vec![commit] } else { Vec::new() });
    while let Some(id) = next.pop() {
        if found.insert(id) {
            next.extend(children.get(&id).into_iter().flatten());
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests;
