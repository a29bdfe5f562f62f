//! What an event says, in one line of English.

use annals_events::deploy::{DeploymentObserved, DeploymentRolledBack, Promoted};
use annals_events::model::{Decided, RuleState};
use annals_events::train::{Checked, Registered};

use crate::payload::Fields;
use crate::position::Event;

/// Longest text of a producer that is taken into a line, in characters.
const QUOTED_MAX: usize = 120;

/// The line, without subject: `promoted version 2 to production, displacing version 1`.
pub(super) fn of(event: &Event<'_>, data: &Fields<'_>) -> String {
    match &event.decided {
        Decided::ModelCreated(d) => format!("created the model under the policy {}", d.policy),
        Decided::RunTrained(d) => format!("trained in run {}{}{}", d.run, metrics(data), first(d.created)),
        Decided::RunChecked(d) => checked(d, data),
        Decided::VersionRegistered(d) => registered(d),
        Decided::VersionEvaluated(d) => {
            let suite = data.text("suite").map(|s| format!(" by {}", quoted(&s))).unwrap_or_default();
            format!("evaluated version {}{suite}: {}", d.version, d.verdict)
        }
        Decided::ApprovalRequested(d) => {
            format!("asked for approval {} of version {} for {}, requested by {}", d.approval, d.version, d.channel, d.requester)
        }
        Decided::ApprovalDecided(d) => {
            format!("{} version {} for {} (approval {}), decided by {}", d.decision, d.version, d.channel, d.approval, d.approver)
        }
        Decided::VersionPromoted(d) => promoted(d),
        Decided::VersionDemoted(d) => format!("demoted version {} from {}, which is empty now", d.version, d.channel),
        Decided::AliasSet(d) => {
            let from = d.from.map(|from| format!(", before version {from}")).unwrap_or_default();
            format!("set the alias {} to version {}{from}", d.alias, d.version)
        }
        Decided::AliasRemoved(d) => format!("removed the alias {}, which named version {}", d.alias, d.from),
        Decided::DeploymentRequested(d) => format!("requested deployment {} of version {} to {}", d.deployment, d.version, d.target),
        Decided::DeploymentSucceeded(d) => {
            let replaces = d.replaces.as_ref().map(|id| format!(", replacing deployment {id}")).unwrap_or_default();
            format!("deployed version {} (deployment {}){replaces}", d.version, d.deployment)
        }
        Decided::DeploymentFailed(d) => {
            let error = data.text("error").map(|e| format!(": {}", quoted(&e))).unwrap_or_default();
            format!("deployment {} of version {} failed{error}", d.deployment, d.version)
        }
        Decided::DeploymentRemoved(d) => format!("removed deployment {} of version {}", d.deployment, d.version),
        Decided::DeploymentRolledBack(d) => rolled_back(d, data),
        Decided::DeploymentObserved(d) => observed(d, data),
        Decided::ModelMeasured(d) => format!("measured {}{}", measure(data, "value"), of_version(d.version)),
        Decided::DriftDetected(d) => drifted(&d.drift, d.version, data),
        Decided::DriftResolved(d) => format!("drift {}{} is resolved", d.drift, of_version(d.version)),
        Decided::RetrainRequested(d) => {
            let drift = d.drift.as_ref().map(|id| format!(" because of drift {id}")).unwrap_or_default();
            format!("requested a retraining{drift} ({})", d.dedup)
        }
        Decided::VersionRetired(d) => format!("retired version {}", d.version),
        Decided::TriggerChanged(d) => changed("trigger", &d.trigger, d.revision, d.state),
        Decided::SubscriptionChanged(d) => changed("subscription", &d.subscription, d.revision, d.state),
        Decided::ProposalRefused(d) => {
            let kind = annals_events::kind::Kind::from_name(&d.kind).map_or(d.kind.as_str(), |kind| kind.dotted());
            format!("refused {kind} ({}): {}", d.code.as_str(), d.message)
        }
        Decided::JournalOpened(d) => {
            format!("opened partition {} of {} of the journal, generation {}", event.partition, d.partitions, d.generation)
        }
        Decided::JournalContinued(d) => {
            let note = d.note.as_deref().map(|note| format!(": {}", quoted(note))).unwrap_or_default();
            format!("continued partition {} of the journal in generation {}{note}", event.partition, d.generation)
        }
        Decided::PartitionProgressed(d) => {
            let reason = d.reason.as_deref().map(|reason| format!(": {}", quoted(reason))).unwrap_or_default();
            let verb = if event.view.time.is_some() { "gave up" } else { "judged" };
            format!("{verb} every proposal of partition {} up to offset {}{reason}", event.partition, d.src)
        }
        Decided::PartitionHalted(d) => format!("halted partition {} at seq {}: {}", event.partition, d.seq, quoted(&d.reason)),
        Decided::PartitionResumed(d) => {
            let reason = d.reason.as_deref().map(|reason| format!(": {}", quoted(reason))).unwrap_or_default();
            format!("accepted seq {} of partition {} and let it go on{reason}", d.seq, event.partition)
        }
    }
}

