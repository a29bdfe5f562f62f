//! The machine: everything that can fail for reasons of its own.

pub mod arbiter;
pub mod journal;
