//! Where a repository is, which of them the engine may touch, and how one is named without its secrets.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use url::Url;

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On this machine.
    Here(PathBuf),
    /// Behind a URL, which has no credentials in it.
    There(Url),
}

/// Why a text names no repository that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoPlace(String);

impl Place {
    /// Reads a URL or an absolute path.
    ///
    /// # Errors
    /// What it must be instead.
    pub fn parse(text: &str) -> Result<Self, NoPlace> {
        let no = |message: String| Err(NoPlace(message));
        if text.starts_with('/') {
            return Self::here(Path::new(text));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return no(format!("`{}` is neither an https:// URL nor an absolute path (git over SSH is not spoken)", without_secrets(text)));
        };
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(e) => return no(format!("`{}` is no URL: {e}", without_secrets(text))),
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => match url.to_file_path() {
                Ok(path) => Self::here(&path),
                Err(()) => no(format!("`{text}` names no path of this machine")),
            },
            "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
                no(format!("the URL {} holds credentials, which are for --git-credentials", without_secrets(text)))
            }
            "http" | "https" if url.query().is_some() || url.fragment().is_some() => no(format!("`{text}` has a `?` or a `#`")),
            // some servers take these for `/`, `\` and `.`: then what is allowed would not be what is reached
            "http" | "https" if ["%2f", "%5c", "%2e"].iter().any(|hidden| text.to_ascii_lowercase().contains(hidden)) => {
                no(format!("`{text}` has a `/`, `\\` or `.` in disguise (%2F, %5C, %2E): write it as it is"))
            }
            "http" | "https" if url.has_host() => Ok(Self::there(url)),
            _ => no(format!("`{scheme}://` is not spoken: use https:// or an absolute path")),
        }
    }

    /// With and without a slash at its end it is the same.
    fn there(mut url: Url) -> Self {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Self::There(url)
    }

    fn here(path: &Path) -> Result<Self, NoPlace> {
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(NoPlace(format!("`{}` leads upwards: give the path without `..`", path.display())));
        }
        Ok(Self::Here(path.components().collect()))
    }

    /// A name for files that are kept of it.
    #[must_use]
    pub fn key(&self) -> String {
        annals_events::record::Hash::of(self.to_string().as_bytes()).to_string()[..24].to_owned()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::There(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

/// What stands before `@` in a URL is taken away; anything else stays as it is.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Repositories that rules and checks may touch: one, or all whose name begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// This one.
    One(Place),
    /// All below: what they begin with ends in `/`.
    Below(String),
}

impl Allowed {
    /// Reads a URL or a path, or what they begin with and `/*`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(before) = text.strip_suffix('*') else { return Place::parse(text).map(Self::One).map_err(|e| e.to_string()) };
        let parent = before.strip_suffix('/').filter(|parent| !parent.contains('*'));
        let parent = parent.ok_or_else(|| format!("`{text}`: one `*` may stand behind the last `/`, for all repositories below"))?;
        // `/*` is all that is here
        let parent = if parent.is_empty() { String::new() } else { Place::parse(parent).map_err(|e| e.to_string())?.to_string() };
        Ok(Self::Below(format!("{parent}/")))
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn allows(&self, place: &Place) -> bool {
        match self {
            Self::One(one) => one.to_string() == place.to_string(),
            Self::Below(before) => place.to_string().strip_prefix(before.as_str()).is_some_and(|rest| !rest.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_url_without_credentials_or_an_absolute_path() {
        let place = |text: &str| Place::parse(text).map(|p| p.to_string());
        assert_eq!(place("/srv//git/./x.git/"), Ok("/srv/git/x.git".into()));
        assert_eq!(place("file:///srv/git/x"), Ok("/srv/git/x".into()));
        assert_eq!(place("https://Git.Example/a/../x.git/"), Ok("https://git.example/x.git".into()));
        for (bad, words) in [
            ("git@git.example:x.git", "SSH is not spoken"),
            ("ssh://git.example/x", "`ssh://` is not spoken"),
            ("x.git", "absolute path"),
            ("/srv/../etc", "leads upwards"),
            ("https://ada:secret@git.example/x", "--git-credentials"),
            ("https://git.example/x?a=b", "`?`"),
            ("https://git.example/ml/..%2Fother%2fx.git", "in disguise"),
            ("https://git.example/ml/%2E./other/x.git", "in disguise"),
            ("https://git.example/ml/..%5cother/x.git", "in disguise"),
        ] {
            let why = place(bad).unwrap_err().to_string();
            assert!(why.contains(words) && !why.contains("secret"), "{bad}: {why}");
        }
        assert_eq!(Place::parse("https://git.example/x"), Place::parse("https://git.example/x//"));
        assert_eq!(without_secrets("https://ada:s@cret@git.example/x@y"), "https://git.example/x@y");
    }

    #[test]
    fn what_is_allowed_is_one_or_all_below() {
        let allows = |pattern: &str, text: &str| Allowed::parse(pattern).unwrap().allows(&Place::parse(text).unwrap());
        assert!(allows("https://git.example/ml/*", "https://git.example/ml/a/b.git") && allows("/srv/git/*", "/srv/git/x.git"));
        assert!(allows("/srv/git/x.git", "/srv/git/x.git/") && allows("/*", "/srv/x"));
        assert!(!allows("https://git.example/ml/*", "https://git.example/mlx/a") && !allows("/srv/git/*", "/srv/gitx"));
        assert!(!allows("https://git.example/ml/*", "https://git.example/ml/../other/a") && !allows("/srv/git/*", "/srv/git"));
        for bad in ["https://git.example*", "*", "x/*", "/srv/*/x/*"] {
            assert!(Allowed::parse(bad).is_err(), "{bad}");
        }
    }
}
