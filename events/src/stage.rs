//! Test support: one partition, iris on it, and rules told as given / when / then.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::ledger::{Ledger, opening};
use crate::model::{Model, refusal_matters};
use crate::record::Record;
use crate::rule::Judged;
use crate::schema::{self, Half};
use crate::submission::Submission;
use crate::time::Timestamp;
use crate::verdict::{Code, Outcome, Verdict};

/// The model that most rules are told with.
pub(crate) const IRIS: &str = "default/iris";
/// 2026-03-01T12:00:00Z.
pub(crate) const NOON: i64 = 1_772_366_400_000;

/// A digest that is recognised: `sha256:` and 64 times the digit.
pub(crate) fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// What somebody proposes.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    kind: Kind,
    key: String,
    version: String,
    id: Option<String>,
    more: Vec<(String, String)>,
    data: Value,
}

/// Proposes something of iris; `version` is empty where the subject names none.
pub(crate) fn iris(short: &str, version: &str, data: Value) -> Step {
    let kind = Kind::from_any(short).unwrap_or_else(|| panic!("{short} is no kind"));
    Step { kind, key: IRIS.into(), version: version.into(), id: None, more: Vec::new(), data }
}

/// Proposes something of the workspace and no model of it.
pub(crate) fn of_system(short: &str, data: Value) -> Step {
    iris(short, "", data).of("default/_system")
}

/// A run with an artifact.
pub(crate) fn trained(run: &str, digit: char) -> Step {
    iris("trained", "", json!({ "run": { "id": run }, "artifact": { "digest": digest(digit) } }))
}

/// A version with this digest, registered by ann.
pub(crate) fn registered(digit: char) -> Step {
    iris("registered", "", json!({ "artifact": { "digest": digest(digit) } })).by("ann")
}

pub(crate) fn promoted(version: &str, channel: &str) -> Step {
    iris("promoted", version, json!({ "channel": channel }))
}

impl Step {
    pub(crate) fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn by(self, actor: &str) -> Self {
        self.with("actor", actor)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }

    pub(crate) fn of(mut self, key: &str) -> Self {
        self.key = key.into();
        self
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The message, in binary mode; `nth` makes an id where none was given.
    pub(crate) fn submission(&self, nth: usize) -> Submission {
        let subject = if self.version.is_empty() { self.key.clone() } else { format!("{}/{}", self.key, self.version) };
        let id = self.id.clone().unwrap_or_else(|| format!("step-{nth}"));
        let fixed = [("specversion", "1.0"), ("id", &id), ("source", "/pipelines/iris"), ("type", self.kind.name()), ("subject", &subject)];
        let more = self.more.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let headers = fixed.into_iter().chain(more).map(|(n, v)| (format!("ce_{n}"), v.as_bytes().to_vec())).collect();
        Submission { key: Some(self.key.clone().into_bytes()), headers, value: self.data.to_string().into_bytes() }
    }
}

/// What is expected of the last step.
pub(crate) enum Then {
    /// Accepted, and `decided` is this.
    Accepted(Value),
    /// Refused with this code, and the message holds these words.
    Refused(Code, &'static str),
    /// Not understood, likewise.
    Malformed(Code, &'static str),
    /// A retry of what is at this `seq`.
    Duplicate(u64),
}

/// One partition of a journal, as the arbiter sees it.
pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) records: Vec<Record>,
    src: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let first = opening(0, 1, Timestamp(NOON));
        let mut ledger = Ledger::new(0);
        assert_eq!(ledger.apply(&first), Ok(Judged::Accepted));
        Self { ledger, records: vec![first], src: 0 }
    }

    /// A stage on which these were accepted, each in a batch of its own.
    pub(crate) fn given(steps: &[Step]) -> Self {
        let mut stage = Self::new();
        for step in steps {
            let verdict = stage.judge(step);
            assert!(matches!(verdict.outcome, Outcome::Accepted(_)), "given {step:?}: {verdict:?}");
        }
        stage
    }

