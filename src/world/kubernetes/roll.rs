//! A promotion: the version is requested, applied and watched until it is up, or is gone back from.

use std::time::Duration;

use annals_events::kind::Kind;
use annals_events::verdict::Code;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::{Target, Trouble, resource};
use super::mark::Mark;
use super::registry::{Deployment, Known};
use super::standing::{self, Standing};
use super::template::{Made, Manifest};
use super::{Deployer, NotApplied, Putting, count_of, done, first_id, manifest, never, outcome, target, wait};
use crate::journal::wall_clock;
use crate::world::propose::{NotProposed, Proposed};
use crate::world::rule::Kubernetes;
use crate::world::{Done, Job};

/// How long a version may take to come up, unless the rule says otherwise: as long as a Deployment.
const DEADLINE_S: u64 = 600;
/// How much longer we wait than the controllers, whose word is better.
const GRACE: Duration = Duration::from_secs(5);
/// How soon it is looked again if no watcher sees news of it: at first, and later.
const LOOK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How many times it is looked soon.
const SOON_MAX: u32 = 10;
/// Tries after which what a person must mend counts as failed.
const TRIES_MAX: u32 = 5;
/// What is known of a failure that another process saw.
const DID_NOT_COME_UP: &str = "it did not come up";
/// Longest text of an error, in characters; the schema allows more.
const ERROR_MAX: usize = 2000;

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Going {
    /// The deployment that was requested.
    deployment: String,
    /// When what is there now was applied.
    since_ms: i64,
    /// How often it was looked at since.
    looks: u32,
    /// It failed so, and what was there before is on its way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// All that the steps of one job share.
struct Rollout<'a> {
    job: &'a Job,
    rule: &'a Kubernetes,
    target: Target,
    channel: String,
    version: u64,
    known: Known,
}

impl Rollout<'_> {
    fn mark(&self, deployment: &str, version: u64, digest: Option<String>, rolled_back: Option<String>) -> Mark {
        let event = &self.job.event;
        Mark {
            model: event.key.clone(),
            version,
            digest,
            channel: Some(self.channel.clone()),
            deployment: deployment.into(),
            event: event.id.clone(),
            position: event.position(),
            modelseq: event.modelseq,
            rolled_back,
        }
    }

    /// The id to request: after a failure a new one, since a deployment that ended stays so.
    fn id(&self) -> String {
        let first = first_id(&self.job.rule, self.job.event.modelseq);
        let is_free = |id: &String| self.known.deployment(id).is_none_or(|d| ["requested", "active"].contains(&d.state.as_str()));
        let mut ids = std::iter::once(first.clone()).chain((2..).map(|n| format!("{first}.{n}")));
        ids.find(is_free).unwrap_or(first)
    }

    fn is_active(&self, deployment: &str) -> bool {
        self.known.deployment(deployment).is_some_and(|d| d.state == "active")
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.rule.deadline_s.unwrap_or(DEADLINE_S)) + GRACE
    }
}

impl Deployer {
    /// Goes on with a promotion. An error is how the job ends before its end, too.
    pub(super) async fn roll(&self, job: &Job, rule: &Kubernetes) -> Result<Done, Done> {
        let going: Option<Going> = job.task.progress.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let (Some(version), Some(channel)) = (job.event.version, job.event.channel.clone()) else {
            return Err(never("the event names no version and channel"));
        };
        let known = self.registry.model(&job.event.key).await.map_err(|why| wait(job, why))?;
        let target = target(rule, &job.event.model, &channel);
        let rollout = Rollout { job, rule, target, channel, version, known };
        match rollout.known.held(&rollout.channel) {
            Some(held) if held.modelseq == job.event.modelseq => {}
            Some(held) => return self.superseded(job, &rollout.known, &format!("version {}", held.version)).await,
            None => return self.superseded(job, &rollout.known, "the channel's being empty").await,
        }
        match going {
            None => self.begin(&rollout).await,
            Some(going) => self.look(&rollout, going).await,
        }
    }

