//! The verdicts that were told lately, by source and id: for callers who come back and ask.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use annals_events::verdict::Verdict;

/// How many are remembered; an older one is in the topic, and an accepted one in the timeline.
const KEPT_MAX: usize = 200_000;

/// See the module.
#[derive(Default)]
pub struct Index {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_name: HashMap<Name, (u32, Verdict)>,
    order: VecDeque<(Name, u64)>,
}

/// Source and id.
type Name = (Box<str>, Box<str>);

impl Index {
    /// Remembers a verdict; a later one on the same proposal takes its place.
    pub fn remember(&self, partition: u32, verdict: &Verdict) {
        if verdict.id.is_empty() {
            return; // nobody could ask for it
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let name: Name = (verdict.source.as_str().into(), verdict.id.as_str().into());
        if inner.by_name.get(&name).is_some_and(|(known, kept)| *known == partition && kept.src > verdict.src) {
            return; // read later, told earlier
        }
        inner.order.push_back((name.clone(), verdict.src));
        inner.by_name.insert(name, (partition, verdict.clone()));
        while inner.order.len() > KEPT_MAX
            && let Some((name, src)) = inner.order.pop_front()
        {
            if inner.by_name.get(&name).is_some_and(|(_, kept)| kept.src == src) {
                inner.by_name.remove(&name);
            }
        }
    }

    /// The last verdict on a proposal, and its partition.
    pub fn find(&self, source: &str, id: &str) -> Option<(u32, Verdict)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_name.get(&(source.into(), id.into())).cloned()
    }
}
