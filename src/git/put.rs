//! A manifest put onto a branch as one commit, and a tag beside it: whoever else pushes meanwhile, and however often it is done.
//!
//! The commit says in its message what it is for (`Annals-…` lines). So a second try finds what the first one did, and what an
//! older event wants never goes over what a newer one did. Two programs that make the same commit make the same bytes, since its
//! time is the event's.

use std::time::Duration;

use git2::{Commit, ErrorCode, FileMode, ObjectType, Oid, Reference, Repository, Signature, Time, Tree};
use serde::{Deserialize, Serialize};

use super::Trouble;
use super::opened::{Access, Opened};

/// How often it is tried again because others pushed meanwhile.
const TRIES_MAX: u32 = 12;
/// The pause behind the first try; each is up to twice as long as the one before, by chance.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Commits behind the branch's head that are looked through for ours.
const COMMITS_MAX: usize = 10_000;

/// What is to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// The manifest's path.
    pub path: String,
    /// What it says; none takes it away.
    pub content: Option<String>,
    /// What the commit's message begins with.
    pub title: String,
    /// Who it is by: name and address.
    pub author: (String, String),
    /// When, in seconds since 1970.
    pub time_s: i64,
    /// What a tag's name begins with, before `#` and its number; no tag without it.
    pub tag: Option<String>,
    /// What led to it.
    pub cause: Cause,
}

/// What led to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The journal.
    pub journal: String,
    /// What the manifest is of: `workspace/model`, the channel and the path, since two rules may put it in two places.
    pub target: String,
    /// The event's source and id.
    pub event: (String, String),
    /// Its place.
    pub position: String,
    /// Its count among the model's events: what is older never goes over it.
    pub modelseq: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Put {
    /// It is there.
    Done {
        /// The commit; none if there was nothing to take away.
        commit: Option<String>,
        /// The tag.
        tag: Option<String>,
        /// Whether it was there before.
        before: bool,
    },
    /// What a newer event led to is there.
    Newer {
        /// Its commit.
        commit: String,
    },
}

impl Cause {
    /// The lines at the end of a message.
    fn lines(&self) -> String {
        let (source, id) = &self.event;
        let mut lines = format!("Annals-Journal: {}\nAnnals-Target: {}\n", word(&self.journal), word(&self.target));
        lines += &format!(
            "Annals-Event: {} {}\nAnnals-Position: {}\nAnnals-Modelseq: {}\n",
            word(source),
            word(id),
            self.position,
            self.modelseq
        );
        lines
    }

    /// The count in a message that is about the same target by the same journal.
    fn count_in(&self, message: &str) -> Option<u64> {
        let line = |name: &str| message.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let is_same = line("Annals-Journal")? == word(&self.journal) && line("Annals-Target")? == word(&self.target);
        line("Annals-Modelseq")?.parse().ok().filter(|_| is_same)
    }
}

/// Whether git takes a name for a branch.
#[must_use]
pub fn is_branch(name: &str) -> bool {
    !name.starts_with('-') && Reference::is_valid_name(&format!("refs/heads/{name}"))
}

/// Text as one word: what ends a word or a line is written as `%` and two digits.
fn word(text: &str) -> String {
    escape(text, |byte| byte > b' ' && byte != b'%' && byte != 0x7f)
}

/// A name as a part of a reference's: what git does not take there is written so, too.
#[must_use]
pub fn reference_word(text: &str) -> String {
    let word = escape(text, |byte| byte.is_ascii_alphanumeric() || b"-_+=,!@/.".contains(&byte) || byte >= 0x80);
    // a dot only between letters and digits, and never so that it looks like one of git's locks
    let bytes = word.as_bytes();
    let is_plain = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let mut name = String::with_capacity(word.len());
    for (at, c) in word.char_indices() {
        let stays = c != '.' || (is_plain(at.checked_sub(1)) && is_plain(Some(at + 1)) && !word[at..].starts_with(".lock"));
        if stays { name.push(c) } else { name.push_str("%2E") }
    }
    name
}