    /// Ends with what was requested for this event and did not come up.
    async fn superseded(&self, job: &Job, known: &Known, by: &str) -> Result<Done, Done> {
        let note = format!("superseded by {by}");
        let is_ours = |id: &str| count_of(&job.rule, id) == Some(job.event.modelseq);
        for open in known.deployments.iter().filter(|d| d.state == "requested" && is_ours(&d.deployment)) {
            let data = json!({"deployment": open.deployment, "error": format!("{note} before it was up")});
            if let Err(NotProposed::Unsettled(why)) = self.propose(job, Kind::DeploymentFailed, open.version, data).await {
                return Err(wait(job, why));
            }
        }
        Ok(Done::Skipped { note })
    }

    /// Requests the deployment and applies it.
    async fn begin(&self, r: &Rollout<'_>) -> Result<Done, Done> {
        let id = r.id();
        if r.is_active(&id) {
            return self.back_again(r, id).await;
        }
        let data = json!({"deployment": id, "target": r.target.data(), "channel": r.channel});
        match self.propose(r.job, Kind::DeploymentRequested, r.version, data).await {
            Ok(_) => {}
            Err(NotProposed::Refused(refusal)) if refusal.code == Code::IllegalTransition => {
                return Ok(Done::Skipped { note: format!("superseded: {}", refusal.message) });
            }
            Err(NotProposed::Refused(refusal)) if refusal.code == Code::NoChange && r.known.deployment(&id).is_some() => {}
            Err(not) => return Err(not.done()),
        }
        self.apply(r, id).await
    }

    /// What was up already: applied once more if somebody took it away or made something else of it.
    async fn back_again(&self, r: &Rollout<'_>, id: String) -> Result<Done, Done> {
        let cluster = self.cluster(&r.target.cluster).map_err(|t| done(r.job, &t))?;
        for made in [Made::Deployment, Made::InferenceService] {
            let found = cluster.may_have(&r.target, made).await.map_err(|t| done(r.job, &t))?;
            if found.as_ref().and_then(Mark::of).is_some_and(|mark| mark.deployment == id) {
                return self.ended(r, &id, "it is up already", Vec::new()).await;
            }
        }
        self.apply(r, id).await
    }

    async fn apply(&self, r: &Rollout<'_>, id: String) -> Result<Done, Done> {
        let details = self.registry.version(&r.job.event.key, r.version).await.map_err(|why| wait(r.job, why))?;
        let mark = r.mark(&id, r.version, details.digest.clone(), None);
        let made = match manifest(r.rule, &r.target, &r.job.event.model, &r.channel, (r.version, &details)) {
            Ok(made) => made,
            Err(bad) => return self.failed(r, &id, &bad.to_string()).await,
        };
        self.sight.expect(&r.target.path(), &id, r.version, &details);
        let is_first = r.known.deployments.iter().all(|d| d.target != r.target.path());
        match self.put(&r.target, &made, &mark, Putting { is_first, ..Putting::default() }).await {
            Ok(object) => self.found(r, Going { deployment: id, since_ms: wall_clock().0, looks: 0, failed: None }, &made, &object).await,
            Err(NotApplied::RolledBack) => {
                let failed = Some(DID_NOT_COME_UP.into());
                Ok(again(
                    &Going { deployment: id, since_ms: wall_clock().0, looks: 0, failed },
                    "it was rolled back; waiting for what is there",
                ))
            }
            Err(NotApplied::Newer(version)) => {
                let known = self.registry.model(&r.job.event.key).await.map_err(|why| wait(r.job, why))?;
                self.superseded(r.job, &known, &format!("version {version}")).await
            }
            Err(not) => self.not_applied(r, &id, &not).await,
        }
    }

    /// What only a person can mend has failed; what may pass by itself is tried again, but not for ever.
    async fn not_applied(&self, r: &Rollout<'_>, id: &str, not: &NotApplied) -> Result<Done, Done> {
        match not {
            NotApplied::Trouble(trouble @ (Trouble::Away(_) | Trouble::Moved | Trouble::Stranger(_))) => Err(done(r.job, trouble)),
            NotApplied::Unknown(why) => Err(wait(r.job, why)),
            NotApplied::Trouble(trouble) if r.job.task.attempts < TRIES_MAX => match done(r.job, trouble) {
                later @ Done::Failed { retry: crate::world::Retry::Schedule, .. } => Err(later),
                _ => self.failed(r, id, &trouble.to_string()).await,
            },
            other => self.failed(r, id, &other.to_string()).await,
        }
    }

