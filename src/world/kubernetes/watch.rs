//! What happens on a cluster without us: objects that somebody made, changed or removed by hand.

mod judge;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as follow};
use serde_json::Value;
use tokio::sync::watch;

use super::cluster::{Target, Trouble, as_json, resource, trouble};
use super::mark::Mark;
use super::template::{Made, NAMESPACE};
use super::{Deployer, target};
use crate::world::rule::fit::matches;
use crate::world::rule::{Do, Format, Kubernetes, Rule};

/// What could not be judged is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// What is changed or missing is looked at after this time too: it may be right by a rule that was changed.
const AMISS: Duration = Duration::from_secs(15);
/// The channels, in the order of the events' rules.
const CHANNELS: [&str; 3] = annals_events::model::CHANNELS;

/// The rules that are in force, on the instance that acts; empty on others.
pub type Rules = Arc<Vec<Arc<Rule>>>;
/// Is told that there is news for the job of a rule and a lane.
pub type News = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What one watcher looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// Whether at InferenceServices, not at Deployments.
    pub kserve: bool,
}

/// Watches every namespace that a rule names, until told to stop.
pub async fn run(deployer: Arc<Deployer>, mut rules: watch::Receiver<Rules>, news: News, mut stopping: watch::Receiver<bool>) {
    let mut watched: BTreeMap<Place, tokio::task::JoinHandle<()>> = BTreeMap::new();
    loop {
        let wanted = places(&rules.borrow_and_update());
        watched.retain(|place, task| {
            let stays = wanted.contains(place);
            if !stays {
                task.abort();
                deployer.trouble_at(place, None);
            }
            stays
        });
        for place in wanted {
            watched.entry(place.clone()).or_insert_with(|| {
                let eye = Eye {
                    deployer: Arc::clone(&deployer),
                    rules: rules.clone(),
                    news: Arc::clone(&news),
                    place,
                    seen: HashMap::new(),
                    listed: HashSet::new(),
                    undone: HashMap::new(),
                    amiss: None,
                    amiss_seen: Instant::now(),
                };
                tokio::spawn(eye.watch())
            });
        }
        tokio::select! {
            changed = rules.changed() => if changed.is_err() { break },
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    watched.into_values().for_each(|task| task.abort());
}

fn places(rules: &Rules) -> BTreeSet<Place> {
    let mut found = BTreeSet::new();
    for (_, kubernetes) in rules.iter().filter_map(of_kubernetes) {
        let place = place(kubernetes);
        found.insert(Place { kserve: false, ..place.clone() });
        found.insert(place);
    }
    found
}

/// Where a rule makes its objects, and of which kind.
fn place(rule: &Kubernetes) -> Place {
    let kserve = match &rule.template {
        Some(template) => template.contains("InferenceService"),
        None => rule.format == Some(Format::InferenceService),
    };
    Place { cluster: rule.cluster.clone(), namespace: namespace(rule), kserve }
}

fn namespace(rule: &Kubernetes) -> String {
    rule.namespace.clone().unwrap_or_else(|| NAMESPACE.into())
}

fn of_kubernetes(rule: &Arc<Rule>) -> Option<(&Rule, &Kubernetes)> {
    match &rule.act {
        Do::Kubernetes(kubernetes) => Some((rule, kubernetes)),
        _ => None,
    }
}

/// One watcher.
struct Eye {
    deployer: Arc<Deployer>,
    rules: watch::Receiver<Rules>,
    news: News,
    place: Place,
    /// By uid, what was judged.
    seen: HashMap<String, Seen>,
    /// Names that the current list has.
    listed: HashSet<String>,
    /// What could not be judged yet, by name.
    undone: HashMap<String, Undone>,
    /// The targets that were told to be changed or missing; nothing until the journal was asked.
    amiss: Option<HashSet<String>>,
    /// When those were last looked at.
    amiss_seen: Instant,
}

/// An object as it was judged.
struct Seen {
    generation: i64,
    /// What it said of itself.
    mark: Option<Mark>,
    /// Which fields of it were ours, as JSON; empty if it is none of ours.
    owned: Box<str>,
}

/// What could not be judged when it was seen.
struct Undone {
    object: Value,
    is_gone: bool,
    since: Instant,
}

impl Eye {
    async fn watch(mut self) {
        loop {
            let deployer = Arc::clone(&self.deployer);
            let client = match deployer.cluster(&self.place.cluster) {
                Ok(cluster) => cluster.client().await,
                Err(trouble) => Err(trouble),
            };
            match client {
                Ok(client) => {
                    self.follow(client).await;
                    if let Ok(cluster) = deployer.cluster(&self.place.cluster) {
                        cluster.forget().await;
                    }
                }
                Err(trouble) => drop(deployer.trouble_at(&self.place, Some(trouble.to_string()))),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn made(&self) -> Made {
        if self.place.kserve { Made::InferenceService } else { Made::Deployment }
    }

    async fn follow(&mut self, client: kube::Client) {
        let api: Api<DynamicObject> = Api::namespaced_with(client, &self.place.namespace, &resource(self.made(), None));
        let mut events = std::pin::pin!(follow(api, watcher::Config::default()).default_backoff());
        let mut again = tokio::time::interval(AGAIN / 5);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        let is_stranger = event.as_ref().is_err_and(says_stranger);
                        self.hear(event).await;
                        if is_stranger {
                            return; // with the credentials that the configuration has by then
                        }
                    }
                    None => return,
                },
                _ = again.tick() => {
                    self.look_again().await;
                    if self.amiss_seen.elapsed() >= AMISS {
                        self.look_at_amiss().await;
                    }
                }
            }
        }
    }

    async fn hear(&mut self, event: Result<Event<DynamicObject>, watcher::Error>) {
        match event {
            Ok(Event::Init) => {
                self.listed.clear();
                self.amiss = None;
            }
            Ok(Event::InitApply(object)) => {
                self.listed.extend(object.metadata.name.clone());
                self.judge(&object, false).await;
            }
            Ok(Event::Apply(object)) => self.judge(&object, false).await,
            Ok(Event::Delete(object)) => self.judge(&object, true).await,
            Ok(Event::InitDone) => {
                self.deployer.trouble_at(&self.place, None);
                if let Err(why) = self.missing().await {
                    tracing::warn!(place = ?self.place, "what is missing there could not be judged: {why}");
                }
                self.look_at_amiss().await;
            }
            Err(error) => {
                let text = error.to_string();
                if self.deployer.trouble_at(&self.place, Some(text.clone())) {
                    tracing::warn!(place = ?self.place, "it cannot be watched: {text}");
                }
            }
        }
    }

    async fn judge(&mut self, seen: &DynamicObject, is_gone: bool) {
        let Ok(object) = as_json(seen) else { return };
        if !is_gone {
            self.tell(&object);
        }
        if let Some(why) = self.judged(object, is_gone, false).await {
            tracing::debug!(place = ?self.place, name = seen.metadata.name, "looked at again later: {why}");
        }
    }

    /// Tells the job that waits for this object, if one does, what became of it.
    fn tell(&self, object: &Value) {
        let here = self.target(text(object, "/metadata/name"));
        if !self.deployer.sight.saw(&here.path(), self.made(), object) {
            return;
        }
        if let Some(rule) = Mark::of(object).and_then(|mark| self.rule_of(&mark, &here)) {
            (self.news)(&rule.id(), &here.path());
        }
    }

    /// Judges what was seen, for the first time or `again`; why it must be looked at once more, if it must.
    async fn judged(&mut self, object: Value, is_gone: bool, again: bool) -> Option<String> {
        let name = text(&object, "/metadata/name").to_owned();
        let judged = if is_gone { self.gone(&object, again).await } else { self.look(&object).await };
        match &judged {
            Ok(()) => drop(self.undone.remove(&name)),
            Err(_) => drop(self.undone.insert(name, Undone { object, is_gone, since: Instant::now() })),
        }
        judged.err()
    }

    async fn look_again(&mut self) {
        let due: Vec<(String, Undone)> = self.undone.extract_if(|_, undone| undone.since.elapsed() >= AGAIN).collect();
        for (name, Undone { object, is_gone, .. }) in due {
            if let Some(why) = self.judged(object, is_gone, true).await {
                tracing::warn!(place = ?self.place, name, "it could not be judged: {why}");
            }
        }
    }

    fn target(&self, name: &str) -> Target {
        Target { cluster: self.place.cluster.clone(), namespace: self.place.namespace.clone(), name: name.into() }
    }

    /// The rule that would bring this model's channel to this target.
    fn rule_of(&self, mark: &Mark, to: &Target) -> Option<Arc<Rule>> {
        let (workspace, model) = mark.model.split_once('/')?;
        let channel = mark.channel.as_deref()?;
        let rules = self.rules.borrow();
        let fits = |rule: &&Arc<Rule>| {
            of_kubernetes(rule).is_some_and(|(rule, k)| {
                rule.workspace == workspace
                    && rule.when.model.as_deref().is_none_or(|p| matches(p, model))
                    && target(k, model, channel) == *to
            })
        };
        rules.iter().find(fits).cloned()
    }
}

/// Whether the cluster does not know who watches.
fn says_stranger(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause)) = error
    else {
        return false;
    };
    matches!(trouble(cause), Trouble::Stranger(_))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