fn escape(text: &str, taken: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if taken(byte) { out.push(byte) } else { out.extend_from_slice(format!("%{byte:02X}").as_bytes()) }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Puts it there. `dice` gives numbers from 0 to 1, for pauses.
///
/// # Errors
/// [`Trouble`].
pub fn put(access: &Access, wanted: &Wanted, mut dice: impl FnMut() -> f64) -> Result<Put, Trouble> {
    let mut last = Trouble::Moved;
    for tries in 0..TRIES_MAX {
        if tries > 0 {
            let longest = PAUSE_MAX.min(PAUSE * 2_u32.saturating_pow(tries - 1));
            std::thread::sleep(longest.mul_f64(dice().clamp(0.0, 1.0)));
        }
        match access.open_fresh().and_then(|opened| once(&opened, wanted)) {
            Err(again @ (Trouble::Moved | Trouble::Locked(_))) => last = again,
            other => return other,
        }
    }
    Err(last)
}

fn once(opened: &Opened, wanted: &Wanted) -> Result<Put, Trouble> {
    let repository = &opened.repository;
    let branch = format!("refs/heads/{}", wanted.branch);
    let head = opened.commit_at(&branch)?;
    if head.is_none() && repository.references_glob("refs/heads/*")?.next().is_some() {
        let Wanted { branch, .. } = wanted;
        return Err(Trouble::Unfit(format!("the repository has no branch `{branch}`: make it, or name another in the rule (`branch`)")));
    }
    let ours = match standing(repository, head.as_ref(), &wanted.cause)? {
        Standing::Newer(commit) => return Ok(Put::Newer { commit: commit.to_string() }),
        Standing::Ours(commit) => Some(commit),
        Standing::Older => None,
    };
    // somebody may have changed the file since it was ours; nothing is changed where it says so already
    let made = commit(repository, head.as_ref(), wanted)?;
    if let Some(made) = made {
        opened.publish(&branch, head.as_ref().map(Commit::id), made)?;
    }
    let (commit, before) = (made.or(ours).or(head.as_ref().map(Commit::id)), made.is_none());
    let tag = match (&wanted.tag, commit) {
        (Some(prefix), Some(commit)) if wanted.content.is_some() => Some(tag(opened, prefix, commit, wanted)?),
        _ => None,
    };
    Ok(Put::Done { commit: commit.map(|id| id.to_string()), tag, before })
}

/// What the branch has of the same target.
enum Standing {
    /// Nothing, or what an older event led to.
    Older,
    /// The commit that this event led to.
    Ours(Oid),
    /// One that a newer event led to.
    Newer(Oid),
}

fn standing(repository: &Repository, head: Option<&Commit<'_>>, cause: &Cause) -> Result<Standing, Trouble> {
    let Some(head) = head else { return Ok(Standing::Older) };
    let mut walk = repository.revwalk()?;
    walk.push(head.id())?;
    let (mut ours, mut merged) = (None, false);
    for id in walk.take(COMMITS_MAX) {
        let id = id?;
        let commit = repository.find_commit(id)?;
        merged |= commit.parent_count() > 1;
        match cause.count_in(&String::from_utf8_lossy(commit.message_bytes())) {
            Some(count) if count > cause.modelseq => return Ok(Standing::Newer(id)),
            Some(count) if count == cause.modelseq => ours = ours.or(Some(id)),
            Some(_) => {}
            None => continue,
        }
        // where nobody merged, what comes behind is older still
        if !merged {
            break;
        }
    }
    Ok(ours.map_or(Standing::Older, Standing::Ours))
}

/// Makes the commit, without a work tree; none if the head says so already.
fn commit(repository: &Repository, head: Option<&Commit<'_>>, wanted: &Wanted) -> Result<Option<Oid>, Trouble> {
    let tree = head.map(Commit::tree).transpose()?;
    let parts: Vec<&str> = wanted.path.split('/').collect();
    let blob = wanted.content.as_ref().map(|content| repository.blob(content.as_bytes())).transpose()?;
    let made = with(repository, tree.as_ref(), &parts, blob)?;
    let made = match made {
        Some(made) => made,
        None => repository.treebuilder(None)?.write()?,
    };
    if tree.as_ref().is_some_and(|tree| tree.id() == made) || (tree.is_none() && blob.is_none()) {
        return Ok(None);
    }
    let by = signature(wanted)?;
    let message = format!("{}\n\n{}", wanted.title, wanted.cause.lines());
    let parents: Vec<&Commit<'_>> = head.into_iter().collect();
    Ok(Some(repository.commit(None, &by, &by, &message, &repository.find_tree(made)?, &parents)?))
}

/// The tree with a file at a path, or without it; none if nothing is left in it.
fn with(repository: &Repository, tree: Option<&Tree<'_>>, path: &[&str], blob: Option<Oid>) -> Result<Option<Oid>, Trouble> {
    let mut builder = repository.treebuilder(tree)?;
    let Some((name, rest)) = path.split_first() else { return Ok(tree.map(Tree::id)) };
    let there = builder.get(name)?.map(|entry| (entry.id(), entry.kind()));
    let entry = if rest.is_empty() {
        if there.is_some_and(|(_, kind)| kind != Some(ObjectType::Blob)) {
            return Err(Trouble::Unfit(format!("`{name}` in the repository is no file: give the rule another `path`")));
        }
        blob.map(|blob| (blob, FileMode::Blob))
    } else {
        let below = match there {
            Some((id, Some(ObjectType::Tree))) => Some(repository.find_tree(id)?),
            None => None,
            Some(_) => return Err(Trouble::Unfit(format!("`{name}` in the repository is no folder: give the rule another `path`"))),
        };
        with(repository, below.as_ref(), rest, blob)?.map(|tree| (tree, FileMode::Tree))
    };
    match entry {
        Some((id, mode)) => {
            builder.insert(*name, id, mode.into())?;
        }
        None if there.is_some() => builder.remove(*name)?,
        None => {}
    }
    if builder.is_empty() { Ok(None) } else { Ok(Some(builder.write()?)) }
}

/// The tag of the event: the one that it has, or the next number's.
fn tag(opened: &Opened, prefix: &str, commit: Oid, wanted: &Wanted) -> Result<String, Trouble> {
    let repository = &opened.repository;
    let before = format!("refs/tags/{prefix}#");
    let mut last = 0;
    for reference in repository.references_glob("refs/tags/*")? {
        let reference = reference?;
        let Ok(name) = reference.name() else { continue };
        let Some(number) = name.strip_prefix(&before).and_then(|number| number.parse::<u64>().ok()) else { continue };
        last = last.max(number);
        let message = reference.peel_to_tag().ok().and_then(|tag| tag.message_bytes().map(|m| String::from_utf8_lossy(m).into_owned()));
        if message.and_then(|message| wanted.cause.count_in(&message)) == Some(wanted.cause.modelseq) {
            return Ok(format!("{prefix}#{number}"));
        }
    }
    let name = format!("{prefix}#{}", last.saturating_add(1));
    let target = repository.find_object(commit, Some(ObjectType::Commit))?;
    let message = format!("{}\n\n{}", wanted.title, wanted.cause.lines());
    let object = repository.tag_annotation_create(&name, &target, &signature(wanted)?, &message).map_err(|e| match e.code() {
        ErrorCode::InvalidSpec => Trouble::Unfit(format!("`{name}` is no name that git takes for a tag")),
        _ => Trouble::of(&e),
    })?;
    opened.publish(&format!("refs/tags/{name}"), None, object)?;
    Ok(name)
}

fn signature(wanted: &Wanted) -> Result<Signature<'static>, Trouble> {
    let (name, address) = &wanted.author;
    Ok(Signature::new(name, address, &Time::new(wanted.time_s, 0))?)
}

#[cfg(test)]
mod tests;
