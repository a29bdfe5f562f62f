//! Behaviour of the real program: one binary, each test with an engine and a directory of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_days;
mod bad_input;
mod cluster;
mod command_line;
mod crash;
mod kafka;
mod life;
mod stage;
mod stream;
mod surface;
