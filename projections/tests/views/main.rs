//! The views, asked as the doors ask them: on journals that the real ledger wrote.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod answers;
mod asked;
mod equal;
mod every;
mod history;
mod home;
mod journal;
mod measured;
mod opening;
mod paging;
mod search;
mod shared;
mod targets;
