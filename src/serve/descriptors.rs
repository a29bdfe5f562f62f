//! The limit on open files: each subscriber and each caller is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What all connections need, with the journal, the views and the brokers beside them.
const WANTED: u64 = 8_192;

/// Raises the limit to what is wanted, as far as the system allows; most shells allow 1,024 unless asked.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    let now = limit.current.unwrap_or(u64::MAX);
    let raised = WANTED.min(allowed);
    let now = if now < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).is_ok() {
        raised
    } else {
        now
    };
    if now < WANTED {
        tracing::warn!(
            "only {now} files may be open at once, and each subscriber and each caller is one: raise the limit (ulimit -n, LimitNOFILE) to {WANTED}"
        );
    }
}
