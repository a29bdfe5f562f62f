//! The operational store, as dispatcher, actors and doors use it: one suite on both databases.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../views/home.rs"]
#[expect(dead_code, reason = "the views' tests use the rest of it")]
mod home;
mod kept;
mod leading;
mod opening;
mod order;
mod store;
mod tasks;
