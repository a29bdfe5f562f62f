//! A repository that people work in: which of its files are models, and what its history did to them.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use git2::{Commit, ConfigLevel, Oid, Repository, Sort, StatusOptions};

use super::place::without_secrets;
use super::tracked::{Artifact, artifact, blob, changed, origin};

/// Most commits that are walked to make up for what was not told.
const COMMITS_MAX: usize = 100_000;
/// Before the name of each setting; behind it stand the file's path and the setting's own name.
const SECTION: &str = "annals";

/// A model's file in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its path from the repository's root.
    pub path: String,
    /// The model.
    pub model: String,
    /// Its workspace.
    pub workspace: String,
    /// The branch whose state is registered.
    pub main: String,
    /// The engine, if it is not the usual one.
    pub url: Option<String>,
    /// Who says so.
    pub actor: Option<String>,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// The commit that was made just now.
    Commit,
    /// The merge that was made just now.
    Merge,
    /// All behind a commit.
    Since(String),
    /// All.
    All,
}

/// A commit that made the file what it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its whole id.
    pub commit: String,
    /// The bytes.
    pub artifact: Artifact,
    /// Whether there are changes that no commit holds, where that can be known.
    pub dirty: Option<bool>,
    /// Whether this is what the main branch has, or had once it was merged.
    pub on_main: bool,
}

/// See the module.
pub struct Checkout(Repository);

impl Checkout {
    /// The repository that a directory lies in; without one that of the hook that runs, or of the current directory.
    ///
    /// # Errors
    /// In words.
    pub fn open(directory: Option<&Path>) -> Result<Self, String> {
        let found = match directory {
            Some(directory) => Repository::discover(directory),
            None => Repository::open_from_env(),
        };
        let at = directory.map_or_else(|| "here".to_owned(), |directory| format!("in {}", directory.display()));
        let repository = found.map_err(|e| format!("there is no repository {at}: {}", e.message()))?;
        if repository.is_bare() {
            return Err(format!("the repository {at} is bare: nobody commits there; do it where people work"));
        }
        Ok(Self(repository))
    }

    fn root(&self) -> &Path {
        self.0.workdir().unwrap_or_else(|| self.0.path())
    }

    /// A file's path from the root, as git has it.
    ///
    /// # Errors
    /// If it is outside.
    pub fn inside(&self, path: &Path) -> Result<String, String> {
        let root = self.root().canonicalize().map_err(|e| e.to_string())?;
        let inner = if path.is_absolute() { path.strip_prefix(&root).ok() } else { Some(path) };
        let parts: Option<Vec<&str>> = inner.and_then(|inner| {
            let parts = inner.components().filter(|part| *part != Component::CurDir);
            parts.map(|part| if let Component::Normal(name) = part { name.to_str() } else { None }).collect()
        });
        let parts = parts.filter(|parts| !parts.is_empty());
        let remedy = || format!("`{}` is no file's path from the root of the repository {}", path.display(), root.display());
        parts.map(|parts| parts.join("/")).ok_or_else(remedy)
    }

    /// Where git looks for its hooks (`core.hooksPath`).
    #[must_use]
    pub fn hooks(&self) -> PathBuf {
        let configured = self.0.config().and_then(|config| config.get_path("core.hooksPath")).ok();
        configured.map_or_else(|| self.0.commondir().join("hooks"), |path| self.root().join(path))
    }

    /// Whether they lie outside of the repository, where others may use them, too.
    #[must_use]
    pub fn shares_hooks(&self) -> bool {
        let hooks = self.hooks();
        let hooks = hooks.canonicalize().unwrap_or(hooks);
        let inside = |directory: &Path| directory.canonicalize().is_ok_and(|directory| hooks.starts_with(directory));
        !inside(self.root()) && !inside(self.0.commondir())
    }

