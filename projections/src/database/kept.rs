//! What a database keeps, views or the operational store, and where: names, marks, tables, and the words of messages.

use std::fmt;
use std::path::PathBuf;

use super::migrations::{Migrations, migrations};

/// One kind of tables of ours. Each has a file or a schema of its own.
pub(crate) struct Kept {
    /// The file's name in the data directory.
    pub(crate) file: &'static str,
    /// Marks the file as ours (SQLite's `application_id`).
    pub(crate) application_id: i64,
    /// The schema in PostgreSQL.
    pub(crate) schema: &'static str,
    /// Whether it can be made again from the journal: then it need not be flushed, and holds no secret.
    pub(crate) rebuildable: bool,
    /// Who writes, each with a connection of its own where there can be several.
    pub(crate) lines: &'static [&'static str],
    pub(crate) sqlite: Migrations,
    pub(crate) postgres: Migrations,
    /// Tells the journal that the file belongs to.
    pub(crate) sqlite_journal: &'static str,
    /// Makes it this journal's.
    pub(crate) sqlite_claim: &'static str,
    /// Tells another journal than this one.
    pub(crate) postgres_journal: &'static str,
    /// Makes a line this journal's.
    pub(crate) postgres_claim: &'static str,
    words: Words,
}

struct Words {
    /// `holds something else than …`
    what: &'static str,
    /// `if nobody needs …`
    those: &'static str,
    /// `… damaged`
    are: &'static str,
    /// What comes before throwing it away.
    before: &'static str,
    /// What becomes of it then.
    then: &'static str,
}

/// Tables that can be made again from the journal.
pub(crate) static VIEWS: Kept = Kept {
    file: "views.db",
    application_id: 0x416e_6e76, // `Annv`
    schema: "annals",
    rebuildable: true,
    lines: crate::NAMES,
    sqlite: migrations!("sqlite": "0001_views" "0002_deployments" "0003_measurements" "0004_search"),
    postgres: migrations!("postgres": "0001_views" "0002_deployments" "0003_measurements" "0004_search"),
    sqlite_journal: "SELECT journal FROM annals_views",
    sqlite_claim: "INSERT INTO annals_views (journal) VALUES ($1)",
    postgres_journal: "SELECT journal FROM views WHERE journal <> $1 LIMIT 1",
    postgres_claim: "INSERT INTO views (view, journal) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    words: Words {
        what: "views",
        those: "those views",
        are: "the views are",
        before: "",
        then: "the views are made anew from the journal",
    },
};

/// What the journal does not have.
pub(crate) static OPS: Kept = Kept {
    file: "ops.db",
    application_id: 0x416e_6e6f, // `Anno`
    schema: "annals_ops",
    rebuildable: false,
    lines: &[crate::ops::WORLD, crate::ops::DOOR],
    sqlite: migrations!("ops-sqlite": "0001_ops"),
    postgres: migrations!("ops-postgres": "0001_ops"),
    sqlite_journal: "SELECT journal FROM lines LIMIT 1",
    sqlite_claim: "INSERT INTO lines (line, journal) VALUES ('world', $1), ('door', $1)",
    postgres_journal: "SELECT journal FROM lines WHERE journal <> $1 LIMIT 1",
    postgres_claim: "INSERT INTO lines (line, journal) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    words: Words {
        what: "an operational store",
        those: "that store",
        are: "the operational store is",
        before: "restore it from a backup, or ",
        then: "webhooks are delivered again then, and subscribers' cursors and secrets must be made anew",
    },
};

/// Where something of ours is kept, for messages.
#[derive(Clone)]
pub struct Place {
    kept: &'static Kept,
    spot: Spot,
}

#[derive(Clone, Debug)]
enum Spot {
    /// A file of this machine.
    File(PathBuf),
    /// A database that others use too: host, port and name.
    Database(String),
}

impl Place {
    pub(crate) fn file(kept: &'static Kept, path: PathBuf) -> Self {
        Self { kept, spot: Spot::File(path) }
    }

    pub(crate) fn database(kept: &'static Kept, name: String) -> Self {
        Self { kept, spot: Spot::Database(name) }
    }

    /// How to be rid of what is there, and what that costs.
    pub(crate) fn anew(&self) -> String {
        let Words { before, then, .. } = self.kept.words;
        match &self.spot {
            Spot::File(path) => format!("{before}stop the engine, delete the files {}* and start again; {then}", path.display()),
            Spot::Database(_) => {
                format!("{before}stop the engines, run `DROP SCHEMA {} CASCADE` there and start again; {then}", self.kept.schema)
            }
        }
    }

    /// What else can be chosen.
    pub(crate) fn other(&self) -> &'static str {
        match self.spot {
            Spot::File(_) => "choose another data directory, or move the file away",
            Spot::Database(_) => "name another database",
        }
    }

    pub(crate) fn schema(&self) -> &'static str {
        self.kept.schema
    }

    pub(crate) fn what(&self) -> &'static str {
        self.kept.words.what
    }

    pub(crate) fn those(&self) -> &'static str {
        self.kept.words.those
    }

    pub(crate) fn are(&self) -> &'static str {
        self.kept.words.are
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spot {
            Spot::File(path) => write!(f, "{}", path.display()),
            Spot::Database(name) => write!(f, "the database {name}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.spot)
    }
}