fn checked(d: &Checked, data: &Fields<'_>) -> String {
    let code = data.object("code");
    let part = |name, before: &str| code.text(name).map(|text| format!("{before}{}", quoted(&text))).unwrap_or_default();
    let led = [data.texts("branches"), data.texts("tags")].concat();
    let led = if led.is_empty() { String::new() } else { format!(" ({})", quoted(&led.join(", "))) };
    format!("looked up the commit{} of run {}{}: {}{led}", part("commit", " "), d.run, part("repository", " in "), d.outcome)
}

fn registered(d: &Registered) -> String {
    let label = d.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    let run = d.run.as_ref().map(|run| format!(" from {}run {run}", if d.external { "the external " } else { "" })).unwrap_or_default();
    let pinned = if d.digest.is_none() { ", without a digest" } else { "" };
    format!("registered version {}{label}{run}{pinned}{}", d.version, first(d.created))
}

fn promoted(d: &Promoted) -> String {
    let verb = if d.rollback_of.is_some() { "rolled back to" } else { "promoted" };
    let place = if d.rollback_of.is_some() { "in" } else { "to" };
    let displaced = d.from.map(|from| format!(", displacing version {from}")).unwrap_or_default();
    let restored = if d.restored { ", which was retired" } else { "" };
    format!("{verb} version {}{restored} {place} {}{displaced}", d.version, d.channel)
}

fn rolled_back(d: &DeploymentRolledBack, data: &Fields<'_>) -> String {
    let error = data.text("error").map(|e| format!(" ({})", quoted(&e))).unwrap_or_default();
    let now = d.restored.as_ref().map_or_else(|| "nothing is there now".into(), |id| format!("deployment {id} is there now"));
    format!("rolled back deployment {} of version {}{error}: {now}", d.deployment, d.version)
}

fn observed(d: &DeploymentObserved, data: &Fields<'_>) -> String {
    let what = data.text("finding").unwrap_or_else(|| "changed".into());
    let by = data.text("manager").map(|manager| format!(" by {}", quoted(&manager))).unwrap_or_default();
    let ours = d.deployment.as_ref().map_or_else(|| ", where nothing of ours is".into(), |id| format!(", where deployment {id} is"));
    match &*what {
        "adopted" => format!("adopted what was found on {}{ours}", d.target),
        "removed" => format!("found that {} was removed{by}{ours}", d.target),
        "restored" => format!("found {} as it should be again{ours}", d.target),
        _ => format!("found {} {}{by}{ours}", d.target, quoted(&what)),
    }
}

fn changed(what: &str, name: &str, revision: u64, state: RuleState) -> String {
    match state {
        RuleState::Active => format!("set the {what} {name} in force (revision {revision})"),
        RuleState::Paused => format!("paused the {what} {name} (revision {revision})"),
        RuleState::Removed => format!("removed the {what} {name} (revision {revision})"),
    }
}

fn drifted(id: &str, version: Option<u64>, data: &Fields<'_>) -> String {
    let kind = data.text("kind").map(|kind| format!("{} drift", quoted(&kind))).unwrap_or_else(|| "drift".into());
    let metric = if data.raw("metric").is_some() { format!(": {}", measure(data, "observed")) } else { String::new() };
    let threshold = data.word("threshold").map(|t| format!(", threshold {t}")).unwrap_or_default();
    format!("detected {kind} {id}{}{metric}{threshold}", of_version(version))
}

/// `accuracy 0.71`, from `metric` and the field that holds its value.
fn measure(data: &Fields<'_>, value: &str) -> String {
    let name = data.text("metric").map_or_else(|| "a metric".into(), |name| quoted(&name));
    data.word(value).map(|value| format!("{name} {value}")).unwrap_or(name)
}

fn metrics(data: &Fields<'_>) -> String {
    let list = data.objects("metrics");
    let each = list.iter().take(3).filter_map(|m| Some(format!("{} {}", quoted(&m.text("name")?), m.word("value")?)));
    let text = each.collect::<Vec<_>>().join(", ");
    if text.is_empty() { text } else { format!(": {text}") }
}

fn of_version(version: Option<u64>) -> String {
    version.map(|version| format!(" of version {version}")).unwrap_or_default()
}

fn first(created: bool) -> &'static str {
    if created { ", which created the model" } else { "" }
}

/// A producer's text on one line, and not too long.
fn quoted(text: &str) -> String {
    let mut line: String = text.chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        line.push('…');
    }
    line
}
