//! The index made anew beside the old one, and put in its place in one step: readers see the one or the other, and both whole.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::bulk::{Bulk, Outcome};
use super::cluster::{Body, Trouble, Verb};
use super::index::{Index, Place, filling};
use super::pages::Pages;
use super::{Kept, Searcher};
use crate::runner::Runner;

/// Pauses before a request is sent again double from the first one; at the second one it is given up.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_END: Duration = Duration::from_secs(20);
/// How long it waits for the view to have what the journal has.
const VIEW_MAX: Duration = Duration::from_secs(30);
/// How long questions that are under way may still read the old index.
const GRACE: Duration = Duration::from_secs(1);

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reindexed {
    /// The new index.
    pub index: Index,
    /// How many documents were sent.
    pub documents: u64,
}

impl Searcher {
    /// Makes the index anew; `progress` is told how many documents are done, of how many.
    ///
    /// # Errors
    /// [`Trouble`]: the old index is as it was.
    pub async fn reindex(self: &Arc<Self>, mut progress: impl FnMut(u64, u64) + Send) -> Result<Reindexed, Trouble> {
        let _one = self.anew.try_lock().map_err(|_| Trouble::Reindexing)?;
        let runner = (self.runner)().ok_or_else(|| Trouble::Views("the views are not open".into()))?;
        if !self.state().keeps {
            return Err(Trouble::Elsewhere);
        }
        // a look that is under way may make an index where there is none: it ends before, and the next one knows
        let gate = self.gate.lock().await;
        let _mark = Mark::set(self);
        drop(gate);
        let ends = self.ends().ok_or_else(|| Trouble::Views("the journal is still being read".into()))?;
        let ends: Vec<_> = ends.into_iter().collect();
        if !runner.wait_for(annals_projections::search::NAME, &ends, VIEW_MAX).await {
            return Err(Trouble::Views("the view `search` does not have all of the journal yet".into()));
        }
        let journal = self.door.journal().id();
        for name in self.cluster.unread(&self.alias, journal).await? {
            self.cluster.remove(&name).await?;
        }
        let old = match self.cluster.look(&self.alias, journal).await {
            Ok(Place::Ours(index)) => Some(index.name),
            Ok(Place::Free) => None,
            Err(Trouble::Changed(_)) => Some(self.behind_alias().await?),
            Err(trouble) => return Err(trouble),
        };
        let mut new = self.make_next(old.as_deref()).await?;
        let done = self.fill(&mut new, &runner, old.as_deref(), &mut progress).await;
        match done {
            Ok(documents) => {
                if let Some(old) = old {
                    let searcher = Arc::clone(self);
                    tokio::spawn(async move {
                        tokio::time::sleep(GRACE).await;
                        let _ = searcher.cluster.remove(&old).await; // otherwise the next start does
                    });
                }
                Ok(Reindexed { index: new, documents })
            }
            Err(trouble) => {
                // a switch whose answer was lost may come yet: what may be read is left to the next start, or the next reindex
                let is_open = matches!(trouble, Trouble::Away(..) | Trouble::Red(_) | Trouble::Busy(_));
                if !is_open && self.reads(&new.name).await == Some(false) {
                    let _ = self.cluster.remove(&new.name).await;
                }
                Err(trouble)
            }
        }
    }

    /// The index that our alias names, although it is not as we make it.
    async fn behind_alias(&self) -> Result<String, Trouble> {
        let text = self.cluster.get(Verb::Get, &format!("/_alias/{}", self.alias), Body::None).await?;
        let found: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|e| Trouble::Refused(200, e.to_string()))?;
        found.into_keys().next().ok_or_else(|| Trouble::Refused(404, "the alias is gone".into()))
    }

    /// Whether our alias names this index; `None` if the cluster does not say.
    async fn reads(&self, name: &str) -> Option<bool> {
        let answer = self.cluster.ask(Verb::Get, &format!("/_alias/{}", self.alias), Body::None).await.ok()?;
        let found = || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&answer.text).ok();
        match answer.status {
            404 => Some(false),
            200 => Some(found()?.contains_key(name)),
            _ => None,
        }
    }

    /// Fills the new index, and puts it in the place of the old one when it has all that this has.
    async fn fill(
        &self,
        new: &mut Index,
        runner: &Runner,
        old: Option<&str>,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<u64, Trouble> {
        let of = runner.views().documents().await.map_err(|e| Trouble::Views(e.to_string()))?;
        let mut documents = self.copy(new, runner, |done| progress(done, of.max(done))).await?;
        // what changed while it was filled, which may be much
        documents += self.copy(new, runner, |_| ()).await?;
        let settings = json!({"index": {"refresh_interval": "1s"}}).to_string();
        self.cluster.get(Verb::Put, &format!("/{}/_settings", new.name), Body::Json(settings)).await?;
        // from here on the old index stands still
        let mut kept = self.gate.lock().await;
        documents += self.copy(new, runner, |_| ()).await?;
        new.meta.complete = true;
        self.cluster.note(new).await?;
        self.cluster.show(&new.name).await?;
        if let Err(trouble) = self.switch(new, old).await
            && self.reads(&new.name).await != Some(true)
        {
            return Err(trouble);
        }
        self.tell(new.meta.positions.clone());
        self.stand().index = Some(new.clone());
        *kept = Kept { index: Some(new.clone()), ..Kept::default() };
        self.hurry.notify_one();
        Ok(documents)
    }

    /// Sends what the new index lacks.
    async fn copy(&self, new: &mut Index, runner: &Runner, mut progress: impl FnMut(u64)) -> Result<u64, Trouble> {
        let mut pages = Pages::begin(runner.views(), &new.meta.positions).await?;
        let (mut documents, mut batch) = (0, pages.next().await?);
        let alias = filling(&self.alias);
        while let Some(now) = batch {
            let sent = now.bulk.len() as u64;
            let (outcome, next) = tokio::join!(self.insist(&alias, &now.bulk), pages.next());
            self.took(&mut new.meta, outcome?);
            new.meta.positions.extend(now.reached);
            new.meta.seals.extend(now.sealed);
            documents += sent;
            progress(documents);
            batch = next?;
        }
        Ok(documents)
    }

    /// Sends a request again, after growing pauses, while the cluster cannot take it.
    async fn insist(&self, alias: &str, bulk: &Bulk) -> Result<Outcome, Trouble> {
        let mut pause = PAUSE_MIN;
        loop {
            match self.cluster.send(alias, bulk).await {
                Err(Trouble::Busy(_) | Trouble::Red(_) | Trouble::Away(..)) if pause < PAUSE_END => {}
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// One step of the cluster: no reader is between the two.
    async fn switch(&self, new: &Index, old: Option<&str>) -> Result<(), Trouble> {
        let mut actions = vec![
            json!({"add": {"index": new.name, "alias": self.alias}}),
            json!({"remove": {"index": new.name, "alias": filling(&self.alias)}}),
        ];
        actions.extend(old.map(|old| json!({"remove": {"index": old, "alias": self.alias}})));
        self.cluster.get(Verb::Post, "/_aliases", Body::Json(json!({"actions": actions}).to_string())).await.map(drop)
    }
}

/// While it lives, the state says that the index is being made anew.
struct Mark<'a>(&'a Searcher);

impl<'a> Mark<'a> {
    fn set(searcher: &'a Searcher) -> Self {
        searcher.stand().reindexing = true;
        Self(searcher)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.stand().reindexing = false;
    }
}
