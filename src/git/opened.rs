//! A repository that is open: on this machine as it lies there, else as a bare copy that is fetched and can be thrown away.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use git2::{
    AutotagOption, Commit, Cred, Error, ErrorClass, ErrorCode, FetchOptions, FetchPrune, ObjectType, Oid, ProxyOptions, PushOptions,
    RemoteCallbacks, RemoteRedirect, Repository, RepositoryOpenFlags,
};
use url::Url;

use super::place::Place;
use super::worker::JOB_MAX;
use super::{Trouble, credentials, short};

/// What is fetched: branches and tags, under their own names.
const WANTED: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
/// Most bytes that one fetch may bring.
const FETCH_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Most copies that are kept: those used last.
const COPIES_MAX: usize = 64;
/// How long ago a copy must have been used before it makes room: longer than any job takes.
const UNUSED_MIN: Duration = JOB_MAX.saturating_mul(2);
/// What the name of a pack begins with while libgit2 fetches it.
const UNFINISHED: &str = "pack_git2_";
/// What we push from.
const PUSHED: &str = "refs/annals/pushed";
/// Programs of a repository that libgit2 does not run when it is written to.
const HOOKS: [&str; 5] = ["pre-receive", "update", "post-receive", "post-update", "reference-transaction"];
/// How a server says that a reference is not what it was when we looked.
const MOVED: [&str; 7] = [
    "fetch first",
    "non-fast-forward",
    "failed to update ref",
    "failed to lock",
    "cannot lock ref",
    "already exists",
    "incorrect old value",
];

/// Held while references of a repository on this machine are written. Whoever ends the process waits for it: a lock that is
/// left behind would keep everybody from writing there, until a person takes it away.
static WRITING: Mutex<()> = Mutex::new(());

/// Waits until no reference is being written, at most so long, and lets none be written any more.
pub fn write_no_more(wait_max: Duration) {
    let until = Instant::now() + wait_max;
    while Instant::now() < until {
        if let Ok(writing) = WRITING.try_lock() {
            std::mem::forget(writing);
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How a repository is reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// Which.
    pub place: Place,
    /// Where copies of those behind URLs are kept.
    pub copies: PathBuf,
    /// The file with users and tokens.
    pub credentials: Option<PathBuf>,
    /// Told, many times a second, that something moves: the host sends or takes, or a history is walked.
    pub moves: fn(),
}

/// See the module.
pub struct Opened {
    /// What can be read.
    pub repository: Repository,
    access: Access,
}

impl Access {
    /// Nobody is told how it moves.
    #[must_use]
    pub fn new(place: Place, copies: PathBuf, credentials: Option<PathBuf>) -> Self {
        Self { place, copies, credentials, moves: || {} }
    }

    fn copy(&self) -> PathBuf {
        self.copies.join(format!("{}.git", self.place.key()))
    }

    /// Opens it as it is known here; nothing is asked of others.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn open(&self) -> Result<Opened, Trouble> {
        let repository = match &self.place {
            Place::Here(path) => {
                let none: [&Path; 0] = [];
                Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, none).map_err(|e| unopened(path, &e))?
            }
            Place::There(_) => {
                let copy = self.copy();
                // so that those used last can be told
                let _ = std::fs::File::open(&copy).and_then(|copy| copy.set_modified(SystemTime::now()));
                Repository::open_bare(&copy).or_else(|_| {
                    make_room(&self.copies, COPIES_MAX);
                    let _ = std::fs::remove_dir_all(&copy); // what cannot be opened is of no use
                    Repository::init_bare(&copy).map_err(|e| Trouble::Unfit(format!("no copy can be kept in {}: {e}", copy.display())))
                })?
            }
        };
        Ok(Opened { repository, access: self.clone() })
    }

    /// Opens it as it is now.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn open_fresh(&self) -> Result<Opened, Trouble> {
        let opened = self.open()?;
        let Place::There(url) = &self.place else { return Ok(opened) };
        opened.sweep();
        match opened.fetch(url) {
            Err(e) if is_of_the_copy(&e) => {
                // a process that was killed while it wrote left it so: it is only a copy
                drop(opened);
                let _ = std::fs::remove_dir_all(self.copy());
                let opened = self.open()?;
                opened.fetch(url)?;
                Ok(opened)
            }
            Err(e) => Err(e.into()),
            Ok(()) => Ok(opened),
        }
    }
}

impl Opened {
    /// Says that something moves.
    pub fn moves(&self) {
        (self.access.moves)();
    }

