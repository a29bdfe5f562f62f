//! Search: every database finds what the query means by the words of the documents, and nothing else.

use annals_projections::search::{Changed, Document, Query};
use annals_projections::{Error, Page, Views};
use serde_json::{Value, json};

use crate::home::{Base, on_both};
use crate::journal::{Journal, apply_all, iris};

on_both! {
    random_questions_find_what_is_meant
    documents_follow_what_happens_to_a_version
    answers_are_paged_newest_first
    what_has_changed_is_told_once_and_in_order
    a_database_from_before_gets_the_view
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

const WORDS: [&str; 16] = [
    "forest",
    "Forêt",
    "random",
    "rand",
    "churn",
    "fraud-detection",
    "über",
    "東京",
    "v2.1",
    "x",
    "gradient_boost",
    "ГРАДИЕНТ",
    "it's",
    "a\"b",
    "Σίσυφος",
    "42",
];
const FIELDS: [&str; 6] = ["name", "algorithm", "description", "tag", "channel", "label"];

fn text(dice: &mut Dice) -> String {
    (0..1 + dice.roll(4)).map(|_| dice.pick(&WORDS)).collect::<Vec<_>>().join(" ")
}

fn journal(dice: &mut Dice) -> Journal {
    let mut journal = Journal::new();
    for n in 0..120_u64 {
        let model = format!("{} {}", dice.pick(&WORDS).replace(['"', '\''], ""), n % 9);
        let subject = if dice.roll(5) == 0 { format!("other/{model}") } else { model };
        let data = json!({"artifact": {"uri": "file:///a", "digest": format!("sha256:{n:064}")}, "algorithm": text(dice), "description": text(dice),
            "labels": {"team": dice.pick(&WORDS)}, "label": format!("L{n} {}", dice.pick(&WORDS)), "performance": [{"name": "acc", "value": 0.5}]});
        journal.say("registered", &subject, data);
        if dice.roll(3) == 0 {
            let _ = journal.propose("promoted", &format!("{subject}/1"), json!({"channel": dice.pick(&["dev", "staging", "production"])}));
        }
    }
    journal
}

fn question(dice: &mut Dice) -> String {
    let mut term = |can_be_none: bool| {
        let word = dice.pick(&WORDS);
        let (mut term, length) = (word.to_owned(), word.chars().count());
        if dice.roll(4) == 0 {
            let keep = 1 + dice.roll(length);
            term = word.chars().take(keep).collect::<String>() + "*";
        }
        if dice.roll(3) == 0 {
            term = format!("{}:{term}", dice.pick(&FIELDS));
        }
        if can_be_none && dice.roll(3) == 0 { format!("-{term}") } else { term }
    };
    let mut terms = vec![term(false)];
    (0..3).for_each(|_| terms.push(term(true)));
    let keep = 1 + dice.roll(terms.len());
    terms.truncate(keep);
    terms.join(" ")
}

async fn all(views: &Views, workspace: Option<&str>, query: &Query) -> Vec<String> {
    let page = Page { after: None, limit: 1000 };
    views.found(workspace, query, &page).await.unwrap().items.into_iter().map(|found| found.subject).collect()
}

/// Every document, as the sink gets them.
async fn documents(views: &Views) -> Vec<Document> {
    let mut found = Vec::new();
    for position in views.documented().await.unwrap() {
        let changed = views.changed(position.partition, None, position.seq, None, 1000).await.unwrap();
        found.extend(changed.iter().map(|changed| serde_json::from_str::<Document>(&changed.doc).unwrap()));
    }
    found
}

async fn random_questions_find_what_is_meant(base: Base) {
    let mut dice = Dice(20_261_128);
    let (dir, journal) = (base.home().await, journal(&mut dice));
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let documents = documents(&views).await;
    assert!(documents.len() > 130, "{}", documents.len());
    let (mut found_some, mut found_none) = (0, 0);
    for _ in 0..150 {
        let text = question(&mut dice);
        let Ok(query) = Query::parse(&text) else { continue };
        for workspace in [None, Some("default"), Some("other")] {
            let meant = |document: &&Document| workspace.is_none_or(|w| *document.workspace == *w) && query.holds(document.words().all());
            let mut expected: Vec<_> = documents.iter().filter(meant).map(|d| (-d.created_ms(), d.subject())).collect();
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|(_, subject)| subject).collect();
            assert_eq!(all(&views, workspace, &query).await, expected, "{text} in {workspace:?}");
            if expected.is_empty() { found_none += 1 } else { found_some += 1 }
        }
    }
    assert!(found_some > 100 && found_none > 10, "{found_some} {found_none}");
}

