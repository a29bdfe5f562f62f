//! How a rule is read from JSON, and what is said about one that cannot be meant.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use annals_events::kind::{About, Kind};
use annals_events::model::CHANNELS;
use annals_events::names;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fit::matches;
use super::{
    COOLDOWN_MAX, Command, Do, Endpoint, Family, Git, Kubernetes, Lookup, Pipeline, Propose, Rule, Signing, State, TIMEOUT, TIMEOUT_MAX,
    VersionOf, Webhook, When, render,
};
use crate::world::git;

/// Most arguments of a program, as the schema has it.
const ARGS_MAX: usize = 100;
/// Most types that a rule is about, likewise.
const KINDS_MAX: usize = 100;

/// A rule that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}; {remedy}")]
pub struct Invalid {
    /// Where it is wrong, such as `do.command.run`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

fn invalid(field: impl Display, message: impl Display, remedy: impl Display) -> Invalid {
    Invalid { field: field.to_string(), message: message.to_string(), remedy: remedy.to_string() }
}

/// What a rule is called and how it is; what it says is in its specification.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// Which kind of rule.
    pub family: Family,
    /// The workspace.
    pub workspace: &'a str,
    /// The name.
    pub name: &'a str,
    /// Counts its changes.
    pub revision: u64,
    /// Whether it is in force.
    pub state: State,
}

/// What a rule says: of a trigger all but `url` and `signing`, of a subscription `url`, `when` and `signing`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    when: Option<Value>,
    #[serde(default, rename = "do")]
    act: Option<Map<String, Value>>,
    #[serde(default)]
    cooldown_s: Option<u64>,
    #[serde(default)]
    dedup: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    signing: Signing,
}

impl Rule {
    /// Reads what a rule says: `{"when":…,"do":…}` of a trigger, `{"url":…,"when":…}` of a subscription.
    ///
    /// # Errors
    /// [`Invalid`]: the field, what is wrong with it, and what to do.
    pub fn read(named: &Named<'_>, spec: &Value) -> Result<Self, Invalid> {
        names::name(named.family.as_str(), named.name).map_err(|e| invalid("name", e, "choose another name"))?;
        let members = match named.family {
            Family::Trigger => "a trigger has `when`, `do` and, if wanted, `cooldown_s` and `dedup`",
            Family::Subscription => "a subscription has `url`, `when` and, if wanted, `signing`",
        };
        let spec: Spec = shape("", spec.clone(), members)?;
        let when = spec.when.ok_or_else(|| invalid("when", "is missing", "say which events it is about: {\"type\":[\"promoted\"]}"))?;
        let when = read_when(when)?;
        let (act, endpoint) = match named.family {
            Family::Trigger => (read_do(spec.act.unwrap_or_default())?, None),
            Family::Subscription => {
                let url = spec.url.ok_or_else(|| invalid("url", "is missing", "say where the events are to go"))?;
                let (workspace, name) = (named.workspace.to_owned(), named.name.to_owned());
                let endpoint = Endpoint { workspace, name: name.clone(), state: named.state, url, signing: spec.signing };
                (Do::Webhook(Webhook { subscription: name }), Some(endpoint))
            }
        };
        only_about(&act, &when.kinds)?;
        if let Some(dedup) = &spec.dedup {
            template("dedup", dedup)?;
        }
        let cooldown = spec.cooldown_s.filter(|s| *s > 0).map(|s| bounded("cooldown_s", s, COOLDOWN_MAX)).transpose()?;
        let Named { family, workspace, name, revision, state } = *named;
        Ok(Self {
            family,
            workspace: workspace.into(),
            name: name.into(),
            revision,
            state,
            when,
            act,
            cooldown,
            dedup: spec.dedup,
            endpoint,
        })
    }
}

/// Reads JSON of one shape; the message names the member.
fn shape<T: DeserializeOwned>(field: &str, value: Value, remedy: &str) -> Result<T, Invalid> {
    let field = if field.is_empty() { "rule" } else { field };
    serde_json::from_value(value).map_err(|e| invalid(field, e, remedy))
}

fn bounded(field: &str, seconds: u64, max: Duration) -> Result<Duration, Invalid> {
    let given = Duration::from_secs(seconds);
    if given.is_zero() || given > max {
        return Err(invalid(field, format!("is {seconds}"), format!("give a number of seconds from 1 to {}", max.as_secs())));
    }
    Ok(given)
}

