//! What the engine is measured beside: rdkafka and nothing else, with the same settings.

use std::time::{Duration, Instant};

use annals::journal::kafka::connect::{Connection, Topic};
use annals_events::names::partition_of;
use annals_events::submission::Submission;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

const WAIT: Duration = Duration::from_secs(10);
/// As large as the arbiter's.
const BATCH: usize = 500;

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "0");
    config
}

fn make(bootstrap: &str, name: &str, partitions: u32) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let topic = NewTopic::new(name, partitions as i32, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    super::block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
}

fn consumer(bootstrap: &str, topic: &str, partitions: u32, from: Offset) -> BaseConsumer {
    let mut config = config(bootstrap);
    config.set("group.id", "bench").set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    config.set("fetch.queue.backoff.ms", "5").set("queued.max.messages.kbytes", "16384");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        // the offset, not `End`: that would be looked up after the first message was sent
        let from = match from {
            Offset::End => Offset::Offset(consumer.fetch_watermarks(topic, partition, WAIT).unwrap().1),
            other => other,
        };
        list.add_partition_offset(topic, partition, from).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// A consumer of all partitions' ends.
pub fn tail(bootstrap: &str, topic: &str, partitions: u32) -> BaseConsumer {
    consumer(bootstrap, topic, partitions, Offset::End)
}

/// A consumer of the one partition, from its beginning.
pub fn from_beginning(bootstrap: &str, topic: &str) -> BaseConsumer {
    consumer(bootstrap, topic, 1, Offset::Beginning)
}

/// A transactional producer and the consumer that reads back, on a topic of their own.
pub struct Bare {
    bootstrap: String,
    topic: String,
    partitions: u32,
    producer: ThreadedProducer<DefaultProducerContext>,
    reader: BaseConsumer,
}

impl Bare {
    pub fn new(bootstrap: &str, partitions: u32) -> Self {
        let topic = format!("bare-{}", uuid::Uuid::now_v7());
        make(bootstrap, &topic, partitions);
        let producer: ThreadedProducer<_> = config(bootstrap).set("transactional.id", &topic).create().unwrap();
        producer.init_transactions(WAIT).unwrap();
        let reader = tail(bootstrap, &topic, partitions);
        Self { bootstrap: bootstrap.into(), topic, partitions, producer, reader }
    }

    /// Begin, send one message, commit, and see it.
    pub fn round_trip(&mut self, value: &[u8]) -> Duration {
        let start = Instant::now();
        self.producer.begin_transaction().unwrap();
        self.producer.send(BaseRecord::to(&self.topic).partition(0).key("k").payload(value)).map_err(|(e, _)| e).unwrap();
        self.commit();
        super::count(&self.reader, 1);
        start.elapsed()
    }

    /// The producer's own thread hears of the acknowledgements; to commit before would take 100 ms.
    fn commit(&self) {
        while self.producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
        self.producer.commit_transaction(WAIT).unwrap();
    }

    /// Messages a second through consume, transactional produce of what was consumed, and read back.
    pub fn sustained(&mut self, proposals: &[(String, Submission)]) -> f64 {
        let source = format!("{}-source", self.topic);
        make(&self.bootstrap, &source, self.partitions);
        let input = tail(&self.bootstrap, &source, self.partitions);
        let began = Instant::now();
        send(&self.bootstrap, &source, self.partitions, proposals);
        let mut done = 0;
        while done < proposals.len() {
            self.producer.begin_transaction().unwrap();
            let mut taken = 0;
            while taken < BATCH && done + taken < proposals.len() {
                let Some(message) = input.poll(if taken == 0 { WAIT } else { Duration::ZERO }) else { break };
                let message = message.unwrap();
                let headers = message.headers().map(rdkafka::message::BorrowedHeaders::detach).unwrap_or_default();
                let record = BaseRecord::to(&self.topic).partition(message.partition()).key(message.key().unwrap());
                let sent = self.producer.send(record.payload(message.payload().unwrap()).headers(headers));
                sent.map_err(|(error, _)| error).unwrap(); // a batch fits into the queue
                taken += 1;
            }
            self.commit();
            super::count(&self.reader, taken);
            done += taken;
        }
        proposals.len() as f64 / began.elapsed().as_secs_f64()
    }
}

/// One message at a time, from its sending until a consumer has it; sorted.
pub fn produced_and_consumed(bootstrap: &str, times: usize) -> Vec<Duration> {
    let topic = format!("bare-{}", uuid::Uuid::now_v7());
    make(bootstrap, &topic, 1);
    let producer: ThreadedProducer<DefaultProducerContext> = config(bootstrap).set("enable.idempotence", "true").create().unwrap();
    let reader = tail(bootstrap, &topic, 1);
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            producer.send(BaseRecord::to(&topic).partition(0).key("k").payload("a promotion")).map_err(|(e, _)| e).unwrap();
            super::count(&reader, 1);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

fn push(producer: &BaseProducer, record: BaseRecord<'_, [u8], [u8]>) {
    let mut record = record;
    while let Err((error, back)) = producer.send(record) {
        assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
        producer.poll(Duration::from_millis(1));
        record = back;
    }
}

/// Sends proposals as a pipeline with its own client does, and waits until all are acknowledged.
pub fn send(bootstrap: &str, topic: &str, partitions: u32, proposals: &[(String, Submission)]) {
    let producer: BaseProducer = config(bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "500000")
        .create()
        .unwrap();
    for (model, submission) in proposals {
        let partition = partition_of(&format!("default/{model}"), partitions);
        let headers = submission.headers.iter().fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: Some(value) }));
        let key: &[u8] = submission.key.as_deref().unwrap();
        push(&producer, BaseRecord::to(topic).partition(partition as i32).key(key).payload(&submission.value[..]).headers(headers));
    }
    producer.flush(Duration::from_secs(120)).unwrap();
}

/// A journal of one partition: four events for each model. Returns how many.
pub fn journal_of(bootstrap: &str, connection: &Connection, models: u64) -> usize {
    for topic in [Topic::Proposals, Topic::Journal, Topic::Verdicts] {
        make(bootstrap, &connection.topic(topic), 1);
    }
    let records = crate::journal::records(models);
    let producer: ThreadedProducer<_> = config(bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.kbytes", "262144")
        .create::<ThreadedProducer<DefaultProducerContext>>()
        .unwrap();
    let push = |topic: &str, key: &str, headers: OwnedHeaders, value: &[u8]| loop {
        let record = BaseRecord::to(topic).partition(0).key(key).payload(value).headers(headers.clone());
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => std::thread::sleep(Duration::from_millis(5)),
            Err((error, _)) => panic!("{error}"),
        }
    };
    let (journal, proposals) = (connection.topic(Topic::Journal), connection.topic(Topic::Proposals));
    for record in &records {
        let view = record.view().unwrap();
        let headers = view.headers().fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: Some(value) }));
        push(&journal, view.key, headers, view.value().as_bytes());
    }
    // what they came from is long judged: that something was there is all that counts
    (1..records.len()).for_each(|_| push(&proposals, "k", OwnedHeaders::new(), b""));
    producer.flush(Duration::from_secs(120)).unwrap();
    records.len()
}
