//! Thousands of seeds, the mutants that they must catch, and histories that the checker must reject.

use std::collections::BTreeMap;

use super::checker::{self, Check, Violation};
use super::world::{Setting, World};
use crate::arbiter::Mutant;

const SOUND: Setting = Setting { seed: 0, fenced: true, mutant: Mutant::None, hole: false, intruder: false, traced: false };

fn seeds(short: u64) -> std::ops::Range<u64> {
    match std::env::var("ANNALS_SIM_SEED").ok().and_then(|text| text.parse().ok()) {
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
    format!("seed {seed} breaks {violation}\nrun it alone with ANNALS_SIM_SEED={seed}\n  {}", trace.join("\n  "))
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

/// Which checks catch a mutant, in how many of some seeds.
fn caught(setting: Setting, seeds: u64) -> BTreeMap<Check, u64> {
    let mut by = BTreeMap::new();
    for seed in 0..seeds {
        if let Err(violation) = run(Setting { seed, ..setting }) {
            *by.entry(violation.check).or_insert(0) += 1;
        }
    }
    eprintln!("{setting:?}: {by:?} of {seeds}");
    by
}

#[test]
fn probe() {
    for mutant in [Mutant::None, Mutant::RuleOff, Mutant::AnswersEarly, Mutant::StoredOffset, Mutant::Clock] {
        caught(Setting { mutant, ..SOUND }, 300);
        caught(Setting { mutant, fenced: false, ..SOUND }, 300);
    }
    caught(Setting { hole: true, ..SOUND }, 300);
}

#[test]
fn an_owner_halts_where_somebody_else_writes() {
    let (mut forged, mut legal) = (0, 0);
    for seed in seeds(600) {
        let setting = Setting { seed, intruder: true, ..SOUND };
        let (history, intrusion, _) = World::new(setting).history();
        let intrusion = intrusion.expect("somebody came");
        if intrusion.legal {
            legal += 1;
            if let Err(violation) = checker::check(&history) {
                panic!("a legal record: {}", explain(setting, &violation));
            }
        } else if !intrusion.halted {
            forged += 1;
            let missed = Violation { check: Check::NoHalt, found: format!("{intrusion:?}") };
            panic!("a forged record: {}", explain(setting, &missed));
        } else {
            forged += 1;
        }
    }
    eprintln!("{forged} {legal}");
}
