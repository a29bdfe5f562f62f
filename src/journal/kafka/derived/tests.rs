//! The publisher on a real broker, judged by a plain consumer and by a fold of the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use annals_events::kind::Kind;
use rdkafka::admin::AdminOptions;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::super::KafkaJournal;
use super::super::connect::{ASK_MAX, Topic, number};
use super::super::tests::{SHAPE, Topics, bootstrap, runtime};
use super::super::topics;
use super::*;
use crate::journal::suite::{self, eventually};

/// A message as anybody reads it.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    key: String,
    headers: BTreeMap<String, String>,
    value: String,
    at: Option<i64>,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        &self.headers[name]
    }
}

/// Everything that a plain `read_committed` consumer sees in a partition.
fn consume(topics: &Topics, topic: Topic, partition: u32) -> Vec<Heard> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap()).set("group.id", "nobody").set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topics.connection.topic(topic), number(partition), Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut heard = Vec::new();
    loop {
        match consumer.poll(ASK_MAX) {
            Some(Ok(message)) => {
                let headers = message.headers().unwrap().iter().map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect();
                let (key, value, at) = (text(message.key().unwrap()), text(message.payload().unwrap()), message.timestamp().to_millis());
                heard.push(Heard { key, headers, value, at });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return heard,
            other => panic!("the broker does not answer: {other:?}"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Judges proposals as an arbiter would.
fn happen(journal: &KafkaJournal, partition: u32, proposals: Vec<annals_events::submission::Submission>) {
    let queued: Vec<_> = proposals
        .into_iter()
        .map(|proposal| {
            let src = suite::propose(journal, partition, proposal);
            journal.proposals(partition, src, 1).unwrap().remove(0)
        })
        .collect();
    let batch = suite::judge(journal, partition, &queued);
    let last = batch.records.last().unwrap().hash();
    let mut claim = journal.claim(partition).unwrap();
    claim.append(batch).unwrap();
    claim.commit().unwrap();
    eventually("it can be read", || suite::records(journal, partition).last().unwrap().record.hash() == last);
}

/// A part of a model's life: registered, released, and now and then taken back. `n` grows.
fn live(journal: &KafkaJournal, partition: u32, n: usize) {
    let key = suite::key_in(journal, partition, n % 2);
    let version = n / 2 + 1;
    let ask = |kind: &str, subject: &str, data: Value| {
        suite::submission(subject, &format!("{kind}-{n}"), &format!("dev.annals.{kind}.v1"), &data.to_string())
    };
    let subject = format!("{key}/{version}");
    let release = json!({"channel": "production", "reason": "it is better"});
    let mut proposals = vec![
        ask("version.registered", &key, json!({"artifact": {"uri": "file:///m"}, "label": format!("v{version}.0")})),
        ask("version.promoted", &subject, release.clone()),
    ];
    if n.is_multiple_of(3) {
        proposals.push(ask("version.demoted", &subject, release));
        proposals.push(ask("version.retired", &subject, json!({"reason": "it is not"})));
    }
    // refused, which is an event that changes no model
    proposals.push(ask(
        "approval.decided",
        &key,
        json!({"approval": "?", "decision": "approved", "approver": {"id": "eve"}, "reason": "?"}),
    ));
    happen(journal, partition, proposals);
}

fn publisher(topics: &Topics, journal: &Arc<KafkaJournal>) -> Publisher {
    let mut publisher = Publisher::new(topics.connection.clone(), Arc::clone(journal) as Arc<dyn Journal>, Box::new(|_, _| None));
    publisher.want(true);
    publisher
}

/// Whether all that the journal has is published.
fn is_through(publisher: &Publisher, journal: &KafkaJournal) -> bool {
    let heads = (0..3).map(|partition| suite::fold(journal, partition).last_seq());
    publisher.publishing().seqs == heads.collect::<Vec<_>>()
}

fn publish_all(publisher: &mut Publisher, journal: &KafkaJournal) {
    eventually("everything is published", || {
        publisher.step();
        is_through(publisher, journal)
    });
}

/// The promises of the derived topics, held against the journal.
fn check(topics: &Topics, journal: &KafkaJournal) {
    let mut known = BTreeMap::new();
    for note in consume(topics, Topic::Progress, 0) {
        known.insert(note.key, serde_json::from_str::<Value>(&note.value).unwrap());
    }
    for partition in 0..3 {
        let records = suite::records(journal, partition);
        let released = |kind: Kind| matches!(kind, Kind::VersionPromoted | Kind::VersionDemoted | Kind::VersionRetired);
        let ours: Vec<_> = records.iter().filter(|located| released(located.record.view().unwrap().kind)).collect();
        let in_journal = consume(topics, Topic::Journal, partition);
        let wanted: Vec<_> = in_journal.into_iter().filter(|heard| ours.iter().any(|l| is(l, heard))).collect();
        assert_eq!(wanted.len(), ours.len());
        let copies = consume(topics, Topic::Promotions, partition);
        assert_eq!(copies, wanted, "each release once, in order, and bit for bit the journal's message");

        check_models(topics, journal, partition);
        let last = records.last().unwrap();
        let (seq, hash) = (last.record.view().unwrap().seq, last.record.hash().to_string());
        assert_eq!(known[&format!("derived/{partition}")], json!({"seq": seq, "offset": last.offset, "hash": hash}));
    }
    assert_eq!(known.len(), 3);
}

fn is(located: &crate::journal::Located, heard: &Heard) -> bool {
    heard.header("ce_hash") == located.record.hash().to_string()
}

/// The last value of each key is what a fold gives, and no key ever goes back.
fn check_models(topics: &Topics, journal: &KafkaJournal, partition: u32) {
    let ledger = suite::fold(journal, partition);
    let mut table: BTreeMap<String, Heard> = BTreeMap::new();
    for heard in consume(topics, Topic::Models, partition) {
        let seq = |heard: &Heard| heard.header("ce_modelseq").parse::<u64>().unwrap();
        if let Some(before) = table.get(&heard.key) {
            assert!(seq(before) < seq(&heard), "{} goes from {} to {}", heard.key, seq(before), seq(&heard));
        }
        table.insert(heard.key.clone(), heard);
    }
    assert_eq!(table.len(), ledger.models());
    for (key, heard) in table {
        let model = ledger.model(&key).unwrap();
        let last = model.recent.last().unwrap().seq;
        let records = suite::records(journal, partition);
        let recorded = records[usize::try_from(last).unwrap()].record.view().unwrap().recorded;
        assert_eq!(heard.value.as_bytes(), document::write(&key, model, recorded).unwrap());
        assert_eq!(heard.header("annals_position"), format!("{partition}:{last}"));
        assert_eq!((heard.header("content-type"), heard.headers.len()), ("application/json", 3));
        assert_eq!(heard.at, Some(recorded.0));
    }
}

#[test]
fn each_release_comes_once_wherever_the_publisher_dies() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    for n in 0..6 {
        for partition in 0..3 {
            live(&journal, partition, n);
        }
        // it begins, claims, writes and commits, and dies behind one of them: the writing is lost at 2
        let mut publisher = publisher(&topics, &journal);
        for _ in 0..n {
            assert_ne!(publisher.step(), Step::Troubled);
        }
    }
    publish_all(&mut publisher(&topics, &journal), &journal);
    check(&topics, &journal);
    let mut last = publisher(&topics, &journal);
    eventually("it has folded", || last.step() == Step::Idle);
    assert_eq!((last.publishing().commits, last.publishing().repeated), (0, 0), "it is behind everything, and has nothing to write");
    assert!(is_through(&last, &journal));
}

#[test]
fn releases_press_and_other_events_do_not() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    let mut publisher = publisher(&topics, &journal);
    assert!(publisher.is_pressed(), "it has not looked yet");
    publish_all(&mut publisher, &journal);
    let key = suite::key_in(&*journal, 0, 0);
    happen(&journal, 0, vec![suite::submission(&key, "c", "dev.annals.model.created.v1", r#"{"owner":"ada"}"#)]);
    assert!(!publisher.is_pressed());
    live(&journal, 2, 0);
    assert!(publisher.is_pressed());
    publish_all(&mut publisher, &journal);
    assert!(!publisher.is_pressed());
}

/// Says that it is over when it goes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn publishers_that_fight_publish_each_release_once() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    let (over, fenced) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut publisher = publisher(&topics, &journal);
                while !over.load(Ordering::Acquire) {
                    let step = publisher.step();
                    if matches!(&publisher.trouble, Some(reason) if step == Step::Troubled && reason.contains("another instance")) {
                        fenced.fetch_add(1, Ordering::AcqRel);
                    }
                    std::thread::yield_now();
                }
            });
        }
        // also if this thread panics: or they would fight for ever
        let _ends = Ends(&over);
        let mut lives = 0..;
        let mut publishable = || {
            let n = lives.next().unwrap();
            (0..3).for_each(|partition| live(&journal, partition, n));
        };
        (0..8).for_each(|_| publishable());
        // they fight only while there is something to publish
        eventually("they took it from each other", || {
            let is_so = fenced.load(Ordering::Acquire) >= 4;
            if !is_so {
                publishable();
            }
            is_so
        });
    });
    publish_all(&mut publisher(&topics, &journal), &journal);
    check(&topics, &journal);
}