    async fn failed(&self, r: &Rollout<'_>, id: &str, error: &str) -> Result<Done, Done> {
        let error: String = error.chars().take(ERROR_MAX).collect();
        if r.is_active(id) {
            return Ok(never(error)); // it was up once, which stays so
        }
        self.propose(r.job, Kind::DeploymentFailed, r.version, json!({"deployment": id, "error": error}))
            .await
            .map_err(|not| not.done())?;
        Ok(never(error))
    }

    /// Looks how what was applied stands.
    async fn look(&self, r: &Rollout<'_>, mut going: Going) -> Result<Done, Done> {
        going.looks = going.looks.saturating_add(1);
        let path = r.target.path();
        let details = match self.sight.details(&path, &going.deployment) {
            Some(details) => details,
            None => self.registry.version(&r.job.event.key, r.version).await.map_err(|why| wait(r.job, why))?,
        };
        let made =
            manifest(r.rule, &r.target, &r.job.event.model, &r.channel, (r.version, &details)).map_err(|bad| never(bad.to_string()))?;
        let cluster = self.cluster(&r.target.cluster).map_err(|t| done(r.job, &t))?;
        let found = match self.sight.take(&path) {
            Some(seen) => Some(seen),
            None => cluster.get(&r.target, &resource(made.made, Some(&made.api_version))).await.map_err(|t| done(r.job, &t))?,
        };
        match found {
            // Somebody deleted it, or it was never applied: begin again.
            None => self.begin(r).await,
            Some(object) => match Mark::of(&object) {
                Some(mark) if mark.rolled_back.as_ref() == Some(&going.deployment) => {
                    // the process may have died behind the apply that went back
                    let failed = going.failed.or_else(|| Some(DID_NOT_COME_UP.into()));
                    self.found(r, Going { failed, ..going }, &made, &object).await
                }
                Some(mark) if mark.deployment == going.deployment => self.found(r, going, &made, &object).await,
                _ => self.begin(r).await,
            },
        }
    }

    async fn found(&self, r: &Rollout<'_>, going: Going, made: &Manifest, object: &Value) -> Result<Done, Done> {
        let cluster = self.cluster(&r.target.cluster).map_err(|t| done(r.job, &t))?;
        let waited = Duration::from_millis(u64::try_from(wall_clock().0 - going.since_ms).unwrap_or(0));
        let what_pods_say = async |said: String| match standing::trouble(&cluster.pods(&r.target.namespace, object).await) {
            Some(trouble) => format!("{said}: {trouble}"),
            None => said,
        };
        let error = match standing::of(made.made, object) {
            Standing::Up(mut observed) => {
                let has_pods = observed.get("replicas_ready") != Some(&json!(0));
                let pods = if has_pods { cluster.pods(&r.target.namespace, object).await } else { Vec::new() };
                if let Some(digest) = standing::image_digest(&pods) {
                    observed.insert("image_digest".into(), json!(digest));
                }
                return self.up(r, &going, observed).await;
            }
            Standing::Coming(said) if waited < r.deadline() => return Ok(again(&going, &said)),
            Standing::Coming(said) => what_pods_say(format!("not up within {} s ({said})", r.rule.deadline_s.unwrap_or(DEADLINE_S))).await,
            Standing::Failed(said) => what_pods_say(said).await,
        };
        if let Some(first) = &going.failed {
            return Ok(never(format!("{first}; what it was rolled back to does not come up either: {error}")));
        }
        let ended = self.failed(r, &going.deployment, &error).await?;
        if r.rule.rollback { self.back(r, going, error).await } else { Ok(ended) }
    }

    /// What was applied is up: the version, or what it was rolled back to.
    async fn up(&self, r: &Rollout<'_>, going: &Going, observed: serde_json::Map<String, Value>) -> Result<Done, Done> {
        let Some(error) = &going.failed else {
            if r.is_active(&going.deployment) {
                return self.ended(r, &going.deployment, "it is up again", Vec::new()).await;
            }
            let data = json!({"deployment": going.deployment, "observed": observed});
            let event = self.propose(r.job, Kind::DeploymentSucceeded, r.version, data).await.map_err(|not| not.done())?;
            return self.ended(r, &going.deployment, "it is up", vec![event]).await;
        };
        let reason = format!("the rule {} rolls back what does not come up", r.job.rule.name);
        let data = json!({"deployment": going.deployment, "reason": reason, "error": error});
        let event = self.propose(r.job, Kind::DeploymentRolledBack, r.version, data).await.map_err(|not| not.done())?;
        Ok(Done::Succeeded {
            note: Some(format!("version {} did not come up and was rolled back: {error}", r.version)),
            outcome: outcome(&[event]),
        })
    }