fn template(field: &str, text: &str) -> Result<(), Invalid> {
    render::check(text).map_err(|e| invalid(field, e, "correct the text"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhen {
    #[serde(rename = "type")]
    kinds: Vec<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default, rename = "where")]
    members: BTreeMap<String, Value>,
}

fn read_when(when: Value) -> Result<When, Invalid> {
    let raw: RawWhen = shape("when", when, "it has `type` (a list), and if wanted `model`, `channel` and `where`")?;
    if raw.kinds.is_empty() || raw.kinds.len() > KINDS_MAX {
        return Err(invalid("when.type", format!("has {} types", raw.kinds.len()), format!("name 1 to {KINDS_MAX}, such as promoted")));
    }
    let kind = |name: &String| {
        let unknown = || invalid("when.type", format!("`{name}` is not an event type"), "`annals schemas` lists the types");
        Kind::from_any(name.trim()).ok_or_else(unknown)
    };
    let kinds = raw.kinds.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    if let Some(pattern) = raw.channel.as_deref().filter(|pattern| !CHANNELS.iter().any(|channel| matches(pattern, channel))) {
        let remedy = format!("use one of {}, or a pattern with `*`", CHANNELS.join(", "));
        return Err(invalid("when.channel", format!("no channel is called `{pattern}`"), remedy));
    }
    if raw.model.as_deref().is_some_and(str::is_empty) {
        return Err(invalid("when.model", "is empty", "name a model, or a pattern such as fraud-*"));
    }
    for (pointer, wanted) in &raw.members {
        if !(pointer.starts_with("/data/") || pointer.starts_with("/decided/")) {
            return Err(invalid("when.where", format!("`{pointer}` does not point into the event"), "begin it with /data/ or /decided/"));
        }
        if !(wanted.is_string() || wanted.is_number() || wanted.is_boolean()) {
            let remedy = "compare with text, a number, true or false";
            return Err(invalid("when.where", format!("what `{pointer}` is compared with is no scalar"), remedy));
        }
    }
    Ok(When { kinds, model: raw.model, channel: raw.channel, members: raw.members })
}

/// Some things are done about some kinds only.
fn only_about(act: &Do, kinds: &[Kind]) -> Result<(), Invalid> {
    let about: &[Kind] = match act {
        Do::Git(_) => &[Kind::VersionPromoted, Kind::VersionDemoted],
        Do::Lookup(_) => &[Kind::RunTrained],
        Do::Webhook(_) | Do::Command(_) | Do::Pipeline(_) | Do::Propose(_) | Do::Kubernetes(_) => return Ok(()),
    };
    let Some(other) = kinds.iter().find(|kind| !about.contains(kind)) else { return Ok(()) };
    let words: Vec<_> = about.iter().map(|kind| kind.short()).collect();
    Err(invalid(
        "when.type",
        format!("`{}` is nothing that a rule with `{}` is about", other.short(), act.as_str()),
        format!("say {}", words.join(" or ")),
    ))
}

fn read_do(act: Map<String, Value>) -> Result<Do, Invalid> {
    const ONE: &str = "say exactly one of webhook, command, pipeline, propose, kubernetes, git, lookup";
    let mut members = act.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return Err(invalid("do", "does not say what to do, or more than one thing", ONE));
    };
    match name.as_str() {
        "webhook" => {
            let webhook: Webhook = shape("do.webhook", value, "it has `subscription`: the name of one")?;
            Ok(Do::Webhook(webhook))
        }
        "command" => read_command("do.command", value).map(Do::Command),
        "pipeline" if value.get("subscription").is_some() => {
            let webhook: Webhook = shape("do.pipeline", value, "it has either `run` or `subscription`")?;
            Ok(Do::Pipeline(Pipeline::Subscription(webhook.subscription)))
        }
        "pipeline" => read_command("do.pipeline", value).map(|command| Do::Pipeline(Pipeline::Run(command))),
        "propose" => read_propose(value).map(Do::Propose),
        "git" => read_git(value).map(|git| Do::Git(Box::new(git))),
        "lookup" => read_lookup(value).map(Do::Lookup),
        "kubernetes" => read_kubernetes(value).map(|kubernetes| Do::Kubernetes(Box::new(kubernetes))),
        other => Err(invalid("do", format!("`{other}` is nothing that a rule can do"), ONE)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    run: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    timeout_s: Option<u64>,
}

fn read_command(field: &str, value: Value) -> Result<Command, Invalid> {
    let raw: RawCommand = shape(field, value, "it has `run`, and if wanted `args` and `timeout_s`")?;
    let run = &raw.run;
    if run.is_empty() || run.starts_with('.') || run.contains(['/', '\\', '\0']) {
        let remedy = "give the name of a file in the directory that the engine was started with (--commands)";
        return Err(invalid(format!("{field}.run"), format!("`{run}` is not the name of a program"), remedy));
    }
    if raw.args.len() > ARGS_MAX {
        return Err(invalid(format!("{field}.args"), format!("there are {}", raw.args.len()), format!("give at most {ARGS_MAX}")));
    }
    raw.args.iter().try_for_each(|arg| template(&format!("{field}.args"), arg))?;
    let timeout = raw.timeout_s.map(|s| bounded(&format!("{field}.timeout_s"), s, TIMEOUT_MAX)).transpose()?.unwrap_or(TIMEOUT);
    Ok(Command { run: raw.run, args: raw.args, timeout })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPropose {
    #[serde(rename = "type")]
    kind: String,
    data: Map<String, Value>,
    #[serde(default)]
    version: Option<String>,
}

fn read_propose(value: Value) -> Result<Propose, Invalid> {
    let raw: RawPropose = shape("do.propose", value, "it has `type`, `data` (maybe {}), and if wanted `version`")?;
    let bad = |message: String| invalid("do.propose.type", message, "`annals schemas` lists the types");
    let kind = Kind::from_any(&raw.kind).ok_or_else(|| bad(format!("`{}` is not an event type", raw.kind)))?;
    let version = raw.version.map(|text| if text == "event" { VersionOf::Event } else { VersionOf::Text(text) });
    match (kind.about(), &version) {
        (About::Engine, _) => return Err(bad(format!("{kind} is written by the engine only"))),
        (About::Workspace, _) => return Err(bad(format!("{kind} is about the workspace, and a rule proposes about a model"))),
        (About::Version, None) => {
            return Err(invalid("do.propose.version", format!("{kind} is about a version"), "say \"event\" for that of the event"));
        }
        (About::Model, Some(_)) => {
            return Err(invalid("do.propose.version", format!("{kind} is about a model, not a version"), "leave it out"));
        }
        (_, Some(VersionOf::Text(text))) => template("do.propose.version", text)?,
        (About::Model | About::Version | About::Either | About::Target, _) => {}
    }
    raw.data.values().try_for_each(|value| render::check_value(value).map_err(|e| invalid("do.propose.data", e, "correct the text")))?;
    Ok(Propose { kind, data: raw.data, version })
}

fn read_kubernetes(value: Value) -> Result<Kubernetes, Invalid> {
    let members = "it has `cluster`, and if wanted namespace, name, template or format, image, replicas, rollback, heal, deadline_s";
    let kubernetes: Kubernetes = shape("do.kubernetes", value, members)?;
    if kubernetes.cluster.is_empty() {
        return Err(invalid("do.kubernetes.cluster", "is empty", "name one of those the engine was started with (--kubernetes NAME=FILE)"));
    }
    if kubernetes.template.is_some() && kubernetes.format.is_some() {
        return Err(invalid("do.kubernetes", "has a `template` and a `format`", "give one of the two"));
    }
    Ok(kubernetes)
}

fn read_git(value: Value) -> Result<Git, Invalid> {
    let git: Git = shape("do.git", value, "it has `repository`, and if wanted branch, path, manifest, tag, author")?;
    let repository = git::place(&git.repository);
    repository.map_err(|e| invalid("do.git.repository", e, "give one of those that the engine may touch (--git-allow)"))?;
    if let Some(branch) = git.branch.as_deref().filter(|branch| !git::is_branch(branch)) {
        return Err(invalid("do.git.branch", format!("`{branch}` is no name that git takes for a branch"), "give it without refs/heads/"));
    }
    for (field, text) in [("do.git.path", &git.path), ("do.git.manifest", &git.manifest)] {
        let Some(text) = text else { continue };
        render::check_with(text, &git::MORE).map_err(|e| invalid(field, e, "correct the text"))?;
    }
    if let Some(path) = &git.path {
        git::check_path(path).map_err(|e| invalid("do.git.path", e, "give a path below the repository, such as {model}/{channel}.yaml"))?;
    }
    if git.author.as_deref().is_some_and(|author| git::author(author).is_none()) {
        return Err(invalid("do.git.author", "is not a name and an address", "write it as git does: Annals <annals@example.org>"));
    }
    Ok(git)
}

fn read_lookup(value: Value) -> Result<Lookup, Invalid> {
    let lookup: Lookup = shape("do.lookup", value, "it has `repository` at most, if not the run's own is meant")?;
    if let Some(repository) = &lookup.repository {
        let place = git::place(repository);
        place.map_err(|e| invalid("do.lookup.repository", e, "give one of those that the engine may touch (--git-allow)"))?;
    }
    Ok(lookup)
}