    /// Takes away what a fetch left that was killed: nothing goes on from it, and it may be large. Only one job at a time is at
    /// work on a copy, so that it is nobody's now.
    fn sweep(&self) {
        let Ok(files) = std::fs::read_dir(self.repository.path().join("objects/pack")) else { return };
        for file in files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(UNFINISHED)) {
            let _ = std::fs::remove_file(file.path()); // if it cannot be, the fetch says what is wrong
        }
    }

    fn fetch(&self, url: &Url) -> Result<(), Error> {
        let mut callbacks = callbacks(&self.access, url);
        callbacks.transfer_progress(|progress| {
            self.moves();
            progress.received_bytes() <= FETCH_BYTES_MAX
        });
        // a host may count and compress for a long time before it sends anything else
        callbacks.sideband_progress(|_| {
            self.moves();
            true
        });
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks).proxy_options(proxy()).follow_redirects(RemoteRedirect::None);
        options.prune(FetchPrune::On).download_tags(AutotagOption::None).update_fetchhead(false);
        let fetched = self.repository.remote_anonymous(url.as_str())?.fetch(&WANTED, Some(&mut options), None);
        fetched.map_err(|e| if e.code() == ErrorCode::User { too_large() } else { e })
    }

    /// The commit that a reference of the repository leads to, if it is there.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn commit_at(&self, reference: &str) -> Result<Option<Commit<'_>>, Trouble> {
        match self.repository.find_reference(reference) {
            Ok(found) => Ok(Some(found.peel_to_commit()?)),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes a reference of the repository lead to an object, if it leads to `before` now (none: if it is not there). Who
    /// was faster wins: then it is [`Trouble::Moved`].
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn publish(&self, reference: &str, before: Option<Oid>, object: Oid) -> Result<(), Trouble> {
        match &self.access.place {
            Place::Here(_) => self.write(reference, before, object),
            Place::There(url) => self.push(url, reference, before, object),
        }
    }

    /// What git would do for one who pushes to a path, under git's own locks; but its hooks only git's own programs run.
    fn write(&self, reference: &str, before: Option<Oid>, object: Oid) -> Result<(), Trouble> {
        if let Some(hook) = self.hook() {
            let hook = hook.display();
            return Err(Trouble::Unfit(format!(
                "{} has the hook {hook}, which runs only when git serves the repository: name it by its https:// URL",
                self.access.place
            )));
        }
        let checked_out = self.repository.find_reference("HEAD").ok().and_then(|head| head.symbolic_target().ok()?.map(str::to_owned));
        if !self.repository.is_bare() && checked_out.as_deref() == Some(reference) {
            return Err(Trouble::Unfit(format!(
                "{} has {reference} checked out, and its files would not follow: name a bare repository, or another branch",
                self.access.place
            )));
        }
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(before) => self.repository.reference_matching(reference, object, true, before, "annals")?,
            None => self.repository.reference(reference, object, false, "annals")?,
        };
        Ok(())
    }

    fn hook(&self) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let configured = self.repository.config().and_then(|config| config.get_path("core.hooksPath")).ok();
        let directory = configured.unwrap_or_else(|| "hooks".into());
        let directory = self.repository.commondir().join(directory);
        let runs = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        HOOKS.iter().map(|name| directory.join(name)).find(runs)
    }

    fn push(&self, url: &Url, reference: &str, before: Option<Oid>, object: Oid) -> Result<(), Trouble> {
        self.repository.reference(PUSHED, object, true, "annals")?;
        let (refused, told) = (RefCell::new(None), RefCell::new(String::new()));
        let mut callbacks = callbacks(&self.access, url);
        let expected = before.unwrap_or(Oid::ZERO_SHA1);
        callbacks.push_negotiation(move |updates| {
            // what the server says under its lock comes later: this is only to send nothing in vain
            let moved = updates.iter().any(|update| update.src() != expected);
            if moved { Err(Error::new(ErrorCode::Modified, ErrorClass::Reference, "it moved")) } else { Ok(()) }
        });
        callbacks.push_update_reference(|_, status| {
            *refused.borrow_mut() = status.map(str::to_owned);
            Ok(())
        });
        callbacks.push_transfer_progress(|_, _, _| self.moves());
        callbacks.sideband_progress(|bytes| {
            self.moves();
            let mut told = told.borrow_mut();
            if told.len() < super::SAID_MAX {
                told.push_str(&String::from_utf8_lossy(bytes));
            }
            true
        });
        let mut options = PushOptions::new();
        options.remote_callbacks(callbacks).proxy_options(proxy()).follow_redirects(RemoteRedirect::None);
        let pushed = self.repository.remote_anonymous(url.as_str())?.push(&[format!("{PUSHED}:{reference}")], Some(&mut options));
        drop(options);
        pushed?;
        match refused.into_inner() {
            None => Ok(()),
            Some(status) if MOVED.iter().any(|words| status.contains(words)) => Err(Trouble::Moved),
            Some(status) => Err(Trouble::Rejected(short(&format!("{status} {}", told.into_inner())))),
        }
    }

    /// Whether an object is there at all.
    #[must_use]
    pub fn has(&self, id: Oid, kind: ObjectType) -> bool {
        self.repository.find_object(id, Some(kind)).is_ok()
    }
}

