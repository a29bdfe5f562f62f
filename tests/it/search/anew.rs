//! The index made anew while it is written and read: readers see the one or the other, and both whole.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{Index, found, home, indexed, search, version};
use crate::stage::eventually;

const BEFORE: u64 = 150;

#[test]
fn readers_never_see_half_of_an_index_that_is_made_anew() {
    for index in Index::both() {
        let dir = home();
        let engine = index.engine(&dir, &[]);
        (1..=BEFORE).for_each(|n| drop(version(&engine, &format!("model-{}", n % 10), n, "flowers")));
        indexed(&engine);
        let (done, written, asked) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            // through the engine, and as others ask the cluster
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = engine.get("/v1/search?q=flowers&limit=1000").ok(200);
                    assert!(found(&answer).len() >= BEFORE as usize, "{} of {BEFORE}", found(&answer).len());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = index.done("GET", &format!("/{}/_count?q=label:v*", index.name), Value::Null);
                    assert!(answer["count"].as_u64().unwrap() >= BEFORE, "{answer}");
                }
            });
            scope.spawn(|| {
                // no more than fit on a page
                while !done.load(Ordering::Relaxed) && written.load(Ordering::Relaxed) < 700 {
                    let n = written.fetch_add(1, Ordering::Relaxed) as u64;
                    version(&engine, "written", 10_000 + n, "flowers");
                }
            });
            let told: Vec<_> = (2..=4).map(|_| engine.annals(&["search", "reindex", "--json"])).collect();
            done.store(true, Ordering::Relaxed);
            for (n, told) in (2..).zip(told) {
                assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
                let made: Value = serde_json::from_slice(&told.stdout).unwrap();
                assert_eq!(made["index"], json!(format!("{}-{n:06}", index.name)));
            }
        });
        indexed(&engine);
        let all = usize::try_from(BEFORE).unwrap() + written.load(Ordering::Relaxed);
        assert_eq!(found(&search(&engine, "flowers").ok(200)).len(), all);
        assert!(asked.load(Ordering::Relaxed) > 3);
        eventually("only the last index is left", || index.indexes() == [format!("{}-000004", index.name)]);
    }
}

#[test]
fn what_a_reindex_left_that_was_broken_off_is_removed() {
    let [index, _] = Index::both();
    let dir = home();
    let engine = index.engine(&dir, &[]);
    (1..=5).for_each(|n| drop(version(&engine, "iris", n, "flowers")));
    indexed(&engine);
    engine.kill();
    // as it lies there when the engine dies: an index of this journal that nobody reads
    let ours = index.done("GET", &format!("/{}", index.name), Value::Null);
    let meta = &ours[format!("{}-000001", index.name)]["mappings"]["_meta"];
    let (filling, left) = (format!("{}-filling", index.name), format!("/{}-000002", index.name));
    index.done("PUT", &left, json!({"aliases": {filling: {}}, "mappings": {"_meta": meta}}));
    let engine = index.engine(&dir, &[]);
    eventually("it is removed", || index.indexes() == [format!("{}-000001", index.name)]);
    indexed(&engine);
    assert_eq!(found(&search(&engine, "flowers").ok(200)).len(), 5);
}
