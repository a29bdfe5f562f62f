//! Targets: what is wanted beside what was found, from the first request to whatever others do.

use annals_projections::deployments::Filter;
use annals_projections::{AsOf, Error, Page, Views};
use serde_json::{Value, json};

use crate::home::{Base, on_both};
use crate::journal::{Journal, apply_all};

on_both! {
    a_target_goes_from_the_request_over_failure_and_rollback_to_what_others_did
    a_target_is_there_while_something_is_wanted_or_found
    what_is_foreign_is_told_until_a_model_has_the_target
    targets_are_asked_for_by_what_they_are_and_paged
    a_database_from_before_gets_the_view
}

/// A journal and the views of it, which follow each step.
struct Story {
    journal: Journal,
    views: Views,
}

fn target(name: &str) -> Value {
    json!({"platform": "kubernetes", "cluster": "kind", "namespace": "ml", "name": name})
}

impl Story {
    async fn begin(views: Views) -> Self {
        let mut journal = Journal::new();
        for n in 1..=3 {
            for model in ["iris", "tulip"] {
                journal.say("registered", model, json!({"artifact": {"uri": "file:///a", "digest": format!("sha256:{n:064}")}}));
            }
        }
        Self { journal, views }
    }

    async fn say(&mut self, short: &str, subject: &str, data: Value) -> &mut Self {
        self.journal.say(short, subject, data);
        apply_all(&self.views, &self.journal.entries).await;
        self
    }

    async fn ask(&mut self, id: &str, subject: &str, name: &str) -> &mut Self {
        self.say("deployment-requested", subject, json!({"deployment": id, "target": target(name)})).await
    }

    async fn up(&mut self, id: &str) -> &mut Self {
        self.say("deployed", "iris", json!({"deployment": id})).await
    }

    async fn find(&mut self, model: &str, finding: &str) -> &mut Self {
        let data = json!({"target": target("a"), "finding": finding, "manager": "kubectl", "image": "i:1", "fields": ["spec.replicas"]});
        self.say("observed", model, data).await
    }

    async fn all(&self, filter: &Filter) -> Vec<Value> {
        let listing = self.views.targets(filter, &AsOf::Now, &Page::default()).await.unwrap();
        listing.items.iter().map(|line| serde_json::from_str(line.body.get()).unwrap()).collect()
    }

    /// The only target: its state, what is wanted, what is found, its note; and that the last event is its cause, if so.
    async fn is(&self, state: &str, wanted: Option<&str>, found: Option<&str>, note: Option<&str>, caused: bool) {
        let all = self.all(&Filter::default()).await;
        assert_eq!(all.len(), 1, "{all:#?}");
        let it = &all[0];
        assert_eq!(it["state"], state, "{it:#}");
        let id = |place: &str| it.pointer(place).and_then(Value::as_str);
        assert_eq!((id("/wanted/deployment"), id("/found/deployment"), id("/note/text")), (wanted, found, note), "{it:#}");
        let last = self.journal.entries.last().unwrap();
        let view = last.record.view().unwrap();
        let place = format!("{}:{}", last.partition, view.seq);
        assert_eq!((id("/event"), id("/position")) == (Some(view.id), Some(&place)), caused, "{it:#}");
        assert!(!caused || id("/since") == Some(&view.recorded.to_string()), "{it:#}");
    }
}

