//! The engine on Kafka beside the same library without it: `tests/bench/run --kafka`.

mod reference;

use std::io::{BufRead, BufReader};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use annals::journal::Journal;
use annals::journal::kafka::KafkaJournal;
use annals::journal::kafka::connect::{Connection, Topic};
use annals::journal::kafka::topics::{self, Shape};
use annals_events::ledger::Ledger;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use reference::Bare;

use crate::client::{Client, Engine, MEASURED};
use crate::{bench_dir, downstream, figure, quantile};

const ROUNDS: usize = 3;
const PER_ROUND: usize = 500;
const PARTITIONS: u32 = 12;
/// Proposals that are waiting when the sustained rate is measured.
const PROPOSALS: usize = 100_000;
/// Models of the replayed journal, with four events each.
const MODELS: u64 = 250_000;

/// The broker that `tests/bench/run --kafka` has started.
pub fn bootstrap() -> String {
    std::env::var("ANNALS_TEST_KAFKA").expect("ANNALS_TEST_KAFKA names no broker: run `tests/bench/run --kafka`")
}

fn connection() -> Connection {
    Connection::new(&bootstrap(), &format!("bench-{}", uuid::Uuid::now_v7()), None).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// One client's accept beside one bare transaction: begin, send, commit, read back.
pub fn accept() {
    let (dir, connection) = (bench_dir("kafka"), connection());
    block_on(topics::create(&connection, Shape { partitions: PARTITIONS, replication: 1, in_sync: 1 })).unwrap();
    let engine = Engine::start_with(&dir, &["--kafka", &bootstrap(), "--kafka-prefix", connection.prefix()]);
    engine.wait_for_views();
    let mut client = Client::connect(&engine.address, "one");
    for i in 0..64 {
        assert_eq!(client.publish("model.created", &format!("default/model-{i}"), "{}"), 201);
    }
    let mut bare = Bare::new(&bootstrap(), 1);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    // both with warm connections and a broker that knows them: the first round is not measured
    for round in 0..=ROUNDS {
        let bares: Vec<_> = (0..PER_ROUND).map(|_| bare.round_trip(MEASURED.as_bytes())).collect();
        let accept = |i| {
            let start = Instant::now();
            assert_eq!(client.publish("model.measured", &format!("default/model-{}", i % 64), MEASURED), 201);
            start.elapsed()
        };
        let accepts: Vec<_> = (0..PER_ROUND).map(accept).collect();
        if round > 0 {
            reference.extend(bares);
            ours.extend(accepts);
        }
    }
    ours.sort_unstable();
    reference.sort_unstable();
    for (name, q, goal) in [("p50", 0.5, 2.0), ("p99", 0.99, 1.5)] {
        let (a, b) = (quantile(&ours, q), quantile(&reference, q));
        let what = format!("accept {name} on Kafka, one HTTP client / one bare transaction's round trip");
        figure(&what, &format!("{a:.0} us"), &format!("{b:.0} us"), a / b, &format!("<= {goal}"), a / b <= goal);
    }
    engine.stop();
    block_on(topics::delete(&connection)).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Proposals that are waiting, until all have a verdict; beside consume, produce, read back without us.
pub fn sustained() {
    let (dir, connection) = (bench_dir("kafka"), connection());
    block_on(topics::create(&connection, Shape { partitions: PARTITIONS, replication: 1, in_sync: 1 })).unwrap();
    let proposals: Vec<_> = (0..PROPOSALS as u64)
        .map(|n| {
            let model = format!("model-{}", n % 5_000);
            let kind = annals_events::kind::Kind::ModelMeasured;
            (model.clone(), crate::journal::submission(kind, &model, None, n, MEASURED))
        })
        .collect();
    let (mut rates, mut bares, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let engine = Engine::start_with(&dir, &["--kafka", &bootstrap(), "--kafka-prefix", connection.prefix()]);
    engine.wait_for_views();
    let mut client = Client::connect(&engine.address, "models");
    for chunk in (0..5_000).collect::<Vec<_>>().chunks(50) {
        assert_eq!(client.create_batch(chunk.iter().map(|n| format!("default/model-{n}"))), 200);
    }
    let verdicts = connection.topic(Topic::Verdicts);
    let each = PROPOSALS / ROUNDS;
    for round in 0..ROUNDS {
        let some = &proposals[round * each..(round + 1) * each];
        let reader = reference::tail(&bootstrap(), &verdicts, PARTITIONS);
        let began = Instant::now();
        reference::send(&bootstrap(), &connection.topic(Topic::Proposals), PARTITIONS, some);
        plain.push(each as f64 / began.elapsed().as_secs_f64());
        count(&reader, each);
        rates.push(each as f64 / began.elapsed().as_secs_f64());
        let mut bare = Bare::new(&bootstrap(), PARTITIONS);
        bares.push(bare.sustained(some));
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let (ours, bare) = (mean(&rates), mean(&bares));
    let what = "accepts per second from batch clients / bare consume, transactional produce, read back";
    figure(what, &format!("{ours:.0}/s"), &format!("{bare:.0}/s"), ours / bare, ">= 0.60", ours / bare >= 0.6);
    println!("       an idempotent producer without transactions sent the same proposals at {:.0}/s", mean(&plain));
    engine.stop();
    block_on(topics::delete(&connection)).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// A partition of 1,000,000 events: folded, beside a consumer that only counts; and taken over.
pub fn replay_and_takeover() {
    let connection = connection();
    let events = reference::journal_of(&bootstrap(), &connection, MODELS);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let reader = reference::from_beginning(&bootstrap(), &connection.topic(Topic::Journal));
        let began = Instant::now();
        count(&reader, events);
        bare.push(events as f64 / began.elapsed().as_secs_f64());
        drop(reader);
        let journal = KafkaJournal::open(connection.clone(), false).unwrap();
        let mut ledger = Ledger::new(0);
        let began = Instant::now();
        // as an arbiter folds
        let mut from = 0;
        while ledger.last_seq() != Some(events as u64 - 1) {
            let chunk = journal.records(0, from, 2_000).unwrap();
            for located in &chunk.items {
                ledger.apply(&located.record).unwrap();
            }
            from = chunk.next;
        }
        assert_eq!(ledger.last_seq(), Some(events as u64 - 1));
        ours.push(events as f64 / began.elapsed().as_secs_f64());
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let (a, b) = (mean(&ours), mean(&bare));
    let what = format!("replay of {events} events with rule R and hashing / a consumer that only counts");
    figure(&what, &format!("{a:.0}/s"), &format!("{b:.0}/s"), a / b, ">= 0.60", a / b >= 0.6);
    takeover(&connection);
    block_on(topics::delete(&connection)).unwrap();
}

/// From the moment when the group gives a standby the partition until it judges.
fn takeover(connection: &Connection) {
    let (dir, args) = (bench_dir("takeover"), ["--kafka", &bootstrap(), "--kafka-prefix", connection.prefix()]);
    let first = Engine::start_with(&dir.join("a"), &args);
    let mut client = Client::connect(&first.address, "first");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut status = 0;
    while status != 201 {
        assert!(Instant::now() < deadline, "the first instance does not judge: {status}");
        status = client.publish("model.measured", "default/model-0000001", MEASURED);
    }
    let mut second = Engine::start_with(&dir.join("b"), &args);
    second.wait_for_fold();
    let log = BufReader::new(second.log());
    first.kill();
    // the log says when the group has decided
    let line = log.lines().map_while(Result::ok).find(|line| line.contains("the group gave us partitions"));
    line.expect("the group gives the standby the partition");
    let decided = Instant::now();
    let mut client = Client::connect(&second.address, "second");
    while client.publish("model.measured", "default/model-0000001", MEASURED) != 201 {
        assert!(decided.elapsed() < Duration::from_secs(60), "nobody took over");
    }
    let took = decided.elapsed().as_secs_f64();
    let what = "takeover of a partition of 1,000,000 events: from the group's decision to the next accept";
    figure(what, &format!("{took:.2} s"), "2 s", took / 2.0, "<= 1", took <= 2.0);
    second.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

/// How long a promotion takes to reach an SSE client, a webhook receiver and a Kafka consumer, beside a bare message.
pub fn downstream() {
    let (dir, connection) = (bench_dir("kafka-downstream"), connection());
    block_on(topics::create(&connection, Shape { partitions: PARTITIONS, replication: 1, in_sync: 1 })).unwrap();
    let kafka = ["--kafka", &bootstrap(), "--kafka-prefix", connection.prefix()];
    let flags = [&kafka[..], &["--roles", "door,arbiter,projector,publisher,actor", "--webhook-allow", "127.0.0.0/8"]].concat();
    let engine = Engine::start_quietly(&dir, &flags);
    engine.wait_for_views();
    let bare = reference::produced_and_consumed(&bootstrap(), PER_ROUND);
    let promotions = reference::tail(&bootstrap(), &connection.topic(Topic::Promotions), PARTITIONS);
    let (sender, consumer) = channel();
    std::thread::spawn(move || {
        loop {
            let Some(Ok(message)) = promotions.poll(Duration::from_millis(100)) else { continue };
            if message.payload().is_some() && sender.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    let listeners = [
        ("SSE client", downstream::sse(&engine.address)),
        ("webhook receiver", downstream::webhook(&engine)),
        ("Kafka consumer", consumer),
    ];
    downstream::measure(&engine, &listeners, Some(("bare produce and consume", &bare)));
    engine.stop();
    block_on(topics::delete(&connection)).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

fn count(reader: &BaseConsumer, wanted: usize) {
    let (mut seen, mut last) = (0, Instant::now());
    while seen < wanted {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                seen += usize::from(message.payload().is_some());
                last = Instant::now();
            }
            Some(Err(e)) => panic!("{e}"),
            None => assert!(last.elapsed() < Duration::from_secs(60), "only {seen} of {wanted} came"),
        }
    }
}
