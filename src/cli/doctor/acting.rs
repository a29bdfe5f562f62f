//! What acts on the world: parked tasks, rules that nobody can do, a dispatcher that stands still.

use serde::Deserialize;

use super::{Finding, within};
use crate::cli::Failure;
use crate::cli::client::{Client, Path};
use crate::cli::output::counted;

/// Events that the dispatcher may be behind without being worth a word.
const LAG_EVENTS: u64 = 1_000;
/// Rules of whose tasks each is told; the rest is counted.
const RULES_MAX: usize = 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Acting {
    leads: bool,
    trouble: Option<String>,
    lag_events: Option<u64>,
    rules: Vec<Rule>,
    repositories: Vec<Repository>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Repository {
    repository: String,
    trouble: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    rule: String,
    state: String,
    parked: u64,
    failing: u64,
    problem: Option<String>,
    last_failed: Option<String>,
    last_parked: Option<String>,
}

/// What there is to say. An engine without a store, or an older one, has said so elsewhere or says nothing.
///
/// # Errors
/// [`Failure`] if the engine does not answer.
pub fn findings(client: &Client) -> Result<Vec<Finding>, Failure> {
    let answer = client.try_get(&Path::new(&["v1", "acting"]), &[])?;
    if answer.status >= 300 {
        return Ok(Vec::new());
    }
    Ok(explain(&Acting::deserialize(&answer.body).unwrap_or_default()))
}

fn explain(acting: &Acting) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(trouble) = &acting.trouble {
        found.push(Finding::act(
            format!("events are not dispatched to triggers and webhooks: {trouble}"),
            "do what it says; nothing is lost, and it goes on by itself once the cause is gone",
        ));
    }
    if let Some(lag) = acting.lag_events.filter(|lag| *lag > LAG_EVENTS) {
        found.push(Finding::wait(
            format!("{lag} events are not dispatched to triggers and webhooks yet"),
            "wait: if it does not shrink, look at the machine's load and at the database that --database names",
        ));
    }
    // subscriptions are told of by whoever looks at webhooks
    let triggers = acting.rules.iter().filter_map(|rule| Some((rule, rule.rule.strip_prefix("trigger/")?.split_once('/')?)));
    let triggers: Vec<_> =
        triggers.map(|(rule, (workspace, name))| of_trigger(rule, workspace, name)).filter(|told| !told.is_empty()).collect();
    let more = triggers.len() > RULES_MAX;
    found.extend(triggers.into_iter().take(RULES_MAX).flatten());
    if more {
        found.push(Finding::act("more triggers need somebody", "`annals trigger list` shows them all"));
    }
    found.extend(acting.repositories.iter().map(|Repository { repository, trouble }| {
        let todo = "do what it says; what waits is tried again, and what is parked says so: annals trigger history NAME";
        Finding::act(format!("the repository {repository}: {trouble}"), todo)
    }));
    if found.is_empty() && acting.leads {
        found.push(Finding::well("this instance acts: events are dispatched to triggers and webhooks"));
    }
    found
}

fn of_trigger(rule: &Rule, workspace: &str, name: &str) -> Vec<Finding> {
    let within = within(workspace);
    let mut found = Vec::new();
    if let Some(problem) = &rule.problem {
        let todo = format!("do what it says, or change or remove it: annals trigger show {name}{within}");
        found.push(Finding::act(format!("the trigger {name} can do nothing: {problem}"), &todo));
    }
    if rule.parked > 0 {
        let why = rule.last_parked.as_deref().unwrap_or("it does not say why");
        let todo = format!(
            "mend the cause, then: annals trigger replay {name} --parked{within} (annals trigger history {name} --state parked{within} \
             shows each)"
        );
        found.push(Finding::act(format!("the trigger {name} has {} parked: {why}", counted(rule.parked, "task")), &todo));
    }
    // what is paused is not tried again
    if rule.failing > 0 && rule.state == "active" {
        let why = rule.last_failed.as_deref().unwrap_or("it does not say why");
        let todo = format!(
            "mend the cause; annals trigger replay {name} --waiting{within} tries at once (annals trigger history {name} --state \
             pending{within} shows each, and when)"
        );
        let failing = counted(rule.failing, "task");
        found.push(Finding::wait(format!("the trigger {name} has {failing} that failed and will be tried again: {why}"), &todo));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn what_needs_a_person_is_told_with_the_command() {
        assert!(explain(&Acting::default()).is_empty(), "another instance acts");
        assert_eq!(explain(&Acting { leads: true, ..Acting::default() })[0].level, Level::Well);
        let rule = Rule {
            rule: "trigger/other/train".into(),
            state: "active".into(),
            parked: 2,
            failing: 1,
            problem: Some("no programs".into()),
            last_failed: Some("train.sh exited with 2".into()),
            last_parked: Some("train.sh exited with 1".into()),
        };
        let rules = vec![rule, Rule { rule: "subscription/default/s".into(), parked: 1, ..Rule::default() }];
        let repositories = vec![Repository { repository: "/srv/x.git".into(), trouble: "it is not there".into() }];
        let found = explain(&Acting { leads: true, trouble: Some("it is away".into()), lag_events: Some(5_000), rules, repositories });
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Act, Level::Wait, Level::Act, Level::Act, Level::Wait, Level::Act]);
        let todo = found[3].todo.as_deref().unwrap();
        assert!(
            todo.contains("annals trigger replay train --parked --workspace other") && found[3].what.contains("exited with 1"),
            "{todo}"
        );
        assert!(found[4].what.contains("1 task that failed") && found[4].what.contains("exited with 2"), "{}", found[4].what);
    }
}
