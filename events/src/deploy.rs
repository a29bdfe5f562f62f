//! Deploy: approvals, channels and aliases, and what runs where.

mod rollout;

use serde::{Deserialize, Serialize};

pub use self::rollout::{DeploymentEnded, DeploymentObserved, DeploymentRequested, DeploymentRolledBack, DeploymentSucceeded};
pub(crate) use self::rollout::{
    deployed, deployment_failed, deployment_removed, evolve_deployed, evolve_deployment, evolve_deployment_requested, evolve_rolled_back,
    find_deployment, observed, request_deployment, rolled_back,
};
use crate::model::{Approval, Ask, CHANNELS, Model, bad_name, point};
use crate::names;
use crate::verdict::{Code, Refusal};

/// `decided` of `approval.requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequested {
    /// The approval's id.
    pub approval: String,
    /// The version.
    pub version: u64,
    /// The channel it is for.
    pub channel: String,
    /// The digest that is to be approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Who asked, and so may not answer.
    pub requester: String,
}

/// `decided` of `approval.decided`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDecided {
    /// The approval's id.
    pub approval: String,
    /// The version.
    pub version: u64,
    /// The channel it is for.
    pub channel: String,
    /// The digest that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `approved` or `rejected`.
    pub decision: String,
    /// Who decided.
    pub approver: String,
}

/// A version that a promotion took a channel from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// The version.
    pub version: u64,
    /// What became of it: `kept`.
    pub now: String,
}

/// `decided` of `version.promoted`: one event moves the channel, so it is never empty between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The version.
    pub version: u64,
    /// The channel that holds it now.
    pub channel: String,
    /// Its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The version that the channel held before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// What it displaced.
    pub displaced: Vec<Displaced>,
    /// Ids of the approvals of this version for this channel.
    pub approvals: Vec<String>,
    /// Whether it was retired, and is in use again.
    pub restored: bool,
    /// Whether the version was in this channel's history before and the producer calls it a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
}

/// `decided` of `version.demoted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demoted {
    /// The version.
    pub version: u64,
    /// The channel, which is empty now.
    pub channel: String,
}

/// `decided` of `alias.set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasSet {
    /// The alias.
    pub alias: String,
    /// The version that it names now.
    pub version: u64,
    /// The version that it named before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// `decided` of `alias.removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRemoved {
    /// The alias.
    pub alias: String,
    /// The version that it named.
    pub from: u64,
}

#[derive(Deserialize)]
struct ApprovalRequestData {
    approval: String,
    channel: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    requester: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    id: String,
}

#[derive(Deserialize)]
struct ApprovalDecisionData {
    approval: String,
    decision: String,
    #[serde(default)]
    digest: Option<String>,
    approver: Person,
}

#[derive(Deserialize)]
struct ChannelData {
    channel: String,
    #[serde(default)]
    rollback: bool,
}

#[derive(Deserialize)]
struct AliasData {
    alias: String,
}

fn digest_of(model: &Model, version: u64) -> Option<String> {
    model.version(version)?.digest.as_deref().map(Into::into)
}

fn check_channel(channel: &str) -> Result<(), Refusal> {
    if CHANNELS.contains(&channel) {
        return Ok(());
    }
    Err(Refusal::new(Code::UnknownChannel, format!("there is no channel `{channel}`"), "use one of the channels").allow(CHANNELS))
}