#[test]
fn the_group_lets_one_publish_and_the_other_take_over() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    let start = || {
        let journal = Arc::clone(&journal) as Arc<dyn Journal>;
        Running::start(topics.connection.clone(), journal, Box::new(|_, _| None)).unwrap()
    };
    let publishes = |running: &Running| running.publishing().borrow().state == State::Publishing;
    let heads = || (0..3).map(|partition| suite::fold(&*journal, partition).last_seq()).collect::<Vec<_>>();
    let mut running = vec![start(), start()];
    eventually("one publishes", || running.iter().any(publishes));
    live(&journal, 0, 0);
    eventually("it is published", || running.iter().any(|one| one.publishing().borrow().seqs == heads()));
    assert_eq!(running.iter().filter(|one| publishes(one)).count(), 1);
    let first = running.iter().position(publishes).unwrap();
    drop(running.remove(first));
    live(&journal, 0, 1);
    eventually("the other goes on", || running[0].publishing().borrow().seqs == heads());
    drop(running);
    check(&topics, &journal);
}

#[test]
fn a_fold_that_was_kept_is_gone_on_from() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    live(&journal, 1, 0);
    let kept = (suite::fold(&*journal, 1), suite::records(&*journal, 1).last().unwrap().offset);
    live(&journal, 1, 1);
    publish_all(&mut publisher(&topics, &journal), &journal);
    live(&journal, 1, 2);
    let progress = suite::fold(&*journal, 1).last_seq().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&asked);
    let start: Start = Box::new(move |partition, up_to| {
        assert!(up_to < progress, "nothing from behind the progress may be used");
        told.fetch_add(1, Ordering::AcqRel);
        (partition == 1).then(|| kept.clone())
    });
    let mut next = Publisher::new(topics.connection.clone(), Arc::clone(&journal) as Arc<dyn Journal>, start);
    next.want(true);
    publish_all(&mut next, &journal);
    assert_eq!(asked.load(Ordering::Acquire), 3);
    check(&topics, &journal);
}

