//! Govern: what a workspace wants done when something happens, as recorded data: triggers act, subscriptions tell.
//!
//! The journal keeps all that a rule says; the state keeps its digest only, so that a rule that is
//! said again, byte for byte, is no change.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kind::{About, Kind};
use crate::model::{Ask, Model, Rule, RuleState, bad_name, push};
use crate::names;
use crate::record::Hash;
use crate::verdict::{Code, Refusal};

/// `decided` of `trigger.changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerChanged {
    /// The trigger's name.
    pub trigger: String,
    /// Counts its changes, from 1; goes on behind a removal.
    pub revision: u64,
    /// Whether it is in force.
    pub state: RuleState,
    /// SHA-256 of what it says, as it was written.
    pub digest: String,
}

/// `decided` of `subscription.changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionChanged {
    /// The subscription's name.
    pub subscription: String,
    /// Counts its changes, from 1; goes on behind a removal.
    pub revision: u64,
    /// Whether it is in force.
    pub state: RuleState,
    /// SHA-256 of what it says, as it was written.
    pub digest: String,
}

/// Each member as it was written: its bytes are what a revision is told from another by.
#[derive(Deserialize)]
struct TriggerData<'a> {
    trigger: String,
    state: RuleState,
    #[serde(borrow, default)]
    when: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "do")]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cooldown_s: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dedup: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SubscriptionData<'a> {
    subscription: String,
    state: RuleState,
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    when: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signing: Option<&'a RawValue>,
    #[serde(borrow, default)]
    format: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct When {
    #[serde(rename = "type")]
    kinds: Vec<String>,
}

/// Of an action what the schema cannot say: which members exclude each other, and which kinds there are.
#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    pipeline: Option<Pipeline>,
    #[serde(default)]
    propose: Option<Propose>,
    #[serde(default)]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Pipeline {
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    subscription: Option<String>,
}

#[derive(Deserialize)]
struct Propose {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Kubernetes {
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    format: Option<String>,
}

/// What is proposed of a rule, whichever it is.
struct Wanted<'a> {
    /// `trigger` or `subscription`.
    what: &'static str,
    name: &'a str,
    state: RuleState,
    /// The digest of what it says; `None` where it is to say what it said.
    digest: Option<String>,
    /// What a first one must say.
    needs: &'static str,
    unknown: Code,
}

pub(crate) fn change_trigger(ask: &Ask<'_>) -> Result<TriggerChanged, Refusal> {
    let data: TriggerData<'_> = ask.data()?;
    names::name("trigger", &data.trigger).map_err(|e| bad_name(&e))?;
    let said = [data.when, data.action, data.cooldown_s, data.dedup];
    let digest = match (data.when, data.action) {
        (Some(when), Some(action)) => {
            check_when(when)?;
            check_action(action)?;
            Some(digest_of(&said))
        }
        _ if said.iter().all(Option::is_none) => None,
        _ => return Err(half("`when` and `do` belong together, and `cooldown_s` and `dedup` to them")),
    };
    let wanted =
        Wanted { what: "trigger", name: &data.trigger, state: data.state, digest, needs: "`when` and `do`", unknown: Code::UnknownTrigger };
    let Rule { revision, state, digest, .. } = next(ask, ask.existing.map_or(&[], Model::triggers), &wanted)?;
    Ok(TriggerChanged { trigger: data.trigger, revision, state, digest: digest.into() })
}

pub(crate) fn change_subscription(ask: &Ask<'_>) -> Result<SubscriptionChanged, Refusal> {
    let data: SubscriptionData<'_> = ask.data()?;
    names::name("subscription", &data.subscription).map_err(|e| bad_name(&e))?;
    let mut said = vec![data.url, data.when, data.signing];
    // what does not say it has the digest that it had before there was such a word
    said.extend(data.format.map(Some));
    let digest = match (data.url, data.when) {
        (Some(_), Some(when)) => {
            check_when(when)?;
            Some(digest_of(&said))
        }
        _ if said.iter().all(Option::is_none) => None,
        _ => return Err(half("`url` and `when` belong together, and `signing` and `format` to them")),
    };
    let wanted = Wanted {
        what: "subscription",
        name: &data.subscription,
        state: data.state,
        digest,
        needs: "`url` and `when`",
        unknown: Code::UnknownSubscription,
    };
    let Rule { revision, state, digest, .. } = next(ask, ask.existing.map_or(&[], Model::subscriptions), &wanted)?;
    Ok(SubscriptionChanged { subscription: data.subscription, revision, state, digest: digest.into() })
}

