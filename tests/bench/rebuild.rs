//! Rebuilding the registry, beside bare multi-row inserts of the same rows.
pub fn run() {}