async fn documents_follow_what_happens_to_a_version(base: Base) {
    let dir = base.home().await;
    let views = dir.open().await;
    let mut journal = iris();
    apply_all(&views, &journal.entries).await;
    let found = async |text: &str| all(&views, Some("default"), &Query::parse(text).unwrap()).await;
    assert_eq!(found("botany").await, ["default/iris"], "the model's own document");
    assert_eq!(found("LogisticRegression").await, ["default/iris/2", "default/iris/1"]);
    assert_eq!(
        (found("channel:production").await, found("channel:dev").await),
        (vec!["default/iris/2".into()], vec!["default/iris/1".into()])
    );
    assert_eq!(found("status:retired").await, [""; 0], "promoting it again has restored it");
    assert_eq!((found("alias:champion").await, found("label:2 iris").await), (vec![], vec!["default/iris/2".to_owned()]));
    assert_eq!(found("tulip -kind:version").await, ["default/tulip"]);
    journal.say("promoted", "iris/1", json!({"channel": "production"})).say("retired", "iris/2", json!({"reason": "old"}));
    journal.say("alias-set", "iris/1", json!({"alias": "Best One"}));
    apply_all(&views, &journal.entries).await;
    assert_eq!(
        (found("channel:production").await, found("status:retired").await),
        (vec!["default/iris/1".into()], vec!["default/iris/2".into()])
    );
    assert_eq!(found("alias:best one").await, ["default/iris/1"]);
    let one = views.found(Some("default"), &Query::parse("alias:best").unwrap(), &Page::default()).await.unwrap();
    let one: Value = serde_json::from_str(one.items[0].body.get()).unwrap();
    assert_eq!((&one["channels"], &one["aliases"], &one["label"]), (&json!(["dev", "production"]), &json!(["Best One"]), &json!("1.0")));
}

async fn answers_are_paged_newest_first(base: Base) {
    let mut dice = Dice(7);
    let (dir, journal) = (base.home().await, journal(&mut dice));
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let query = Query::parse("kind:version").unwrap();
    let whole = all(&views, None, &query).await;
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = views.found(None, &query, &Page { after, limit: 7 }).await.unwrap();
        assert!(page.items.windows(2).all(|two| two[0].created >= two[1].created));
        paged.extend(page.items.into_iter().map(|found| found.subject));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((paged.len(), paged), (120, whole));
    for bad in ["", "7", "x default/iris", "7 iris"] {
        let error = views.found(None, &query, &Page { after: Some(bad.into()), limit: 7 }).await.unwrap_err();
        assert!(matches!(error, Error::Cursor(_)), "{bad}: {error}");
    }
}

async fn what_has_changed_is_told_once_and_in_order(base: Base) {
    let dir = base.home().await;
    let views = dir.open().await;
    let mut journal = iris();
    apply_all(&views, &journal.entries).await;
    let before = views.documented().await.unwrap();
    journal.say("promoted", "iris/1", json!({"channel": "production"}));
    apply_all(&views, &journal.entries).await;
    let (mut changed, mut whole) = (Vec::new(), Vec::new());
    for now in views.documented().await.unwrap() {
        let seq = before.iter().find(|p| p.partition == now.partition).map(|p| p.seq);
        for (after, found) in [(seq, &mut changed), (None, &mut whole)] {
            let mut last: Option<Changed> = None;
            loop {
                let some = views.changed(now.partition, after, now.seq, last.as_ref(), 1).await.unwrap();
                let Some(one) = some.into_iter().next() else { break };
                assert!(last.as_ref().is_none_or(|last| (last.seq, last.id) < (one.seq, one.id)));
                found.push(serde_json::from_str::<Document>(&one.doc).unwrap().subject());
                last = Some(one);
            }
        }
    }
    changed.sort();
    whole.sort();
    assert_eq!(changed, ["default/iris/1", "default/iris/2"], "the one that was promoted, and the one that it displaced");
    assert_eq!(whole, ["default/iris", "default/iris/1", "default/iris/2", "default/tulip", "other/iris", "other/iris/1"]);
    assert_eq!(views.documents().await.unwrap(), 6);
}

/// As an older build has left it: with the other views, and no tables of this one.
async fn a_database_from_before_gets_the_view(base: Base) {
    let dir = base.home().await;
    let views = dir.open().await;
    let journal = iris();
    apply_all(&views, &journal.entries).await;
    let before = dir.dump("search").await;
    views.close().await;
    for gone in [
        "DROP TABLE search_documents",
        "DROP TABLE search_words",
        "DELETE FROM positions WHERE view = 'search'",
        "DELETE FROM _sqlx_migrations WHERE version = 4",
    ] {
        dir.sql(gone).await;
    }
    if base == Base::Postgres {
        dir.sql("DELETE FROM views WHERE view = 'search'").await;
    }
    let views = dir.open().await;
    assert!(views.documented().await.unwrap().is_empty() && !views.positions("registry").await.unwrap().is_empty());
    apply_all(&views, &journal.entries).await;
    assert_eq!(dir.dump("search").await, before);
}
