//! Thousands of seeds; what they reach; the mutants that they catch; what the checker rejects.

mod gaps;
mod imports;
mod mutants;
mod semantics;
mod tampered;

use std::collections::BTreeSet;

use super::checker::{self, Check, History, Violation};
use super::world::{Setting, World};
use crate::arbiter::Mutant;

const SOUND: Setting = Setting { seed: 0, fenced: true, mutant: Mutant::None, hole: false, intruder: false, traced: false };

/// Half as many again would find little more; `ANNALS_LONG` runs 50,000, `ANNALS_SIM_SEED` one.
fn seeds(short: u64) -> std::ops::Range<u64> {
    match std::env::var("ANNALS_SIM_SEED").ok().map(|text| text.parse().expect("ANNALS_SIM_SEED is a number")) {
        Some(seed) => seed..seed + 1,
        None if std::env::var_os("ANNALS_LONG").is_some() => 0..25_000,
        None => 0..short,
    }
}

fn run(setting: Setting) -> Result<(), Violation> {
    let (history, _, _) = World::new(setting).history();
    checker::check(&history)
}

/// Runs a failed seed again, and says everything.
fn explain(setting: Setting, violation: &Violation) -> String {
    let (_, _, trace) = World::new(Setting { traced: true, ..setting }).history();
    let seed = setting.seed;
    format!("seed {seed} breaks {violation}\n  {}\nrun it alone with ANNALS_SIM_SEED={seed}: it breaks {violation}", trace.join("\n  "))
}

fn all_hold(setting: Setting, short: u64) {
    for seed in seeds(short) {
        let setting = Setting { seed, ..setting };
        if let Err(violation) = run(setting) {
            panic!("{}", explain(setting, &violation));
        }
    }
}

#[test]
fn behind_a_fence_every_seed_ends_as_the_oracle_says() {
    all_hold(SOUND, 1_250);
}

#[test]
fn without_a_fence_rule_r_alone_keeps_every_reader_right() {
    all_hold(Setting { fenced: false, ..SOUND }, 1_250);
}

#[test]
fn an_owner_halts_where_somebody_else_writes_and_all_stay_halted_until_a_person_accepts_it() {
    let (mut forged, mut legal, mut disputed, mut accepted) = (0, 0, 0, 0);
    for seed in seeds(500) {
        let setting = Setting { seed, intruder: true, ..SOUND };
        let (history, intrusion, _) = World::new(setting).history();
        let intrusion = intrusion.expect("somebody came");
        if intrusion.legal {
            legal += 1;
            if let Err(violation) = checker::check(&history) {
                panic!("a legal record: {}", explain(setting, &violation));
            }
        } else {
            forged += 1;
            let missed = Violation { check: Check::NoHalt, found: format!("{} did not halt", intrusion.owner) };
            assert!(intrusion.halted, "a forged record: {}", explain(setting, &missed));
            if intrusion.diverged {
                continue; // rule R itself stops every reader
            }
            disputed += 1;
            accepted += u32::from(intrusion.accepted.is_some());
            if let Err(violation) = checker::check(&history) {
                panic!("a disputed record: {}", explain(setting, &violation));
            }
        }
    }
    let counts = format!("{forged} forged ({disputed} disputed, {accepted} accepted) and {legal} legal records");
    eprintln!("{counts}");
    assert!(forged + legal == 1 || (forged > 100 && legal > 20 && disputed > 50 && accepted > 25), "too few: {counts}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let setting = Setting { seed, traced: true, ..SOUND };
        let ((_, _, one), (_, _, other)) = (World::new(setting).history(), World::new(setting).history());
        assert_eq!(one, other);
        assert!(one.len() > 50, "seed {seed} has a trace");
    }
}

/// A simulation in which nothing goes wrong shows nothing.
#[test]
fn the_seeds_reach_every_fault_and_every_outcome() {
    let wanted = [
        "2 partitions",
        "3 instances",
        "crashes",
        "sleeps",
        "is assigned",
        "is wanted: false",
        "about the snapshots",
        "finds nobody",
        "the answer to the claim finds nobody",
        "breaks after",
        "a late commit ends",
        "1 verdicts are owed",
        "fails",
        "is unknown, and Committed",
        "is unknown, and Aborted",
        "is unknown, and Pending",
        "holds its items twice",
        "runs out of time: Aborted",
        "runs out of time: Committed",
        "arrives and is fenced",
        "arrives and ends transaction",
        "another arbiter has claimed the partition",
        "proposal.refused",
        "partition.progressed",
        "accepted",
        "duplicate",
        "malformed",
        "wrong-partition",
        "id-conflict",
        "stale-expectation",
        "unknown-version",
        "no-change",
        "version-held",
        "told twice",
        "in the log twice",
    ];
    let mut missing: BTreeSet<_> = wanted.into();
    let mut events = 0;
    for seed in 0..200 {
        for fenced in [true, false] {
            let (history, _, trace) = World::new(Setting { seed, fenced, traced: true, ..SOUND }).history();
            let told = outcomes(&history);
            missing.retain(|what| !trace.iter().chain(&told).any(|line| line.contains(what)));
            events += history.partitions.iter().map(|p| p.records.len()).sum::<usize>();
        }
    }
    assert!(missing.is_empty(), "never reached: {missing:?}");
    assert!(events > 4_000, "only {events} events in 400 runs");
}

fn outcomes(history: &History) -> Vec<String> {
    let mut told = Vec::new();
    for p in &history.partitions {
        told.extend(p.verdicts.iter().map(|v| serde_json::to_string(v).expect("a verdict is JSON")));
        let srcs: BTreeSet<_> = p.verdicts.iter().map(|v| v.src).collect();
        if srcs.len() < p.verdicts.len() {
            told.push("told twice".into());
        }
        let hashes: BTreeSet<_> = p.records.iter().map(annals_events::record::Record::hash).collect();
        if hashes.len() < p.records.len() {
            told.push("in the log twice".into());
        }
    }
    told
}
