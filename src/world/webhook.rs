//! Webhooks: tells a subscription's endpoint what happened, by the Standard Webhooks spec.

pub mod address;
pub mod answer;
pub mod send;
pub mod sign;
