//! Journals for tests: short lists of proposals, judged by the real ledger.

use annals_events::kind::Kind;
use annals_events::ledger::{Ledger, opening};
use annals_events::names::partition_of;
use annals_events::record::Record;
use annals_events::submission::Submission;
use annals_events::time::Timestamp;
use annals_events::verdict::Outcome;
use annals_projections::{Entry, NAMES, Views};
use serde_json::{Value, json};

pub const PARTITIONS: u32 = 4;
/// 2026-03-01T12:00:00Z: the first event's time; each proposal comes a minute later.
pub const START: i64 = 1_772_366_400_000;
pub const MINUTE: i64 = 60_000;

/// A journal being written.
pub struct Journal {
    ledgers: Vec<Ledger>,
    proposals: u64,
    /// Everything accepted, in the order in which it was.
    pub entries: Vec<Entry>,
}

impl Journal {
    pub fn new() -> Self {
        let mut journal = Self { ledgers: (0..PARTITIONS).map(Ledger::new).collect(), proposals: 0, entries: Vec::new() };
        for partition in 0..PARTITIONS {
            journal.append(partition, opening(partition, PARTITIONS, Timestamp(START)));
        }
        journal
    }

    /// Proposes, and returns whether it was accepted. The subject is `model` or `model/version` in
    /// the workspace `default`, or with three parts as it is.
    pub fn propose(&mut self, short: &str, subject: &str, data: Value) -> Outcome {
        let subject = if subject.split('/').next() == Some("other") { subject.to_owned() } else { format!("default/{subject}") };
        let key = subject.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        let partition = partition_of(&key, PARTITIONS);
        self.proposals += 1;
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let submission = Submission {
            key: Some(key.into_bytes()),
            headers: vec![
                header("ce_specversion", "1.0"),
                header("ce_id", &format!("e{}", self.proposals)),
                header("ce_source", "/tests"),
                header("ce_type", Kind::from_any(short).unwrap().name()),
                header("ce_subject", &subject),
                header("ce_actor", "ada"),
                header("ce_time", "2026-03-01T11:00:00Z"),
            ],
            value: data.to_string().into_bytes(),
        };
        let at = Timestamp(START + i64::try_from(self.proposals).unwrap() * MINUTE);
        let ledger = &mut self.ledgers[partition as usize];
        let (verdict, record) = ledger.overlay().judge(self.proposals, at, &submission);
        record.into_iter().for_each(|record| self.append(partition, record));
        verdict.outcome
    }

    /// Proposes what must be accepted.
    pub fn say(&mut self, short: &str, subject: &str, data: Value) -> &mut Self {
        let outcome = self.propose(short, subject, data);
        assert!(matches!(outcome, Outcome::Accepted(_)), "{short} {subject}: {outcome:?}");
        self
    }

    fn append(&mut self, partition: u32, record: Record) {
        self.ledgers[partition as usize].apply(&record).unwrap();
        let offset = 10 * record.view().unwrap().seq; // offsets have gaps
        self.entries.push(Entry { partition, offset, record });
    }
}

