//! Backups, and reading beside a running engine.

use std::fs;

use super::{OnDisk, settle};
use crate::journal::sqlite::{BackupError, FILE, OpenError, SqliteJournal, backup};
use crate::journal::suite::{Kit, create, fold, key_in, propose, records};
use crate::journal::{ClaimError, Journal};

#[test]
fn a_backup_of_a_running_engine_opens_as_an_engine() {
    let kit = OnDisk::fresh();
    kit.fill(0, 300);
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    let mut told = Vec::new();
    backup(kit.dir.path(), &to, &mut |done, all| told.push((done, all))).unwrap();
    assert!(told.last().is_some_and(|(done, all)| done == all && *all > 10), "{told:?}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "one whole file");
    kit.fill(1, 3); // the engine goes on

    let copy = SqliteJournal::open(&to).unwrap();
    assert_eq!(copy.id(), kit.sqlite().id());
    assert_eq!(records(&copy, 0), records(kit.sqlite(), 0));
    assert_eq!(copy.end(1).unwrap(), 1);
    propose(&copy, 0, create(&key_in(&copy, 0, 300), "new"));
    settle(&copy, 0).unwrap();
    assert_eq!(fold(&copy, 0).last_seq(), Some(301));
}

#[test]
fn a_backup_goes_into_an_empty_directory_only() {
    let kit = OnDisk::fresh();
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("x"), "x").unwrap();
    let taken = backup(kit.dir.path(), target.path(), &mut |_, _| {});
    assert!(matches!(taken, Err(BackupError::Taken { .. })));
    assert!(!target.path().join(FILE).exists());
    let nothing = tempfile::tempdir().unwrap();
    let missing = backup(nothing.path(), &target.path().join("y"), &mut |_, _| {});
    assert!(matches!(missing, Err(BackupError::Open(OpenError::Missing { .. }))));
    let blocked = backup(kit.dir.path(), &target.path().join("x"), &mut |_, _| {});
    assert!(matches!(blocked, Err(BackupError::Io { .. })));
}

#[test]
fn what_lies_beside_the_journal_and_cannot_be_made_again_is_copied_with_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let kit = OnDisk::fresh();
    let ops = rusqlite::Connection::open(kit.dir.path().join("ops.db")).unwrap();
    ops.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE cursors (name TEXT); INSERT INTO cursors VALUES ('mail')").unwrap();
    fs::set_permissions(kit.dir.path().join("ops.db"), fs::Permissions::from_mode(0o600)).unwrap();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("new");
    backup(kit.dir.path(), &to, &mut |_, _| {}).unwrap();
    assert_eq!(fs::metadata(to.join("ops.db")).unwrap().permissions().mode() & 0o777, 0o600, "it holds secrets");
    let copy = rusqlite::Connection::open(to.join("ops.db")).unwrap();
    let name: String = copy.query_row("SELECT name FROM cursors", [], |row| row.get(0)).unwrap();
    assert_eq!((name.as_str(), SqliteJournal::open(&to).is_ok()), ("mail", true));
    // one that is damaged is said to be, and nothing is left that looks like a backup
    drop(ops);
    fs::write(kit.dir.path().join("ops.db"), vec![7; 8192]).unwrap();
    let to = target.path().join("damaged");
    let failed = backup(kit.dir.path(), &to, &mut |_, _| {});
    assert!(matches!(failed, Err(BackupError::Copy { .. })), "{failed:?}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn a_reader_beside_a_running_engine_sees_what_is_committed_and_writes_nothing() {
    let kit = OnDisk::fresh();
    kit.fill(0, 2);
    let reader = SqliteJournal::open_read_only(kit.dir.path()).unwrap();
    assert_eq!(records(&reader, 0).len(), 3);
    kit.fill(1, 4);
    assert_eq!(records(&reader, 1), records(kit.sqlite(), 1));
    assert_eq!(reader.settled_until(0), records(&reader, 0)[2].record.view().unwrap().recorded);
    let Err(ClaimError::Unavailable(why)) = reader.claim(0).map(|_| ()) else { panic!("it was claimed") };
    assert!(why.contains("reading only"), "{why}");
    let refused = futures_util::future::FutureExt::now_or_never(reader.propose(0, create("default/x", "x"))).unwrap();
    assert!(refused.unwrap_err().to_string().contains("reading only"));
    // and when the engine has ended, too
    let dir = kit.close();
    drop(reader);
    assert_eq!(records(&SqliteJournal::open_read_only(dir.path()).unwrap(), 0).len(), 3);
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(SqliteJournal::open_read_only(none.path()), Err(OpenError::Missing { .. })));
}
