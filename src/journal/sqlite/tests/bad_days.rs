//! Damaged files, full disks, commits that fail: a clear error, no half event, and it goes on.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{OnDisk, settle};
use crate::journal::sqlite::{FILE, OpenError, SqliteJournal};
use crate::journal::suite::{Kit, create, fold, key_in, propose};
use crate::journal::{AppendError, ClaimError, Journal, ProposeError, ReadError, sqlite::queue::WAITING_MAX};

fn writer(kit: &OnDisk) -> &crate::journal::sqlite::writer::Writer {
    &kit.sqlite().engine.as_ref().unwrap().writer
}

#[test]
fn a_changed_byte_is_found_when_its_record_is_read() {
    let kit = OnDisk::fresh();
    kit.fill(0, 50);
    let dir = kit.close();
    let path = dir.path().join(FILE);
    let bytes = fs::read(&path).unwrap();
    let id = b"ce_id\0\0\0\x040-20"; // as it stands in a frame; there may be old copies on free pages
    let file = fs::File::options().write(true).open(&path).unwrap();
    for (at, _) in bytes.windows(id.len()).enumerate().filter(|(_, w)| *w == id) {
        file.write_all_at(b"X", at as u64).unwrap();
    }
    let journal = SqliteJournal::open(dir.path()).unwrap();
    let error = journal.records(0, 0, 100).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ReadError::Corrupt(_)) && text.contains("seq 21 of partition 0") && text.contains("backup"), "{text}");
    assert_eq!(journal.records(0, 0, 21).unwrap().items.len(), 21, "the others can be read");
}

#[test]
fn a_page_of_garbage_and_a_truncated_file_are_damage() {
    for keep in [0, 1, 3] {
        let kit = OnDisk::fresh();
        kit.fill(0, 200);
        let dir = kit.close();
        let path = dir.path().join(FILE);
        let length = fs::metadata(&path).unwrap().len();
        let file = fs::File::options().write(true).open(&path).unwrap();
        match keep {
            0 => file.write_all_at(&[0xA5; 4096], 0).unwrap(), // the first page: the header
            1 => file.set_len(length / 2 / 4096 * 4096).unwrap(),
            _ => {
                for page in 2..length / 4096 {
                    file.write_all_at(&[0xA5; 4096], page * 4096).unwrap();
                }
            }
        }
        drop(file);
        match SqliteJournal::open(dir.path()) {
            Err(e) => assert!(matches!(e, OpenError::Damaged { .. }) && e.to_string().contains("backup"), "{keep}: {e}"),
            Ok(journal) => {
                let error = (0..3).find_map(|p| journal.records(p, 0, 1_000).err()).expect("half of it is gone");
                assert!(matches!(error, ReadError::Corrupt(_)), "{keep}: {error}");
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_and_it_goes_on_when_there_is_room() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    kit.fill(0, 1);
    let pages: i64 = writer(&kit).connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    writer(&kit).connection().pragma_update(None, "max_page_count", pages).unwrap();
    for n in 1..100 {
        propose(journal, 0, create(&key_in(journal, 0, n), &n.to_string()));
    }
    for _ in 0..3 {
        let error = settle(journal, 0).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, AppendError::Failed(_)) && text.contains("disk is full") && text.contains("make room"), "{text}");
        assert_eq!(journal.end(0).unwrap(), 2, "no half batch");
        assert_eq!(journal.proposals(0, 0, 1_000).unwrap().len(), 99, "all wait for the next try");
    }
    writer(&kit).connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    settle(journal, 0).unwrap();
    assert_eq!(fold(journal, 0).last_seq(), Some(100));
    assert!(journal.proposals(0, 0, 10).unwrap().is_empty());
}

/// Makes the next `times` commits fail.
fn fail_commits(kit: &OnDisk, times: usize) {
    let left = AtomicUsize::new(times);
    let fails = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
    writer(kit).connection().commit_hook(Some(fails)).unwrap();
}

#[test]
fn a_commit_that_fails_is_followed_by_one_that_settles_it() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    propose(journal, 0, create(&key_in(journal, 0, 0), "a"));
    fail_commits(&kit, 1);
    assert!(matches!(settle(journal, 0), Err(AppendError::Failed(_))));
    assert_eq!(journal.end(0).unwrap(), 1);
    settle(journal, 0).unwrap();
    assert_eq!(journal.end(0).unwrap(), 2);
}

