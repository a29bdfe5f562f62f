//! What happened to a model, and what may happen next: everything here is true with the power off.
//!
//! No clock, no randomness, no socket, no async. A [`submission::Submission`] is parsed into a
//! [`proposal::Proposal`], an [`ledger::Overlay`] judges it, and what was accepted is a
//! [`record::Record`] that [`ledger::Ledger::apply`] folds under [`rule::Rule`] (rule R).

// a refusal carries the state it was judged on; it is an answer like another, made once per proposal
#![allow(clippy::result_large_err)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod control;
pub mod decided;
pub mod deploy;
pub mod design;
pub mod govern;
pub mod kind;
pub mod ledger;
pub mod maintain;
pub mod model;
pub mod monitor;
pub mod names;
pub mod proposal;
pub mod record;
pub mod rule;
pub mod schema;
pub mod submission;
pub mod time;
pub mod train;
pub mod verdict;
pub mod window;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod stage;

/// The version of `decide` and of the schemas it checks with; every event names it in `ce_rules`.
pub const RULES: u32 = 1;
