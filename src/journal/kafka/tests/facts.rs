//! What the journal tells of itself to people who watch it, on a real broker.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::journal::facts::Partition;

/// Waits until a partition is told to be so.
fn await_facts(journal: &KafkaJournal, what: &str, holds: impl Fn(&Partition) -> bool) {
    eventually(what, || journal.facts().is_some_and(|facts| holds(&facts.partitions[1])));
}

fn unstable(partition: &Partition, log: &str) -> (u64, Duration) {
    partition.logs.iter().find(|l| l.name == log).map(|l| (l.unstable, l.stuck)).unwrap_or_default()
}

fn propose(journal: &KafkaJournal, n: usize) -> u64 {
    suite::propose(journal, 1, suite::create(&suite::key_in(journal, 1, n), &n.to_string()))
}

#[test]
fn proposals_that_nobody_judges_are_told_until_they_are_judged() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    for n in 0..3 {
        propose(&journal, n);
    }
    await_facts(&journal, "three wait", |p| p.waiting == 3 && p.stalled > Duration::from_secs(4));
    let facts = journal.facts().unwrap();
    assert_eq!((facts.partitions.len(), facts.partitions[0].waiting, facts.partitions[0].stalled < Duration::from_secs(4)), (3, 0, true));
    assert_eq!(facts.prefix, topics.connection.prefix());
    assert!(facts.clock_ahead_ms.is_some_and(|ms| (-5_000..=1_000).contains(&ms)), "the broker is this machine: {facts:?}");
    let mut claim = journal.claim(1).unwrap();
    claim.append(suite::judge(&journal, 1, &journal.proposals(1, 0, 10).unwrap())).unwrap();
    claim.commit().unwrap();
    await_facts(&journal, "none waits", |p| p.waiting == 0);
}

/// What a pipeline with its own Kafka client does.
fn pipeline(topics: &Topics) -> BaseProducer {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", bootstrap()).set("transactional.id", format!("{}.pipeline", topics.connection.prefix()));
    let pipeline: BaseProducer = config.set("transaction.timeout.ms", "60000").create().unwrap();
    pipeline.init_transactions(Duration::from_secs(30)).unwrap();
    pipeline
}

fn send(topics: &Topics, pipeline: &BaseProducer) {
    let name = topics.connection.topic(Topic::Proposals);
    pipeline.begin_transaction().unwrap();
    pipeline.send(BaseRecord::to(&name).partition(1).key("default/x").payload("{}")).unwrap();
    pipeline.flush(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_transaction_that_hangs_is_told_with_what_it_holds_up() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    // one that ended well leaves a marker, which is no proposal
    let pipeline = pipeline(&topics);
    send(&topics, &pipeline);
    pipeline.commit_transaction(Duration::from_secs(30)).unwrap();
    await_facts(&journal, "one waits", |p| p.waiting == 1);
    send(&topics, &pipeline);
    let behind = suite::create(&suite::key_in(&journal, 1, 1), "1");
    runtime().block_on(journal.propose(1, behind)).unwrap();
    await_facts(&journal, "it hangs", |p| unstable(p, "proposals").0 == 2 && unstable(p, "proposals").1 > Duration::from_secs(4));
    let facts = journal.facts().unwrap();
    assert_eq!(unstable(&facts.partitions[1], "journal").0 + unstable(&facts.partitions[0], "proposals").0, 0);
    assert_eq!(facts.partitions[1].waiting, 1, "what cannot be read cannot be judged");
    pipeline.abort_transaction(Duration::from_secs(30)).unwrap();
    await_facts(&journal, "it is over", |p| unstable(p, "proposals").0 == 0 && p.waiting == 2);
}

#[test]
fn what_a_pipeline_aborted_waits_for_nobody() {
    let topics = Topics::made();
    let pipeline = pipeline(&topics);
    send(&topics, &pipeline);
    pipeline.abort_transaction(Duration::from_secs(30)).unwrap();
    let journal = topics.open().unwrap();
    // the first round has been when something is known of the logs
    await_facts(&journal, "the cluster was asked", |p| !p.logs.is_empty());
    assert_eq!(journal.facts().unwrap().partitions[1].waiting, 0);
}

#[test]
fn the_members_of_the_group_are_counted() {
    let topics = Topics::made();
    let watcher = topics.open().unwrap();
    let arbiter = KafkaJournal::open(topics.connection.clone(), true).unwrap();
    eventually("one is counted", || watcher.facts().is_some_and(|facts| facts.arbiters == Some(1)));
    drop(arbiter);
    eventually("it is missed", || watcher.facts().is_some_and(|facts| facts.arbiters == Some(0)));
}

#[test]
fn a_question_is_answered_at_once_when_no_broker_does() {
    let topics = Topics::made();
    let history = Arc::new(crate::journal::kafka::history::History::new(topics.connection.clone()));
    let index = Arc::new(crate::journal::kafka::verdicts::Index::default());
    let tail = crate::journal::kafka::tail::Tail::start(&topics.connection, 3, index).unwrap();
    let away = Connection::new("127.0.0.1:9", "away", None).unwrap();
    let watch = crate::journal::kafka::watch::Watch::start(&away, &history, tail.shelves()).unwrap();
    eventually("it is told that none answers", || watch.facts().trouble.is_some());
    assert!(watch.facts().silent > Duration::ZERO);
}
