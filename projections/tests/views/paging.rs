//! Pages: complete, without repetition, and not moved by what is written meanwhile.

use annals_projections::page::LIMIT_MAX;
use annals_projections::timeline::Order;
use annals_projections::{AsOf, Error, Page};
use serde_json::json;

use crate::home::{Base, on_both};
use crate::journal::{Journal, apply_all, value};

on_both! {
    models_are_listed_once_each_while_others_are_written
    versions_and_lines_are_paged_in_both_directions
    a_page_has_a_limit_and_a_cursor_of_another_listing_is_refused
}

fn page(after: Option<String>, limit: u32) -> Page {
    Page { after, limit }
}

fn register(journal: &mut Journal, model: &str) {
    journal.say("registered", model, json!({"artifact": {"uri": "file:///a"}}));
}

async fn models_are_listed_once_each_while_others_are_written(base: Base) {
    let (dir, mut journal) = (base.home().await, Journal::new());
    let views = dir.open().await;
    (0..25).for_each(|n| register(&mut journal, &format!("m{n:02}")));
    register(&mut journal, "other/hidden");
    apply_all(&views, &journal.entries).await;
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let listing = views.models("default", &AsOf::Now, &page(after, 10)).await.unwrap();
        found.extend(listing.items.iter().map(|d| value(d)["name"].as_str().unwrap().to_owned()));
        pages += 1;
        // a model before the cursor, and a change of one behind it
        register(&mut journal, &format!("a{pages}"));
        register(&mut journal, "m24");
        apply_all(&views, &journal.entries).await;
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..25).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
    assert_eq!(pages, 3);
}

async fn versions_and_lines_are_paged_in_both_directions(base: Base) {
    let (dir, mut journal) = (base.home().await, Journal::new());
    let views = dir.open().await;
    (0..12).for_each(|_| register(&mut journal, "iris"));
    register(&mut journal, "tulip");
    apply_all(&views, &journal.entries).await;

    let first = views.versions("default/iris", &AsOf::Now, &page(None, 5)).await.unwrap();
    let second = views.versions("default/iris", &AsOf::Now, &page(first.next, 1000)).await.unwrap();
    let numbers: Vec<_> = first.items.iter().chain(&second.items).map(|d| value(d)["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    assert!(second.next.is_none());

    for order in [Order::Oldest, Order::Newest] {
        let at = views.pinned("timeline").await.unwrap();
        let whole = views.timeline(order, &at, &page(None, 1000)).await.unwrap().items;
        assert_eq!(whole.len(), journal.entries.len());
        let (mut found, mut of_model, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let listing = views.timeline(order, &at, &page(after, 4)).await.unwrap();
            found.extend(listing.items);
            register(&mut journal, "tulip");
            apply_all(&views, &journal.entries).await;
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, whole, "{order:?}");
        loop {
            let listing = views.timeline_of("default/iris", order, &at, &page(after, 5)).await.unwrap();
            of_model.extend(listing.items.iter().map(|l| l.version.unwrap()));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        if order == Order::Newest {
            of_model.reverse();
        }
        assert_eq!(of_model, (1..=12).collect::<Vec<_>>(), "{order:?}");
    }
}

async fn a_page_has_a_limit_and_a_cursor_of_another_listing_is_refused(base: Base) {
    let (dir, mut journal) = (base.home().await, Journal::new());
    let views = dir.open().await;
    (0..=LIMIT_MAX).for_each(|_| register(&mut journal, "iris"));
    apply_all(&views, &journal.entries).await;
    let listing = views.versions("default/iris", &AsOf::Now, &page(None, u32::MAX)).await.unwrap();
    assert_eq!(listing.items.len(), LIMIT_MAX as usize);
    assert_eq!(listing.next.as_deref(), Some("1000"));
    assert_eq!(views.versions("default/iris", &AsOf::Now, &page(None, 0)).await.unwrap().items.len(), 1);
    let wrong = || page(Some("iris".into()), 10);
    assert!(matches!(views.versions("default/iris", &AsOf::Now, &wrong()).await, Err(Error::Cursor(_))));
    assert!(matches!(views.timeline(Order::Oldest, &AsOf::Now, &wrong()).await, Err(Error::Cursor(_))));
    assert!(matches!(views.timeline_of("default/iris", Order::Oldest, &AsOf::Now, &wrong()).await, Err(Error::Cursor(_))));
}