/// One whole life, and a second model that never leaves the desk.
pub fn iris() -> Journal {
    let mut j = Journal::new();
    let digest = |n: u32| format!("sha256:{n:064}");
    let trained = |run: &str, n: u32, parent: &str| {
        json!({"parent": parent, "run": {"system": "local", "id": run, "uri": "file:///runs"}, "code": {"repository": "https://example.org/iris", "commit": "abc123", "dirty": false},
            "data": [{"name": "iris", "digest": digest(900), "rows": 150, "role": "training"}, {"name": "shifted", "uri": "file:///s.csv"}],
            "metrics": [{"name": "accuracy", "value": 0.970, "split": "test"}], "artifact": {"uri": "file:///model.pkl", "digest": digest(n), "size": 1024}})
    };
    let registered = |run: &str, label: &str, n: u32| {
        json!({"label": label, "run": run, "algorithm": "LogisticRegression", "description": "iris}", "performance": [{"name": "accuracy", "value": 0.970}],
            "artifact": {"uri": "file:///model.pkl", "digest": digest(n), "format": "joblib"}})
    };
    let target = json!({"platform": "local", "cluster": "", "namespace": "", "name": "scorer"});
    j.say("created", "iris", json!({"owner": "ada", "description": "flowers", "tags": {"team": "botany"}}));
    j.say("trained", "iris", trained("run-1", 1, "run:elsewhere")).say("registered", "iris", registered("run-1", "1.0", 1));
    j.say("evaluated", "iris/1", json!({"suite": "smoke", "dataset_digest": digest(900), "results": [{"metric": "accuracy", "value": 0.97, "threshold": 0.9, "passed": true}], "verdict": "passed"}));
    j.say("approval-requested", "iris/1", json!({"approval": "a1", "channel": "production", "requester": {"id": "ada"}}));
    j.say("approval-decided", "iris/1", json!({"approval": "a1", "decision": "approved", "approver": {"id": "grace", "name": "Grace", "role": "reviewer"}, "meaning": "fit for use", "reason": "four eyes"}));
    j.say("promoted", "iris/1", json!({"channel": "staging"})).say(
        "promoted",
        "iris/1.0",
        json!({"channel": "production", "reason": "first"}),
    );
    j.say("alias-set", "iris/1", json!({"alias": "champion"}));
    j.say("deployment-requested", "iris/1", json!({"deployment": "d1", "target": target, "channel": "production"}));
    j.say("deployed", "iris/1", json!({"deployment": "d1", "observed": {"endpoint": "http://127.0.0.1:1/"}}));
    j.say("trained", "tulip", trained("t-1", 7, "3"));
    j.say("registered", "other/iris", json!({"artifact": {"uri": "file:///x"}, "run": "nobody-knows"}));
    j.say("measured", "iris", json!({"metric": "accuracy", "value": 0.61, "deployment": "d1", "window": {"n": 50}}));
    j.say("drifted", "iris/1", json!({"drift": "f1", "kind": "data", "metric": "accuracy", "baseline": 0.97, "observed": 0.61, "threshold": 0.8, "severity": "high"}));
    j.say("retrain-requested", "iris", json!({"cause": {"kind": "drift", "drift": "f1"}, "pipeline": "train.py"}));
    assert!(matches!(j.propose("retired", "iris/1", json!({"reason": "too early"})), Outcome::Refused(_)));
    j.say("trained", "iris", trained("run-2", 2, "1.0")).say("registered", "iris", registered("run-2", "2.0", 2));
    j.say("promoted", "iris/run:run-2", json!({"channel": "production", "reason": "better"}));
    j.say("promoted", "other/iris/1", json!({"channel": "production"}));
    j.say("deployment-requested", "iris/2", json!({"deployment": "d2", "target": target}));
    j.say("deployment-failed", "iris/2", json!({"deployment": "d2", "error": "no memory"}));
    j.say("deployment-requested", "iris/2", json!({"deployment": "d3", "target": target}));
    j.say("deployed", "iris/2", json!({"deployment": "d3"})).say("drift-resolved", "iris", json!({"drift": "f1", "reason": "retrained"}));
    j.say("promoted", "iris/1", json!({"channel": "production", "rollback": true}));
    j.say("alias-set", "iris/2", json!({"alias": "champion"})).say(
        "alias-removed",
        "iris",
        json!({"alias": "champion", "reason": "unused"}),
    );
    j.say("demoted", "iris/1", json!({"channel": "staging", "reason": "done"})).say("promoted", "iris/2", json!({"channel": "production"}));
    j.say("retired", "iris/1", json!({"reason": "replaced"})).say(
        "deployment-removed",
        "iris",
        json!({"deployment": "d3", "reason": "moved"}),
    );
    j.say("promoted", "iris/1", json!({"channel": "dev"}));
    let code = json!({"repository": "https://example.org/iris", "commit": "abc123", "dirty": false});
    j.say("checked", "iris", json!({"run": "run-2", "code": code, "outcome": "found", "branches": ["main"], "tags": ["v2.0"]}));
    j
}

/// What is rolled back, what others did to a target, and the rules of a workspace: all of tulip.
pub fn tulip(j: &mut Journal) {
    let digest = |n: u32| format!("sha256:{n:064}");
    let target = |name: &str| json!({"platform": "kubernetes", "cluster": "kind", "namespace": "ml", "name": name});
    for n in [31, 32, 33] {
        j.say("registered", "tulip", json!({"artifact": {"uri": "file:///t", "digest": digest(n)}}));
    }
    j.say("promoted", "tulip/1", json!({"channel": "production"}));
    let wanted = |id: &str| json!({"deployment": id, "target": target("tulip"), "channel": "production"});
    j.say("deployment-requested", "tulip/1", wanted("t1")).say("deployed", "tulip/1", json!({"deployment": "t1"}));
    j.say("promoted", "tulip/2", json!({"channel": "production"}));
    j.say("deployment-requested", "tulip/2", wanted("t2")).say("deployed", "tulip/2", json!({"deployment": "t2"}));
    j.say("promoted", "tulip/3", json!({"channel": "production"}));
    j.say("deployment-requested", "tulip/3", wanted("t3"));
    j.say("deployment-failed", "tulip/3", json!({"deployment": "t3", "error": "no such image"}));
    j.say("rolled-back", "tulip", json!({"deployment": "t3", "reason": "it never came up"}));
    j.say(
        "observed",
        "tulip",
        json!({"target": target("tulip"), "finding": "changed", "manager": "kubectl-edit", "fields": ["spec.replicas"]}),
    );
    j.say("rolled-back", "tulip/2", json!({"deployment": "t2", "reason": "slow", "error": "503"}));
    j.say(
        "observed",
        "_system",
        json!({"target": target("stray"), "finding": "created", "manager": "kubectl-create", "image": "model-image"}),
    );
    let when = json!({"type": ["promoted"], "channel": "production"});
    j.say(
        "subscription-changed",
        "_system",
        json!({"subscription": "deployer", "state": "active", "url": "https://a.example", "when": when}),
    );
    j.say(
        "trigger-changed",
        "_system",
        json!({"trigger": "tell", "state": "active", "when": when, "do": {"webhook": {"subscription": "deployer"}}}),
    );
    j.say("trigger-changed", "_system", json!({"trigger": "tell", "state": "paused", "reason": "holidays"}));
    j.say(
        "subscription-changed",
        "other/_system",
        json!({"subscription": "x", "state": "paused", "url": "http://b.example", "when": when}),
    );
}

pub async fn apply_all(views: &Views, entries: &[Entry]) {
    for name in NAMES {
        views.apply(name, entries).await.unwrap();
    }
}

/// A document as JSON.
pub fn value(doc: &annals_projections::Doc) -> Value {
    serde_json::from_str(doc.body.get()).unwrap()
}
