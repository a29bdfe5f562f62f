//! The journal on Kafka.

pub mod registry;
