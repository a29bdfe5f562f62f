//! What producers send in one seed: a few models' lives, with retries, conflicts and nonsense.

use std::collections::BTreeMap;

use annals_events::kind::Kind;
use annals_events::names::{Key, VersionRef, partition_of};
use annals_events::proposal::Proposal;
use annals_events::submission::Submission;

use super::dice::Dice;

/// The models that producers speak of.
const MODELS: [&str; 4] = ["w/iris", "w/wine", "w/moons", "v/iris"];

/// A message and the partition that its producer puts it into.
pub type Sent = (u32, Submission);

/// Some messages, in the order of sending.
pub fn script(dice: &mut Dice, partitions: u32) -> Vec<Sent> {
    let count = 12 + dice.below(20);
    let mut sent: Vec<Sent> = Vec::with_capacity(count);
    for number in 0..count {
        let next = match dice.below(20) {
            0..=2 if !sent.is_empty() => dice.pick(&sent).clone(),
            3 if !sent.is_empty() => conflicting(dice, &sent),
            4 => nonsense(dice, partitions, number),
            5 if partitions > 1 => {
                let (right, submission) = fresh(dice, partitions, number);
                ((right + 1) % partitions, submission)
            }
            _ => fresh(dice, partitions, number),
        };
        sent.push(next);
    }
    sent
}

fn fresh(dice: &mut Dice, partitions: u32, number: usize) -> Sent {
    let proposal = proposal(dice, number);
    (partition_of(proposal.key.as_str(), partitions), proposal.to_submission())
}

/// Same id, other content.
fn conflicting(dice: &mut Dice, sent: &[Sent]) -> Sent {
    let (partition, mut submission) = dice.pick(sent).clone();
    submission.headers.retain(|(name, _)| name != "ce_expectedseq");
    submission.headers.push(("ce_expectedseq".into(), dice.below(1_000).to_string().into_bytes()));
    (partition, submission)
}

fn nonsense(dice: &mut Dice, partitions: u32, number: usize) -> Sent {
    let (partition, mut submission) = fresh(dice, partitions, number);
    match dice.below(5) {
        0 => submission.value = b"{\"half\":".to_vec(),
        1 => submission.key = None,
        2 => submission.headers.clear(),
        3 => submission.headers.retain(|(name, _)| name != "ce_type"),
        _ => submission.value = vec![0xff, 0xfe],
    }
    (partition, submission)
}

fn proposal(dice: &mut Dice, number: usize) -> Proposal {
    let version = Some(VersionRef::Number(1 + dice.roll() % 3));
    let digest = format!("sha256:{:064x}", number);
    let (kind, version, data) = match dice.below(14) {
        0 => (Kind::ModelCreated, None, "{}".to_owned()),
        1..=2 => (Kind::RunTrained, None, format!(r#"{{"run":{{"id":"r{}"}},"artifact":{{"digest":"{digest}"}}}}"#, dice.below(5))),
        3..=5 => (Kind::VersionRegistered, None, format!(r#"{{"artifact":{{"digest":"{digest}"}}}}"#)),
        6..=8 => (Kind::VersionPromoted, version, format!(r#"{{"channel":"{}"}}"#, dice.pick(&["dev", "staging", "production"]))),
        9..=10 => (Kind::AliasSet, version, r#"{"alias":"champion"}"#.to_owned()),
        11 => {
            let wanted = format!(r#"{{"deployment":"d{}","target":{{"platform":"local","name":"t"}}}}"#, dice.below(3));
            (Kind::DeploymentRequested, version, wanted)
        }
        12 => {
            let state = dice.pick(&["active", "paused", "removed"]);
            let what = r#""when":{"type":["drifted"]},"do":{"command":{"run":"retrain"}}"#;
            (Kind::TriggerChanged, None, format!(r#"{{"trigger":"t{}","state":"{state}",{what}}}"#, dice.below(2)))
        }
        _ => (Kind::VersionRetired, version, r#"{"reason":"old"}"#.to_owned()),
    };
    let key = match kind {
        Kind::TriggerChanged => Key::system("w"),
        _ => Key::parse(dice.pick::<&str>(&MODELS)),
    };
    Proposal {
        id: format!("p{number}"),
        source: "/simulated".into(),
        kind,
        key: key.expect("a good key"),
        version,
        time: None,
        actor: dice.chance(300).then(|| "ann".into()),
        expected: dice.chance(150).then(|| dice.roll() % 6),
        must_exist: dice.chance(100),
        extensions: BTreeMap::new(),
        data,
    }
}
