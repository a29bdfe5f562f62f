//! Journals to measure on, decided by the real rules.

use annals_events::kind::Kind;
use annals_events::ledger::{Ledger, opening};
use annals_events::names::{Key, partition_of};
use annals_events::proposal::Proposal;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;

/// A version as a pipeline registers it: about 700 bytes.
pub const REGISTERED: &str = r#"{"artifact":{"uri":"s3://models/iris/2026-03-01/model.pkl","digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","format":"joblib","size":1187},"description":"Logistic regression on the iris data set, trained nightly by the platform pipeline","algorithm":"LogisticRegression(max_iter=200)","performance":[{"name":"accuracy","value":0.9666666666666667,"split":"holdout"},{"name":"log_loss","value":0.1180354829,"split":"holdout"}]}"#;

/// A proposal's message.
pub fn submission(kind: Kind, model: &str, version: Option<u64>, id: u64, data: &str) -> Submission {
    let version = version.map(|v| v.to_string());
    let proposal = Proposal {
        id: format!("01957b2e-7a00-7000-8000-{id:012x}"),
        source: "/pipelines/nightly".into(),
        kind,
        key: Key::new("default", model).unwrap(),
        version: version.map(|v| annals_events::names::VersionRef::parse(&v).unwrap()),
        time: Some("2026-03-01T12:00:00.000Z".into()),
        actor: Some("pipeline".into()),
        expected: None,
        must_exist: false,
        extensions: Default::default(),
        data: data.into(),
    };
    proposal.to_submission()
}

/// One partition's records: `models` models with four events each (registered, promoted, alias, measured).
pub fn records(models: u64) -> Vec<Record> {
    let mut ledger = Ledger::new(0);
    let mut records = vec![opening(0, 1, Timestamp(1_772_366_400_000))];
    ledger.apply(&records[0]).unwrap();
    let mut src = 0;
    for chunk in 0..models.div_ceil(1_000) {
        let mut batch = Vec::new();
        let mut overlay = ledger.overlay();
        for m in chunk * 1_000..models.min((chunk + 1) * 1_000) {
            let model = format!("model-{m:07}");
            let events = [
                (Kind::VersionRegistered, None, REGISTERED),
                (Kind::VersionPromoted, Some(1), r#"{"channel":"production","reason":"passed the nightly evaluation"}"#),
                (Kind::AliasSet, Some(1), r#"{"alias":"champion"}"#),
                (Kind::ModelMeasured, Some(1), crate::client::MEASURED),
            ];
            for (kind, version, data) in events {
                let (verdict, record) =
                    overlay.judge(src, Timestamp(1_772_366_400_000 + src as i64), &submission(kind, &model, version, src, data));
                batch.push(record.unwrap_or_else(|| panic!("{verdict:?}")));
                src += 1;
            }
        }
        for record in &batch {
            ledger.apply(record).unwrap();
        }
        records.extend(batch);
    }
    records
}

/// The partition of a model in a journal of `partitions`.
pub fn partition(model: &str, partitions: u32) -> u32 {
    partition_of(&format!("default/{model}"), partitions)
}