    /// Keeps a file in the repository's configuration as a model's.
    ///
    /// # Errors
    /// In words.
    pub fn track(&self, tracked: &Tracked) -> Result<(), String> {
        let set = || -> Result<(), git2::Error> {
            let mut config = self.0.config()?.open_level(ConfigLevel::Local)?;
            for (name, value) in [
                ("model", Some(&tracked.model)),
                ("workspace", Some(&tracked.workspace)),
                ("main", Some(&tracked.main)),
                ("url", tracked.url.as_ref()),
                ("actor", tracked.actor.as_ref()),
            ] {
                let name = format!("{SECTION}.{}.{name}", tracked.path);
                match value {
                    Some(value) => config.set_str(&name, value)?,
                    // it may have been another one before
                    None if config.get_entry(&name).is_ok() => config.remove(&name)?,
                    None => {}
                }
            }
            Ok(())
        };
        set().map_err(|e| format!("the repository's configuration cannot be written: {}", e.message()))
    }

    /// The files that are models'.
    ///
    /// # Errors
    /// In words.
    pub fn tracked(&self) -> Result<Vec<Tracked>, String> {
        let read = || -> Result<Vec<Tracked>, git2::Error> {
            let config = self.0.config()?;
            let mut paths = Vec::new();
            let mut entries = config.entries(Some(&format!("^{SECTION}\\..*\\.model$")))?;
            while let Some(entry) = entries.next() {
                let name = entry?.name()?.to_owned();
                let path = name.strip_prefix(SECTION).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".model"));
                paths.extend(path.map(str::to_owned));
            }
            let text = |path: &str, name: &str| config.get_string(&format!("{SECTION}.{path}.{name}")).ok();
            let tracked = |path: String| Tracked {
                model: text(&path, "model").unwrap_or_default(),
                workspace: text(&path, "workspace").unwrap_or_else(|| "default".into()),
                main: text(&path, "main").unwrap_or_else(|| "main".into()),
                url: text(&path, "url"),
                actor: text(&path, "actor"),
                path,
            };
            paths.sort_unstable();
            paths.dedup();
            Ok(paths.into_iter().map(tracked).collect())
        };
        read().map_err(|e| format!("the repository's configuration cannot be read: {}", e.message()))
    }

    /// How others call the repository: by the URL of its remote, without credentials, else by its path.
    #[must_use]
    pub fn name(&self) -> String {
        let remotes = self.0.remotes().map(|names| names.iter().filter_map(|name| Some(name.ok()??.to_owned())).collect::<Vec<_>>());
        let remotes = remotes.unwrap_or_default();
        let remote = remotes.iter().find(|name| *name == "origin").or(remotes.first());
        let url = remote.and_then(|name| self.0.find_remote(name).ok()?.url().ok().map(str::to_owned));
        let here = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
        match url {
            Some(url) if self.root().join(&url).exists() => here(&self.root().join(&url)),
            Some(url) => without_secrets(&url),
            None => here(self.root()),
        }
    }

    /// The commit before one, if there is one.
    #[must_use]
    pub fn before(&self, commit: &str) -> Option<String> {
        let commit = self.0.find_commit(Oid::from_str(commit).ok()?).ok()?;
        commit.parent_id(0).ok().map(|id| id.to_string())
    }

    /// What a span of the history did to a file, the oldest first.
    ///
    /// # Errors
    /// In words: what cannot be known is not guessed.
    pub fn changes(&self, tracked: &Tracked, span: &Span) -> Result<Vec<Change>, String> {
        let path = Path::new(&tracked.path);
        let words = |e: git2::Error| e.message().to_owned();
        let Ok(head) = self.0.head().and_then(|head| head.peel_to_commit()) else { return Ok(Vec::new()) };
        let branch = self.0.head().ok().and_then(|head| head.shorthand().ok().map(str::to_owned));
        let on_main = branch.as_deref() == Some(tracked.main.as_str());
        match span {
            Span::Commit => {
                if let Some(made) = changed(&head, path).map_err(words)? {
                    let dirty = Some(self.is_dirty().map_err(words)?);
                    return Ok(vec![Change { dirty, ..self.change(&head, made, on_main)? }]);
                }
                // one that ends a merge by hand
                if on_main && head.parent_count() > 1 { self.of_main(&head, path) } else { Ok(Vec::new()) }
            }
            Span::Merge if on_main => self.of_main(&head, path),
            Span::Merge => Ok(Vec::new()),
            Span::Since(since) => {
                let since = self.0.revparse_single(since).and_then(|found| found.peel_to_commit());
                let since = since.map_err(|e| format!("`--since` names no commit: {}", e.message()))?;
                self.all(tracked, &head, Some(since.id()))
            }
            Span::All => self.all(tracked, &head, None),
        }
    }

    fn is_dirty(&self) -> Result<bool, git2::Error> {
        let mut options = StatusOptions::new();
        options.include_untracked(false).include_ignored(false);
        Ok(!self.0.statuses(Some(&mut options))?.is_empty())
    }

    fn change(&self, commit: &Commit<'_>, made: Oid, on_main: bool) -> Result<Change, String> {
        Ok(Change { commit: commit.id().to_string(), artifact: artifact(&self.0, made)?, dirty: None, on_main })
    }

    /// What the main branch has at a commit, and by which commit it came to be.
    fn of_main(&self, at: &Commit<'_>, path: &Path) -> Result<Vec<Change>, String> {
        match self.known_origin(at, path)? {
            Some((commit, made)) => Ok(vec![self.change(&commit, made, true)?]),
            None => Ok(Vec::new()),
        }
    }

    fn known_origin<'r>(&self, at: &Commit<'r>, path: &Path) -> Result<Option<(Commit<'r>, Oid)>, String> {
        let found = origin(at, path).map_err(|e| e.message().to_owned())?;
        if found.as_ref().is_some_and(|(commit, _)| commit.parent_count() == 0) && self.0.is_shallow() {
            let text = "the history is cut off (a shallow clone), so nobody knows which commit made the file: git fetch --unshallow";
            return Err(text.into());
        }
        Ok(found)
    }

    fn all(&self, tracked: &Tracked, head: &Commit<'_>, since: Option<Oid>) -> Result<Vec<Change>, String> {
        let (path, words) = (Path::new(&tracked.path), |e: git2::Error| e.message().to_owned());
        let main = self.0.find_reference(&format!("refs/heads/{}", tracked.main)).and_then(|main| main.peel_to_commit()).ok();
        let merged = main.as_ref().map_or_else(|| Ok(Vec::new()), |main| self.merged(main, since, path))?;
        let on_main: HashSet<Oid> = merged.iter().map(|(commit, _)| commit.id()).collect();
        let mut walk = self.0.revwalk().map_err(words)?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE).map_err(words)?;
        for tip in main.iter().chain([head]) {
            walk.push(tip.id()).map_err(words)?;
        }
        if let Some(since) = since {
            walk.hide(since).map_err(words)?;
        }
        let (mut changes, mut told) = (Vec::new(), HashSet::new());
        for (walked, id) in walk.enumerate() {
            if walked == COMMITS_MAX {
                return Err(format!("there are more than {COMMITS_MAX} commits: name a later one with --since"));
            }
            let commit = self.0.find_commit(id.map_err(words)?).map_err(words)?;
            if let Some(made) = changed(&commit, path).map_err(words)? {
                if commit.parent_count() == 0 && self.0.is_shallow() {
                    self.known_origin(&commit, path)?; // it says why nobody knows
                }
                told.insert(commit.id());
                changes.push(self.change(&commit, made, on_main.contains(&commit.id()))?);
            }
        }
        // what was made before and merged since
        for (commit, made) in merged.into_iter().rev().filter(|(commit, _)| !told.contains(&commit.id())) {
            changes.push(self.change(&commit, made, true)?);
        }
        Ok(changes)
    }

    /// By which commits came what the main branch has, and what each merge into it brought.
    fn merged<'r>(&self, main: &Commit<'r>, since: Option<Oid>, path: &Path) -> Result<Vec<(Commit<'r>, Oid)>, String> {
        let words = |e: git2::Error| e.message().to_owned();
        let (mut found, mut at): (Vec<(Commit<'r>, Oid)>, _) = (Vec::new(), main.clone());
        for walked in 0..COMMITS_MAX {
            let first = at.parent(0).ok();
            let brings = match &first {
                _ if walked == 0 => true,
                Some(first) if at.parent_count() > 1 => blob(&at, path).map_err(words)? != blob(first, path).map_err(words)?,
                _ => false,
            };
            let brought = if brings { self.known_origin(&at, path)? } else { None };
            found.extend(brought.filter(|(commit, _)| found.iter().all(|(known, _)| known.id() != commit.id())));
            match first {
                Some(first) if since != Some(first.id()) => at = first,
                _ => break,
            }
        }
        Ok(found)
    }
}
