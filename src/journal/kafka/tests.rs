//! The suite of every journal on a real broker, each test on topics of its own.

mod facts;

use std::sync::Arc;

use annals_events::record::Record;
use rdkafka::admin::AdminOptions;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::claim::{self, KafkaClaim};
use super::connect::{Connection, Topic, number};
use super::topics::{self, Shape, TopicsError};
use super::{KafkaJournal, OpenError, codec};
use crate::journal::suite::{Kit, eventually};
use crate::journal::{Batch, Claim, Journal, suite};

/// The broker that `tests/run` starts.
pub fn bootstrap() -> String {
    std::env::var("ANNALS_TEST_KAFKA").unwrap_or_else(|_| panic!("ANNALS_TEST_KAFKA names no broker: run `tests/run`, which starts one"))
}

/// Topics of its own on the shared broker; deleted in the end.
pub struct Topics {
    pub connection: Connection,
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub const SHAPE: Shape = Shape { partitions: 3, replication: 1, in_sync: 1 };

impl Topics {
    fn fresh() -> Self {
        let connection = Connection::new(&bootstrap(), &format!("suite-{}", uuid::Uuid::now_v7()), None).unwrap();
        Self { connection }
    }

    pub fn made() -> Self {
        let topics = Self::fresh();
        runtime().block_on(topics::create(&topics.connection, SHAPE)).unwrap();
        topics
    }

    pub fn open(&self) -> Result<KafkaJournal, OpenError> {
        KafkaJournal::open(self.connection.clone(), false)
    }

    /// Deletes every record of a topic's partition.
    fn empty(&self, topic: Topic, partition: u32) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.connection.topic(topic), number(partition), Offset::End).unwrap();
        runtime().block_on(self.connection.admin().unwrap().delete_records(&list, &AdminOptions::new())).unwrap();
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names = Topic::ALL.map(|topic| self.connection.topic(topic));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Ok(admin) = self.connection.admin() {
            let _ = runtime().block_on(admin.delete_topics(&names, &AdminOptions::new()));
        }
    }
}

struct KafkaKit {
    journal: Option<Arc<KafkaJournal>>,
    topics: Topics,
}

impl Kit for KafkaKit {
    const GROWS: bool = true;

    fn fresh() -> Self {
        let topics = Topics::made();
        Self { journal: Some(Arc::new(topics.open().unwrap())), topics }
    }

    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(self.journal.as_ref().unwrap()) as Arc<dyn Journal>
    }

    fn restart(&mut self) {
        drop(self.journal.take());
        self.journal = Some(Arc::new(self.topics.open().unwrap()));
    }

    fn forge(&self, partition: u32, record: &Record) {
        let wire = codec::encode_record(record, None).unwrap();
        let producer: FutureProducer = self.topics.connection.proposer().unwrap();
        let name = self.topics.connection.topic(Topic::Journal);
        let forged = FutureRecord::to(&name).partition(number(partition)).key(&wire.key).headers(wire.headers).payload(&wire.value);
        runtime().block_on(async { producer.send_result(forged).unwrap().await.unwrap().unwrap() });
        let journal = self.journal();
        eventually("it is visible", || journal.records(partition, 0, 100).unwrap().items.iter().any(|l| l.record == *record));
    }

    fn empty(&self, partition: u32) {
        self.topics.empty(Topic::Journal, partition);
    }
}

mod on_kafka {
    use super::KafkaKit;
    crate::journal::suite::suite!(KafkaKit);
}

#[test]
fn topics_are_made_once() {
    let topics = Topics::fresh();
    assert!(matches!(topics.open(), Err(OpenError::Missing(_))));
    let missing = runtime().block_on(topics::check(&topics.connection)).unwrap();
    assert_eq!(missing.iter().filter(|found| found.problem == "it is missing").count(), Topic::ALL.len(), "{missing:?}");
    let refused = runtime().block_on(topics::create(&topics.connection, Shape { replication: 9, ..SHAPE })).unwrap_err();
    assert!(refused.to_string().contains("--replication-factor 1"), "{refused}");
    assert!(matches!(topics.open(), Err(OpenError::Missing(_))), "nothing was made");
    let made = runtime().block_on(topics::create(&topics.connection, SHAPE)).unwrap();
    assert_eq!(made.len(), Topic::ALL.len());
    let journal = topics.open().unwrap();
    let before: Vec<_> = (0..3).map(|p| journal.records(p, 0, 10).unwrap().items).collect();
    assert!(before.iter().all(|records| records.len() == 1), "each is opened");
    assert!(runtime().block_on(topics::create(&topics.connection, SHAPE)).unwrap().is_empty(), "nothing is left to make");
    let after: Vec<_> = (0..3).map(|p| journal.records(p, 0, 10).unwrap().items).collect();
    assert_eq!(before, after);
    let other = runtime().block_on(topics::create(&topics.connection, Shape { partitions: 4, ..SHAPE }));
    assert!(matches!(other, Err(TopicsError::OtherPartitions(_))), "{other:?}");
}