async fn a_target_goes_from_the_request_over_failure_and_rollback_to_what_others_did(base: Base) {
    let dir = base.home().await;
    let mut s = Story::begin(dir.open().await).await;
    s.say("promoted", "iris/1", json!({"channel": "production"})).await;
    s.say("deployment-requested", "iris/1", json!({"deployment": "d1", "target": target("a"), "channel": "production"})).await;
    s.is("progressing", Some("d1"), None, None, true).await;
    s.up("d1").await.is("in-sync", Some("d1"), Some("d1"), None, true).await;
    let one = s.all(&Filter::default()).await;
    assert_eq!(
        (&one[0]["model"], &one[0]["workspace"], &one[0]["target"], &one[0]["channel"]),
        (&json!("iris"), &json!("default"), &json!("kubernetes/kind/ml/a"), &json!("production"))
    );
    for side in ["wanted", "found"] {
        assert_eq!((&one[0][side]["version"], &one[0][side]["digest"]), (&json!(1), &json!(format!("sha256:{:064}", 1))), "{side}");
    }
    s.say("promoted", "iris/2", json!({"channel": "production"})).await.is("in-sync", Some("d1"), Some("d1"), None, false).await;
    s.ask("d2", "iris/2", "a").await.is("progressing", Some("d2"), Some("d1"), None, true).await;
    s.up("d2").await.is("in-sync", Some("d2"), Some("d2"), None, true).await;
    s.ask("d3", "iris/3", "a").await;
    s.say("deployment-failed", "iris", json!({"deployment": "d3", "error": "no such image"})).await;
    s.is("failed", Some("d3"), Some("d2"), Some("no such image"), true).await;
    let since = s.all(&Filter::default()).await[0]["found"].clone();
    s.say("rolled-back", "iris", json!({"deployment": "d3", "reason": "it never came up"})).await;
    s.is("rolled-back", Some("d3"), Some("d2"), Some("it never came up"), true).await;
    assert_eq!(s.all(&Filter::default()).await[0]["found"], since, "it is there since it came, not since the rollback");
    s.say("rolled-back", "iris", json!({"deployment": "d2", "reason": "slow", "error": "503"})).await;
    s.is("rolled-back", Some("d3"), Some("d1"), Some("slow (503)"), true).await;
    s.find("iris", "changed").await.is("changed", Some("d3"), Some("d1"), Some("changed by kubectl: spec.replicas"), true).await;
    s.ask("d4", "iris/2", "a").await.is("progressing", Some("d4"), Some("d1"), Some("changed by kubectl: spec.replicas"), true).await;
    s.up("d4").await.is("in-sync", Some("d4"), Some("d4"), None, true).await;
    s.find("iris", "removed").await.is("missing", Some("d4"), None, Some("removed by kubectl: spec.replicas"), true).await;
    s.find("iris", "created").await.is("missing", Some("d4"), None, Some("created by kubectl: spec.replicas"), false).await;
    s.find("iris", "adopted").await.is("in-sync", Some("d4"), Some("d4"), Some("adopted by kubectl: spec.replicas"), true).await;
}

async fn a_target_is_there_while_something_is_wanted_or_found(base: Base) {
    let dir = base.home().await;
    let mut s = Story::begin(dir.open().await).await;
    let over = |id: &str| json!({"deployment": id, "reason": "over"});
    s.ask("d1", "iris/1", "a").await.say("deployment-removed", "iris", over("d1")).await;
    assert!(s.all(&Filter::default()).await.is_empty());
    // taken away before it came: what was there is wanted again
    s.ask("d2", "iris/1", "a").await.up("d2").await.ask("d3", "iris/2", "a").await.say("deployment-removed", "iris", over("d3")).await;
    s.is("in-sync", Some("d2"), Some("d2"), None, true).await;
    assert_eq!(s.all(&Filter::default()).await[0]["wanted"]["version"], 1);
    // the old one is taken away while the new one comes
    s.ask("d4", "iris/2", "a").await.say("deployment-removed", "iris", over("d2")).await;
    s.is("progressing", Some("d4"), None, None, false).await;
    s.find("iris", "removed").await.is("progressing", Some("d4"), None, Some("removed by kubectl: spec.replicas"), false).await;
    s.say("deployment-failed", "iris", json!({"deployment": "d4", "error": "no memory"})).await;
    s.is("failed", Some("d4"), None, Some("no memory"), true).await;
    s.say("rolled-back", "iris", over("d4")).await.is("rolled-back", Some("d4"), None, Some("over"), true).await;
    s.ask("d5", "iris/2", "a").await.up("d5").await.ask("d6", "iris/3", "a").await.up("d6").await;
    s.say("rolled-back", "iris", over("d6")).await.is("rolled-back", Some("d6"), Some("d5"), Some("over"), true).await;
    s.say("deployment-removed", "iris", over("d5")).await;
    assert!(s.all(&Filter::default()).await.is_empty(), "what was rolled back is not wanted once the other is gone");
    // an older request that comes up last has the target, and the newer one is still wanted
    s.ask("d7", "iris/1", "a").await.ask("d8", "iris/2", "a").await.up("d7").await;
    s.is("progressing", Some("d8"), Some("d7"), None, false).await;
    s.say("deployment-failed", "iris", json!({"deployment": "d8", "error": "x"})).await;
    s.is("failed", Some("d8"), Some("d7"), Some("x"), true).await;
}

