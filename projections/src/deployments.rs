//! What is wanted on each target beside what was found there, and the events that made it so.
//!
//! ```text
//!  requested ─▶ progressing ─▶ succeeded ─▶ in-sync ─▶ found that it was changed ─▶ changed
//!                   │                          ├──────▶ found that it was removed ─▶ missing
//!                   │                          ◀─ restored ─ found as it should be, from either
//!                   └────────▶ failed ─▶ rolled back ─▶ rolled-back
//!  found what nobody asked for ─▶ foreign
//! ```

pub mod documents;
mod fold;
mod query;

pub use query::{Filter, Line};

use crate::table::{Fold, Projection, Table};

/// Its name.
pub const NAME: &str = "deployments";

/// The words for how a target is.
pub const STATES: [&str; 7] = ["in-sync", "progressing", "failed", "rolled-back", "foreign", "missing", "changed"];

/// The projection.
pub struct Deployments;

impl Projection for Deployments {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn fold(&self) -> Box<dyn Fold> {
        Box::new(fold::DeploymentsFold::default())
    }
}

/// The order is that of [`Entity::TABLE`](crate::shelf::Entity::TABLE).
static TABLES: [Table; 2] = [
    Table {
        name: "deployments",
        columns: &["partition", "key", "since", "until", "target", "workspace", "channel", "state", "doc"],
        identity: Some("target"),
    },
    // one row a deployment, which never changes: most events name a deployment, and not its target
    Table {
        name: "deployments_requested",
        columns: &["partition", "key", "since", "until", "deployment", "doc"],
        identity: Some("deployment"),
    },
];
