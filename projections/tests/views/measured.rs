//! Measurements of versions in use: which are told, and that a registry from before gets them.

use annals_projections::Views;
use annals_projections::registry::MEASUREMENTS_MAX;
use serde_json::{Value, json};

use crate::home::{Base, on_both};
use crate::journal::{Journal, apply_all};

on_both! {
    the_last_measurement_of_each_metric_is_told_while_the_version_is_in_use
    only_the_newest_measurements_are_looked_at
    a_registry_from_before_is_made_again_with_its_measurements
}

fn registered(j: &mut Journal, model: &str, versions: u64) {
    for n in 1..=versions {
        j.say("registered", model, json!({"artifact": {"uri": "file:///a", "digest": format!("sha256:{n:064}")}}));
    }
}

fn measured(j: &mut Journal, subject: &str, metric: &str, value: f64) {
    j.say("measured", subject, json!({"metric": metric, "value": value}));
}

/// Key, version, channel, metric and value, the newest first.
async fn told(views: &Views, journal: &Journal) -> Vec<Value> {
    apply_all(views, &journal.entries).await;
    let all = views.measured().await.unwrap();
    all.iter().map(|m| json!([m.key, m.version, m.channel, m.metric, m.value])).collect()
}

async fn the_last_measurement_of_each_metric_is_told_while_the_version_is_in_use(base: Base) {
    let (dir, mut j) = (base.home().await, Journal::new());
    let views = dir.open().await;
    registered(&mut j, "iris", 2);
    measured(&mut j, "iris/1", "accuracy", 0.97);
    measured(&mut j, "iris", "accuracy", 0.5);
    assert!(told(&views, &j).await.is_empty(), "version 1 is not in use, and the other measurement is of no version");
    j.say("promoted", "iris/1", json!({"channel": "production"}));
    assert_eq!(told(&views, &j).await, [json!(["default/iris", 1, "production", "accuracy", 0.97])]);
    measured(&mut j, "iris/1", "psi", 0.25);
    measured(&mut j, "iris/1", "accuracy", 0.9);
    let now = [json!(["default/iris", 1, "production", "accuracy", 0.9]), json!(["default/iris", 1, "production", "psi", 0.25])];
    assert_eq!(told(&views, &j).await, now);

    // on a target it is in use too, once a channel, and without one where the target serves none
    let target = |name: &str| json!({"platform": "local", "name": name});
    j.say("deployment-requested", "iris/1", json!({"deployment": "d1", "target": target("a"), "channel": "production"}));
    j.say("deployed", "iris", json!({"deployment": "d1"}));
    j.say("deployment-requested", "iris/2", json!({"deployment": "d2", "target": target("b")}));
    j.say("measured", "iris", json!({"metric": "accuracy", "value": 0.8, "deployment": "d2"}));
    assert_eq!(told(&views, &j).await, now, "what was only asked for is not in use");
    j.say("deployed", "iris", json!({"deployment": "d2"}));
    let two = json!(["default/iris", 2, null, "accuracy", 0.8]);
    assert_eq!(told(&views, &j).await, [std::slice::from_ref(&two), &now[..]].concat());

    j.say("demoted", "iris/1", json!({"channel": "production", "reason": "tired"}));
    assert_eq!(told(&views, &j).await.len(), 3, "version 1 still runs");
    j.say("deployment-removed", "iris", json!({"deployment": "d1", "reason": "tired"}));
    assert_eq!(told(&views, &j).await, [two]);
    views.close().await;
}

async fn only_the_newest_measurements_are_looked_at(base: Base) {
    let (dir, mut j) = (base.home().await, Journal::new());
    let views = dir.open().await;
    registered(&mut j, "iris", 1);
    registered(&mut j, "tulip", 1);
    j.say("promoted", "iris/1", json!({"channel": "production"})).say("promoted", "tulip/1", json!({"channel": "dev"}));
    measured(&mut j, "iris/1", "accuracy", 0.5);
    for n in 1..MEASUREMENTS_MAX {
        measured(&mut j, "tulip/1", &format!("metric-{n}"), 1.0);
    }
    let all = told(&views, &j).await;
    assert_eq!((all.len(), &all.last().unwrap()[0]), (MEASUREMENTS_MAX as usize, &json!("default/iris")));
    measured(&mut j, "tulip/1", "one more", 1.0);
    let all = told(&views, &j).await;
    assert_eq!((all.len(), &all[0][3]), (MEASUREMENTS_MAX as usize, &json!("one more")));
    assert!(!all.iter().any(|m| m[0] == "default/iris"), "the oldest one is out");
    views.close().await;
}

/// As an older build has left it: at its position, without the table of measurements.
async fn a_registry_from_before_is_made_again_with_its_measurements(base: Base) {
    let (dir, mut j) = (base.home().await, Journal::new());
    let views = dir.open().await;
    registered(&mut j, "iris", 1);
    j.say("promoted", "iris/1", json!({"channel": "production"}));
    measured(&mut j, "iris/1", "accuracy", 0.9);
    let before = told(&views, &j).await;
    assert_eq!(before.len(), 1);
    views.close().await;
    let dumped = dir.dump("registry").await;
    dir.sql("DROP TABLE registry_measurements").await;
    dir.sql("DELETE FROM _sqlx_migrations WHERE version = 3").await;
    let views = dir.open().await;
    assert!(views.positions("registry").await.unwrap().is_empty() && !views.positions("timeline").await.unwrap().is_empty());
    assert_eq!(told(&views, &j).await, before);
    views.close().await;
    assert_eq!(dir.dump("registry").await, dumped);
}
