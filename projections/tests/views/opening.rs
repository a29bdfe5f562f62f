//! Opening the file: what is refused, what is cleaned up, and that no error touches more than it must.

use annals_projections::rebuild::Source;
use annals_projections::{AsOf, Entry, Error, NAMES, Views};

use crate::every::Stored;
use crate::home::{Base, Home, on_both};
use crate::journal::{PARTITIONS, apply_all, iris};

on_both! {
    views_are_there_again_after_a_restart
    the_views_of_another_journal_a_newer_build_or_another_program_are_refused
    what_is_damaged_says_what_to_do_and_what_was_removed_is_made_again
    an_unknown_view_is_refused_with_the_names_that_there_are
    a_reset_view_begins_anew
    a_rebuild_that_dies_leaves_the_old_view_and_the_next_start_cleans_up
    readers_and_the_live_view_go_on_while_a_view_is_rebuilt
    a_rebuilt_view_is_not_put_in_the_place_of_one_that_is_further_unless_the_journal_ends_there
}

async fn refused(home: &Home, journal: &str) -> Error {
    match home.open_as(journal).await {
        Ok(_) => panic!("it was opened"),
        Err(e) => e,
    }
}

async fn views_are_there_again_after_a_restart(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let before = views.status().await.unwrap();
    assert_eq!(before.iter().map(|s| s.name).collect::<Vec<_>>(), NAMES);
    views.close().await;
    let views = dir.open().await;
    assert_eq!(views.status().await.unwrap(), before);
    apply_all(&views, &journal.entries).await;
    assert_eq!(views.status().await.unwrap(), before);
}

async fn the_views_of_another_journal_a_newer_build_or_another_program_are_refused(base: Base) {
    let dir = base.home().await;
    dir.open().await.close().await;
    let error = refused(&dir, "journal-2").await;
    assert!(matches!(error, Error::OtherJournal { .. }), "{error}");
    assert!(error.to_string().contains("journal-1"), "{error}");

    assert!(error.to_string().contains(if base == Base::Sqlite { "delete the files" } else { "another database" }), "{error}");

    dir.sql(match base {
        Base::Sqlite => "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', 1, x'00', 0)",
        Base::Postgres => "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', true, '', 0)",
    })
    .await;
    let error = refused(&dir, "journal-1").await;
    assert!(matches!(error, Error::Newer { .. }), "{error}");

    let dir = base.home().await;
    dir.sql(match base {
        Base::Sqlite => "CREATE TABLE somebody_else (x INTEGER)",
        Base::Postgres => "CREATE SCHEMA annals; CREATE TABLE annals.somebody_else (x INTEGER)",
    })
    .await;
    let error = refused(&dir, "journal-1").await;
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}

