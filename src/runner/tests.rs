//! The runner on a real journal.

mod shared;

use std::collections::BTreeMap;
use std::path::Path;

use annals_events::proposal::Proposal;
use annals_events::verdict::Outcome;
use annals_projections::{AsOf, Page, registry, timeline};

use super::*;
use crate::arbiter::drive::Arbiters;
use crate::arbiter::snapshot::Directory;
use crate::journal::sqlite::SqliteJournal;

const PATIENCE: Duration = Duration::from_secs(30);

struct Engine {
    door: Arc<Door>,
    runner: Arc<Runner>,
    stop: watch::Sender<bool>,
    arbiters: Arbiters,
}

impl Engine {
    async fn start(dir: &Path) -> Self {
        let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(dir).unwrap());
        let door = Arc::new(Door::new(journal.clone()));
        let arbiters = Arbiters::start(&journal, &door, Arc::new(Directory::open(&dir.join("snapshots")).unwrap())).unwrap();
        let (stop, stopping) = watch::channel(false);
        let views = Views::open(dir, journal.id()).await.unwrap();
        Self { runner: Runner::start(views, door.clone(), true, stopping), door, stop, arbiters }
    }

    /// Creates a model, and says where its event is.
    async fn create(&self, model: &str) -> (u32, u64) {
        let id = format!("create-{model}");
        let subject = format!("default/{model}");
        let pairs = [("specversion", "1.0"), ("id", &id), ("source", "/t"), ("type", "dev.annals.model.created.v1"), ("subject", &subject)];
        let attributes: BTreeMap<_, _> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let proposal = Proposal::from_parts(attributes, "{}".into(), Some(subject.as_bytes())).unwrap();
        let answer = self.door.submit(&proposal, PATIENCE).await.unwrap();
        match answer.verdict.expect("a verdict in time").outcome {
            Outcome::Accepted(place) => (answer.partition, place.seq),
            other => panic!("{other:?}"),
        }
    }

    async fn models(&self) -> usize {
        self.runner.views().models("default", &AsOf::Now, &Page::default()).await.unwrap().items.len()
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        tokio::task::spawn_blocking(move || self.arbiters.stop()).await.unwrap();
        self.runner.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_for_its_event_finds_it_in_every_view() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path()).await;
    for n in 0..20 {
        let place = engine.create(&format!("m{n}")).await;
        for view in NAMES {
            assert!(engine.runner.wait_for(view, &[place], PATIENCE).await, "{view} at {place:?}");
        }
        assert_eq!(engine.models().await, n + 1);
    }
    assert!(!engine.runner.wait_for(registry::NAME, &[(0, 1_000)], Duration::from_millis(30)).await);
    assert!(!engine.runner.wait_for("nonsense", &[], PATIENCE).await);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_while_the_one_before_is_applied_reaches_the_view_without_a_further_one() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path()).await;
    for round in 0..60 {
        let first = engine.create(&format!("first-{round}")).await;
        // the views begin to apply it now, or nearly; the second comes a little later in each round
        let place = [first];
        let hurried = NAMES.iter().map(|view| engine.runner.wait_for(view, &place, PATIENCE));
        let late = async {
            tokio::time::sleep(Duration::from_micros(100 * round)).await;
            engine.create(&format!("second-{round}")).await
        };
        let (hurried, second) = tokio::join!(futures_util::future::join_all(hurried), late);
        assert!(hurried.iter().all(|has| *has), "round {round}: {first:?}");
        for view in NAMES {
            assert!(engine.runner.wait_for(view, &[second], PATIENCE).await, "round {round}: {view} at {second:?}");
        }
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_go_on_where_they_were_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path()).await;
    let place = engine.create("before").await;
    assert!(engine.runner.wait_for(registry::NAME, &[place], PATIENCE).await);
    engine.stop().await;

    let engine = Engine::start(dir.path()).await;
    let place = engine.create("after").await;
    assert!(engine.runner.wait_for(registry::NAME, &[place], PATIENCE).await);
    assert_eq!(engine.models().await, 2);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_cannot_go_on_stops_alone_and_a_rebuild_lets_it_follow_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path()).await;
    let first = engine.create("first").await;
    for view in NAMES {
        assert!(engine.runner.wait_for(view, &[first], PATIENCE).await);
    }
    // behind the runner's back the registry is emptied: its next event leaves a gap
    engine.runner.views().reset(registry::NAME).await.unwrap();
    let second = loop {
        let place = engine.create(&format!("second-{}", uuid::Uuid::now_v7())).await;
        if place.0 == first.0 {
            break place;
        }
    };
    assert!(engine.runner.wait_for(timeline::NAME, &[second], PATIENCE).await, "the timeline goes on");
    let deadline = Instant::now() + PATIENCE;
    let trouble = loop {
        let registry = engine.runner.progress().into_iter().find(|view| view.name == registry::NAME).expect("there is a registry");
        if let Some(trouble) = registry.trouble {
            break trouble;
        }
        assert!(Instant::now() < deadline, "{registry:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(trouble.contains("annals rebuild registry"), "{trouble}");

    engine.runner.rebuild(registry::NAME, |_| {}).await.unwrap();
    let third = engine.create("third").await;
    assert!(engine.runner.wait_for(registry::NAME, &[second, third], PATIENCE).await, "{:?}", engine.runner.progress());
    assert!(engine.models().await >= 3);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_reads_each_event_once_wherever_it_is_asked_to_begin() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path()).await;
    let (partition, _) = engine.create("one").await;
    for n in 0..200 {
        engine.create(&format!("m{n}")).await;
    }
    let journal = engine.door.journal().clone();
    let seqs = |entries: Vec<Entry>| entries.iter().map(|entry| entry.record.view().unwrap().seq).collect::<Vec<_>>();
    tokio::task::spawn_blocking(move || {
        let end = journal.end(partition).unwrap();
        let mut source = JournalSource::new(journal);
        let all = seqs(source.read(partition, 0, 10_000).unwrap());
        assert_eq!(all, (0..end).collect::<Vec<_>>());
        assert_eq!(seqs(source.read(partition, 3, 2).unwrap()), [3, 4]);
        assert_eq!(seqs(source.read(partition, 5, 2).unwrap()), [5, 6]);
        assert!(source.read(partition, end, 2).unwrap().is_empty());
        assert!(source.read(partition, end + 1, 2).is_err(), "there is nothing to go on from");
    })
    .await
    .unwrap();
    engine.stop().await;
}