#[test]
fn a_check_names_what_is_wrong_with_the_topics() {
    let topics = Topics::made();
    let found = runtime().block_on(topics::check(&topics.connection)).unwrap();
    let journal = topics.connection.topic(Topic::Journal);
    let of_journal: Vec<_> = found.iter().filter(|f| f.subject == journal).collect();
    assert!(of_journal.iter().any(|f| f.problem.contains("1 replicas")), "{found:?}");
    assert!(of_journal.iter().any(|f| f.problem.contains("min.insync.replicas is 1")), "{found:?}");
    assert!(
        !found.iter().any(|f| f.problem.contains("retention") || f.problem.contains("cleanup")),
        "those are as they shall be: {found:?}"
    );
    let names = [topics.connection.topic(Topic::Models)];
    let admin = topics.connection.admin().unwrap();
    runtime().block_on(admin.delete_topics(&[&names[0]], &AdminOptions::new())).unwrap();
    eventually("the missing one is named", || {
        let found = runtime().block_on(topics::check(&topics.connection)).unwrap();
        found.iter().any(|f| f.subject == names[0] && f.problem.contains("missing"))
    });
}

#[test]
fn an_emptied_journal_is_not_begun_anew() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    let key = suite::key_in(&journal, 0, 0);
    let src = suite::propose(&journal, 0, suite::create(&key, "a"));
    eventually("it is there", || !journal.proposals(0, src, 1).unwrap().is_empty());
    let mut claim = journal.claim(0).unwrap();
    claim.append(suite::judge(&journal, 0, &journal.proposals(0, src, 1).unwrap())).unwrap();
    claim.commit().unwrap();
    drop((claim, journal));
    topics.empty(Topic::Journal, 0);
    assert!(matches!(topics.open(), Err(OpenError::Emptied { .. })));
    // made anew, not only emptied: it looks like new topics, but for the verdicts
    runtime().block_on(async {
        let (admin, name) = (topics.connection.admin().unwrap(), topics.connection.topic(Topic::Journal));
        admin.delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
    });
    let mut last = None;
    eventually("the engine refuses to open it", || {
        last = Some(runtime().block_on(topics::create(&topics.connection, SHAPE)));
        matches!(last, Some(Err(TopicsError::Emptied { .. })))
    });
}

#[test]
fn deleted_proposals_that_had_no_verdict_are_a_gap() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    assert!(journal.check_resume(0, 0).is_ok());
    for n in 0..3 {
        suite::propose(&journal, 0, suite::create(&suite::key_in(&journal, 0, n), &n.to_string()));
    }
    assert!(journal.check_resume(0, 3).is_ok(), "all are judged");
    assert!(journal.check_resume(0, 4).unwrap_err().to_string().contains("made anew"));
    topics.empty(Topic::Proposals, 0);
    let gap = journal.check_resume(0, 1).unwrap_err().to_string();
    assert!(gap.contains("1 to 2") && gap.contains("--skip-to 3"), "{gap}");
    assert!(journal.check_resume(0, 3).is_ok(), "what was judged may be gone");
}

#[test]
fn a_record_is_the_same_on_the_wire_and_back() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    for n in 0..5 {
        suite::propose(&journal, 0, suite::create(&suite::key_in(&journal, 0, n), &n.to_string()));
    }
    eventually("all are there", || journal.proposals(0, 0, 10).unwrap().len() == 5);
    let batch: Batch = suite::judge(&journal, 0, &journal.proposals(0, 0, 10).unwrap());
    let mut claim = journal.claim(0).unwrap();
    claim.append(batch.clone()).unwrap();
    claim.commit().unwrap();
    eventually("they are visible", || journal.records(0, 1, 10).unwrap().items.len() == 5);
    let tail: Vec<_> = journal.records(0, 1, 10).unwrap().items.into_iter().map(|l| l.record).collect();
    assert_eq!(tail, batch.records);
    // an engine that starts now reads them from the topic, not from its own memory
    let other = topics.open().unwrap();
    let history: Vec<_> = other.records(0, 1, 10).unwrap().items.into_iter().map(|l| l.record).collect();
    assert_eq!(history, batch.records);
    assert_eq!(other.end(0).unwrap(), journal.end(0).unwrap());
    let reader = topics.connection.reader("test", false).unwrap();
    let (_, marker) = super::connect::range(&reader, &topics.connection.topic(Topic::Journal), 0).unwrap();
    assert!(other.end(0).unwrap() < marker, "the end is behind the last record, not behind the transaction's marker");
}

