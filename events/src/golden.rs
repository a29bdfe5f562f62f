//! Golden files: one real record of each kind, and fixed vectors of the frame. They decode for ever.
//!
//! Each file of `events/golden` holds the parts of one record. The frame is put together here from
//! those parts, not by [`Record::build`], and the hashes were made once by another program.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::kind::Kind;
use crate::ledger::Ledger;
use crate::record::{MAGIC, Record, join_value};
use crate::rule::Judged;
use crate::schema::{self, Half};
use crate::stage::{IRIS, Step, iris};

/// What a producer would have sent for each golden record; `deployment.observed` also of a model.
pub(crate) fn samples() -> Vec<(Kind, Step)> {
    files()
        .into_iter()
        .filter(|(_, file)| !file.headers["ce_source"].starts_with("/annals"))
        .map(|(kind, file)| {
            let record = record(&file);
            let version = if record.view().unwrap().version().is_some() { "1" } else { "" };
            let data = serde_json::from_str(record.view().unwrap().data).unwrap();
            let step = iris(kind.short(), if kind == Kind::VersionRegistered { "" } else { version }, data);
            (kind, step.of(&file.key))
        })
        .flat_map(|(kind, step)| {
            let of_a_model = (kind == Kind::DeploymentObserved).then(|| (kind, step.clone().of(IRIS)));
            [(kind, step)].into_iter().chain(of_a_model)
        })
        .collect()
}

/// The frames of all golden records.
pub(crate) fn frames() -> Vec<Box<[u8]>> {
    files().iter().map(|(_, file)| record(file).frame().into()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    key: String,
    headers: BTreeMap<String, String>,
    value: String,
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    about: String,
    key: String,
    headers: BTreeMap<String, String>,
    value: String,
    frame: String,
    hash: String,
}

macro_rules! golden {
    ($($kind:ident $dotted:literal,)*) => {
        fn text(kind: Kind) -> &'static str {
            match kind { $(Kind::$kind => include_str!(concat!("../golden/", $dotted, ".v1.json")),)* }
        }
    };
}

golden! {
    ModelCreated "model.created",
    RunTrained "run.trained",
    RunChecked "run.checked",
    VersionRegistered "version.registered",
    VersionEvaluated "version.evaluated",
    ApprovalRequested "approval.requested",
    ApprovalDecided "approval.decided",
    VersionPromoted "version.promoted",
    VersionDemoted "version.demoted",
    AliasSet "alias.set",
    AliasRemoved "alias.removed",
    DeploymentRequested "deployment.requested",
    DeploymentSucceeded "deployment.succeeded",
    DeploymentFailed "deployment.failed",
    DeploymentRemoved "deployment.removed",
    DeploymentRolledBack "deployment.rolled_back",
    DeploymentObserved "deployment.observed",
    ModelMeasured "model.measured",
    DriftDetected "drift.detected",
    DriftResolved "drift.resolved",
    RetrainRequested "retrain.requested",
    VersionRetired "version.retired",
    TriggerChanged "trigger.changed",
    SubscriptionChanged "subscription.changed",
    ProposalRefused "proposal.refused",
    JournalOpened "journal.opened",
    JournalContinued "journal.continued",
    PartitionProgressed "partition.progressed",
    PartitionHalted "partition.halted",
    PartitionResumed "partition.resumed",
}

fn files() -> Vec<(Kind, File)> {
    Kind::ALL.iter().map(|kind| (*kind, serde_json::from_str(text(*kind)).unwrap_or_else(|e| panic!("{kind}: {e}")))).collect()
}

/// The frame by the words of the design, so that it is not checked against itself.
fn frame(key: &str, headers: &BTreeMap<String, String>, value: &str) -> Vec<u8> {
    let names = headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let items = [MAGIC, key].into_iter().chain(names).chain([value]);
    items.flat_map(|item| [&u32::try_from(item.len()).unwrap().to_be_bytes()[..], item.as_bytes()].concat()).collect()
}

fn record(file: &File) -> Record {
    Record::from_frame(frame(&file.key, &file.headers, &file.value).into())
}

fn built(key: &str, headers: &BTreeMap<String, String>, value: &str) -> Record {
    // in reverse, since the order must not matter
    let mut headers: Vec<_> = headers.iter().rev().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    Record::build(key, &mut headers, value.as_bytes())
}

