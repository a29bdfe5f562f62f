//! Why a view cannot answer or go on, and what to do.

use annals_events::record::Corrupt;
use annals_events::rule;

use crate::database::Place;

/// What went wrong with a view. Nothing here endangers the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is there is not ours.
    #[error("{place} holds something else than {}: {}", place.what(), place.other())]
    Foreign {
        /// Where.
        place: Place,
    },
    /// The views were made from another journal.
    #[error(
        "{place} belongs to the journal {found}, and this is {wanted}: {}; or, if nobody needs {}, {}", place.other(), place.those(), place.anew()
    )]
    OtherJournal {
        /// Where.
        place: Place,
        /// The journal they were made from.
        found: String,
        /// The journal that is open.
        wanted: String,
    },
    /// A later build made the views.
    #[error("{place} was made by a newer annals: start that one, or {}", place.anew())]
    Newer {
        /// Where.
        place: Place,
    },
    /// Rows are damaged, or tables are missing.
    #[error("{} damaged ({source}): {}", place.are(), place.anew())]
    Damaged {
        /// Where.
        place: Place,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The database's address cannot be read.
    #[error("this is no address of a PostgreSQL database ({0}): say postgres://USER:PASSWORD@HOST:PORT/NAME")]
    Url(String),
    /// The database cannot hold every text.
    #[error("{place} has the encoding {encoding}: make one with `CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`, and name that")]
    Encoding {
        /// Where.
        place: Place,
        /// What it has.
        encoding: String,
    },
    /// The schema is not there and may not be made.
    #[error("{place} has no schema `{schema}` ({source}): run `CREATE SCHEMA {schema} AUTHORIZATION` with this user's name there", schema = place.schema())]
    Schema {
        /// Where.
        place: Place,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The database does not answer now: try again.
    #[error("the views' database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The operational store does not answer now: try again.
    #[error("the operational store does not answer: {0}")]
    OpsUnavailable(#[source] sqlx::Error),
    /// Another engine acts now, or nobody has asked for the lead: see [`crate::Ops::lead`]. Nothing was written.
    #[error("this engine does not act on the world now: another one has taken over")]
    Fenced,
    /// The task is not as it was when it was read. Nothing was written.
    #[error("the task {0} was changed meanwhile: what became of it is not written down")]
    TaskChanged(u64),
    /// The cursor is not at the revision that was expected. Nothing was written.
    #[error("the cursor is {}", found.map_or_else(|| "not there".to_owned(), |revision| format!("at revision {revision} by now")))]
    CursorMoved {
        /// The revision that it is at, if it is there.
        found: Option<u64>,
    },
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
