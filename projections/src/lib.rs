//! What can be asked: tables made of the journal's events, which can be dropped and rebuilt.
//!
//! ```text
//!  entries ──▶ live ──┐                       ┌──▶ registry, timeline, lineage, deployments, search (queries)
//!                     ├─▶ fold ─▶ store ─▶ database (SQLite or PostgreSQL)
//!  journal ─▶ rebuild ┘  (pure)   (SQL)       └──▶ positions (in the same transaction)
//! ```
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`table`] | the traits [`Projection`] and [`Fold`](table::Fold): events in, rows out, no database |
//! | [`position`] | [`Entry`], [`Position`] and the entry as projections read it |
//! | [`payload`] | the producer's `data`, read leniently |
//! | [`ops`] | [`Ops`]: what is under way outside: tasks, secrets, cursors; no view, and backed up |
//! | [`registry`], [`timeline`], [`lineage`], [`deployments`], [`search`] | one view each: its tables, its fold, its questions |
//! | `shelf` | documents with a history: what is valid now, and what was |
//! | `store` | the statements that all views share |
//! | `database` | what differs between SQLite and PostgreSQL: who writes when, how rows go in and out |
//! | `live` | new entries: rule R, fold, rows and position in one transaction |
//! | [`rebuild`] | all entries again: new tables beside the old, then a switch; and `diff` |
//! | [`views`] | [`Views`]: the views of a journal: opening, applying, status, reset |
//! | [`as_of`] | [`AsOf`]: now, a time, or a vector of positions |
//! | [`page`] | [`Page`] and [`Listing`]: keyset paging |
//! | [`error`] | [`Error`] |
//!
//! Nothing decides from a view, and every view can be dropped: an error here never touches the
//! journal. The operational store alone cannot be made again from it. SQL is written in this crate (and in the embedded journal) only.

pub mod as_of;
mod database;
pub mod deployments;
pub mod error;
pub mod lineage;
mod live;
pub mod ops;
pub mod page;
pub mod payload;
pub mod position;
pub mod rebuild;
pub mod registry;
pub mod search;
mod shelf;
mod store;
pub mod table;
pub mod timeline;
pub mod views;

pub use as_of::AsOf;
pub use database::Place;
pub use error::Error;
pub use ops::Ops;
pub use page::{Doc, Listing, Page};
pub use position::{Entry, Position};
pub use table::Projection;
pub use views::{Status, Views};

/// The names of all views.
pub const NAMES: &[&str] = &[registry::NAME, timeline::NAME, lineage::NAME, deployments::NAME, search::NAME];

/// Every projection.
#[must_use]
pub fn all() -> Vec<Box<dyn Projection>> {
    vec![
        Box::new(registry::Registry),
        Box::new(timeline::Timeline),
        Box::new(lineage::LineageView),
        Box::new(deployments::Deployments),
        Box::new(search::Search),
    ]
}
