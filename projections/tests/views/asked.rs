//! What the doors ask, and what they get.

use annals_events::names::VersionRef;
use annals_projections::timeline::Order;
use annals_projections::{AsOf, Page};

use crate::home::{Base, on_both};
use crate::journal::{Journal, apply_all, iris, tulip, value};

on_both! {
    the_registry_has_the_documents_of_a_whole_life
    the_timeline_reads_as_sentences_and_shows_refused_attempts
    a_rollback_shows_what_runs_again_and_rules_are_no_model
    the_lineage_of_a_version_goes_back_to_data_and_code_and_on_to_deployments
}

const NOW: &AsOf = &AsOf::Now;

async fn the_registry_has_the_documents_of_a_whole_life(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;

    let model = views.model("default/iris", NOW).await.unwrap().unwrap();
    let m = value(&model);
    assert_eq!(m["owner"], "ada");
    assert_eq!(m["latest_version"], 2);
    assert_eq!(m["channels"], serde_json::json!({"dev": 1, "production": 2}));
    assert_eq!(m["aliases"], serde_json::json!({}));
    assert_eq!(m["health"], "healthy");
    assert_eq!(m["open_retrains"], serde_json::json!([]));
    assert_eq!(m["modelseq"], model.modelseq);

    let one = views.version("default/iris", &VersionRef::Number(1), NOW).await.unwrap().unwrap();
    assert!(one.body.get().contains(r#""performance":[{"name":"accuracy","value":0.97}]"#), "{}", one.body);
    let v = value(&one);
    assert_eq!((&v["label"], &v["status"], &v["run"]), (&"1.0".into(), &"registered".into(), &"run-1".into()));
    assert_eq!(v["channels"], serde_json::json!(["dev"]), "a retired version that is promoted is in use again");
    assert!(v.get("retired").is_none());
    assert_eq!(v["evaluations"][0]["verdict"], "passed");
    assert_eq!(v["approvals"][0]["state"], "approved");
    assert_eq!(v["approvals"][0]["approver"], "grace");
    for name in [VersionRef::Label("2.0".into()), VersionRef::Run("run-2".into())] {
        let two = views.version("default/iris", &name, NOW).await.unwrap().unwrap();
        assert_eq!(value(&two)["version"], 2, "{name}");
    }
    let unpinned = views.version("other/iris", &VersionRef::Number(1), NOW).await.unwrap().unwrap();
    assert_eq!((&value(&unpinned)["unpinned"], &value(&unpinned)["external_run"]), (&true.into(), &true.into()));

    let production = value(&views.channel("default/iris", "production", NOW).await.unwrap().unwrap());
    assert_eq!((&production["version"], &production["previous"]), (&2.into(), &1.into()));
    let channels = views.channels("default/iris", NOW).await.unwrap();
    assert_eq!(channels.iter().map(|c| value(c)["channel"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), ["dev", "production"]);
    assert!(views.aliases("default/iris", NOW).await.unwrap().is_empty());

    let deployments = views.deployments("default/iris", NOW, &Page::default()).await.unwrap();
    let states: Vec<_> = deployments.items.iter().map(|d| value(d)["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["superseded", "failed", "removed"]);
    let first = value(&deployments.items[0]);
    assert_eq!((&first["endpoint"], &first["replaced_by"]), (&"http://127.0.0.1:1/".into(), &"d3".into()));
    let drift = value(&views.drifts("default/iris", NOW, &Page::default()).await.unwrap().items[0]);
    assert_eq!((&drift["state"], &drift["reason"], &drift["version"]), (&"resolved".into(), &"retrained".into(), &1.into()));
    assert!(views.model("default/nobody", NOW).await.unwrap().is_none());
}

async fn a_rollback_shows_what_runs_again_and_rules_are_no_model(base: Base) {
    let (dir, mut journal) = (base.home().await, Journal::new());
    tulip(&mut journal);
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let listed = views.deployments("default/tulip", NOW, &Page::default()).await.unwrap();
    let [first, second, third] = [0, 1, 2].map(|n| value(&listed.items[n]));
    assert_eq!([&first["state"], &second["state"], &third["state"]], ["active", "rolled_back", "rolled_back"]);
    assert!(first["ended"].is_null() && first["replaced_by"].is_null(), "{first}");
    assert_eq!(
        (&first["active"], &second["ended"]),
        (&second["ended"], &first["active"]),
        "it came up again when the other was taken back"
    );
    assert_eq!((&second["error"], &second["replaces"], &second["replaced_by"]), (&"503".into(), &"t1".into(), &"t1".into()));
    assert_eq!((&third["error"], &third["replaced_by"]), (&serde_json::Value::Null, &"t2".into()));
    // what others did is counted, and changes nothing
    assert_eq!(views.model("default/tulip", NOW).await.unwrap().unwrap().modelseq, 15);
    let lineage = views.lineage("default/tulip", 1, NOW).await.unwrap().unwrap();
    let node = lineage.nodes.iter().find(|node| node.id == "deployment:default/tulip/t1").unwrap();
    assert_eq!(node.about["state"], "active");

    let models = views.models("default", NOW, &Page::default()).await.unwrap();
    assert_eq!(models.items.iter().map(|m| value(m)["name"].clone()).collect::<Vec<_>>(), ["tulip"]);
    assert!(views.model("default/_system", NOW).await.unwrap().is_none());
    let mut told = Vec::new();
    for key in ["default/tulip", "default/_system", "other/_system"] {
        told.extend(views.timeline_of(key, Order::Oldest, NOW, &Page::default()).await.unwrap().items.into_iter().map(|l| l.summary));
    }
    for line in [
        "rolled back deployment t3 of version 3: deployment t2 is there now",
        "found kubernetes/kind/ml/tulip changed by kubectl-edit, where deployment t2 is",
        "rolled back deployment t2 of version 2 (503): deployment t1 is there now",
        "found kubernetes/kind/ml/stray created by kubectl-create, where nothing of ours is",
        "set the subscription deployer in force (revision 1)",
        "set the trigger tell in force (revision 1)",
        "paused the trigger tell (revision 2)",
        "paused the subscription x (revision 1)",
    ] {
        assert!(told.iter().any(|summary| summary == line), "{line} is not in {told:#?}");
    }
}

async fn the_timeline_reads_as_sentences_and_shows_refused_attempts(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let lines = views.timeline_of("default/iris", Order::Oldest, NOW, &Page::default()).await.unwrap().items;
    let has = |text: &str| assert!(lines.iter().any(|l| l.summary.contains(text)), "{text} is not in {:#?}", lines);
    has("trained in run run-1: accuracy 0.97");
    has("looked up the commit abc123 of run run-2 in https://example.org/iris: found (main, v2.0)");
    has("registered version 2 (2.0) from run run-2");
    has("promoted version 2 to production, displacing version 1");
    has("rolled back to version 1 in production, displacing version 2");
    has("deployed version 2 (deployment d3), replacing deployment d1");
    has("detected data drift f1 of version 1: accuracy 0.61, threshold 0.8");
    has("deployment d2 of version 2 failed: no memory");
    has("approved version 1 for production (approval a1), decided by grace");
    let refused = lines.iter().find(|l| l.refused.is_some()).unwrap();
    assert_eq!((refused.kind.as_str(), refused.refused.as_deref()), ("version.retired", Some("version-held")));
    assert_eq!((refused.reason.as_deref(), refused.version), (Some("too early"), Some(1)));
    let promoted = lines.iter().find(|l| l.reason.as_deref() == Some("better")).unwrap();
    assert_eq!((promoted.actor.as_str(), promoted.occurred.as_deref()), ("unverified:ada", Some("2026-03-01T11:00:00Z")));
}

async fn the_lineage_of_a_version_goes_back_to_data_and_code_and_on_to_deployments(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let lineage = views.lineage("default/iris", 2, NOW).await.unwrap().unwrap();
    let edges: Vec<_> = lineage.edges.iter().map(|e| format!("{} {} {}", e.source, e.relation, e.target)).collect();
    let (data, code) = (format!("data:sha256:{:064}", 900), "code:https://example.org/iris@abc123");
    for edge in [
        format!("{data} training run:default/iris/run-2"),
        format!("{code} built run:default/iris/run-2"),
        "data:file:///s.csv used run:default/iris/run-2".into(),
        "run:default/iris/run-2 produced version:default/iris/2".into(),
        "version:default/iris/2 deployed deployment:default/iris/d3".into(),
        // trained from version 1, which it named by its label
        "version:default/iris/1 parent run:default/iris/run-2".into(),
        "run:default/iris/run-1 produced version:default/iris/1".into(),
        "run:default/iris/elsewhere parent run:default/iris/run-1".into(),
    ] {
        assert!(edges.contains(&edge), "{edge} is not in {edges:#?}");
    }
    assert!(!edges.iter().any(|e| e.contains("deployment:default/iris/d1") || e.contains("tulip") || e.contains("label:")), "{edges:#?}");
    let node = |id: &str| lineage.nodes.iter().find(|n| n.id == id).unwrap_or_else(|| panic!("{id} is not in {:#?}", lineage.nodes));
    assert_eq!(node("deployment:default/iris/d3").about["state"], "removed");
    assert_eq!(node("version:default/iris/1").about["status"], "registered");
    assert_eq!((&node(&data).about["name"], &node(&data).about["rows"]), (&"iris".into(), &150.into()));
    let run = node("run:default/iris/run-2");
    assert_eq!((&run.about["commit_is"], &run.about["tags"]), (&"found".into(), &serde_json::json!(["v2.0"])));
    assert!(!lineage.truncated);

    let first = views.lineage("default/iris", 1, NOW).await.unwrap().unwrap();
    let downstream = ["deployment:default/iris/d1", "run:default/iris/run-2", "version:default/iris/2", "deployment:default/iris/d3"];
    assert!(downstream.iter().all(|id| first.nodes.iter().any(|n| n.id == *id)), "{:#?}", first.nodes);
    assert!(views.lineage("default/iris", 3, NOW).await.unwrap().is_none());
}