#[test]
fn a_verdict_that_stayed_away_is_owed_until_it_is_told() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    for n in 0..3 {
        suite::propose(&journal, 0, suite::create(&suite::key_in(&journal, 0, n), &n.to_string()));
    }
    let Batch { records, verdicts } = suite::judge(&journal, 0, &journal.proposals(0, 0, 10).unwrap());
    assert_eq!(journal.owed(0, &suite::fold(&journal, 0)).unwrap(), [], "nothing was judged");
    // as a commit leaves them that comes late and hits a transaction that is half written
    let mut claim = journal.claim(0).unwrap();
    claim.append(Batch { records: records.clone(), verdicts: verdicts[..1].to_vec() }).unwrap();
    claim.commit().unwrap();
    eventually("they are visible", || suite::fold(&journal, 0).last_hash() == records[2].hash());
    let mut claim = journal.claim(0).unwrap();
    let owed = journal.owed(0, &suite::fold(&journal, 0)).unwrap();
    assert_eq!(owed, verdicts[1..]);
    claim.append(Batch { verdicts: owed, ..Batch::default() }).unwrap();
    claim.commit().unwrap();
    eventually("all is told", || journal.owed(0, &suite::fold(&journal, 0)).unwrap().is_empty());
}

#[test]
fn who_dies_between_a_commit_and_its_verdicts_owes_them() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    let teller = claim::teller(&topics.connection).unwrap();
    let mut all = Vec::new();
    for round in 0..2 {
        for n in 0..3 {
            suite::propose(&journal, 0, suite::create(&suite::key_in(&journal, 0, round * 3 + n), &format!("{round}-{n}")));
        }
        let from = all.len() as u64;
        let batch = suite::judge(&journal, 0, &journal.proposals(0, from, 10).unwrap());
        assert_eq!(batch.records.len(), 3, "all are accepted");
        all.extend(batch.verdicts.clone());
        let head = batch.records[2].hash();
        let mut claim = KafkaClaim::new(&topics.connection, 0, Arc::clone(&teller)).unwrap();
        claim.append(batch).unwrap();
        if round == 0 {
            claim.commit().unwrap();
            eventually("the first are told behind their events", || journal.verdicts(0, 0, 10).unwrap().items == all);
        } else {
            claim.commit_and_die();
        }
        eventually("the events are visible", || suite::fold(&journal, 0).last_hash() == head);
    }
    assert_eq!(journal.verdicts(0, 0, 10).unwrap().items, all[..3]);
    let mut next = journal.claim(0).unwrap();
    let owed = journal.owed(0, &suite::fold(&journal, 0)).unwrap();
    assert_eq!(owed, all[3..]);
    next.append(Batch { verdicts: owed, ..Batch::default() }).unwrap();
    next.commit().unwrap();
    eventually("all is told, in order", || journal.verdicts(0, 0, 10).unwrap().items == all);
    assert_eq!(journal.owed(0, &suite::fold(&journal, 0)).unwrap(), []);
}

#[test]
fn a_partition_is_read_to_its_end_in_chunks_of_any_size() {
    let topics = Topics::made();
    let journal = topics.open().unwrap();
    let mut claim = journal.claim(0).unwrap();
    for n in 0..7 {
        let src = suite::propose(&journal, 0, suite::create(&suite::key_in(&journal, 0, n), &n.to_string()));
        eventually("it is there", || !journal.proposals(0, src, 1).unwrap().is_empty());
    }
    claim.append(suite::judge(&journal, 0, &journal.proposals(0, 0, 10).unwrap())).unwrap();
    claim.commit().unwrap();
    eventually("they are visible", || journal.records(0, 1, 10).unwrap().items.len() == 7);
    // one that starts now has nothing in memory; behind the last record lies the marker of its transaction
    let other = topics.open().unwrap();
    for max in 1..=9 {
        let (mut from, mut found) = (0, 0);
        loop {
            let chunk = other.records(0, from, max).unwrap();
            found += chunk.items.len();
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        assert_eq!(found, 8, "in chunks of {max}");
    }
}
