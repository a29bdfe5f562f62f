//! What one arbiter told its callers, and whether it could know; and a disk that keeps snapshots.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use annals_events::ledger::Ledger;
use annals_events::model::Decided;
use annals_events::record::{Hash, View};
use annals_events::verdict::{Outcome, Place, Verdict};

use super::Simulated;
use crate::arbiter::snapshot::{Snapshot, Snapshots};
use crate::arbiter::{Listener, Status};
use crate::journal::Located;

/// All that one life of an arbiter said.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Whose life.
    pub name: String,
    /// Of which partition.
    pub partition: u32,
    /// Events that it told of, in order: the place, the hash, and the answer to the caller.
    pub events: Vec<(u64, Hash, Verdict)>,
    /// Verdicts that it told of.
    pub told: Vec<Verdict>,
    /// Answers that nothing in the journal supported at that moment.
    pub early: Vec<String>,
    /// What it was doing last.
    pub status: Status,
    /// Its state at the end, if it lived until then.
    pub ledger: Option<Ledger>,
}

/// A listener that compares everything it hears with what is visible just then.
pub struct Ears {
    journal: Arc<Simulated>,
    heard: Arc<Mutex<Heard>>,
}

impl Ears {
    /// A listener, and what it will have heard.
    pub fn new(journal: &Arc<Simulated>, name: String, partition: u32) -> (Box<Self>, Arc<Mutex<Heard>>) {
        let heard =
            Heard { name, partition, events: Vec::new(), told: Vec::new(), early: Vec::new(), status: Status::Standby, ledger: None };
        let heard = Arc::new(Mutex::new(heard));
        (Box::new(Self { journal: Arc::clone(journal), heard: Arc::clone(&heard) }), heard)
    }
}

/// Looks at what was heard.
pub fn open(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Ears {
    fn accepted(&mut self, located: &Located, view: &View<'_>, decided: &Decided) {
        let mut heard = open(&self.heard);
        let hash = located.record.hash();
        if !self.journal.shows_record(heard.partition, hash) {
            heard.early.push(format!("seq {} was told as accepted, and no record with that hash is visible", view.seq));
        }
        let place = Place { seq: view.seq, modelseq: view.modelseq, version: decided.version() };
        let src = view.src.unwrap_or(u64::MAX);
        let answer = Verdict { src, id: view.id.into(), source: view.source.into(), outcome: Outcome::Accepted(place) };
        heard.events.push((view.seq, hash, answer));
    }

    fn told(&mut self, verdict: &Verdict) {
        let mut heard = open(&self.heard);
        if !self.journal.shows_verdict(heard.partition, verdict) {
            heard.early.push(format!("the verdict on src {} was told and is not visible", verdict.src));
        }
        heard.told.push(verdict.clone());
    }

    fn moved(&mut self, _: &Ledger, status: &Status) {
        open(&self.heard).status = status.clone();
    }
}

/// Snapshots as bytes, so that they can be damaged.
#[derive(Default)]
pub struct Disk {
    kept: Mutex<HashMap<u32, Vec<Vec<u8>>>>,
}

impl Disk {
    /// Lets something happen to a partition's snapshots, oldest first.
    pub fn tamper(&self, partition: u32, how: impl FnOnce(&mut Vec<Vec<u8>>)) {
        how(self.kept.lock().unwrap_or_else(PoisonError::into_inner).entry(partition).or_default());
    }
}

impl Snapshots for Disk {
    fn save(&self, snapshot: Snapshot) -> io::Result<()> {
        let bytes = snapshot.encode()?;
        self.tamper(snapshot.ledger.partition, |kept| {
            kept.push(bytes);
            if kept.len() > 2 {
                kept.remove(0);
            }
        });
        Ok(())
    }

    fn kept(&self, partition: u32) -> Vec<Snapshot> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&partition).into_iter().flatten().rev().filter_map(|bytes| Snapshot::decode(bytes)).collect()
    }
}
