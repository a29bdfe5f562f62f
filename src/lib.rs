//! The machine: everything that can fail for reasons of its own.

pub mod arbiter;
pub mod audit;
pub mod cli;
pub mod config;
pub mod drift;
pub mod git;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod runner;
pub mod serve;
pub mod world;
