//! The four tests that every projection passes, and what else is true of all.

use annals_projections::rebuild::Source;
use annals_projections::{Entry, Error, NAMES, Views};

use crate::home::{Base, on_both};
use crate::journal::{Journal, PARTITIONS, iris, tulip};

on_both! {
    applying_everything_twice_is_applying_it_once
    a_rebuilt_view_equals_the_live_one
    the_interleaving_of_partitions_does_not_matter
    a_crash_between_the_rows_and_the_position_leaves_neither
    a_gap_or_a_foreign_record_stops_one_view_alone
    a_difference_is_found_and_named
}

/// A journal in memory, as a rebuild reads it.
pub struct Stored(pub Vec<Entry>);

impl Source for Stored {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn read(&mut self, partition: u32, from: u64, max: usize) -> Result<Vec<Entry>, String> {
        let max = max.min(7); // small reads, so that there are many
        Ok(self.0.iter().filter(|e| e.partition == partition && e.offset >= from).take(max).cloned().collect())
    }
}

/// A longer journal: the lives of iris and tulip, and other models beside them.
fn journal() -> Journal {
    let mut journal = iris();
    tulip(&mut journal);
    for n in 0..40 {
        let model = format!("bulk-{n}");
        let artifact = serde_json::json!({"artifact": {"uri": "file:///a", "digest": format!("sha256:{n:064}")}});
        journal.say("registered", &model, artifact.clone()).say("registered", &model, artifact);
        journal.say("promoted", &format!("{model}/1"), serde_json::json!({"channel": "production"}));
        journal.say("promoted", &format!("{model}/2"), serde_json::json!({"channel": "production"}));
    }
    journal
}

/// Applies entries in batches of some size.
async fn live(views: &Views, name: &str, entries: &[Entry], batch: usize) {
    for some in entries.chunks(batch) {
        views.apply(name, some).await.unwrap();
    }
}

async fn applying_everything_twice_is_applying_it_once(base: Base) {
    let (once, twice, journal) = (base.home().await, base.home().await, journal());
    let (a, b) = (once.open().await, twice.open().await);
    for name in NAMES {
        live(&a, name, &journal.entries, 500).await;
        for some in journal.entries.chunks(9) {
            assert_eq!(b.apply(name, some).await.unwrap(), some.len() as u64);
            assert_eq!(b.apply(name, some).await.unwrap(), 0, "an entry that is applied already is none");
        }
        live(&b, name, &journal.entries, 50).await;
        assert_eq!(once.dump(name).await, twice.dump(name).await, "{name}");
    }
}

async fn a_rebuilt_view_equals_the_live_one(base: Base) {
    let (dir, journal) = (base.home().await, journal());
    let views = dir.open().await;
    for name in NAMES {
        live(&views, name, &journal.entries, 3).await;
        let before = dir.dump(name).await;
        let mut told = 0;
        let rebuilt = views.rebuild(name, Stored(journal.entries.clone()), |n| told = n).await.unwrap();
        assert_eq!((rebuilt.entries, told), (journal.entries.len() as u64, journal.entries.len() as u64));
        assert_eq!(before, dir.dump(name).await, "{name}");
        // and again, since an index's name alternates
        views.rebuild(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        assert_eq!(before, dir.dump(name).await, "{name}");
    }
}

async fn the_interleaving_of_partitions_does_not_matter(base: Base) {
    let (mixed, sorted, journal) = (base.home().await, base.home().await, journal());
    let (a, b) = (mixed.open().await, sorted.open().await);
    let mut by_partition = journal.entries.clone();
    by_partition.sort_by_key(|e| std::cmp::Reverse(e.partition)); // stable: the order within stays
    for name in NAMES {
        live(&a, name, &journal.entries, 11).await;
        live(&b, name, &by_partition, 500).await;
        assert_eq!(mixed.dump(name).await, sorted.dump(name).await, "{name}");
    }
}

impl Base {
    /// Makes the write of a position fail, after that of the rows.
    fn crash(self) -> &'static str {
        match self {
            Self::Sqlite => "CREATE TRIGGER crash BEFORE UPDATE ON positions BEGIN SELECT RAISE(ABORT, 'crash'); END",
            Self::Postgres => {
                "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'crash'; END $$;
                 CREATE TRIGGER crash BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION crash()"
            }
        }
    }

    fn no_crash(self) -> &'static str {
        match self {
            Self::Sqlite => "DROP TRIGGER crash",
            Self::Postgres => "DROP TRIGGER crash ON positions; DROP FUNCTION crash",
        }
    }
}

