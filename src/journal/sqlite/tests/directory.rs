//! Which directories are taken, and which are refused.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::OnDisk;
use crate::journal::Journal;
use crate::journal::sqlite::{FILE, OpenError, SqliteJournal};
use crate::journal::suite::Kit;

fn refused(dir: &Path) -> OpenError {
    match SqliteJournal::open(dir) {
        Ok(_) => panic!("it was opened"),
        Err(e) => e,
    }
}

/// Runs SQL on the file of a journal that nobody has open.
fn edited(sql: &str) -> tempfile::TempDir {
    let kit = OnDisk::fresh();
    kit.fill(0, 5);
    let dir = kit.close();
    Connection::open(dir.path().join(FILE)).unwrap().execute_batch(sql).unwrap();
    dir
}

#[test]
fn a_second_engine_is_refused_and_told_who_has_the_directory() {
    let kit = OnDisk::fresh();
    let error = refused(kit.dir.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains(kit.dir.path().to_str().unwrap()), "{text}");
    let dir = kit.close();
    SqliteJournal::open(dir.path()).unwrap();
}

#[test]
fn a_missing_directory_is_made_with_twelve_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&dir.path().join("a/b")).unwrap();
    assert_eq!(journal.partitions(), 12);
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let error = refused(dir.path());
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_root_of_a_volume_counts_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    SqliteJournal::open(dir.path()).unwrap();
}

#[test]
fn a_start_that_was_killed_in_the_middle_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lock"), "1\n").unwrap();
    fs::write(dir.path().join("journal.db.new"), "half a journal").unwrap();
    fs::write(dir.path().join("journal.db.new-journal"), "of another").unwrap();
    let journal = SqliteJournal::open(dir.path()).unwrap();
    assert_eq!(journal.end(11).unwrap(), 1);
    assert!(!dir.path().join("journal.db.new").exists());
}

#[test]
fn what_is_no_directory_or_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refused(&path);
        assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains("may be written"), "{error}");
    }
    // even root cannot write here
    let error = refused(Path::new("/proc/annals"));
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lock")).unwrap();
    assert!(matches!(refused(dir.path()), OpenError::Io { .. }));
}

#[test]
fn a_newer_format_is_refused() {
    let error = refused(edited("PRAGMA user_version = 2").path());
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn an_emptied_journal_is_a_disaster_and_never_a_new_beginning() {
    for sql in ["DELETE FROM records_0 WHERE seq = 0", "DELETE FROM records_2", "DELETE FROM meta"] {
        let dir = edited(sql);
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::Emptied { .. }) && error.to_string().contains("backup"), "{sql}: {error}");
        assert!(refused(dir.path()).to_string().contains("emptied"), "and it stays so");
    }
    for remains in ["views.db", "ops.db", "snapshots"] {
        let dir = OnDisk::fresh().close();
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::write(dir.path().join(remains), "").unwrap();
        assert!(matches!(refused(dir.path()), OpenError::Emptied { .. }), "{remains}");
        assert!(!dir.path().join(FILE).exists());
    }
    let dir = OnDisk::fresh().close();
    fs::write(dir.path().join(FILE), "").unwrap();
    assert!(matches!(refused(dir.path()), OpenError::Emptied { .. }));
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().len(), 0, "nothing was written into it");
}

#[test]
fn a_changed_record_at_the_end_is_seen_at_the_start() {
    let error = refused(edited("UPDATE records_0 SET frame = zeroblob(100) WHERE seq = 5").path());
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("seq 5 of partition 0")), "{error}");
}
