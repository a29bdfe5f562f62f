//! Every question that can be asked, and its answers as text.

use annals_events::names::VersionRef;
use annals_projections::deployments::{Filter, STATES};
use annals_projections::timeline::Order;
use annals_projections::{AsOf, Listing, Page, Views};
use serde::Serialize;

/// Workspaces of the models that are asked for.
const WORKSPACES: [&str; 2] = ["default", "other"];
const CHANNELS: [&str; 3] = ["dev", "staging", "production"];

fn json(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).unwrap()
}

/// All pages of a listing, each as text.
async fn pages<T: Serialize>(limit: u32, ask: impl AsyncFn(Page) -> Listing<T>) -> String {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let listing = ask(Page { after, limit }).await;
        all.push(json(&listing));
        after = listing.next;
        if after.is_none() {
            return all.join("\n");
        }
    }
}

/// Targets by each thing that they may be asked by.
fn filters() -> Vec<Filter> {
    let of = |workspace: &str| Filter { workspace: Some(workspace.into()), ..Filter::default() };
    let mut all = vec![Filter::default(), Filter { channel: Some("production".into()), ..Filter::default() }];
    all.extend(WORKSPACES.map(of));
    all.extend(STATES.map(|state| Filter { state: Some(state.into()), ..of("default") }));
    all.push(Filter { target: Some("*/s*".into()), ..of("default") });
    all
}

/// All answers about these models, as text. `limit` is the size of a page.
pub async fn answers(views: &Views, keys: &[&str], as_of: &AsOf, limit: u32) -> String {
    let mut all = Vec::new();
    for workspace in WORKSPACES {
        all.push(pages(limit, async |page| views.models(workspace, as_of, &page).await.unwrap()).await);
    }
    for filter in filters() {
        all.push(pages(limit, async |page| views.targets(&filter, as_of, &page).await.unwrap()).await);
    }
    for channel in CHANNELS {
        for workspace in [None, Some("default"), Some("other")] {
            all.push(pages(limit, async |page| views.channel_across_models(workspace, channel, as_of, &page).await.unwrap()).await);
        }
    }
    for key in keys {
        all.push(of_model(views, key, as_of, limit).await);
    }
    for order in [Order::Oldest, Order::Newest] {
        all.push(pages(limit, async |page| views.timeline(order, as_of, &page).await.unwrap()).await);
    }
    all.join("\n")
}

async fn of_model(views: &Views, key: &str, as_of: &AsOf, limit: u32) -> String {
    let mut all = vec![
        json(&views.model(key, as_of).await.unwrap()),
        json(&views.channels(key, as_of).await.unwrap()),
        json(&views.aliases(key, as_of).await.unwrap()),
        pages(limit, async |page| views.versions(key, as_of, &page).await.unwrap()).await,
        pages(limit, async |page| views.drifts(key, as_of, &page).await.unwrap()).await,
    ];
    for order in [Order::Oldest, Order::Newest] {
        all.push(pages(limit, async |page| views.timeline_of(key, order, as_of, &page).await.unwrap()).await);
    }
    for channel in CHANNELS {
        all.push(json(&views.channel(key, channel, as_of).await.unwrap()));
    }
    for alias in views.aliases(key, as_of).await.unwrap() {
        let alias = crate::journal::value(&alias)["alias"].as_str().unwrap().to_owned();
        all.push(json(&views.alias(key, &alias, as_of).await.unwrap()));
    }
    let deployments = async |page: Page| views.deployments(key, as_of, &page).await.unwrap();
    all.push(pages(limit, deployments).await);
    for deployment in deployments(Page::default()).await.items {
        let id = crate::journal::value(&deployment)["deployment"].as_str().unwrap().to_owned();
        all.push(json(&views.deployment(key, &id, as_of).await.unwrap()));
    }
    for version in views.versions(key, as_of, &Page::default()).await.unwrap().items {
        let version = crate::journal::value(&version);
        let named = |member: &str| version[member].as_str().map(String::from);
        let names =
            [version["version"].as_u64().map(VersionRef::Number), named("label").map(VersionRef::Label), named("run").map(VersionRef::Run)];
        for name in names.into_iter().flatten() {
            all.push(json(&views.version(key, &name, as_of).await.unwrap()));
        }
        all.push(json(&views.lineage(key, version["version"].as_u64().unwrap(), as_of).await.unwrap()));
    }
    for line in views.timeline_of(key, Order::Oldest, as_of, &Page::default()).await.unwrap().items {
        all.push(json(&views.timeline_event(&line.source, &line.event).await.unwrap()));
    }
    all.join("\n")
}