async fn a_crash_between_the_rows_and_the_position_leaves_neither(base: Base) {
    let (dir, journal) = (base.home().await, journal());
    let (first, rest) = journal.entries.split_at(30);
    for name in NAMES {
        let views = dir.open().await;
        live(&views, name, first, 30).await;
        let before = dir.dump(name).await;
        dir.sql(base.crash()).await;
        assert!(matches!(views.apply(name, rest).await, Err(Error::Unavailable(_))));
        views.close().await;
        assert_eq!(before, dir.dump(name).await, "{name}");
        dir.sql(base.no_crash()).await;
        let views = dir.open().await;
        live(&views, name, rest, 30).await;
        assert!(views.diff(name, Stored(journal.entries.clone()), |_| ()).await.unwrap().differences.is_empty(), "{name}");
        views.close().await;
    }
}

async fn a_gap_or_a_foreign_record_stops_one_view_alone(base: Base) {
    let (dir, journal) = (base.home().await, journal());
    let views = dir.open().await;
    let mut gap = journal.entries.clone();
    gap.remove(20);
    let error = views.apply("registry", &gap).await.unwrap_err();
    assert!(matches!(error, Error::Gap { view: "registry", .. }), "{error}");
    assert!(views.status().await.unwrap()[0].stopped.as_deref().unwrap().contains("annals rebuild registry"));
    let again = views.apply("registry", &journal.entries).await;
    if views.shared() {
        // another engine may have mended it, so it is tried again
        assert_eq!(again.unwrap(), journal.entries.len() as u64);
        assert_eq!(views.status().await.unwrap()[0].stopped, None);
    } else {
        assert!(matches!(again, Err(Error::Stopped { .. })));
    }

    // the same place in another journal: well formed, but it does not follow
    let mut other = Journal::new();
    let one = serde_json::json!({"artifact": {"uri": "file:///other"}});
    other.say("registered", "iris", one);
    live(&views, "timeline", &journal.entries[..6], 6).await;
    let mut forged = other.entries.pop().unwrap();
    forged.record = {
        let view = forged.record.view().unwrap();
        let zeros = annals_events::record::Hash::default().to_string();
        let mut headers: Vec<_> = view.headers().map(|(n, v)| (n, if n == "ce_prevhash" { zeros.as_str() } else { v })).collect();
        let next = views.positions("timeline").await.unwrap().iter().find(|p| p.partition == forged.partition).unwrap().seq + 1;
        let next = next.to_string();
        headers.iter_mut().filter(|(n, _)| *n == "ce_seq").for_each(|h| h.1 = &next);
        annals_events::record::Record::build(view.key, &mut headers, view.value().as_bytes())
    };
    let error = views.apply("timeline", &[forged]).await.unwrap_err();
    assert!(matches!(error, Error::Broken { view: "timeline", .. }), "{error}");
    views.apply("lineage", &journal.entries).await.unwrap();

    // a rebuild makes them well
    for name in ["registry", "timeline"] {
        views.rebuild(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        assert_eq!(views.apply(name, &journal.entries).await.unwrap(), 0);
    }
}

async fn a_difference_is_found_and_named(base: Base) {
    let (dir, journal) = (base.home().await, journal());
    let views = dir.open().await;
    for (name, change) in [
        ("registry", "UPDATE registry_channels SET version = 9 WHERE key = 'default/iris' AND until IS NULL AND channel = 'production'"),
        (
            "timeline",
            "DELETE FROM timeline WHERE key = 'default/iris' AND seq = (SELECT max(seq) FROM timeline WHERE key = 'default/iris')",
        ),
        ("deployments", "UPDATE deployments SET state = 'in-sync' WHERE key = 'default/tulip' AND until IS NULL"),
        ("search", "DELETE FROM search_words WHERE rowid IN (SELECT id FROM search_documents WHERE key = 'default/tulip')"),
        ("lineage", "INSERT INTO lineage_edges SELECT * FROM lineage_edges LIMIT 1"),
    ] {
        live(&views, name, &journal.entries, 100).await;
        let diff = views.diff(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        assert!(diff.differences.is_empty() && diff.rows > 0, "{diff:#?}");
        dir.sql(change).await;
        let diff = views.diff(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        assert!(!diff.differences.is_empty(), "{name}");
        views.rebuild(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        assert!(views.diff(name, Stored(journal.entries.clone()), |_| ()).await.unwrap().differences.is_empty(), "{name}");
    }
}