/// What comes behind the last revision of a rule.
fn next(ask: &Ask<'_>, rules: &[Rule], wanted: &Wanted<'_>) -> Result<Rule, Refusal> {
    let Wanted { what, name, state, .. } = *wanted;
    let refuse = |code, message: String, remedy: String| {
        let refusal = Refusal::new(code, message, remedy);
        Err(ask.existing.iter().fold(refusal, |refusal, model| refusal.on(model.summary())))
    };
    let last = rules.iter().find(|rule| *rule.name == *name);
    let revision = last.map_or(0, |rule| rule.revision) + 1;
    let in_force = last.filter(|rule| rule.state != RuleState::Removed);
    let digest: Box<str> = match (in_force, &wanted.digest, state) {
        (Some(rule), None, _) => rule.digest.clone(),
        (Some(_), Some(digest), _) | (None, Some(digest), RuleState::Active | RuleState::Paused) => digest.as_str().into(),
        (None, None, RuleState::Active) => {
            let message = format!("there is no {what} `{name}` yet, and this does not say what it is to do");
            return refuse(Code::SchemaViolation, message, format!("send {} with a new {what}", wanted.needs));
        }
        (None, _, RuleState::Removed) if last.is_some() => {
            return refuse(Code::NoChange, format!("the {what} `{name}` is removed already"), "nothing is left to do".into());
        }
        (None, _, RuleState::Paused | RuleState::Removed) => {
            let known = rules.iter().filter(|rule| rule.state != RuleState::Removed).map(|rule| rule.name.to_string()).take(20);
            let refusal = refuse(wanted.unknown, format!("there is no {what} `{name}`"), "name one that is there".into());
            return refusal.map_err(|refusal| refusal.allow(known));
        }
    };
    if in_force.is_some_and(|rule| rule.state == state && rule.digest == digest) {
        let message = format!("the {what} `{name}` is {} and says this already", state.word());
        return refuse(Code::NoChange, message, "nothing is left to do".into());
    }
    Ok(Rule { name: name.into(), revision, state, digest })
}

pub(crate) fn evolve_trigger(model: &mut Model, d: &TriggerChanged) {
    let rule = Rule { name: d.trigger.as_str().into(), revision: d.revision, state: d.state, digest: d.digest.as_str().into() };
    put(&mut model.standing.get_or_insert_default().triggers, rule);
}

pub(crate) fn evolve_subscription(model: &mut Model, d: &SubscriptionChanged) {
    let rule = Rule { name: d.subscription.as_str().into(), revision: d.revision, state: d.state, digest: d.digest.as_str().into() };
    put(&mut model.standing.get_or_insert_default().subscriptions, rule);
}

fn put(rules: &mut Vec<Rule>, rule: Rule) {
    match rules.iter_mut().find(|known| known.name == rule.name) {
        Some(known) => *known = rule,
        None => push(rules, rule),
    }
}

/// `sha256:` over what was written, each with its 32-bit big-endian length before it; what is absent has none.
fn digest_of(said: &[Option<&RawValue>]) -> String {
    let mut bytes = Vec::new();
    for member in said {
        let text = member.map_or("", RawValue::get);
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    format!("sha256:{}", Hash::of(&bytes))
}

fn half(message: &str) -> Refusal {
    Refusal::new(Code::SchemaViolation, message, "send all of it, or only the name and the state to leave it as it is")
}

fn read<'a, T: Deserialize<'a>>(what: &str, json: &'a RawValue) -> Result<T, Refusal> {
    serde_json::from_str(json.get())
        .map_err(|e| Refusal::new(Code::SchemaViolation, format!("`{what}` is not readable: {e}"), "compare it with the published schema"))
}

fn check_when(when: &RawValue) -> Result<(), Refusal> {
    let When { kinds } = read("when", when)?;
    kinds.iter().try_for_each(|kind| check_kind("when/type", kind, |_| true))
}

fn check_action(action: &RawValue) -> Result<(), Refusal> {
    let Action { pipeline, propose, kubernetes } = read("do", action)?;
    let refuse = |message: &str| Err(Refusal::new(Code::SchemaViolation, message, "send one of the two"));
    if pipeline.is_some_and(|p| p.run.is_some() == p.subscription.is_some()) {
        return refuse("a pipeline has either `run` or `subscription`");
    }
    if kubernetes.is_some_and(|k| k.template.is_some() && k.format.is_some()) {
        return refuse("`kubernetes` has either `template` or `format`");
    }
    // what is proposed is about the model of the event, and what only the engine writes cannot be proposed
    let of_a_model = |kind: Kind| !matches!(kind.about(), About::Engine | About::Workspace);
    propose.map_or(Ok(()), |propose| check_kind("do/propose/type", &propose.kind, of_a_model))
}

fn check_kind(place: &str, name: &str, may: impl Fn(Kind) -> bool) -> Result<(), Refusal> {
    if Kind::from_any(name).is_some_and(&may) {
        return Ok(());
    }
    let known = Kind::ALL.iter().filter(|kind| may(**kind)).map(|kind| kind.short());
    let message = format!("`{name}` in `{place}` is no event type that may stand there");
    Err(Refusal::new(Code::UnknownType, message, "use one of the types that are listed here").allow(known))
}

#[cfg(test)]
mod tests;
