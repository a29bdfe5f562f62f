//! What `annals doctor` says of webhooks: deliveries that nobody took, and endpoints that are gone.

use serde::Deserialize;

use super::super::Failure;
use super::super::client::{Client, Path};
use super::super::output::counted;
use super::{Finding, within};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct All {
    items: Vec<Webhook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Webhook {
    workspace: String,
    name: String,
    state: String,
    pending: u64,
    parked: u64,
    failing: u64,
    last_note: Option<String>,
}

/// Looks at every workspace's webhooks.
///
/// # Errors
/// [`Failure`] if the engine does not answer at all.
pub(super) fn findings(client: &Client) -> Result<Vec<Finding>, Failure> {
    let answer = client.try_get(&Path::new(&["v1", "webhooks"]).with("workspace", "*"), &[])?;
    if answer.status >= 300 {
        return Ok(Vec::new()); // another instance has the store, or what is amiss with it is said elsewhere
    }
    let all = All::deserialize(&answer.body).unwrap_or_default();
    Ok(all.items.iter().flat_map(of).collect())
}

fn of(webhook: &Webhook) -> Vec<Finding> {
    let Webhook { name, pending, parked, .. } = webhook;
    let within = within(&webhook.workspace);
    let mut findings = Vec::new();
    if *parked > 0 {
        findings.push(Finding::act(
            format!("webhook {name}: {} failed for good and wait for a person", counted(*parked, "event")),
            &format!(
                "`annals webhook deliveries {name} --state parked{within}` says why; mend the endpoint, then \
                 `annals webhook replay {name} --parked{within}` delivers them again"
            ),
        ));
    }
    let gone = webhook.last_note.as_deref().filter(|note| note.starts_with("410 "));
    match (webhook.state.as_str(), gone) {
        ("paused", Some(note)) => findings.push(Finding::act(
            format!("webhook {name} is paused, for its endpoint is gone: {note}; {} wait", counted(*pending, "event")),
            &format!(
                "give it its new URL with `annals webhook add {name} --to URL …{within}`, let it go on with `annals webhook resume {name}{within}`, \
                 or end it with `annals webhook remove {name}{within}`"
            ),
        )),
        ("paused", None) if *pending > 0 => findings.push(Finding::wait(
            format!("webhook {name} is paused, and {} wait", counted(*pending, "event")),
            &format!("`annals webhook resume {name}{within}` lets them go on"),
        )),
        ("active", _) if webhook.failing > 0 => {
            let said = webhook.last_note.as_deref().unwrap_or("nothing");
            let (failing, waiting) = (counted(webhook.failing, "model"), counted(*pending, "event"));
            findings.push(Finding::wait(
                format!("webhook {name}: deliveries for {failing} failed and are tried again, {waiting} in all; the last answer was {said}"),
                &format!(
                    "`annals webhook deliveries {name} --state pending{within}` says when; once the endpoint is mended, \
                     `annals webhook replay {name} --waiting{within}` tries at once"
                ),
            ));
        }
        _ => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn webhook(state: &str, pending: u64, parked: u64, note: Option<&str>) -> Vec<Finding> {
        let (workspace, name) = ("default".into(), "w".into());
        let failing = u64::from(note.is_some());
        of(&Webhook { workspace, name, state: state.into(), pending, parked, failing, last_note: note.map(str::to_owned) })
    }

    #[test]
    fn what_nobody_took_needs_a_person_and_what_passes_does_not() {
        assert!(webhook("active", 3, 0, None).is_empty() && webhook("paused", 0, 0, None).is_empty());
        let failing = webhook("active", 3, 0, Some("500 in 2 ms"));
        assert!(failing[0].level == Level::Wait && failing[0].what.contains("3 events in all") && failing[0].what.contains("500 in 2 ms"));
        let parked = webhook("active", 0, 2, None);
        assert!(parked[0].level == Level::Act && parked[0].todo.as_deref().unwrap().contains("annals webhook replay w --parked"));
        let gone = webhook("paused", 1, 0, Some("410 in 2 ms"));
        assert!(gone[0].level == Level::Act && gone[0].todo.as_deref().unwrap().contains("annals webhook resume w"));
        assert_eq!(webhook("paused", 1, 0, None)[0].level, Level::Wait);
    }

    #[test]
    fn a_workspace_of_another_name_is_said() {
        let found = of(&Webhook { workspace: "team".into(), name: "w".into(), parked: 1, ..Webhook::default() });
        assert!(found[0].todo.as_deref().unwrap().contains("--parked --workspace team"));
    }
}
