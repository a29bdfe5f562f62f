//! An import into a log that others can read while it grows: whole, or not served.

use std::path::Path;
use std::sync::Arc;

use annals_events::ledger::Ledger;

use super::super::ears::{self, Disk, Ears};
use super::super::log::Log;
use super::super::{Faults, Simulated};
use crate::arbiter::{Arbiter, Status, Step};
use crate::audit::bundle;
use crate::audit::import::{Announce, ImportError, Source};
use crate::audit::verify;
use crate::journal::sqlite::{SqliteJournal, Unopened};
use crate::journal::suite::{create, fold, judge, key_in, propose, records, submission};
use crate::journal::{Journal, sqlite};

const NOW: &str = "2026-03-02T09:00:00.000Z";

/// A journal with a few events and a refusal in each partition.
fn journal(dir: &Path) -> SqliteJournal {
    let journal = SqliteJournal::open_with(dir, 3).unwrap();
    for p in 0..3 {
        for n in 0..4 {
            propose(&journal, p, create(&key_in(&journal, p, n), &format!("{p}-{n}")));
        }
        let promoted = submission(&format!("{}/9", key_in(&journal, p, 0)), "no", "dev.annals.version.promoted.v1", r#"{"channel":"dev"}"#);
        propose(&journal, p, promoted);
        let mut claim = journal.claim(p).unwrap();
        claim.append(judge(&journal, p, &journal.proposals(p, 0, 100).unwrap())).unwrap();
        claim.commit().unwrap();
    }
    journal
}

fn export(journal: &dyn Journal, to: &Path) {
    let mut lines = String::new();
    bundle::export(journal, &mut |line, _| {
        lines.push_str(&line);
        Ok(())
    })
    .unwrap();
    std::fs::write(to, lines).unwrap();
}

fn source(path: &Path) -> Source {
    Source::open(path, &mut |_| {}).unwrap()
}

/// A log without a record.
fn empty(seed: u64, partitions: u32, faults: Faults) -> Simulated {
    let journal = Simulated::seeded("target", partitions, seed, faults, true);
    journal.state().partitions.iter_mut().for_each(|p| p.records = Log::default());
    journal
}

fn frames(journal: &dyn Journal, p: u32) -> Vec<Vec<u8>> {
    records(journal, p).iter().map(|l| l.record.frame().to_vec()).collect()
}

#[test]
fn a_journal_goes_from_a_directory_to_a_log_and_back_with_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (file, again) = (dir.path().join("one.ndjson"), dir.path().join("two.ndjson"));
    let first = journal(&dir.path().join("first"));
    export(&first, &file);

    let log = empty(1, 3, Faults::default());
    let imported = source(&file).write(&log, Announce::First, NOW, &mut |_| {}).unwrap();
    assert_eq!((imported.records, imported.heads[&0].seq), (3 * 7, 6));
    let report = verify::journal(&log, &mut |_| {}).unwrap();
    assert!(report.ok && report.orphans == 3 && report.heads == imported.heads, "{report:?}");
    export(&log, &again);

    let back = dir.path().join("back");
    let unopened = Unopened::new(&back, 3).unwrap();
    source(&again).write(unopened.journal(), Announce::Never, NOW, &mut |_| {}).unwrap();
    assert!(SqliteJournal::open_read_only(&back).is_err(), "it has no name yet");
    unopened.finish().unwrap();
    let back = SqliteJournal::open(&back).unwrap();
    assert!(verify::journal(&back, &mut |_| {}).unwrap().ok);
    assert_ne!(back.id(), first.id(), "it is another journal: its snapshots are not this one's");
    for p in 0..3 {
        let (before, after) = (frames(&first, p), frames(&back, p));
        assert_eq!(before, after[..before.len()], "byte for byte");
        assert_eq!(after.len(), before.len() + 2, "and one record for each import");
        let ledger = fold(&back, p);
        assert_eq!((ledger.generation(), ledger.next_src(), ledger.models()), (3, 0, 4));
        assert_eq!(propose(&back, p, create(&key_in(&back, p, 0), &format!("{p}-0"))), 0, "proposals begin anew");
    }
}