#[test]
fn every_golden_record_decodes_and_hashes_as_it_ever_did() {
    for (kind, file) in files() {
        let record = record(&file);
        assert_eq!(record.hash().to_string(), file.hash, "{kind}");
        let view = record.view().unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!((view.kind, view.key, view.value()), (kind, file.key.as_str(), file.value.as_str()));
        assert_eq!(view.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>(), file.headers);
        assert_eq!(join_value(view.data, view.decided), file.value);
        for (name, text) in [
            ("ce_id", view.id.to_owned()),
            ("ce_source", view.source.to_owned()),
            ("ce_subject", view.subject.to_owned()),
            ("ce_actor", view.actor.to_owned()),
            ("ce_seq", view.seq.to_string()),
            ("ce_modelseq", view.modelseq.to_string()),
            ("ce_recordedtime", view.recorded.to_string()),
            ("ce_rules", view.rules.to_string()),
            ("ce_prevhash", view.prevhash.to_string()),
            ("ce_contentdigest", format!("{:032x}", view.content_digest)),
        ] {
            assert_eq!(file.headers[name], text, "{kind} {name}");
        }
        assert_eq!(file.headers.get("ce_src").map(String::as_str), view.src.map(|s| s.to_string()).as_deref(), "{kind}");
        assert_eq!(file.headers.get("ce_time").map(String::as_str), view.time, "{kind}");
        assert_eq!(built(&file.key, &file.headers, &file.value), record, "{kind}");
    }
}

#[test]
fn the_halves_of_every_golden_record_fit_their_schemas() {
    for (kind, file) in files() {
        let record = record(&file);
        let view = record.view().unwrap();
        for (half, json) in [(Half::Data, view.data), (Half::Decided, view.decided)] {
            let value = serde_json::from_str(json).unwrap();
            assert_eq!(schema::violations(kind, half, &value), [], "{kind} {half:?}");
        }
    }
}

/// One chain, to show that the hashes fit; it is no story (a failed deployment needs a request of its own).
#[test]
fn the_golden_records_are_one_chain_in_the_order_of_their_seq() {
    let mut records: Vec<_> = files().iter().map(|(_, file)| record(file)).collect();
    records.sort_by_key(|r| r.view().unwrap().seq);
    let mut ledger = Ledger::new(0);
    for record in &records {
        assert_eq!(ledger.apply(record), Ok(Judged::Accepted), "{record:?}");
    }
    assert_eq!(ledger.last_hash(), records.last().unwrap().hash());
}

#[test]
fn the_fixed_vectors_hash_as_another_program_says() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../golden/frames.json")).unwrap();
    assert!(vectors.len() >= 4);
    for v in vectors {
        let record = built(&v.key, &v.headers, &v.value);
        let hex: String = record.frame().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((hex, record.hash().to_string()), (v.frame, v.hash), "{}", v.about);
    }
}

#[test]
fn the_content_digest_of_a_golden_record_is_that_of_its_proposal() {
    let (_, file) = files().into_iter().find(|(kind, _)| *kind == Kind::RunTrained).unwrap();
    let step = crate::stage::iris("trained", "", json!({}));
    let mut submission = step.submission(0);
    submission.value = record(&file).view().unwrap().data.as_bytes().to_vec();
    let proposal = crate::proposal::Proposal::read(&submission).unwrap();
    assert_eq!(format!("{:032x}", proposal.content_digest()), file.headers["ce_contentdigest"]);
}

#[test]
fn a_proposal_that_another_serializer_framed_reads_as_its_json() {
    #[derive(Deserialize)]
    struct Framed {
        key: String,
        headers: BTreeMap<String, String>,
        value: String,
        data: String,
    }
    let file: Framed = serde_json::from_str(include_str!("../golden/framed.json")).unwrap();
    let value: Vec<u8> =
        file.value.as_bytes().as_chunks::<2>().0.iter().map(|hex| u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap()).collect();
    assert_eq!(value[0], 0);
    let headers = file.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let submission = crate::submission::Submission { key: Some(file.key.into_bytes()), headers, value };
    assert_eq!(crate::proposal::Proposal::read(&submission).unwrap().data, file.data);
}