fn check_digest(model: &Model, version: u64, named: Option<&str>) -> Result<(), Refusal> {
    let held = digest_of(model, version);
    match named {
        Some(named) if held.as_deref() != Some(named) => {
            let message = format!("version {version} has the digest {}, not {named}", held.as_deref().unwrap_or("none"));
            Err(Refusal::new(Code::DigestMismatch, message, "look at what you mean to approve: these are other bytes").on(model.summary()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn request_approval(ask: &Ask<'_>) -> Result<ApprovalRequested, Refusal> {
    let (model, version) = ask.version()?;
    let data: ApprovalRequestData = ask.data()?;
    ask.identifier("approval", &data.approval)?;
    check_channel(&data.channel)?;
    check_digest(model, version, data.digest.as_deref())?;
    if model.approvals.iter().any(|a| *a.id == *data.approval) {
        let message = format!("the approval `{}` was requested before", data.approval);
        return Err(Refusal::new(Code::NoChange, message, "give a new request an id of its own").on(model.summary()));
    }
    let requester = data.requester.map_or_else(|| ask.actor(), |p| p.id);
    Ok(ApprovalRequested { approval: data.approval, version, channel: data.channel, digest: digest_of(model, version), requester })
}

pub(crate) fn evolve_approval_requested(model: &mut Model, d: &ApprovalRequested) {
    model.approvals.push(Approval {
        id: d.approval.as_str().into(),
        version: d.version,
        channel: d.channel.as_str().into(),
        requester: d.requester.as_str().into(),
        approved: None,
    });
}

pub(crate) fn decide_approval(ask: &Ask<'_>) -> Result<ApprovalDecided, Refusal> {
    let model = ask.model()?;
    let data: ApprovalDecisionData = ask.data()?;
    let open = || model.approvals.iter().filter(|a| a.approved.is_none()).map(|a| format!("decide {}", a.id)).take(20);
    let illegal =
        |message: String, remedy: &str| Err(Refusal::new(Code::IllegalTransition, message, remedy).on(model.summary()).allow(open()));
    let Some(approval) = model.approvals.iter().find(|a| *a.id == *data.approval) else {
        return illegal(format!("no approval `{}` was requested", data.approval), "request it first");
    };
    if approval.approved.is_some() {
        return illegal(format!("the approval `{}` is decided already", data.approval), "request another one");
    }
    ask.same_version(model, approval.version)?;
    check_digest(model, approval.version, data.digest.as_deref())?;
    let author = model.version(approval.version).map_or("", |v| &v.author);
    if same_person(&approval.requester, &data.approver.id) || same_person(author, &data.approver.id) {
        let message = format!("`{}` asked for this approval, or registered the version", data.approver.id);
        return Err(Refusal::new(Code::SelfApproval, message, "let somebody else decide").on(model.summary()));
    }
    Ok(ApprovalDecided {
        approval: data.approval,
        version: approval.version,
        channel: approval.channel.to_string(),
        digest: digest_of(model, approval.version),
        decision: data.decision,
        approver: data.approver.id,
    })
}

/// A claim (`unverified:ann`) and a name (`ann`) are held to be one person: four eyes must be two pairs.
fn same_person(one: &str, other: &str) -> bool {
    let bare = |id| str::strip_prefix(id, "unverified:").unwrap_or(id);
    bare(one) == bare(other)
}

pub(crate) fn evolve_approval_decided(model: &mut Model, d: &ApprovalDecided) {
    if let Some(approval) = model.approvals.iter_mut().find(|a| *a.id == *d.approval) {
        approval.approved = Some(d.decision == "approved");
    }
}

pub(crate) fn promote(ask: &Ask<'_>) -> Result<Promoted, Refusal> {
    let (model, version) = ask.version()?;
    let data: ChannelData = ask.data()?;
    check_channel(&data.channel)?;
    let from = model.channel(&data.channel);
    if from == Some(version) {
        let message = format!("the channel `{}` holds version {version} already", data.channel);
        return Err(Refusal::new(Code::NoChange, message, "nothing is left to do").on(model.summary()));
    }
    if data.rollback && from.is_none() {
        let message = format!("the channel `{}` holds no version that could be rolled back", data.channel);
        return Err(Refusal::new(Code::IllegalTransition, message, "promote without `rollback`").on(model.summary()));
    }
    let granted = |a: &&Approval| a.version == version && *a.channel == *data.channel && a.approved == Some(true);
    Ok(Promoted {
        version,
        digest: digest_of(model, version),
        from,
        displaced: from.map(|version| Displaced { version, now: "kept".into() }).into_iter().collect(),
        approvals: model.approvals.iter().filter(granted).map(|a| a.id.to_string()).collect(),
        restored: model.version(version).is_some_and(|v| v.retired),
        rollback_of: from.filter(|_| data.rollback),
        channel: data.channel,
    })
}

pub(crate) fn evolve_promoted(model: &mut Model, d: &Promoted) {
    point(&mut model.channels, &d.channel, d.version);
    if let Some(version) = usize::try_from(d.version).ok().and_then(|n| model.versions.get_mut(n.checked_sub(1)?)) {
        version.retired = false;
    }
}

pub(crate) fn demote(ask: &Ask<'_>) -> Result<Demoted, Refusal> {
    let (model, version) = ask.version()?;
    let data: ChannelData = ask.data()?;
    check_channel(&data.channel)?;
    if model.channel(&data.channel) != Some(version) {
        let message = format!("the channel `{}` does not hold version {version}", data.channel);
        let held = model.channels.iter().map(|c| format!("demote version {} from {}", c.version, c.name));
        return Err(Refusal::new(Code::IllegalTransition, message, "name the version that the channel holds")
            .on(model.summary())
            .allow(held));
    }
    Ok(Demoted { version, channel: data.channel })
}

pub(crate) fn set_alias(ask: &Ask<'_>) -> Result<AliasSet, Refusal> {
    let (model, version) = ask.version()?;
    let AliasData { alias } = ask.data()?;
    names::name("alias", &alias).map_err(|e| bad_name(&e))?;
    let from = model.alias(&alias);
    if from == Some(version) {
        let message = format!("the alias `{alias}` names version {version} already");
        return Err(Refusal::new(Code::NoChange, message, "nothing is left to do").on(model.summary()));
    }
    Ok(AliasSet { alias, version, from })
}

pub(crate) fn remove_alias(ask: &Ask<'_>) -> Result<AliasRemoved, Refusal> {
    let model = ask.model()?;
    let AliasData { alias } = ask.data()?;
    let Some(from) = model.alias(&alias) else {
        let known = model.aliases.iter().map(|a| a.name.to_string()).take(20);
        return Err(Refusal::new(Code::UnknownAlias, format!("there is no alias `{alias}`"), "name one that is there")
            .on(model.summary())
            .allow(known));
    };
    ask.same_version(model, from)?;
    Ok(AliasRemoved { alias, from })
}

#[cfg(test)]
mod tests;
