//! What an accept costs over HTTP, beside a bare commit of one row.

use std::time::{Duration, Instant};

use crate::client::{Client, Engine, MEASURED};
use crate::{bench_dir, figure, quantile, sqlite};

const ROUNDS: usize = 3;
const PER_ROUND: usize = 1_500;
const CLIENTS: usize = 32;
/// Events in a batch, and batches of a client and round.
const BATCH: usize = 50;
const BATCHES: usize = 60;

pub fn run() {
    let dir = bench_dir("accept");
    let engine = Engine::start(&dir.join("data"));
    let mut client = Client::connect(&engine.address, "one");
    for i in 0..64 {
        assert_eq!(client.publish("model.created", &format!("default/model-{i}"), "{}"), 201);
    }
    // both sides in turns, so that a noisy neighbour meets both
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (mut rates, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let commits = sqlite::single_row_commits(&dir, PER_ROUND, MEASURED.as_bytes());
        let rate = PER_ROUND as f64 / commits.iter().sum::<Duration>().as_secs_f64();
        bare.extend(commits);
        ours.extend(one_client(&mut client));
        let round = rates.len();
        rates.push((many_clients(&engine.address, &format!("many-{round}"), 1, PER_ROUND), rate));
        batches.push(many_clients(&engine.address, &format!("batch-{round}"), BATCH, BATCHES).0);
    }
    ours.sort_unstable();
    bare.sort_unstable();
    let (p50, reference) = (quantile(&ours, 0.5), quantile(&bare, 0.5));
    figure(
        "accept p50, one HTTP client / one single-row SQLite commit",
        &format!("{p50:.0} us"),
        &format!("{reference:.0} us"),
        p50 / reference,
        "<= 2",
        p50 / reference <= 2.0,
    );
    println!("       accept p99 {:.0} us, commit p99 {:.0} us", quantile(&ours, 0.99), quantile(&bare, 0.99));
    let rate = rates.iter().map(|((rate, _), _)| rate).sum::<f64>() / ROUNDS as f64;
    let bare_rate = rates.iter().map(|(_, bare)| bare).sum::<f64>() / ROUNDS as f64;
    let p99 = rates.iter().map(|((_, p99), _)| *p99).fold(0.0, f64::max);
    figure(
        "accepts per second, 32 HTTP clients / single-row commits per second",
        &format!("{rate:.0}/s"),
        &format!("{bare_rate:.0}/s"),
        rate / bare_rate,
        ">= 5",
        rate / bare_rate >= 5.0,
    );
    println!("       p99 with 32 clients: {p99:.0} us");
    let rate = batches.iter().sum::<f64>() / ROUNDS as f64;
    figure(
        &format!("accepts per second, 32 HTTP clients with batches of {BATCH} / single-row commits per second"),
        &format!("{rate:.0}/s"),
        &format!("{bare_rate:.0}/s"),
        rate / bare_rate,
        ">= 5",
        rate / bare_rate >= 5.0,
    );
    engine.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

fn one_client(client: &mut Client) -> Vec<Duration> {
    (0..PER_ROUND)
        .map(|i| {
            let start = Instant::now();
            assert_eq!(client.publish("model.measured", &format!("default/model-{}", i % 64), MEASURED), 201);
            start.elapsed()
        })
        .collect()
}

/// Accepts per second, and the 99th percentile of a request in microseconds.
fn many_clients(address: &str, name: &str, events: usize, requests: usize) -> (f64, f64) {
    let start = Instant::now();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|c| {
            let mut client = Client::connect(address, &format!("{name}-{c}"));
            std::thread::spawn(move || {
                (0..requests)
                    .map(|i| {
                        let subject = |n: usize| format!("default/model-{}", (i * events + n + c) % 64);
                        let start = Instant::now();
                        match events {
                            1 => assert_eq!(client.publish("model.measured", &subject(0), MEASURED), 201),
                            _ => assert_eq!(client.publish_batch((0..events).map(subject)), 200),
                        }
                        start.elapsed()
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut times: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let rate = (times.len() * events) as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, quantile(&times, 0.99))
}