/// Writes a message by hand.
fn forge(topics: &Topics, topic: Topic, partition: u32, key: &str, heard: &Heard) {
    let producer: FutureProducer = topics.connection.proposer().unwrap();
    let headers =
        heard.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    let name = topics.connection.topic(topic);
    let record = FutureRecord::to(&name).partition(number(partition)).key(key).payload(&heard.value).headers(headers);
    runtime().block_on(async { producer.send_result(record).unwrap().await.unwrap().unwrap() });
}

#[test]
fn another_journal_than_the_published_one_halts_the_partition_alone() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    (0..3).for_each(|partition| live(&journal, partition, 0));
    publish_all(&mut publisher(&topics, &journal), &journal);
    let mut note = consume(&topics, Topic::Progress, 0).into_iter().find(|note| note.key == "derived/1").unwrap();
    let mut forged: Value = serde_json::from_str(&note.value).unwrap();
    forged["hash"] = "0".repeat(64).into();
    note.value = forged.to_string();
    forge(&topics, Topic::Progress, 0, "derived/1", &note);
    (0..3).for_each(|partition| live(&journal, partition, 1));
    let mut next = publisher(&topics, &journal);
    eventually("the others go on", || {
        next.step();
        let seqs = next.publishing().seqs;
        [0, 2].iter().all(|p| seqs.get(*p as usize).is_some_and(|seq| *seq == suite::fold(&*journal, *p).last_seq()))
    });
    let halted = next.publishing().halted;
    assert!(matches!(&halted[..], [(1, reason)] if reason.contains("another record")), "{halted:?}");
    assert!(next.publishing().notes()[0].contains("partition 1 is not published on"));
    assert_eq!(consume(&topics, Topic::Promotions, 1).len(), 3, "nothing of the second part");
    forged["offset"] = 1_000.into();
    note.value = forged.to_string();
    forge(&topics, Topic::Progress, 0, "derived/1", &note);
    let mut next = publisher(&topics, &journal);
    next.step();
    assert!(next.publishing().halted[0].1.contains("no record"), "{:?}", next.publishing());
}

