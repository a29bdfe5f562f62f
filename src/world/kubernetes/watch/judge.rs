//! What was done to an object without us: made, changed, removed, put back; and what a rule that heals does about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use annals_events::kind::Kind;
use serde_json::{Map, Value};

use super::{CHANNELS, Eye, Seen, namespace, of_kubernetes, place, text};
use crate::world::kubernetes::cluster::{Applying, MANAGER, Target, Trouble, resource};
use crate::world::kubernetes::finding::{Finding, manager};
use crate::world::kubernetes::mark::Mark;
use crate::world::kubernetes::registry::Known;
use crate::world::kubernetes::template::Manifest;
use crate::world::kubernetes::{Putting, count_of, fields, manifest, target};
use crate::world::propose::{NotProposed, Wanted};
use crate::world::rule::Rule;
use crate::world::rule::fit::matches;

impl Eye {
    pub(super) async fn look(&mut self, object: &Value) -> Result<(), String> {
        let made_by_others = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|o| !o.is_empty());
        let is_engine = object.pointer("/metadata/labels/app.kubernetes.io~1part-of").and_then(Value::as_str) == Some("annals");
        if made_by_others || is_engine || object.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(());
        }
        let (uid, generation) = (text(object, "/metadata/uid").to_owned(), generation_of(object));
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
            Some(mark) => {
                self.changed(object, mark, &here, &format!("changed {uid} {generation}"), &owned).await?;
                self.restored(object, mark, &here).await?;
            }
        }
        let owned = if is_ours { Value::Object(fields::owned(object)).to_string().into() } else { Box::default() };
        self.seen.insert(uid, Seen { generation, mark, owned });
        Ok(())
    }

    /// Whether somebody else took fields of ours and made them other than they should be, or removed some that were `owned`.
    async fn changed(&mut self, object: &Value, mark: &Mark, here: &Target, tag: &str, owned: &Map<String, Value>) -> Result<(), String> {
        let mut removed = fields::missing(owned, object);
        if manager(object).is_none() && removed.is_empty() {
            return Ok(()); // we and the controllers alone wrote it
        }
        let Some((rule, wanted)) = self.wanted(mark, here).await? else { return Ok(()) };
        let heal = of_kubernetes(&rule).is_some_and(|(_, kubernetes)| kubernetes.heal);
        let (mut fields, mut put) = self.against(here, &wanted).await?;
        if !removed.is_empty() {
            if put.is_none() {
                put = self.would_be(here, &wanted, true).await?.ok();
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
        let reason = heal.then(|| format!("put right by the rule {}", rule.name));
        let finding =
            Finding { word: "changed", key: Some(mark.model.clone()), target: here.clone(), object, fields, tag: tag.into(), reason };
        self.report(&finding).await?;
        self.amiss.as_mut().map(|amiss| amiss.insert(here.path()));
        if heal {
            self.deployer.put(here, &wanted, mark, Putting { force: true, ..Putting::default() }).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Whether an object that was told to be changed or missing is as it should be again, whoever made it so.
    async fn restored(&mut self, object: &Value, mark: &Mark, here: &Target) -> Result<(), String> {
        let path = here.path();
        if !self.amiss.as_ref().is_some_and(|amiss| amiss.contains(&path)) {
            return Ok(());
        }
        let known = self.deployer.registry.model(&mark.model).await?;
        match known.deployment(&mark.deployment).map(|deployment| &*deployment.state) {
            Some("requested") => return Ok(()), // it is on its way
            Some("active") => {
                let Some((_, wanted)) = self.wanted(mark, here).await? else { return Ok(()) };
                let (fields, put) = self.against(here, &wanted).await?;
                if !fields.is_empty() || !put.is_some_and(|put| has_all(object, &put)) {
                    return Ok(());
                }
                let tag = format!("restored {} {}", text(object, "/metadata/uid"), generation_of(object));
                let key = Some(mark.model.clone());
                let finding = Finding { word: "restored", key, target: here.clone(), object, fields, tag, reason: None };
                self.report(&finding).await?;
            }
            _ => {} // another one came since, and told so itself
        }
        self.amiss.as_mut().map(|amiss| amiss.remove(&path));
        Ok(())
    }

    /// Looks at what was told to be changed or missing; what cannot be asked now is asked the next time.
    pub(super) async fn look_at_amiss(&mut self) {
        self.amiss_seen = Instant::now();
        if self.amiss.is_none() {
            self.amiss = self.deployer.registry.amiss(&self.place.cluster, &self.place.namespace).await.ok();
        }
        for path in self.amiss.iter().flatten().cloned().collect::<Vec<_>>() {
            let here = self.target(path.rsplit('/').next().unwrap_or_default());
            let Ok(cluster) = self.deployer.cluster(&self.place.cluster) else { return };
            let Ok(Some(object)) = cluster.get(&here, &resource(self.made(), None)).await else { continue };
            let Some(mark) = Mark::of(&object) else { continue };
            if let Err(why) = self.restored(&object, &mark, &here).await {
                tracing::debug!(place = ?self.place, name = here.name, "looked at again later: {why}");
            }
        }
    }

    /// Which fields others made other than this, and what the object would be, if nobody did.
    async fn against(&self, here: &Target, wanted: &Manifest) -> Result<(BTreeMap<String, String>, Option<Value>), String> {
        match self.would_be(here, wanted, false).await? {
            Err(Trouble::Owned(mut fields)) => {
                // what we created is ours, though it was not applied yet
                fields.retain(|_, owner| owner != MANAGER);
                let put = if fields.is_empty() { self.would_be(here, wanted, true).await?.ok() } else { None };
                Ok((fields, put))
            }
            put => Ok((BTreeMap::new(), put.ok())),
        }
    }

    /// What the object would be if this were applied; an error if that cannot be asked now.
    async fn would_be(&self, here: &Target, wanted: &Manifest, force: bool) -> Result<Result<Value, Trouble>, String> {
        let cluster = self.deployer.cluster(&here.cluster).map_err(|t| t.to_string())?;
        match cluster.apply(here, wanted, None, &Applying { force, dry_run: true }).await {
            Err(trouble @ (Trouble::Away(_) | Trouble::Denied(_) | Trouble::Stranger(_) | Trouble::Moved)) => Err(trouble.to_string()),
            answer => Ok(answer),
        }
    }

    /// What a rule wants to be there, if one does and knows how.
    async fn wanted(&self, mark: &Mark, here: &Target) -> Result<Option<(Arc<Rule>, Manifest)>, String> {
        let Some(rule) = self.rule_of(mark, here) else { return Ok(None) };
        let Some((_, kubernetes)) = of_kubernetes(&rule) else { return Ok(None) };
        let (_, model) = mark.model.split_once('/').unwrap_or_default();
        let details = self.deployer.registry.version(&mark.model, mark.version).await?;
        let channel = mark.channel.as_deref().unwrap_or_default();
        let Ok(mut wanted) = manifest(kubernetes, here, model, channel, (mark.version, &details)) else { return Ok(None) };
        mark.put_on(&mut wanted);
        Ok(Some((rule, wanted)))
    }

    /// One of ours is gone: by us, when the registry knows of it, or by somebody else. Where no rule wants it any more we may
    /// be about to say so.
    pub(super) async fn gone(&mut self, object: &Value, again: bool) -> Result<(), String> {
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
        &mut self,
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
        // of what nobody saw go it is known only how the target was: that tells one time from the next
        let was = if object.is_null() { self.deployer.registry.target(key, &path).await.ok().flatten() } else { None };
        let (state, position) = was.unwrap_or_default();
        if state != "missing" {
            let tag = format!("removed {} {} {}{position}", deployment.deployment, deployment.modelseq, text(object, "/metadata/uid"));
            let reason = heals.map(|(rule, _)| format!("put back by the rule {}", rule.name));
            let (key, fields) = (Some(key.into()), BTreeMap::new());
            self.report(&Finding { word: "removed", key, target: here.clone(), object, fields, tag, reason }).await?;
        }
        self.amiss.as_mut().map(|amiss| amiss.insert(path.clone()));
        let Some((_, kubernetes)) = heals else { return Ok(()) };
        let details = self.deployer.registry.version(key, deployment.version).await?;
        let (_, model) = key.split_once('/').unwrap_or_default();
        let wanted =
            manifest(kubernetes, here, model, channel.unwrap_or_default(), (deployment.version, &details)).map_err(|e| e.to_string())?;
        let mark = Mark { digest: details.digest, ..mark };
        self.deployer.put(here, &wanted, &mark, Putting::default()).await.map(|_| ()).map_err(|e| e.to_string())
    }

    /// What should be there, by every rule for this place, and is not in the list.
    pub(super) async fn missing(&mut self) -> Result<(), String> {
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

/// Whether an object has each field of ours that it would have by being applied; some the server does not keep.
fn has_all(object: &Value, put: &Value) -> bool {
    let ours = fields::owned(put);
    let unkept = fields::missing(&ours, put);
    fields::missing(&ours, object).iter().all(|field| unkept.contains(field))
}

fn generation_of(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}
