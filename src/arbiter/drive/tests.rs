//! The driver on a real journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals_events::proposal::Proposal;
use annals_events::verdict::Outcome;

use super::Arbiters;
use crate::arbiter::door::{Answer, Door};
use crate::arbiter::snapshot::{Directory, Snapshots};
use crate::arbiter::{Arbiter, Status, Step};
use crate::journal::Journal;
use crate::journal::sqlite::SqliteJournal;

const PATIENCE: Duration = Duration::from_secs(30);

struct Engine {
    door: Arc<Door>,
    arbiters: Arbiters,
    snapshots: Arc<Directory>,
}

fn start(dir: &Path) -> Engine {
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(dir).unwrap());
    let door = Arc::new(Door::new(Arc::clone(&journal)));
    let snapshots = Arc::new(Directory::open(&dir.join("snapshots")).unwrap());
    let arbiters = Arbiters::start(&journal, &door, Arc::clone(&snapshots) as Arc<dyn Snapshots>).unwrap();
    Engine { door, arbiters, snapshots }
}

fn create(model: &str, id: &str) -> Proposal {
    let attributes = [("specversion", "1.0"), ("id", id), ("source", "/t"), ("type", "dev.annals.model.created.v1")];
    let mut attributes: BTreeMap<_, _> = attributes.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    attributes.insert("subject".into(), format!("default/{model}"));
    Proposal::from_parts(attributes, "{}".into(), Some(format!("default/{model}").as_bytes())).unwrap()
}

async fn submit(door: &Door, proposal: &Proposal) -> Answer {
    door.submit(proposal, PATIENCE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_are_answered_and_a_restart_knows_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = start(dir.path());
    let clients: Vec<_> = (0..32)
        .map(|c| {
            let door = Arc::clone(&engine.door);
            tokio::spawn(async move {
                for n in 0..10 {
                    let answer = submit(&door, &create(&format!("m{c}-{n}"), &format!("{c}-{n}"))).await;
                    let verdict = answer.verdict.expect("a verdict in time");
                    assert!(matches!(verdict.outcome, Outcome::Accepted(_)), "{verdict:?}");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    // an answer comes with its record, the head with the whole batch: a moment later
    let deadline = Instant::now() + PATIENCE;
    while engine.door.heads().iter().map(|h| h.models).sum::<usize>() < 320 {
        assert!(Instant::now() < deadline, "{:?}", engine.door.heads());
        tokio::task::yield_now().await;
    }
    let heads = engine.door.heads();
    assert_eq!(heads.iter().map(|h| h.models).sum::<usize>(), 320);
    let commits: u64 = engine.arbiters.counts().iter().map(|c| c.lock().unwrap().commits).sum();
    assert!((1..=320).contains(&commits));
    engine.arbiters.stop();
    let kept: usize = (0..12).flat_map(|p| engine.snapshots.kept(p)).map(|s| s.ledger.models()).sum();
    assert_eq!(kept, 320, "a clean stop leaves a snapshot of everything");
    drop(engine);

    let engine = start(dir.path());
    let deadline = Instant::now() + PATIENCE;
    while engine.door.heads().iter().any(|h| h.status != Status::Owner) {
        assert!(Instant::now() < deadline, "{:?}", engine.door.heads());
        tokio::task::yield_now().await;
    }
    assert_eq!(
        engine.door.heads().iter().map(|h| (h.seq, h.hash)).collect::<Vec<_>>(),
        heads.iter().map(|h| (h.seq, h.hash)).collect::<Vec<_>>()
    );
    let again = submit(&engine.door, &create("m3-3", "3-3")).await;
    assert!(matches!(again.verdict.unwrap().outcome, Outcome::Duplicate(_)));
}

#[tokio::test]
async fn a_halted_partition_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteJournal::open(dir.path()).unwrap());
    let mut engine = start(dir.path());
    submit(&engine.door, &create(&model_in(0), "a")).await;
    // the journal's file is edited behind the engine's back
    let file = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    file.execute("INSERT INTO records_0 SELECT 2, key, recorded, frame, zeroblob(32) FROM records_0 WHERE seq = 1", []).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !matches!(engine.door.heads()[0].status, Status::Halted(_)) {
        assert!(Instant::now() < deadline, "{:?}", engine.door.heads()[0]);
        tokio::task::yield_now().await;
    }
    let refused = engine.door.submit(&create(&model_in(0), "b"), PATIENCE).await.unwrap_err();
    assert!(refused.to_string().contains("halted"), "{refused}");
    let other = submit(&engine.door, &create(&model_in(1), "c")).await;
    assert!(matches!(other.verdict.unwrap().outcome, Outcome::Accepted(_)));
    engine.arbiters.stop();
}

/// A model of this partition, of twelve.
fn model_in(partition: u32) -> String {
    let here = |m: &String| annals_events::names::partition_of(&format!("default/{m}"), 12) == partition;
    (0..).map(|n| format!("m{n}")).find(here).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_alone_steps_the_arbiter() {
    let dir = tempfile::tempdir().unwrap();
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(dir.path()).unwrap());
    let door = Door::new(Arc::clone(&journal));
    let snapshots = Arc::new(Directory::open(&dir.path().join("snapshots")).unwrap());
    let mut arbiter = Arbiter::new(journal, 0, door.listener(0), snapshots);
    arbiter.want(true);
    while arbiter.step() != Step::Idle {}
    door.seat(0).leave(arbiter);
    // there is no thread that could do it; the first few cannot know yet that they are alone
    let model = model_in(0);
    let mut answered = Vec::new();
    for n in 0..12 {
        let answer = door.submit(&create(&model, &format!("{n}")), Duration::from_millis(1)).await.unwrap();
        answered.push(answer.verdict.is_some());
    }
    assert_eq!(answered, [[false; 8].as_slice(), &[true; 4]].concat());
    let heads = door.heads();
    assert_eq!((heads[0].models, heads[0].seq), (1, Some(1)), "the first was accepted, the others are refused: the model exists");
    assert!(door.seat(0).take().is_some(), "it sits there again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_that_was_lost_at_the_door_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path());
    let model = model_in(0);
    submit(&engine.door, &create(&model, "a")).await;
    let deadline = Instant::now() + PATIENCE;
    while engine.door.seat(0).take().is_none() {
        assert!(Instant::now() < deadline, "it never had nothing to do");
        tokio::task::yield_now().await;
    }
    for n in 0..20 {
        let answer = submit(&engine.door, &create(&model, &format!("b{n}"))).await;
        assert!(matches!(answer.verdict.expect("a verdict in time").outcome, Outcome::Refused(_)));
    }
}