/// Takes away the copies used longest ago, so that with one more there are no more than so many.
fn make_room(copies: &Path, most: usize) {
    let Ok(found) = std::fs::read_dir(copies) else { return };
    let used = |entry: std::fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut found: Vec<_> = found.flatten().filter_map(used).filter(|(_, path)| path.extension().is_some_and(|end| end == "git")).collect();
    found.sort_unstable();
    let surplus = (found.len() + 1).saturating_sub(most);
    for (used, copy) in found.into_iter().take(surplus) {
        if used.elapsed().is_ok_and(|since| since > UNUSED_MIN) {
            let _ = std::fs::remove_dir_all(copy); // it can be fetched again
        }
    }
}

fn unopened(path: &Path, error: &Error) -> Trouble {
    match error.code() {
        ErrorCode::NotFound if path.exists() => Trouble::Missing(format!("{} holds none", path.display())),
        ErrorCode::NotFound => Trouble::Missing(format!("{} is not there", path.display())),
        _ => Trouble::of(error),
    }
}

fn too_large() -> Error {
    let text = format!("it brings more than {} MiB at once, which is not taken: name a smaller repository", FETCH_BYTES_MAX / 1024 / 1024);
    Error::new(ErrorCode::GenericError, ErrorClass::Invalid, text)
}

/// Whether only our copy is broken.
fn is_of_the_copy(error: &Error) -> bool {
    let class = matches!(
        error.class(),
        ErrorClass::Odb | ErrorClass::Zlib | ErrorClass::Repository | ErrorClass::Filesystem | ErrorClass::Config | ErrorClass::Object
    );
    class || error.code() == ErrorCode::Locked
}

fn proxy<'a>() -> ProxyOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

/// Says who we are, once; nobody is ever prompted.
fn callbacks<'a>(access: &'a Access, url: &'a Url) -> RemoteCallbacks<'a> {
    let mut callbacks = RemoteCallbacks::new();
    let asked = Cell::new(false);
    callbacks.credentials(move |_, _, _| {
        let no = |text: String| Err(Error::new(ErrorCode::Auth, ErrorClass::Http, text));
        let Some(file) = &access.credentials else {
            return no("it asks who we are: name a file with users and tokens (--git-credentials)".into());
        };
        if asked.replace(true) {
            return no(format!("it does not take the token for it in {}: put a new one there", file.display()));
        }
        match credentials::find(file, url) {
            Ok(Some(login)) => Cred::userpass_plaintext(&login.user, &login.token),
            Ok(None) => no(format!("it asks who we are, and {} has no line for it", file.display())),
            Err(e) => no(e),
        }
    });
    callbacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_fetch_left_is_taken_away_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::parse("http://127.0.0.1:9/x.git").unwrap();
        let access = Access::new(place, dir.path().to_owned(), None);
        access.open().unwrap();
        let packs = access.copy().join("objects/pack");
        for name in ["pack_git2_a1b2c3", "pack-1.keep"] {
            std::fs::write(packs.join(name), "half").unwrap();
        }
        assert!(access.open_fresh().is_err(), "nobody is there");
        assert!(!packs.join("pack_git2_a1b2c3").exists() && packs.join("pack-1.keep").exists());
    }
    #[test]
    fn the_copies_used_longest_ago_make_room_unless_one_may_be_in_use() {
        let dir = tempfile::tempdir().unwrap();
        for (name, ago) in [("a.git", 30_000), ("b.git", 20_000), ("c.git", 0), ("other", 40_000)] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            let used = SystemTime::now() - Duration::from_secs(ago);
            std::fs::File::open(dir.path().join(name)).unwrap().set_modified(used).unwrap();
        }
        let kept = |most: usize| {
            make_room(dir.path(), most);
            ["a.git", "b.git", "c.git", "other"].map(|name| dir.path().join(name).exists())
        };
        assert_eq!(kept(4), [true; 4]);
        assert_eq!(kept(3), [false, true, true, true]);
        assert_eq!(kept(1), [false, false, true, true]);
    }
}
