//! What the actor asks the registry: to converge it must know what is wanted now. The arbiter decides
//! all the same; an answer that is old costs a proposal that is refused, never a wrong event.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use annals_events::names::{VersionRef, partition_of};
use annals_projections::deployments::documents::Target;
use annals_projections::{AsOf, Doc, Page, deployments};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::arbiter::door::Door;
use crate::runner::Runner;
use crate::world::RunnerNow;

/// How long the view may take to come so far.
const BEHIND_MAX: Duration = Duration::from_secs(5);
const VIEW: &str = "registry";

/// Who is asked.
pub struct Registry {
    door: Arc<Door>,
    runner: RunnerNow,
}

/// What is known of a model.
#[derive(Debug, Default)]
pub struct Known {
    /// What its channels hold.
    pub channels: Vec<Held>,
    /// Its deployments, also those that ended.
    pub deployments: Vec<Deployment>,
}

/// What a channel holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// Of which model; its name alone.
    pub model: String,
    /// The channel.
    pub channel: String,
    /// The version.
    pub version: u64,
    /// Count of the promotion among the model's events.
    pub modelseq: u64,
}

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub deployment: String,
    /// The version.
    pub version: u64,
    /// `platform/cluster/namespace/name`.
    pub target: String,
    /// The channel that it serves.
    pub channel: Option<String>,
    /// `requested`, `active` and so on.
    pub state: String,
    /// Count of the event that made it what it is.
    pub modelseq: u64,
}

/// What a template needs of a version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The digest.
    pub digest: Option<String>,
    /// Where it is.
    pub uri: Option<String>,
}

impl Known {
    /// What a channel holds.
    #[must_use]
    pub fn held(&self, channel: &str) -> Option<&Held> {
        self.channels.iter().find(|held| held.channel == channel)
    }

    /// A deployment.
    #[must_use]
    pub fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.deployment == id)
    }

    /// Those on a target that are in use.
    pub fn active<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a Deployment> {
        self.deployments.iter().filter(move |d| d.target == target && d.state == "active")
    }
}

impl Registry {
    /// Asks the views, once they are open.
    #[must_use]
    pub fn new(door: Arc<Door>, runner: RunnerNow) -> Self {
        Self { door, runner }
    }

    /// The views, as far as the journal is now; about one model, if there is a key.
    async fn current(&self, view: &str, key: Option<&str>) -> Result<Arc<Runner>, String> {
        let runner = (self.runner)().ok_or("the views are not open yet")?;
        let heads = self.door.heads();
        let about = key.map(|key| partition_of(key, u32::try_from(heads.len()).unwrap_or(u32::MAX)));
        let wanted = heads.into_iter().filter(|head| about.is_none_or(|partition| head.partition == partition));
        let heads: Vec<(u32, u64)> = wanted.filter_map(|head| Some((head.partition, head.seq?))).collect();
        if runner.wait_for(view, &heads, BEHIND_MAX).await {
            return Ok(runner);
        }
        Err(format!("the view `{view}` is more than {} s behind", BEHIND_MAX.as_secs()))
    }

    /// What is known of a model now.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn model(&self, key: &str) -> Result<Known, String> {
        let runner = self.current(VIEW, Some(key)).await?;
        let views = runner.views();
        let channels = views.channels(key, &AsOf::Now).await.map_err(|e| e.to_string())?.iter().map(read).collect::<Result<_, _>>()?;
        let (mut deployments, mut page) = (Vec::new(), Page { after: None, limit: 1000 });
        loop {
            let found = views.deployments(key, &AsOf::Now, &page).await.map_err(|e| e.to_string())?;
            for doc in &found.items {
                deployments.push(read(doc)?);
            }
            page.after = found.next;
            if page.after.is_none() {
                return Ok(Known { channels, deployments });
            }
        }
    }

    /// One version of a model that was registered before [`Registry::model`] was asked: that does not change.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn version(&self, key: &str, version: u64) -> Result<Version, String> {
        let runner = (self.runner)().ok_or("the views are not open yet")?;
        let found = runner.views().version(key, &VersionRef::Number(version), &AsOf::Now).await.map_err(|e| e.to_string())?;
        found.as_ref().map(read).transpose()?.ok_or_else(|| format!("{key} has no version {version}"))
    }

    /// The targets in a namespace that were found changed or missing.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn amiss(&self, cluster: &str, namespace: &str) -> Result<HashSet<String>, String> {
        let runner = self.current(deployments::NAME, None).await?;
        let mut found = HashSet::new();
        for state in ["changed", "missing"] {
            let target = Some(format!("kubernetes/{cluster}/{namespace}/*"));
            let filter = deployments::Filter { state: Some(state.into()), target, ..deployments::Filter::default() };
            let mut page = Page { after: None, limit: 1000 };
            loop {
                let some = runner.views().targets(&filter, &AsOf::Now, &page).await.map_err(|e| e.to_string())?;
                found.extend(some.items.iter().map(|line| String::from(&*line.target)));
                page.after = some.next;
                if page.after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// How a model's target is, and the position of the event that made it so.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn target(&self, key: &str, target: &str) -> Result<Option<(String, String)>, String> {
        let runner = self.current(deployments::NAME, Some(key)).await?;
        let workspace = key.split_once('/').map(|(workspace, _)| workspace.to_owned());
        let filter = deployments::Filter { workspace, target: Some(target.into()), ..deployments::Filter::default() };
        let found = runner.views().targets(&filter, &AsOf::Now, &Page { after: None, limit: 100 }).await.map_err(|e| e.to_string())?;
        let Some(line) = found.items.iter().find(|line| *line.key == *key) else { return Ok(None) };
        let target: Target = serde_json::from_str(line.body.get()).map_err(|e| unreadable(&e))?;
        Ok(Some((target.state.into(), target.cause.position.into())))
    }

    /// What a channel holds, of every model of a workspace.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn channel(&self, workspace: &str, channel: &str) -> Result<Vec<Held>, String> {
        let runner = self.current(VIEW, None).await?;
        let (mut all, mut page) = (Vec::new(), Page { after: None, limit: 1000 });
        loop {
            let found = runner.views().channel_across_models(Some(workspace), channel, &AsOf::Now, &page).await;
            let found = found.map_err(|e| e.to_string())?;
            for doc in &found.items {
                all.push(read(doc)?);
            }
            page.after = found.next;
            if page.after.is_none() {
                return Ok(all);
            }
        }
    }
}

fn read<T: DeserializeOwned>(doc: &Doc) -> Result<T, String> {
    serde_json::from_str(doc.body.get()).map_err(|e| unreadable(&e))
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the answer of a view cannot be read: {error}")
}
