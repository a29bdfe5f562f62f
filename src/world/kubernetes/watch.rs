//! What happens on a cluster without us: objects that somebody made, changed or removed by hand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals_events::kind::Kind;
use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as follow};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::cluster::{Applying, Cluster, MANAGER, Target, Trouble, as_json, resource, trouble};
use super::fields;
use super::finding::{Finding, manager};
use super::mark::Mark;
use super::registry::Known;
use super::template::{Made, Manifest, NAMESPACE};
use super::{Deployer, Putting, count_of, manifest, target};
use crate::world::propose::{NotProposed, Wanted};
use crate::world::rule::fit::matches;
use crate::world::rule::{Do, Format, Kubernetes, Rule};

/// What could not be judged is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(5);
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
                _ = again.tick() => self.look_again().await,
            }
        }
    }

    async fn hear(&mut self, event: Result<Event<DynamicObject>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.listed.clear(),
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

    async fn look(&mut self, object: &Value) -> Result<(), String> {
        let made_by_others = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|o| !o.is_empty());
        let is_engine = object.pointer("/metadata/labels/app.kubernetes.io~1part-of").and_then(Value::as_str) == Some("annals");
        if made_by_others || is_engine || object.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(());
        }
        let (uid, generation) =
            (text(object, "/metadata/uid").to_owned(), object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0));
        let (before, mark) = (self.seen.get(&uid), Mark::of(object));
        let is_new = before.is_none_or(|before| before.generation != generation);
        if !is_new && before.is_some_and(|before| before.mark == mark) {
            return Ok(());
        }
        let owned = before.filter(|before| before.mark == mark).and_then(|before| serde_json::from_str(&before.owned).ok());
        let owned: Map<String, Value> = owned.unwrap_or_default();
        let here = self.target(text(object, "/metadata/name"));
        let is_ours = match &mark {
            Some(mark) => self.deployer.made(&here, mark).await?,
            None => false,
        };
        match mark.as_ref().filter(|_| is_ours) {
            // what it says of itself is another thing, and nothing else of it
            _ if !is_new => {}
            None => {
                let tag = format!("created {uid}");
                let finding = Finding { word: "created", key: None, target: here, object, fields: BTreeMap::new(), tag, reason: None };
                self.report(&finding).await?;
            }
            Some(mark) => self.changed(object, mark, &here, &format!("changed {uid} {generation}"), &owned).await?,
        }
        let owned = if is_ours { Value::Object(fields::owned(object)).to_string().into() } else { Box::default() };
        self.seen.insert(uid, Seen { generation, mark, owned });
        Ok(())
    }

    /// Whether somebody else took fields of ours and made them other than they should be, or removed some that were `owned`.
    async fn changed(&self, object: &Value, mark: &Mark, here: &Target, tag: &str, owned: &Map<String, Value>) -> Result<(), String> {
        let mut removed = fields::missing(owned, object);
        if manager(object).is_none() && removed.is_empty() {
            return Ok(()); // we and the controllers alone wrote it
        }
        let Some(rule) = self.rule_of(mark, here) else { return Ok(()) };
        let Do::Kubernetes(kubernetes) = &rule.act else { return Ok(()) };
        let (_, model) = mark.model.split_once('/').unwrap_or_default();
        let details = self.deployer.registry.version(&mark.model, mark.version).await?;
        let channel = mark.channel.clone().unwrap_or_default();
        let Ok(mut wanted) = manifest(kubernetes, here, model, &channel, (mark.version, &details)) else { return Ok(()) };
        mark.put_on(&mut wanted);
        let cluster = self.deployer.cluster(&here.cluster).map_err(|t| t.to_string())?;
        let (mut fields, mut put) = match would_be(cluster, here, &wanted, false).await? {
            // what we created is ours, though it was not applied yet
            Err(Trouble::Owned(mut fields)) => {
                fields.retain(|_, owner| owner != MANAGER);
                (fields, None)
            }
            put => (BTreeMap::new(), put.ok()),
        };
        if !removed.is_empty() {
            if put.is_none() {
                put = would_be(cluster, here, &wanted, true).await?.ok();
            }
            // only what we would put back: the rest the server does not keep, or the rule does not want any more
            let still = put.map(|put| fields::missing(owned, &put));
            removed.retain(|field| still.as_ref().is_some_and(|still| !still.contains(field)));
            // a field that is not there says nothing of who removed it
            fields.extend(removed.into_iter().map(|field| (field, String::new())));
        }
        if fields.is_empty() {
            return Ok(());
        }
        let reason = kubernetes.heal.then(|| format!("put right by the rule {}", rule.name));
        let finding =
            Finding { word: "changed", key: Some(mark.model.clone()), target: here.clone(), object, fields, tag: tag.into(), reason };
        self.report(&finding).await?;
        if kubernetes.heal {
            self.deployer.put(here, &wanted, mark, Putting { force: true, ..Putting::default() }).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// One of ours is gone: by us, when the registry knows of it, or by somebody else. Where no rule wants it any more we may
    /// be about to say so.
    async fn gone(&mut self, object: &Value, again: bool) -> Result<(), String> {
        self.seen.remove(text(object, "/metadata/uid"));
        let Some(mark) = Mark::of(object) else { return Ok(()) };
        let here = self.target(text(object, "/metadata/name"));
        if !again && self.rule_of(&mark, &here).is_none() {
            return Err("no rule wants it there: perhaps it was taken away".into());
        }
        let known = self.deployer.registry.model(&mark.model).await?;
        self.lost(&known, &mark.model, mark.channel.as_deref(), &here, object, Some(&mark)).await
    }

    /// Says that what is wanted on a target is not there, if it is wanted there.
    async fn lost(
        &self,
        known: &Known,
        key: &str,
        channel: Option<&str>,
        here: &Target,
        object: &Value,
        mark: Option<&Mark>,
    ) -> Result<(), String> {
        let path = here.path();
        let Some(deployment) = known.active(&path).next() else { return Ok(()) };
        let held = channel.and_then(|channel| known.held(channel));
        if channel.is_some() && held.is_none() {
            return Ok(()); // a demotion is under way
        }
        let mark = mark.cloned().unwrap_or_else(|| Mark {
            model: key.into(),
            channel: channel.map(Into::into),
            event: deployment.deployment.clone(),
            position: String::new(),
            modelseq: deployment.modelseq,
            ..Mark::default()
        });
        let mark = Mark { version: deployment.version, deployment: deployment.deployment.clone(), ..mark };
        let rule = self.rule_of(&mark, here);
        let heals = rule.as_ref().and_then(|rule| of_kubernetes(rule)).filter(|(_, k)| k.heal);
        let uid = text(object, "/metadata/uid");
        let tag = format!("removed {} {} {uid}", deployment.deployment, deployment.modelseq);
        let reason = heals.map(|(rule, _)| format!("put back by the rule {}", rule.name));
        let finding =
            Finding { word: "removed", key: Some(key.into()), target: here.clone(), object, fields: BTreeMap::new(), tag, reason };
        self.report(&finding).await?;
        let Some((_, kubernetes)) = heals else { return Ok(()) };
        let details = self.deployer.registry.version(key, deployment.version).await?;
        let (_, model) = key.split_once('/').unwrap_or_default();
        let wanted =
            manifest(kubernetes, here, model, channel.unwrap_or_default(), (deployment.version, &details)).map_err(|e| e.to_string())?;
        let mark = Mark { digest: details.digest, ..mark };
        self.deployer.put(here, &wanted, &mark, Putting::default()).await.map(|_| ()).map_err(|e| e.to_string())
    }

    /// What should be there, by every rule for this place, and is not in the list.
    async fn missing(&self) -> Result<(), String> {
        let rules: Vec<Arc<Rule>> = self.rules.borrow().iter().cloned().collect();
        for rule in &rules {
            let Some((rule, kubernetes)) = of_kubernetes(rule) else { continue };
            if place(kubernetes) != self.place {
                continue;
            }
            for channel in CHANNELS.into_iter().filter(|c| rule.when.channel.as_deref().is_none_or(|p| matches(p, c))) {
                for held in self.deployer.registry.channel(&rule.workspace, channel).await? {
                    let to = target(kubernetes, &held.model, channel);
                    if rule.when.model.as_deref().is_some_and(|p| !matches(p, &held.model)) || self.listed.contains(&to.name) {
                        continue;
                    }
                    let key = format!("{}/{}", rule.workspace, held.model);
                    let known = self.deployer.registry.model(&key).await?;
                    if known.active(&to.path()).any(|d| count_of(rule, &d.deployment).is_some()) {
                        self.lost(&known, &key, Some(channel), &to, &Value::Null, None).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn report(&self, finding: &Finding<'_>) -> Result<(), String> {
        let rules = self.rules.borrow().clone();
        let here =
            rules.iter().filter_map(of_kubernetes).find(|(_, k)| k.cluster == self.place.cluster && namespace(k) == self.place.namespace);
        let Some((rule, _)) = here else { return Ok(()) };
        let subject = finding.key.clone().unwrap_or_else(|| format!("{}/_system", rule.workspace));
        let wanted = Wanted { kind: Kind::DeploymentObserved, subject, data: finding.data(), tag: finding.tag.clone() };
        match self.deployer.proposer.outside(&format!("trigger:{}", rule.name), &wanted).await {
            Ok(_) => Ok(()),
            // It is no deployment of that model any more: nothing is wrong then.
            Err(NotProposed::Refused(refusal)) => {
                tracing::info!(target = finding.target.path(), "not recorded as {}: {}", finding.word, refusal.message);
                Ok(())
            }
            Err(NotProposed::Unsettled(why)) => Err(why),
        }
    }
}

/// What the object would be if this were applied; an error if that cannot be asked now.
async fn would_be(cluster: &Cluster, here: &Target, wanted: &Manifest, force: bool) -> Result<Result<Value, Trouble>, String> {
    match cluster.apply(here, wanted, None, &Applying { force, dry_run: true }).await {
        Err(trouble @ (Trouble::Away(_) | Trouble::Denied(_))) => Err(trouble.to_string()),
        answer => Ok(answer),
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
