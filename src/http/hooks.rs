//! Doors for what other tools say in a form of their own: it becomes events on the way of every proposal.

pub mod alertmanager;
pub mod drift;