#[test]
fn promotions_without_a_progress_are_not_published_twice() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    live(&journal, 2, 0);
    publish_all(&mut publisher(&topics, &journal), &journal);
    runtime().block_on(async {
        let (admin, name) = (topics.connection.admin().unwrap(), topics.connection.topic(Topic::Progress));
        admin.delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
    });
    eventually("it is made anew", || {
        runtime().block_on(topics::create(&topics.connection, SHAPE)).is_ok()
            && topics::existing(&topics.connection).is_ok_and(|existing| existing.len() == Topic::ALL.len())
    });
    let mut next = publisher(&topics, &journal);
    eventually("the partitions without promotions go on", || {
        next.step();
        next.publishing().seqs == [Some(0), Some(0), None]
    });
    assert!(matches!(&next.publishing().halted[..], [(2, reason)] if reason.contains("emptied")), "{:?}", next.publishing());
    assert_eq!(consume(&topics, Topic::Promotions, 2).len(), 3);
}

#[test]
fn a_copy_that_came_again_is_counted_once() {
    let topics = Topics::made();
    let journal = Arc::new(topics.open().unwrap());
    live(&journal, 0, 0);
    let mut first = publisher(&topics, &journal);
    publish_all(&mut first, &journal);
    let copies = consume(&topics, Topic::Promotions, 0);
    forge(&topics, Topic::Promotions, 0, &copies[1].key, &copies[1]);
    let again = consume(&topics, Topic::Promotions, 0).pop().unwrap();
    assert_eq!((&again.headers, &again.value), (&copies[1].headers, &copies[1].value));
    for _ in 0..2 {
        // a takeover: whoever begins looks back
        first.want(false);
        first.want(true);
        first.step();
        assert_eq!(first.publishing().repeated, 1);
    }
    live(&journal, 0, 1);
    publish_all(&mut first, &journal);
    assert_eq!(consume(&topics, Topic::Promotions, 0).len(), copies.len() + 2, "one by hand, and one release");
}
