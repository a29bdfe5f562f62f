//! Arbiters that are broken on purpose: the simulation must notice each, by the check that is for it.

use std::collections::BTreeMap;

use super::super::checker::Check;
use super::{SOUND, Setting, run};
use crate::arbiter::Mutant;

/// How many of the first seeds each check caught; it says so, too.
fn caught(setting: Setting, seeds: u64) -> BTreeMap<Check, u64> {
    let mut by = BTreeMap::new();
    for seed in 0..seeds {
        if let Err(violation) = run(Setting { seed, ..setting }) {
            *by.entry(violation.check).or_insert(0) += 1;
        }
    }
    eprintln!("{:?}, fenced {}, hole {}: {by:?} of {seeds} seeds", setting.mutant, setting.fenced, setting.hole);
    by
}

fn is_caught(setting: Setting, by: Check) {
    let found = caught(setting, 60);
    assert!(found.get(&by).is_some_and(|seeds| *seeds >= 3), "{setting:?} is not caught by {by:?}, but by {found:?}");
}

#[test]
fn rule_r_off_is_caught() {
    is_caught(Setting { mutant: Mutant::RuleOff, ..SOUND }, Check::Tail);
    is_caught(Setting { mutant: Mutant::RuleOff, fenced: false, ..SOUND }, Check::Tail);
}

#[test]
fn answering_before_the_read_back_is_caught() {
    is_caught(Setting { mutant: Mutant::AnswersEarly, ..SOUND }, Check::ReadBack);
    is_caught(Setting { mutant: Mutant::AnswersEarly, fenced: false, ..SOUND }, Check::ReadBack);
}

#[test]
fn resuming_from_a_stored_offset_is_caught() {
    is_caught(Setting { mutant: Mutant::StoredOffset, ..SOUND }, Check::Answer);
    is_caught(Setting { mutant: Mutant::StoredOffset, fenced: false, ..SOUND }, Check::NoHalt);
}

#[test]
fn a_clock_in_a_decision_is_caught() {
    is_caught(Setting { mutant: Mutant::Clock, ..SOUND }, Check::Answer);
    is_caught(Setting { mutant: Mutant::Clock, fenced: false, ..SOUND }, Check::NoHalt);
}

#[test]
fn going_on_after_an_unknown_commit_is_caught() {
    let found = caught(Setting { mutant: Mutant::KeepsClaim, ..SOUND }, 600);
    assert!(found.contains_key(&Check::Fence), "a late commit hits another transaction: {found:?}");
    assert!(found.contains_key(&Check::Copies), "what was committed after all is written again: {found:?}");
}

#[test]
fn a_claim_that_does_not_fence_is_caught() {
    is_caught(Setting { hole: true, ..SOUND }, Check::Fence);
}

#[test]
fn staying_silent_about_an_event_without_a_verdict_is_caught() {
    let found = caught(Setting { mutant: Mutant::StaysSilent, ..SOUND }, 600);
    assert!(found.contains_key(&Check::Outcome), "{found:?}");
}

#[test]
fn taking_a_proposal_that_is_late_for_none_is_caught() {
    let found = caught(Setting { mutant: Mutant::TrustsTail, fenced: false, ..SOUND }, 600);
    assert!(found.contains_key(&Check::NoHalt), "{found:?}");
}