#[test]
fn an_unknown_commit_is_decided_by_the_next_claim() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    propose(journal, 0, create(&key_in(journal, 0, 0), "a"));
    fail_commits(&kit, 3); // the commit, the one that should settle it, and that of the next claim
    assert!(matches!(settle(journal, 0), Err(AppendError::Unknown(_))));
    assert!(matches!(journal.claim(0).map(|_| ()), Err(ClaimError::Unavailable(_))));
    let mut claim = journal.claim(0).unwrap();
    assert_eq!(journal.end(0).unwrap(), 1, "decided: it is not there");
    claim.append(super::judge(journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    claim.commit().unwrap();
    assert_eq!(fold(journal, 0).last_seq(), Some(1));
}

#[test]
fn a_dead_claim_does_nothing_more() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    propose(journal, 0, create(&key_in(journal, 0, 0), "a"));
    let mut claim = journal.claim(0).unwrap();
    claim.append(super::judge(journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    fail_commits(&kit, 1);
    assert!(claim.commit().is_err());
    assert!(claim.append(crate::journal::Batch::default()).is_err());
    assert!(claim.commit().is_err());
    assert_eq!(journal.end(0).unwrap(), 1);
}

#[test]
fn a_record_that_somebody_else_wrote_is_never_written_over() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    for id in ["a", "b"] {
        propose(journal, 0, create(&key_in(journal, 0, 0), id));
    }
    let queued = journal.proposals(0, 0, 10).unwrap();
    let (ours, theirs) = (super::judge(journal, 0, &queued[..1]), super::judge(journal, 0, &queued[1..]));
    let mut claim = journal.claim(0).unwrap();
    claim.append(ours).unwrap();
    kit.forge(0, &theirs.records[0]);
    let error = claim.commit().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AppendError::Failed(_)) && text.contains("something else has written"), "{text}");
    assert_eq!(journal.records(0, 1, 10).unwrap().items[0].record, theirs.records[0]);
    // the arbiter will read it, and see that it is not its own
    assert_eq!((journal.end(0).unwrap(), journal.end(1).unwrap()), (2, 1));
}

#[test]
fn too_many_waiting_proposals_are_refused_until_some_are_judged() {
    let kit = OnDisk::fresh();
    let journal = kit.sqlite();
    let key = key_in(journal, 0, 0);
    for n in 0..WAITING_MAX {
        propose(journal, 0, create(&key, &n.to_string()));
    }
    let mut refused = journal.propose(0, create(&key, "one more"));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(refused.as_mut().poll(&mut context), std::task::Poll::Ready(Err(ProposeError::Busy))));
    propose(journal, 1, create("default/x", "another partition has room"));
    settle(journal, 0).unwrap();
    assert_eq!(propose(journal, 0, create(&key, "now")), WAITING_MAX as u64);
}

#[test]
fn old_verdicts_go_and_offsets_stay() {
    let mut kit = OnDisk::fresh();
    kit.fill(0, 1);
    for n in 1..1_200 {
        propose(kit.sqlite(), 0, create(&key_in(kit.sqlite(), 0, 0), &format!("again {n}"))); // refused: it exists
    }
    settle(kit.sqlite(), 0).unwrap();
    let now = crate::journal::wall_clock();
    let later = annals_events::time::Timestamp(now.0 + 31 * 24 * 3_600 * 1_000);
    assert!(kit.sqlite().verdict("/suite", "again 7").unwrap().is_some());
    assert_eq!(crate::journal::sqlite::keeper::prune(writer(&kit), 3, now).unwrap(), 0);
    assert_eq!(crate::journal::sqlite::keeper::prune(writer(&kit), 3, later).unwrap(), 1_198);
    assert_eq!(kit.sqlite().verdict("/suite", "again 7").unwrap(), None);
    assert_eq!(kit.sqlite().end(0).unwrap(), 3, "events stay for ever, and that so many are judged");
    kit.restart();
    assert_eq!(propose(kit.sqlite(), 0, create("default/x", "next")), 1_200);
}

#[test]
fn the_log_is_moved_into_the_file_in_the_background() {
    let kit = OnDisk::fresh();
    let before = fs::metadata(kit.file()).unwrap().len();
    kit.fill(0, 100);
    crate::journal::suite::eventually("the file grows", || fs::metadata(kit.file()).unwrap().len() > before);
    let _keep: Arc<dyn Journal> = kit.journal();
}
