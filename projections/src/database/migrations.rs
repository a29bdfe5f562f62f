//! How tables come to be: the files of `migrations/`, compiled in.
//!
//! Not by sqlx's own macro: it has the compiler build every driver, SQLite with it, a second time for itself.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The migrations of one database, in their order: `NUMBER_WHAT` and the statements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migrations(pub(crate) &'static [(&'static str, &'static str)]);

/// Those of a folder.
macro_rules! migrations {
    ($folder:literal: $($name:literal)*) => {
        $crate::database::migrations::Migrations(
            &[$(($name, include_str!(concat!("../../migrations/", $folder, "/", $name, ".sql")))),*],
        )
    };
}
pub(crate) use migrations;

impl Migrations {
    /// What runs those that a database does not have yet, and refuses one that has others.
    pub(crate) fn migrator(self) -> Migrator {
        let migration = |(name, sql): &(&'static str, &'static str)| {
            let (number, what) = name.split_once('_').unwrap_or((name, ""));
            let version = number.parse().unwrap_or_default(); // a test reads them all
            Migration::new(version, what.replace('_', " ").into(), MigrationType::Simple, SqlStr::from_static(sql), false)
        };
        Migrator::with_migrations(self.0.iter().map(migration).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::database::kept::{OPS, VIEWS};

    #[test]
    fn every_file_is_there_and_numbered() {
        for (folder, listed) in
            [("sqlite", VIEWS.sqlite), ("postgres", VIEWS.postgres), ("ops-sqlite", OPS.sqlite), ("ops-postgres", OPS.postgres)]
        {
            let files = std::fs::read_dir(format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            files.sort();
            let names: Vec<_> = listed.0.iter().map(|(name, _)| format!("{name}.sql")).collect();
            assert_eq!(names, files, "of {folder}");
            let numbers: Vec<_> = listed.migrator().iter().map(|migration| migration.version).collect();
            assert_eq!(numbers, (1..=i64::try_from(files.len()).unwrap()).collect::<Vec<_>>(), "of {folder}");
        }
    }

    /// A database that an earlier build has made must still be known.
    #[test]
    fn descriptions_and_checksums_are_those_of_sqlx() {
        let migrator = OPS.sqlite.migrator();
        let first = migrator.iter().next().unwrap();
        assert_eq!((first.version, &*first.description, first.checksum.len()), (1, "ops", 48));
    }
}