    /// Applies again what was good.
    async fn back(&self, r: &Rollout<'_>, going: Going, error: String) -> Result<Done, Done> {
        let Some(good) = last_good(&r.known, &r.target.path(), &going.deployment) else {
            return Ok(never(format!("{error}; no version before it came up there, so there is none to go back to")));
        };
        let details = self.registry.version(&r.job.event.key, good.version).await.map_err(|why| wait(r.job, why))?;
        let mark = r.mark(&good.deployment, good.version, details.digest.clone(), Some(going.deployment.clone()));
        let made =
            manifest(r.rule, &r.target, &r.job.event.model, &r.channel, (good.version, &details)).map_err(|bad| never(bad.to_string()))?;
        // what was seen of the failed one says nothing of what goes back
        self.sight.forget(&r.target.path());
        match self.put(&r.target, &made, &mark, Putting::default()).await {
            Ok(_) => Ok(again(
                &Going { since_ms: wall_clock().0, looks: 0, failed: Some(error), ..going },
                &format!("going back to version {}", good.version),
            )),
            Err(NotApplied::Trouble(trouble)) => Err(done(r.job, &trouble)),
            Err(NotApplied::Unknown(why)) => Err(wait(r.job, why)),
            Err(other) => Err(never(format!("{error}; and it cannot be rolled back: {other}"))),
        }
    }

    /// The end of a good job: what the rule had elsewhere for this channel goes away.
    async fn ended(&self, r: &Rollout<'_>, id: &str, note: &str, mut events: Vec<Proposed>) -> Result<Done, Done> {
        let displaced: Vec<&Deployment> = r
            .known
            .deployments
            .iter()
            .filter(|d| d.state == "active" && d.channel.as_deref() == Some(&r.channel) && d.target != r.target.path())
            .filter(|d| count_of(&r.job.rule, &d.deployment).is_some())
            .collect();
        for old in displaced {
            let reason = format!("the rule {} has another target now: {}", r.job.rule.name, r.target.path());
            events.extend(self.take_away(r.job, &r.known, &old.target, &r.channel, &reason).await?);
        }
        Ok(Done::Succeeded { note: Some(format!("{note}: {id} on {}", r.target.path())), outcome: outcome(&events) })
    }
}

/// What was up on a target before: what is active there still, or else what was last.
fn last_good<'a>(known: &'a Known, target: &str, failed: &str) -> Option<&'a Deployment> {
    let there = || known.deployments.iter().filter(|d| d.target == target && d.deployment != failed);
    let last = |state: &str| there().filter(|d| d.state == state).max_by_key(|d| d.modelseq);
    last("active").or_else(|| last("superseded"))
}

fn again(going: &Going, note: &str) -> Done {
    let after = LOOK[usize::from(going.looks > SOON_MAX)];
    let progress = serde_json::to_string(going).unwrap_or_default();
    Done::Again { after, progress, note: Some(note.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(id: &str, target: &str, state: &str, modelseq: u64) -> Deployment {
        Deployment { deployment: id.into(), version: modelseq, target: target.into(), channel: None, state: state.into(), modelseq }
    }

    #[test]
    fn the_last_good_one_is_what_is_active_or_was_last() {
        let known = |deployments| Known { channels: Vec::new(), deployments };
        let one = [deployment("a", "t", "superseded", 3), deployment("b", "t", "active", 5), deployment("c", "u", "active", 9)];
        assert_eq!(last_good(&known(one.to_vec()), "t", "x").unwrap().deployment, "b");
        let two = [deployment("a", "t", "superseded", 3), deployment("b", "t", "superseded", 5), deployment("c", "t", "failed", 9)];
        assert_eq!(last_good(&known(two.to_vec()), "t", "c").unwrap().deployment, "b");
        assert_eq!(last_good(&known(vec![deployment("c", "t", "failed", 9)]), "t", "c"), None);
    }
}
