//! What was measured last of the versions that are in use: of those that hold a channel or run on a target.

use std::collections::HashSet;

use serde::Deserialize;

use super::documents::Measurement;
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::views::Views;

/// Most measurements that one question looks at, the newest first: a question costs the same however many there are.
pub const MEASUREMENTS_MAX: u32 = 10_000;

/// What was measured last of a version in one metric, and a channel in which the version is in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// `workspace/model`.
    pub key: Box<str>,
    /// The version.
    pub version: u64,
    /// The channel that the version holds, or that its deployment serves; `None` where that serves none.
    pub channel: Option<Box<str>>,
    /// As the producer named it.
    pub metric: Box<str>,
    /// In the metric's own unit; `None` if it is no number that a computer counts with.
    pub value: Option<f64>,
    /// When it was recorded (RFC 3339).
    pub measured: Box<str>,
}

/// What this question wants of the document of a channel or a deployment.
#[derive(Deserialize)]
struct Holder {
    channel: Option<Box<str>>,
}

impl Views {
    /// What was measured last of each metric of each version that is in use, once for each channel, the newest
    /// first; of the newest [`MEASUREMENTS_MAX`] measurements.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn measured(&self) -> Result<Vec<Measured>, Error> {
        let held = |table: &str, condition: &str| {
            format!(
                "SELECT m.key, m.recorded, m.measurement, m.doc, h.doc AS holder FROM newest m \
                 JOIN {table} h ON h.key = m.key AND h.version = m.version AND h.until IS NULL{condition}"
            )
        };
        let sql = format!(
            "WITH newest AS (SELECT key, measurement, version, recorded, doc FROM registry_measurements \
             WHERE until IS NULL ORDER BY recorded DESC LIMIT {MEASUREMENTS_MAX}) {} UNION ALL {} ORDER BY 2 DESC, 1, 3",
            held("registry_channels", ""),
            held("registry_deployments", " AND h.state = 'active'"),
        );
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, [])).await;
        let found: Vec<Measured> = rows.and_then(|rows| rows.iter().map(measured).collect()).map_err(|e| self.fault(e))?;
        let mut seen = HashSet::new();
        let first = |m: &Measured| seen.insert((m.key.clone(), m.version, m.channel.clone(), m.metric.clone()));
        Ok(found.into_iter().filter(first).collect())
    }
}

fn measured(row: &Row) -> Result<Measured, sqlx::Error> {
    let broken = |e: serde_json::Error| sqlx::Error::Decode(Box::new(e));
    let Measurement { version, metric, value, measured, .. } = serde_json::from_str(&row.text("doc")?).map_err(broken)?;
    let Holder { channel } = serde_json::from_str(&row.text("holder")?).map_err(broken)?;
    let value = value.and_then(|raw| serde_json::from_str(raw.get()).ok());
    Ok(Measured { key: row.text("key")?.into(), version, channel, metric, value, measured })
}
