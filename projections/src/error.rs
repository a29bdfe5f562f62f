//! Why a view cannot answer or go on, and what to do.

use std::path::PathBuf;

use annals_events::record::Corrupt;
use annals_events::rule;

/// What went wrong with a view. Nothing here endangers the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not one of ours.
    #[error("{path} is not a database of views: choose another data directory, or move the file away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The views were made from another journal.
    #[error(
        "{path} belongs to the journal {found}, and this is {wanted}: stop the engine, delete the files {path}* and start again; the views are made anew from the journal"
    )]
    OtherJournal {
        /// The file.
        path: PathBuf,
        /// The journal it was made from.
        found: String,
        /// The journal that is open.
        wanted: String,
    },
    /// A later build made the views.
    #[error(
        "{path} was made by a newer annals: start that one, or stop the engine, delete the files {path}* and start again; the views are made anew from the journal"
    )]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the views are damaged ({source}): stop the engine, delete the files {path}* and start again; the views are made anew from the journal"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The database does not answer now: try again.
    #[error("the views' database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// There is no such view.
    #[error("there is no view `{name}`: there are {}", crate::NAMES.join(", "))]
    UnknownView {
        /// What was asked for.
        name: String,
    },
    /// Entries are missing between the view's position and what it was given.
    #[error("the view `{view}` is before seq {expected} of partition {partition}, and was given seq {found}: run `annals rebuild {view}`")]
    Gap {
        /// The view.
        view: &'static str,
        /// The partition.
        partition: u32,
        /// What comes next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The chain contradicts the view's position.
    #[error(
        "the view `{view}` stopped in partition {partition}: {source}; run `annals audit verify`: if the journal is damaged or has \
         lost records, restore a backup, else run `annals rebuild {view}`"
    )]
    Broken {
        /// The view.
        view: &'static str,
        /// The partition.
        partition: u32,
        /// What rule R says.
        source: rule::Halt,
    },
    /// A record or a stored document cannot be read.
    #[error(
        "the view `{view}` stopped: {source}; run `annals audit verify`: if the journal is damaged, restore a backup, else run \
         `annals rebuild {view}`"
    )]
    Corrupt {
        /// The view.
        view: &'static str,
        /// What cannot be read.
        source: Corrupt,
    },
    /// The view stopped earlier and waits for a rebuild.
    #[error("the view `{view}` stands still since: {reason}")]
    Stopped {
        /// The view.
        view: &'static str,
        /// The first error.
        reason: String,
    },
    /// A rebuild of this view is under way.
    #[error("the view `{0}` is being rebuilt: wait for it")]
    Rebuilding(&'static str),
    /// The journal could not be read during a rebuild.
    #[error("the journal could not be read: {0}; nothing was changed, run the rebuild again")]
    Source(String),
    /// A page cursor that this view did not give.
    #[error("`{0}` is not a place to continue from: use `next` of the page before, or leave it out")]
    Cursor(String),
    /// A point in time or a position that cannot be read.
    #[error("{0}")]
    AsOf(String),
}

impl Error {
    /// Whether the view must stand still until a person acts.
    #[must_use]
    pub fn stops(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::Broken { .. } | Self::Corrupt { .. })
    }
}