async fn what_is_foreign_is_told_until_a_model_has_the_target(base: Base) {
    let dir = base.home().await;
    let mut s = Story::begin(dir.open().await).await;
    s.find("_system", "created").await.is("foreign", None, None, Some("created by kubectl: spec.replicas"), true).await;
    let one = s.all(&Filter::default()).await;
    assert_eq!((&one[0]["model"], &one[0]["found"]["image"], &one[0]["wanted"]), (&Value::Null, &json!("i:1"), &Value::Null));
    s.find("_system", "changed").await.is("foreign", None, None, Some("changed by kubectl: spec.replicas"), false).await;
    let foreign = s.views.pinned("deployments").await.unwrap();
    s.ask("d1", "iris/1", "a").await.is("progressing", Some("d1"), None, None, true).await;
    s.say("deployment-removed", "iris", json!({"deployment": "d1", "reason": "x"})).await;
    s.is("foreign", None, None, Some("changed by kubectl: spec.replicas"), false).await;
    s.ask("d2", "iris/1", "a").await.find("_system", "adopted").await.is("progressing", Some("d2"), None, None, false).await;
    s.say("deployment-removed", "iris", json!({"deployment": "d2", "reason": "x"})).await;
    assert!(s.all(&Filter::default()).await.is_empty(), "what was adopted is foreign no more");
    s.find("_system", "created").await.find("_system", "removed").await;
    assert!(s.all(&Filter::default()).await.is_empty());
    let then = s.views.targets(&Filter::default(), &foreign, &Page::default()).await.unwrap();
    assert!(then.items[0].body.get().contains("foreign"), "and was it then");
}

async fn targets_are_asked_for_by_what_they_are_and_paged(base: Base) {
    let dir = base.home().await;
    let mut s = Story::begin(dir.open().await).await;
    s.say("promoted", "iris/1", json!({"channel": "staging"})).await;
    for n in 0..5 {
        s.ask(&format!("d{n}"), "iris/1", &format!("a:{n}")).await;
    }
    s.say("deployment-requested", "tulip/1", json!({"deployment": "t", "target": target("a:3")})).await;
    s.say("deployment-requested", "iris/1", json!({"deployment": "s", "target": target("s"), "channel": "staging"})).await.up("s").await;
    s.say("registered", "other/iris", json!({"artifact": {"uri": "file:///o"}})).await;
    s.say("deployment-requested", "other/iris/1", json!({"deployment": "o", "target": target("a:0")})).await;
    let with = |change: &dyn Fn(&mut Filter)| {
        let mut filter = Filter { workspace: Some("default".into()), ..Filter::default() };
        change(&mut filter);
        filter
    };
    for (filter, expected) in [
        (with(&|_| {}), 7),
        (with(&|f| f.workspace = None), 8),
        (with(&|f| f.workspace = Some("other".into())), 1),
        (with(&|f| f.channel = Some("staging".into())), 1),
        (with(&|f| f.state = Some("progressing".into())), 6),
        (with(&|f| f.state = Some("in-sync".into())), 1),
        (with(&|f| f.state = Some("missing".into())), 0),
        (with(&|f| f.target = Some("kubernetes/kind/ml/a:*".into())), 6),
        (with(&|f| f.target = Some("*a:3".into())), 2),
        (with(&|f| f.target = Some("a:3".into())), 0),
    ] {
        let all = s.all(&filter).await;
        assert_eq!(all.len(), expected, "{filter:?}: {all:#?}");
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let listing = s.views.targets(&filter, &AsOf::Now, &Page { after, limit: 2 }).await.unwrap();
            assert!(listing.items.len() <= 2);
            paged.extend(listing.items.iter().map(|line| serde_json::from_str::<Value>(line.body.get()).unwrap()));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "{filter:?}");
    }
    let error = s.views.targets(&Filter::default(), &AsOf::Now, &Page { after: Some("iris".into()), limit: 2 }).await.unwrap_err();
    assert!(matches!(error, Error::Cursor(_)), "{error}");
}

/// As an older build has left it: with the other views, and no tables of this one.
async fn a_database_from_before_gets_the_view(base: Base) {
    let dir = base.home().await;
    let mut s = Story::begin(dir.open().await).await;
    s.ask("d1", "iris/1", "a").await.up("d1").await;
    let before = dir.dump("deployments").await;
    s.views.close().await;
    for gone in [
        "DROP TABLE deployments",
        "DROP TABLE deployments_requested",
        "DELETE FROM positions WHERE view = 'deployments'",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
    ] {
        dir.sql(gone).await;
    }
    if base == Base::Postgres {
        dir.sql("DELETE FROM views WHERE view = 'deployments'").await;
    }
    let views = dir.open().await;
    assert!(views.positions("deployments").await.unwrap().is_empty() && !views.positions("registry").await.unwrap().is_empty());
    apply_all(&views, &s.journal.entries).await;
    assert_eq!(dir.dump("deployments").await, before);
}
