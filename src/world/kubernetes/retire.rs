//! A demotion: what served the channel goes away.

use annals_events::kind::Kind;

use super::cluster::{Target, resource};
use super::mark::Mark;
use super::registry::{Deployment, Known};
use super::template::Made;
use super::{Deployer, done, never, outcome, removed, target, wait};
use crate::world::propose::{NotProposed, Proposed};
use crate::world::rule::Kubernetes;
use crate::world::{Done, Job};

impl Deployer {
    /// Goes on with a demotion. An error is how the job ends before its end, too.
    pub(super) async fn retire(&self, job: &Job, rule: &Kubernetes) -> Result<Done, Done> {
        let Some(channel) = &job.event.channel else { return Err(never("the event names no channel")) };
        let known = self.registry.model(&job.event.key).await.map_err(|why| wait(job, why))?;
        if let Some(held) = known.held(channel) {
            return Ok(Done::Skipped { note: format!("the channel holds version {} again", held.version) });
        }
        let path = target(rule, &job.event.model, channel).path();
        let reason = format!("version {} no longer holds the channel {channel}", job.event.version.unwrap_or_default());
        let events = self.take_away(job, &known, &path, channel, &reason).await?;
        let note = if events.is_empty() { "nothing of it was there" } else { "it was removed" };
        Ok(Done::Succeeded { note: Some(format!("{note}: {path}")), outcome: outcome(&events) })
    }

    /// Deletes what is ours on a target, unless it is there by a newer event, and says so.
    pub(super) async fn take_away(&self, job: &Job, known: &Known, path: &str, channel: &str, reason: &str) -> Result<Vec<Proposed>, Done> {
        let Some(target) = Target::parse(path) else { return Ok(Vec::new()) };
        let cluster = self.cluster(&target.cluster).map_err(|t| done(job, &t))?;
        // The rule may have made something of another kind when it was put there.
        for made in [Made::Deployment, Made::InferenceService] {
            let Some(found) = cluster.may_have(&target, made).await.map_err(|t| done(job, &t))? else { continue };
            let is_ours = |mark: &Mark| mark.model == job.event.key && mark.channel.as_deref() == Some(channel);
            let Some(mark) = Mark::of(&found).filter(is_ours) else { continue };
            if !self.made(&target, &mark).await.map_err(|why| wait(job, why))? {
                continue;
            }
            if mark.modelseq > job.event.modelseq {
                return Err(Done::Skipped { note: format!("version {} is there by a newer event", mark.version) });
            }
            cluster.delete(&target, &resource(made, None), &found).await.map_err(|t| done(job, &t))?;
        }
        let mut events = Vec::new();
        let serves = |d: &&Deployment| d.target == path && d.channel.as_deref().is_none_or(|served| served == channel);
        let open = known.deployments.iter().filter(serves).filter(|d| ["active", "requested"].contains(&d.state.as_str()));
        for deployment in open {
            match self.propose(job, Kind::DeploymentRemoved, deployment.version, removed(&deployment.deployment, reason)).await {
                Ok(event) => events.push(event),
                Err(NotProposed::Refused(_)) => {} // somebody said so before
                Err(not) => return Err(not.done()),
            }
        }
        Ok(events)
    }
}
