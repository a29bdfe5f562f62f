//! What a replay costs beside hashing the same bytes, which no honest replay can do without.

use std::hint::black_box;
use std::time::Instant;

use annals_events::ledger::Ledger;
use annals_events::record::{Hash, Record};

use crate::{figure, journal};

const MODELS: u64 = 50_000;
const ROUNDS: usize = 5;

pub fn run() {
    let frames: Vec<Box<[u8]>> = journal::records(MODELS).iter().map(|r| r.frame().into()).collect();
    let bytes: usize = frames.iter().map(|f| f.len()).sum();
    let (mut hashing, mut folding) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for frame in &frames {
            black_box(Hash::of(frame));
        }
        hashing = hashing.min(start.elapsed().as_secs_f64());
        let copies = frames.clone();
        let mut ledger = Ledger::new(0);
        let start = Instant::now();
        for frame in copies {
            ledger.apply(&Record::from_frame(frame)).unwrap();
        }
        folding = folding.min(start.elapsed().as_secs_f64());
        assert_eq!(ledger.last_seq(), Some(frames.len() as u64 - 1));
    }
    let rate = |seconds: f64| format!("{:.0} events/s ({:.2} GB/s)", frames.len() as f64 / seconds, bytes as f64 / seconds / 1e9);
    println!("       {} events of {} bytes on average", frames.len(), bytes / frames.len());
    figure(
        "fold with rule R and hashing / SHA-256 of the same bytes alone",
        &rate(folding),
        &rate(hashing),
        hashing / folding,
        ">= 0.40",
        hashing / folding >= 0.4,
    );
}
