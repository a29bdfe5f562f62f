//! The registry: models, versions, channels, aliases, deployments, drifts and measurements, now and at any time before.

mod change;
pub mod documents;
mod fold;
mod measured;
mod query;

pub use measured::{MEASUREMENTS_MAX, Measured};

use crate::table::{Fold, Projection, Table};

/// Its name.
pub const NAME: &str = "registry";

/// The projection.
pub struct Registry;

impl Projection for Registry {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn fold(&self) -> Box<dyn Fold> {
        Box::new(fold::RegistryFold::default())
    }
}

/// Index of the table of steps.
pub(crate) const STEPS: usize = 1;

/// The order is that of [`Entity::TABLE`](crate::shelf::Entity::TABLE).
static TABLES: [Table; 8] = [
    Table {
        name: "registry_models",
        columns: &["partition", "key", "since", "until", "model", "workspace", "health", "latest_version", "doc"],
        identity: Some("model"),
    },
    Table { name: "registry_steps", columns: &["partition", "key", "seq", "modelseq", "recorded"], identity: None },
    Table {
        name: "registry_versions",
        columns: &["partition", "key", "since", "until", "version", "label", "run", "digest", "status", "doc"],
        identity: Some("version"),
    },
    Table {
        name: "registry_channels",
        columns: &["partition", "key", "since", "until", "channel", "version", "digest", "recorded", "doc"],
        identity: Some("channel"),
    },
    Table {
        name: "registry_aliases",
        columns: &["partition", "key", "since", "until", "alias", "version", "doc"],
        identity: Some("alias"),
    },
    Table {
        name: "registry_deployments",
        columns: &["partition", "key", "since", "until", "deployment", "version", "target", "state", "doc"],
        identity: Some("deployment"),
    },
    Table {
        name: "registry_drifts",
        columns: &["partition", "key", "since", "until", "drift", "version", "state", "doc"],
        identity: Some("drift"),
    },
    Table {
        name: "registry_measurements",
        columns: &["partition", "key", "since", "until", "measurement", "version", "recorded", "doc"],
        identity: Some("measurement"),
    },
];
