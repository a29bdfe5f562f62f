//! Whether size costs: accepts, starts and memory with 1,000 and with 1,000,000 models.

use std::path::Path;
use std::time::{Duration, Instant};

use annals::journal::sqlite::SqliteJournal;
use annals::journal::{Batch, Claim, Journal};
use annals_events::kind::Kind;
use annals_events::ledger::Ledger;

use crate::client::{Client, Engine, MEASURED};
use crate::journal::{REGISTERED, partition, submission};
use crate::{bench_dir, figure, quantile};

const SMALL: u64 = 1_000;
const LARGE: u64 = 1_000_000;
const ACCEPTS: usize = 1_500;
const ROUNDS: usize = 3;

pub fn run() {
    let dir = bench_dir("scale");
    let first = start_to_first_accept(&dir.join("empty"), "fresh");
    let idle = first.1;
    figure("start to first accept, empty directory", &format!("{:.3} s", first.0), "0.3 s", first.0 / 0.3, "<= 1", first.0 <= 0.3);
    figure("idle memory, empty directory", &format!("{:.1} MB", idle / 1e6), "40 MB", idle / 40e6, "<= 1", idle < 40e6);

    for (name, models) in [("small", SMALL), ("large", LARGE)] {
        let start = Instant::now();
        make(&dir.join(name), models);
        println!("       made a journal of {models} models in {:.0} s", start.elapsed().as_secs_f64());
        let engine = Engine::start(&dir.join(name));
        engine.wait_for_views();
        engine.stop(); // leaves a snapshot
    }
    let (seconds, memory) = start_to_first_accept(&dir.join("large"), "model-0000001");
    figure(
        "start to first accept, 1,000,000 models and a snapshot",
        &format!("{seconds:.2} s"),
        "3 s",
        seconds / 3.0,
        "<= 1",
        seconds <= 3.0,
    );
    println!("       memory per model: {:.0} bytes", (memory - idle) / LARGE as f64);

    let (small, large) = (Engine::start(&dir.join("small")), Engine::start(&dir.join("large")));
    let mut clients =
        [(Client::connect(&small.address, "s"), SMALL, Vec::new()), (Client::connect(&large.address, "l"), LARGE, Vec::new())];
    for _ in 0..ROUNDS {
        for (client, models, times) in &mut clients {
            times.extend(accepts(client, *models));
        }
    }
    let [small, large] = clients.map(|(_, _, mut times)| {
        times.sort_unstable();
        quantile(&times, 0.5)
    });
    figure(
        "accept p50 with 1,000,000 models / with 1,000",
        &format!("{large:.0} us"),
        &format!("{small:.0} us"),
        large / small,
        "<= 1.2",
        large / small <= 1.2,
    );
    std::fs::remove_dir_all(dir).unwrap();
}

fn accepts(client: &mut Client, models: u64) -> Vec<Duration> {
    (0..ACCEPTS as u64)
        .map(|i| {
            let model = i.wrapping_mul(7_919) % models; // spread over all of them
            let start = Instant::now();
            assert_eq!(client.publish("model.measured", &format!("default/model-{model:07}"), MEASURED), 201);
            start.elapsed()
        })
        .collect()
}

/// Seconds to the first accept, and resident bytes behind it.
fn start_to_first_accept(data: &Path, model: &str) -> (f64, f64) {
    let engine = Engine::start(data);
    let mut client = Client::connect(&engine.address, &format!("first-{}", std::process::id()));
    let status =
        client.publish("run.trained", &format!("default/{model}"), r#"{"run":{"id":"first-after-start"},"artifact":{"uri":"file:///m"}}"#);
    let seconds = engine.started.elapsed().as_secs_f64();
    assert_eq!(status, 201);
    engine.wait_for_views(); // so that everything is in memory that stays there
    let memory = engine.resident() as f64;
    engine.stop();
    (seconds, memory)
}

/// A journal with one registered version a model, proposed, judged and written as the engine does.
fn make(dir: &Path, models: u64) {
    let journal = SqliteJournal::open(dir).unwrap();
    let partitions = journal.partitions();
    let mut ledgers: Vec<_> = (0..partitions).map(Ledger::new).collect();
    let mut claims: Vec<_> = (0..partitions).map(|p| journal.claim(p).unwrap()).collect();
    for (p, ledger) in (0..).zip(&mut ledgers) {
        ledger.apply(&journal.records(p, 0, 1).unwrap().items[0].record).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for m in 0..models {
        let model = format!("model-{m:07}");
        let sent = submission(Kind::VersionRegistered, &model, None, m, REGISTERED);
        runtime.block_on(journal.propose(partition(&model, partitions), sent)).unwrap();
        if m % 20_000 == 19_999 || m + 1 == models {
            for (p, ledger) in (0..).zip(&mut ledgers) {
                judge(&journal, p, ledger, &mut *claims[p as usize]);
            }
        }
    }
}

/// Judges and writes whatever waits in a partition.
fn judge(journal: &SqliteJournal, partition: u32, ledger: &mut Ledger, claim: &mut dyn Claim) {
    let mut batch = Batch::default();
    let mut overlay = ledger.overlay();
    for queued in journal.proposals(partition, 0, usize::MAX).unwrap() {
        let (verdict, record) = overlay.judge(queued.src, queued.at, &queued.submission);
        batch.verdicts.push(verdict);
        batch.records.extend(record);
    }
    let records = batch.records.clone();
    claim.append(batch).unwrap();
    claim.commit().unwrap();
    for record in &records {
        ledger.apply(record).unwrap();
    }
}
