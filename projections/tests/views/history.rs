//! As-of: the answer for a point in the past is the answer that was given then.

use annals_events::time::Timestamp;
use annals_projections::timeline::Order;
use annals_projections::{AsOf, NAMES, Page};

use crate::answers::answers;
use crate::home::{Base, on_both};
use crate::journal::{MINUTE, PARTITIONS, START, apply_all, iris, tulip, value};

on_both! {
    the_state_at_each_position_is_that_of_a_view_which_stopped_there
    a_time_is_the_last_event_recorded_at_or_before_it_in_each_partition
    what_was_in_production_on_a_date_is_one_question
}

const KEYS: [&str; 4] = ["default/iris", "default/tulip", "other/iris", "default/_system"];

async fn the_state_at_each_position_is_that_of_a_view_which_stopped_there(base: Base) {
    let (dir, full_dir, mut journal) = (base.home().await, base.home().await, iris());
    tulip(&mut journal);
    let (views, full) = (dir.open().await, full_dir.open().await);
    apply_all(&full, &journal.entries).await;
    let mut points = vec![(AsOf::At(Vec::new()), answers(&views, &KEYS, &AsOf::Now, 100).await)];
    for entry in &journal.entries {
        apply_all(&views, std::slice::from_ref(entry)).await;
        let pinned = views.pinned("registry").await.unwrap();
        let now = answers(&views, &KEYS, &AsOf::Now, 100).await;
        assert_eq!(answers(&views, &KEYS, &pinned, 100).await, now, "the last position is now");
        points.push((pinned, now));
    }
    assert!(points.windows(2).filter(|two| two[0].1 != two[1].1).count() > 30, "almost every event changes an answer");
    for (at, then) in points {
        assert_eq!(answers(&full, &KEYS, &at, 100).await, then, "at {at}");
    }
}

async fn a_time_is_the_last_event_recorded_at_or_before_it_in_each_partition(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    for minutes in -1..40 {
        for millis in [0, 1, MINUTE - 1] {
            let time = Timestamp(START + minutes * MINUTE + millis);
            let expected = (0..PARTITIONS).map(|partition| {
                let of = journal.entries.iter().filter(|e| e.partition == partition).map(|e| e.record.view().unwrap());
                of.filter(|v| v.recorded <= time).map(|v| v.seq).max()
            });
            let AsOf::At(found) = views.as_of(&time.to_string()).await.unwrap() else { panic!("a time is not now") };
            assert_eq!(found, expected.collect::<Vec<_>>(), "{time}");
        }
    }
    assert_eq!(views.as_of("0:3,2:1").await.unwrap(), AsOf::At(vec![Some(3), None, Some(1)]));
    assert!(views.as_of("last week").await.is_err());
}

async fn what_was_in_production_on_a_date_is_one_question(base: Base) {
    let (dir, journal) = (base.home().await, iris());
    let views = dir.open().await;
    apply_all(&views, &journal.entries).await;
    let recorded = async |summary: &str| {
        let lines = views.timeline(Order::Oldest, &AsOf::Now, &Page::default()).await.unwrap().items;
        lines.into_iter().find(|l| l.summary == summary).unwrap().recorded
    };
    let production = async |time: &str| {
        let at = views.as_of(time).await.unwrap();
        let held = views.channel_across_models(None, "production", &at, &Page::default()).await.unwrap();
        held.items
            .iter()
            .map(|d| (value(d)["workspace"].clone(), value(d)["model"].clone(), value(d)["version"].clone()))
            .collect::<Vec<_>>()
    };
    let iris = |version: u64| ("default".into(), "iris".into(), version.into());
    let first = recorded("promoted version 1 to production").await;
    let second = recorded("promoted version 2 to production, displacing version 1").await;
    assert_eq!(production("2026-03-01T12:00:00Z").await, []);
    assert_eq!(production(&first).await, [iris(1)]);
    assert_eq!(production(&second).await, [iris(2)]);
    assert_eq!(production("2027-01-01T00:00:00+02:00").await, [iris(2), ("other".into(), "iris".into(), 1.into())]);
    let here = views.channel_across_models(Some("other"), "production", &AsOf::Now, &Page::default()).await.unwrap();
    assert_eq!(here.items.len(), 1);
    // search alone has no past to be asked about
    assert_eq!(NAMES.len(), 5, "a new view needs its questions here");
}
