//! Behaviour of the real program: one binary, each test with an engine and a directory of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod asyncapi;
mod bad_days;
mod bad_input;
mod clients;
mod cluster;
mod command_line;
mod compose;
mod control;
mod crash;
mod database;
mod deployments;
mod forwarder;
mod kafka;
mod kubernetes;
mod life;
mod operations;
mod sasl;
mod schema_registry;
mod services;
mod stage;
mod stream;
mod subscribers;
mod surface;
mod triggers;
mod webhooks;