#[test]
fn what_is_not_whole_or_does_not_fit_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.ndjson");
    let first = journal(&dir.path().join("first"));
    export(&first, &file);
    let log = empty(1, 4, Faults::default());
    let refused = source(&file).write(&log, Announce::First, NOW, &mut |_| {});
    assert!(matches!(refused, Err(ImportError::OtherPartitions { wanted: 3, found: 4 })), "{refused:?}");
    let opened = Simulated::new("opened", 3);
    let refused = source(&file).write(&opened, Announce::First, NOW, &mut |_| {});
    assert!(matches!(refused, Err(ImportError::Taken { partition: 0 })), "{refused:?}");
    assert_eq!((log.end(0).unwrap(), opened.end(0).unwrap()), (0, 1));
    let taken = Unopened::new(first.dir(), 3).err().unwrap();
    assert!(matches!(taken, sqlite::OpenError::Locked { .. }), "{taken}");
    let first_dir = first.dir().to_owned();
    drop(first);
    let taken = Unopened::new(&first_dir, 3).err().unwrap();
    assert!(matches!(taken, sqlite::OpenError::Taken { .. }), "{taken}");

    let text = std::fs::read_to_string(&file).unwrap();
    for (what, bad) in [
        ("edited", text.replacen("0-2", "0-9", 1)),
        ("cut", text.lines().take(9).collect::<Vec<_>>().join("\n")),
        ("dropped", text.lines().enumerate().filter(|(n, _)| *n != 3).map(|(_, l)| format!("{l}\n")).collect()),
        ("foreign", "{}\n".into()),
    ] {
        std::fs::write(&file, bad).unwrap();
        match Source::open(&file, &mut |_| {}) {
            Err(ImportError::NotWhole(report)) => assert!(report.finding.is_some(), "{what}"),
            other => panic!("{what}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_directory_in_which_an_import_broke_off_has_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.ndjson");
    export(&journal(&dir.path().join("first")), &file);
    let target = dir.path().join("target");
    let unopened = Unopened::new(&target, 3).unwrap();
    source(&file).write(unopened.journal(), Announce::Never, NOW, &mut |_| {}).unwrap();
    drop(unopened);
    assert!(matches!(SqliteJournal::open_read_only(&target), Err(sqlite::OpenError::Missing { .. })));
    let unopened = Unopened::new(&target, 3).unwrap();
    assert_eq!(unopened.journal().end(0).unwrap(), 0, "the next one begins from nothing");
}

#[test]
fn a_log_in_which_an_import_broke_off_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.ndjson");
    export(&journal(&dir.path().join("first")), &file);
    let (mut unfinished, mut complete) = (0, 0);
    for seed in 0..60 {
        let log = Arc::new(empty(seed, 3, Faults { failed: 150, append: 100, unknown: 100, ..Faults::default() }));
        let failed = source(&file).write(&*log, Announce::First, NOW, &mut |_| {}).is_err();
        log.state().faults = Faults::default();
        log.state().partitions.iter_mut().for_each(|p| p.all_undecided().into_iter().for_each(|n| p.expire(n, false)));
        for p in 0..3 {
            let ledger = folded(&log, p);
            let (ears, heard) = Ears::new(&log, format!("{p}"), p);
            let mut arbiter = Arbiter::new(Arc::clone(&log) as _, p, ears, Arc::new(Disk::default()));
            arbiter.want(true);
            let step = (0..1_000).map(|_| arbiter.step()).find(|step| *step != Step::Worked);
            let status = ears::open(&heard).status.clone();
            if ledger.generation() == 2 {
                complete += 1;
                assert_eq!((ledger.unfinished(), step), (None, Some(Step::Idle)), "seed {seed}");
                continue;
            }
            assert!(failed, "seed {seed}");
            unfinished += 1;
            assert_eq!(step, Some(Step::Halted), "seed {seed}: {status:?}");
            let Status::Halted(why) = status else { panic!("{status:?}") };
            assert!(why.contains("import") || why.contains("empty"), "{why}");
            assert_eq!(ledger.unfinished().is_some(), log.end(p).unwrap() > 0, "seed {seed}");
        }
        assert_eq!(
            verify::journal(&*log, &mut |_| {}).unwrap().ok,
            !failed || (0..3).all(|p| folded(&log, p).generation() == 2),
            "seed {seed}"
        );
    }
    assert!(unfinished > 20 && complete > 20, "{unfinished} and {complete} are too few to say anything");
}

/// The fold of a log that may begin with an orphan.
fn folded(log: &Simulated, p: u32) -> Ledger {
    let mut ledger = Ledger::new(p);
    for located in records(log, p) {
        ledger.apply(&located.record).unwrap();
    }
    ledger
}
