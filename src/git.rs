//! Git repositories, through libgit2: what is known of a commit, and a manifest put onto a branch.
//!
//! ```text
//!  an actor, the door ──▶ worker ──a process──▶ work ──▶ lookup, put ──▶ opened ──▶ the repository
//!  `annals git check`, hooks ───────────────────────────▶ lookup, tracked ──▶ opened ─┘
//! ```
//!
//! libgit2 blocks, and has no time limit that safe code can set; so whatever may have to wait for others is done by a process
//! of its own, which is ended when it takes too long or the engine stops.

pub mod checkout;
pub mod credentials;
pub mod lookup;
pub mod opened;
pub mod place;
pub mod put;
pub mod tracked;
pub mod work;
pub mod worker;

use serde::{Deserialize, Serialize};

/// Longest text of somebody else's that is handed on, in characters.
const SAID_MAX: usize = 500;

/// Why a repository did not do what it was to do: a variant for each thing that can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// It gives no answer: that may pass by itself.
    #[error("the repository gives no answer: {0}")]
    Away(String),
    /// There is none.
    #[error("there is no such repository: {0}; put it back, or correct its name")]
    Missing(String),
    /// It does not let us.
    #[error("the repository denies it: {0}")]
    Denied(String),
    /// A hook of its own, or a rule of its host, does not take what we bring.
    #[error("the repository rejects it: {0}; let Annals push there, or change what the rule of Annals brings")]
    Rejected(String),
    /// It cannot be used like this.
    #[error("{0}")]
    Unfit(String),
    /// A lock is held.
    #[error("{0}")]
    Locked(String),
    /// Others pushed meanwhile.
    #[error("others pushed meanwhile, each time that it was tried")]
    Moved,
}

impl Trouble {
    /// What an error of libgit2 means.
    #[must_use]
    pub fn of(error: &git2::Error) -> Self {
        use git2::{ErrorClass as Class, ErrorCode as Code};
        let said = short(error.message());
        if said == "invalid packet line" {
            let text = "the server says what cannot be read here: is the repository there a shallow clone? then `git fetch --unshallow` it";
            return Self::Unfit(text.into());
        }
        match (error.code(), error.class()) {
            (Code::Auth, _) => Self::Denied(said),
            (Code::Owner, _) => {
                Self::Unfit(format!("{said}: give the repository to the user that Annals runs as, or name it in git's safe.directory"))
            }
            (Code::Certificate, _) | (_, Class::Ssl) => {
                Self::Unfit(format!("its certificate is not trusted: {said}; name its authority in SSL_CERT_FILE"))
            }
            (Code::NotFastForward | Code::Modified | Code::Exists, _) => Self::Moved,
            (Code::Locked, _) => Self::Locked(format!(
                "{said}: somebody else is writing, or was killed while writing: if no git runs there, remove the file that ends in .lock"
            )),
            (_, Class::Http) => match status(&said) {
                Some(401 | 403) => Self::Denied(said),
                Some(404 | 410) => Self::Missing(said),
                _ => Self::Away(said),
            },
            (Code::NotFound, Class::Repository | Class::Os) => Self::Missing(said),
            (Code::Timeout, _) | (_, Class::Net | Class::Os | Class::NoMemory) => Self::Away(said),
            // waiting mends none of the rest
            _ => Self::Unfit(format!("libgit2 cannot use it like this: {said}")),
        }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Locked(_) | Self::Moved)
    }
}

impl From<git2::Error> for Trouble {
    fn from(error: git2::Error) -> Self {
        Self::of(&error)
    }
}

/// Out of `unexpected http status code: 403`.
fn status(said: &str) -> Option<u16> {
    said.rsplit_once("status code: ")?.1.trim().parse().ok()
}

/// A line of somebody else's, as it can be shown.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SAID_MAX { line } else { line.chars().take(SAID_MAX).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_library_is_told_by_what_can_be_done() {
        use git2::{ErrorClass as Class, ErrorCode as Code};
        let of = |code, class, text: &str| Trouble::of(&git2::Error::new(code, class, text));
        assert!(matches!(of(Code::GenericError, Class::Http, "unexpected http status code: 403"), Trouble::Denied(_)));
        assert!(matches!(of(Code::GenericError, Class::Http, "unexpected http status code: 404"), Trouble::Missing(_)));
        assert!(matches!(of(Code::GenericError, Class::Http, "unexpected http status code: 503"), Trouble::Away(_)));
        assert!(matches!(of(Code::GenericError, Class::Os, "failed to connect to h: Connection refused"), Trouble::Away(_)));
        assert!(matches!(of(Code::GenericError, Class::Net, "early EOF"), Trouble::Away(_)));
        for class in [Class::Tree, Class::Invalid, Class::Reference, Class::Object, Class::Odb] {
            assert!(matches!(of(Code::GenericError, class, "no such thing"), Trouble::Unfit(_)), "{class:?}");
        }
        assert_eq!(of(Code::NotFastForward, Class::Reference, "cannot push"), Trouble::Moved);
        assert!(Trouble::Moved.passes() && !Trouble::Denied(String::new()).passes());
    }
}