    /// Judges one submission as a batch of its own, and takes in what came of it.
    pub(crate) fn submit(&mut self, submission: &Submission) -> (Verdict, Option<Record>) {
        let at = Timestamp(NOON + i64::try_from(self.src).unwrap());
        let (verdict, record) = self.ledger.overlay().judge(self.src, at, submission);
        self.src += 1;
        if let Some(record) = &record {
            assert_eq!(self.ledger.apply(record), Ok(Judged::Accepted));
            self.records.push(record.clone());
        }
        (verdict, record)
    }

    pub(crate) fn judge(&mut self, step: &Step) -> Verdict {
        let nth = usize::try_from(self.src).unwrap();
        self.submit(&step.submission(nth)).0
    }

    pub(crate) fn iris(&self) -> Model {
        self.ledger.model(IRIS).map(|m| Model::clone(m)).unwrap_or_default()
    }
}

/// Given these accepted steps, when this is proposed, then that comes of it: both with every step
/// in a batch of its own and with all in one. Returns the first stage, for more questions.
pub(crate) fn check(given: &[Step], when: &Step, then: &Then) -> Stage {
    let mut stage = Stage::given(given);
    let before = stage.ledger.model(&when.key).cloned();
    let submission = when.submission(given.len());
    let (verdict, record) = stage.submit(&submission);
    expect(&verdict, record.as_ref(), then);
    let after = stage.ledger.model(&when.key).cloned();
    if let Some(record) = &record {
        fits(record, when);
    }
    match &verdict.outcome {
        Outcome::Accepted(place) => assert_eq!(after.unwrap().modelseq, place.modelseq),
        Outcome::Refused(_) => {
            assert_eq!(after, before, "a refusal changes nothing");
            let wanted = refusal_matters(when.kind) && !matches!(then, Then::Refused(Code::IdConflict | Code::WrongPartition, _));
            assert_eq!(record.is_some(), wanted, "a refusal that matters is an event");
            if let Some(record) = record {
                let view = record.view().unwrap();
                assert_eq!((view.kind, view.modelseq), (Kind::ProposalRefused, before.map_or(0, |m| m.modelseq)));
            }
        }
        Outcome::Duplicate(_) | Outcome::Malformed(_) => assert!(record.is_none() && after == before),
    }
    assert_eq!(in_one_batch(given, when), (verdict, stage.records.clone()), "a batch decides as single proposals do");
    stage
}

/// The same, judged on one overlay that nothing was read back into.
fn in_one_batch(given: &[Step], when: &Step) -> (Verdict, Vec<Record>) {
    let mut base = Stage::new();
    let mut records = base.records.clone();
    let mut overlay = base.ledger.overlay();
    let mut last = None;
    for (nth, step) in given.iter().chain([when]).enumerate() {
        let src = u64::try_from(nth).unwrap();
        let (verdict, record) = overlay.judge(src, Timestamp(NOON + i64::try_from(nth).unwrap()), &step.submission(nth));
        records.extend(record);
        last = Some(verdict);
    }
    (last.unwrap(), records)
}

fn expect(verdict: &Verdict, record: Option<&Record>, then: &Then) {
    match (then, &verdict.outcome) {
        (Then::Accepted(decided), Outcome::Accepted(_)) => {
            let found: Value = serde_json::from_str(record.unwrap().view().unwrap().decided).unwrap();
            assert_eq!(found, *decided);
        }
        (Then::Refused(code, words), Outcome::Refused(refusal)) | (Then::Malformed(code, words), Outcome::Malformed(refusal)) => {
            assert_eq!(refusal.code, *code, "{refusal:?}");
            assert!(refusal.message.contains(words), "`{words}` is not in `{}`", refusal.message);
            assert!(!refusal.remedy.is_empty(), "a refusal says what to do");
        }
        (Then::Duplicate(seq), Outcome::Duplicate(place)) => assert_eq!(place.seq, *seq),
        _ => panic!("{verdict:?}"),
    }
}

/// A record holds the producer's bytes, and both halves fit their schemas.
fn fits(record: &Record, when: &Step) {
    let view = record.view().unwrap();
    assert_eq!(view.data, when.data.to_string());
    for (half, json) in [(Half::Data, view.data), (Half::Decided, view.decided)] {
        let value = serde_json::from_str(json).unwrap();
        assert_eq!(schema::violations(view.kind, half, &value), [], "{} {half:?}", view.kind);
    }
}