async fn what_is_damaged_says_what_to_do_and_what_was_removed_is_made_again(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let remedy = match &dir {
        Home::Directory(dir) => {
            let file = dir.path().join("views.db");
            std::fs::write(&file, vec![7; 8192]).unwrap();
            let error = Views::open(dir.path(), "journal-1").await.err().unwrap();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            std::fs::remove_file(&file).unwrap();
            "delete the files"
        }
        Home::Database(_) => "DROP SCHEMA annals CASCADE",
    };
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;

    dir.sql("DROP TABLE registry_channels").await;
    let error = views.channels("default/iris", &AsOf::Now).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(remedy), "{error}");
    views.close().await;
    if base == Base::Postgres {
        dir.sql("DROP SCHEMA annals CASCADE").await;
        apply_all(&dir.open().await, &journal.entries).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = Views::open(&dir.path().join("nowhere"), "journal-1").await.err().unwrap();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

async fn an_unknown_view_is_refused_with_the_names_that_there_are(base: Base) {
    let dir = base.home().await;
    let error = dir.open().await.apply("history", &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no view `history`: there are registry, timeline, lineage, deployments, search");
}

async fn a_reset_view_begins_anew(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    for name in NAMES {
        let before = dir.dump(name).await;
        views.reset(name).await.unwrap();
        assert!(views.positions(name).await.unwrap().is_empty());
        assert!(dir.dump(name).await.values().all(Vec::is_empty));
        views.apply(name, &journal.entries).await.unwrap();
        assert_eq!(dir.dump(name).await, before);
    }
}

/// A journal that cannot be read beyond some point.
struct Breaking(Stored);

impl Source for Breaking {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        if partition == PARTITIONS - 1 { Err("the disk is gone".into()) } else { self.0.read(partition, from, max) }
    }
}

async fn a_rebuild_that_dies_leaves_the_old_view_and_the_next_start_cleans_up(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    for name in NAMES {
        let before = dir.dump(name).await;
        let error = views.rebuild(name, Breaking(Stored(journal.entries.clone())), |_| ()).await.unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        assert_eq!(dir.dump(name).await, before);
        assert!(!dir.staging().await.is_empty(), "the process is thought to have died here");
    }
    views.close().await;
    let views = dir.open().await;
    assert_eq!(dir.staging().await, Vec::<String>::new());
    assert!(views.status().await.unwrap().iter().all(|s| !s.rebuilding && s.stopped.is_none()));
    apply_all(&views, &journal.entries).await;
}

async fn readers_and_the_live_view_go_on_while_a_view_is_rebuilt(base: Base) {
    let (dir, mut journal) = (base.home().await, iris());
    let views = dir.open().await;
    let half = journal.entries.clone();
    apply_all(&views, &half).await;
    let artifact = serde_json::json!({"artifact": {"uri": "file:///a"}});
    for n in 0..50 {
        journal.say("registered", &format!("late-{n}"), artifact.clone());
    }
    let all = journal.entries.clone();
    let log = std::sync::Arc::new(std::sync::Mutex::new(half));
    let source = Growing(log.clone());
    let rebuild = views.rebuild("registry", source, |_| ());
    let live = async {
        let known = log.lock().unwrap().len();
        for n in known..all.len() {
            log.lock().unwrap().push(all[n].clone());
            views.apply("registry", &all[n..=n]).await.unwrap();
            let production = views.channel("default/iris", "production", &AsOf::Now).await.unwrap();
            assert!(production.is_some(), "a reader saw half a view");
            assert!(views.model(all[n].record.view().unwrap().key, &AsOf::Now).await.unwrap().is_some(), "what was applied is there");
        }
    };
    let (rebuilt, ()) = tokio::join!(rebuild, live);
    rebuilt.unwrap();
    assert_eq!(views.apply("registry", &all).await.unwrap(), 0, "nothing was lost by the switch");
    assert!(views.diff("registry", Stored(all), |_| ()).await.unwrap().differences.is_empty());
}

/// A journal that grows while it is read.
struct Growing(std::sync::Arc<std::sync::Mutex<Vec<Entry>>>);

impl Source for Growing {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        Stored(self.0.lock().unwrap().clone()).read(partition, from, max)
    }
}

/// A journal of which the second half becomes visible only when the first was read twice to its end.
struct Late {
    half: Stored,
    whole: Stored,
    ends: u32,
}

impl Source for Late {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        let visible = if self.ends < 2 * PARTITIONS { &mut self.half } else { &mut self.whole };
        let entries = visible.read(partition, from, max)?;
        self.ends += u32::from(entries.is_empty());
        Ok(entries)
    }
}

async fn a_rebuilt_view_is_not_put_in_the_place_of_one_that_is_further_unless_the_journal_ends_there(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    let half = || Stored(journal.entries[..20].to_vec());
    for name in NAMES {
        views.apply(name, &journal.entries).await.unwrap();
        let before = dir.dump(name).await;
        let late = Late { half: half(), whole: Stored(journal.entries.clone()), ends: 0 };
        views.rebuild(name, late, |_| ()).await.unwrap();
        assert_eq!(dir.dump(name).await, before, "{name} went back");
        // a journal that was restored from an older backup: what it says is true
        views.rebuild(name, half(), |_| ()).await.unwrap();
        assert_eq!(views.diff(name, half(), |_| ()).await.unwrap().differences, []);
        assert!(views.positions(name).await.unwrap().iter().map(|p| p.seq + 1).sum::<u64>() == 20, "{name}");
        assert_eq!(views.apply(name, &journal.entries).await.unwrap(), journal.entries.len() as u64 - 20);
    }
}
