//! What `annals doctor` says of the search cluster: whether it is indexed and asked, and what it did not take.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::Failure;
use super::super::client::{Client, Path};
use super::super::output::counted;
use super::Finding;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Index {
    state: String,
    cluster: String,
    engine: Option<String>,
    index: Option<String>,
    reason: Option<String>,
    remedy: Option<String>,
    lag_events: u64,
    refused: BTreeMap<String, String>,
}

/// Looks at the search cluster, if the engine was told of one.
///
/// # Errors
/// [`Failure`] if the engine does not answer at all.
pub(super) fn findings(client: &Client) -> Result<Vec<Finding>, Failure> {
    let answer = client.try_get(&Path::new(&["v1", "search", "index"]), &[])?;
    Ok(judged(&Index::deserialize(&answer.body).unwrap_or_default()))
}

fn judged(index: &Index) -> Vec<Finding> {
    let named = format!(
        "the search index {} at {} ({})",
        index.index.as_deref().unwrap_or("?"),
        index.cluster,
        index.engine.as_deref().unwrap_or("unknown")
    );
    let lag = counted(index.lag_events, "event");
    let reason = || format!("{named}: {}", index.reason.as_deref().unwrap_or(&index.state));
    let remedy = index.remedy.as_deref().unwrap_or("look at GET /v1/search/index");
    let mut findings = vec![match index.state.as_str() {
        // no cluster, or an engine from before
        "none" | "" => return Vec::new(),
        "indexing" | "standby" => Finding::well(format!("{named} is {}, {lag} behind", index.state)),
        "filling" | "reindexing" => {
            Finding::wait(format!("{named} is {}, {lag} behind", index.state), "wait; the database answers meanwhile")
        }
        "busy" | "waiting" => Finding::wait(reason(), remedy),
        _ => Finding::act(reason(), remedy),
    }];
    let refused = index.refused.iter().map(|(subject, why)| {
        Finding::act(
            format!("the search cluster does not take {subject}: {why}"),
            "see what was changed about the index there (its mapping, its limits), then run `annals search reindex`",
        )
    });
    findings.extend(refused);
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_person_is_asked_for_what_does_not_pass() {
        let state = |state: &str| Index { state: state.into(), reason: Some("why".into()), ..Index::default() };
        for (word, level) in
            [("indexing", Level::Well), ("filling", Level::Wait), ("busy", Level::Wait), ("away", Level::Act), ("foreign", Level::Act)]
        {
            assert_eq!(judged(&state(word))[0].level, level, "{word}");
        }
        assert!(judged(&state("none")).is_empty());
        let refused = Index { refused: [("w/m/1".into(), "no date".into())].into(), ..state("indexing") };
        assert!(judged(&refused)[1].what.contains("w/m/1: no date"));
    }
}
