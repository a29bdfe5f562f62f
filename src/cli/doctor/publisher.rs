//! How far the derived logs are, as the engine's metrics tell it: only an instance with that role has them.

use std::io::Read;

use super::Finding;
use crate::cli::Failure;
use crate::cli::client::{Client, Path};
use crate::metrics::operations::PUBLISHER_LAG;

/// Events that the publisher may be behind without being worth a word: it works in batches.
const LAG_EVENTS: f64 = 1_000.0;
/// Largest page of metrics that is read.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What there is to say of the publisher, if this instance has one that falls behind.
///
/// # Errors
/// [`Failure`] if the engine does not answer.
pub fn findings(client: &Client) -> Result<Option<Finding>, Failure> {
    let mut page = String::new();
    let read = client.stream(&Path::new(&["metrics"]), &[])?.take(PAGE_BYTES_MAX).read_to_string(&mut page);
    Ok(read.ok().and_then(|_| explain(&page)))
}

fn explain(page: &str) -> Option<Finding> {
    let value = |line: &str| {
        let rest = line.strip_prefix(PUBLISHER_LAG)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    let lag = page.lines().filter_map(value).reduce(f64::max)?;
    let what = format!("the publisher is {lag:.0} events behind");
    (lag > LAG_EVENTS).then(|| {
        Finding::act(
            what,
            "if it does not catch up, look at its instance's log and restart that; who reads promotions or the current models sees them \
             late, nothing is lost, and the journal goes on",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn a_publisher_that_falls_behind_is_told() {
        assert_eq!(explain("annals_view_lag_events{view=\"registry\"} 7\n"), None, "this instance has none");
        let page =
            |lag: &str| format!("# HELP {PUBLISHER_LAG} text\n{PUBLISHER_LAG}{{log=\"models\"}} 3\n{PUBLISHER_LAG}{{log=\"x\"}} {lag}\n");
        assert_eq!(explain(&page("12")), None, "some always are");
        let behind = explain(&page("50000")).unwrap();
        assert!(behind.level == Level::Act && behind.what.contains("50000"), "{behind:?}");
        assert!(explain(&format!("{PUBLISHER_LAG} 5000")).is_some(), "also without labels");
    }
}
