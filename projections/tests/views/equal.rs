//! PostgreSQL says what SQLite says: the same random histories, the same rows, the same answers.

use annals_projections::{AsOf, NAMES, Views};
use serde_json::{Value, json};

use crate::answers::answers;
use crate::every::Stored;
use crate::home::{Base, Database, Home};
use crate::journal::{Journal, apply_all};

const HISTORIES: u64 = 3;
const PROPOSALS: usize = 150;
/// In the order of their bytes, which is not that of any language.
const MODELS: [&str; 6] = ["iris", "Iris", "iris-2", "iris_2", "zoo", "ärger"];
/// What a producer may send: order, quotes, COPY's own signs, what a text of PostgreSQL cannot hold.
const TEXTS: [&str; 9] =
    ["plain", "tab\tline\nreturn\r", "back\\slash \\N \\.", "nul\0here", "it's \"quoted\"", "", "ß🌱", "\u{10ffff}", "? $1 ?"];

/// The same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn text(&mut self) -> &'static str {
        self.one_of(&TEXTS)
    }

    /// Something to propose about a version of a model; much of it is refused.
    fn proposal(&mut self) -> (&'static str, String, Value) {
        let model = self.one_of(&MODELS);
        let model = if self.below(5) == 0 { format!("other/{model}") } else { model.to_owned() };
        let (number, id, text) = (1 + self.below(3), self.one_of(&["a", "B", "b-1", "b_1", "ö"]).to_owned(), self.text());
        let (run, channel) = (format!("run-{id}"), self.one_of(&["dev", "staging", "production"]));
        let digest = format!("sha256:{:064}", self.below(4));
        let artifact = json!({"uri": "file:///m", "digest": digest});
        let version = format!("{model}/{number}");
        let one = |kind, data| (kind, version.clone(), data);
        match self.below(17) {
            0 => ("created", model, json!({"owner": text, "description": self.text(), "tags": {"x": text}})),
            1 | 2 => {
                let data = json!([{"name": "d", "digest": digest, "role": "training"}, {"name": "e", "uri": format!("file:///{id}")}]);
                let code = json!({"repository": "https://example.org/r", "commit": id, "dirty": false});
                let run = json!({"system": "local", "id": run});
                ("trained", model, json!({"run": run, "code": code, "data": data, "artifact": artifact, "parent": number.to_string()}))
            }
            3..=5 => (
                "registered",
                model,
                json!({"label": format!("L{}", self.below(40)), "run": run, "artifact": artifact, "description": text}),
            ),
            6 | 7 => one("promoted", json!({"channel": channel, "reason": text})),
            8 => one("alias-set", json!({"alias": id})),
            9 => {
                let target = json!({"platform": "local", "cluster": "", "namespace": "", "name": "s"});
                one("deployment-requested", json!({"deployment": format!("{id}{}", self.below(9)), "target": target}))
            }
            10 => one("deployed", json!({"deployment": format!("{id}{}", self.below(9)), "observed": {"endpoint": text}})),
            11 => one("drifted", json!({"drift": format!("{id}{}", self.below(9)), "kind": "data", "metric": text, "observed": 0.1})),
            12 => ("drift-resolved", model, json!({"drift": format!("{id}{}", self.below(9)), "reason": text})),
            13 => ("rolled-back", model, json!({"deployment": format!("{id}{}", self.below(9)), "reason": "slow", "error": text})),
            14 => {
                let key = if self.below(2) == 0 { model } else { "_system".into() };
                let target = json!({"platform": "local", "cluster": "", "namespace": "", "name": "s"});
                ("observed", key, json!({"target": target, "finding": "changed", "manager": text}))
            }
            15 => {
                let what = json!({"webhook": {"subscription": "s"}});
                let when = json!({"type": ["promoted"], "where": {"/data/x": text}});
                ("trigger-changed", "_system".into(), json!({"trigger": id, "state": "active", "when": when, "do": what}))
            }
            _ => one("retired", json!({"reason": text})),
        }
    }
}

fn history(seed: u64) -> Journal {
    let (mut journal, mut dice) = (Journal::new(), Dice(seed));
    for _ in 0..PROPOSALS {
        let (kind, subject, data) = dice.proposal();
        journal.propose(kind, &subject, data);
    }
    journal
}

async fn same(sqlite: &Home, postgres: &Home) {
    for name in NAMES {
        assert_eq!(postgres.dump(name).await, sqlite.dump(name).await, "{name}");
    }
}

async fn same_answers(sqlite: &Views, postgres: &Views, at: &AsOf, limit: u32) -> usize {
    let keys: Vec<String> = MODELS.iter().flat_map(|model| [format!("default/{model}"), format!("other/{model}")]).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (one, other) = (answers(sqlite, &keys, at, limit).await, answers(postgres, &keys, at, limit).await);
    for (a, b) in one.lines().zip(other.lines()) {
        assert_eq!(b, a, "at {at}");
    }
    assert_eq!(one.lines().count(), other.lines().count(), "at {at}");
    one.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_about_random_histories_is_the_same_at_any_time() {
    for seed in 1..=HISTORIES {
        let (journal, mut dice) = (history(seed * 7919), Dice(seed));
        // a database that sorts as people do, unless it is told not to
        let database = Database::make("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'").await;
        let (sqlite, postgres) = (Base::Sqlite.home().await, Home::Database(Box::new(database)));
        let (a, b) = (sqlite.open().await, postgres.open().await);
        let mut points = vec![AsOf::Now];
        let mut left = journal.entries.as_slice();
        while !left.is_empty() {
            let (some, rest) = left.split_at(left.len().min(1 + dice.below(60)));
            apply_all(&a, some).await;
            apply_all(&b, some).await;
            points.push(a.pinned("registry").await.unwrap());
            assert_eq!(b.pinned("registry").await.unwrap().to_string(), points.last().unwrap().to_string());
            left = rest;
        }
        let time = annals_events::time::Timestamp(crate::journal::START + 60 * crate::journal::MINUTE).to_string();
        points.push(a.as_of(&time).await.unwrap());
        assert_eq!(b.as_of(&time).await.unwrap(), *points.last().unwrap());
        same(&sqlite, &postgres).await;
        for (at, limit) in points.iter().zip([1000, 2, 7].into_iter().cycle()) {
            let bytes = same_answers(&a, &b, at, limit).await;
            assert!(bytes > 500, "there is something to compare");
        }
        for name in NAMES {
            b.rebuild(name, Stored(journal.entries.clone()), |_| ()).await.unwrap();
        }
        same(&sqlite, &postgres).await;
        same_answers(&a, &b, &AsOf::Now, 1000).await;
    }
}
