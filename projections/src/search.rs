//! Full-text search over models and versions: one document each, and the words that it is found by.
//!
//! ```text
//!  event ─fold─▶ document (JSON) ─words─▶ SQLite FTS5 │ PostgreSQL tsvector │ a search cluster (src/world/search)
//!                                            ▲
//!  question ─parse─▶ query ─────────────────┘   the same words on both sides, so every engine finds the same
//! ```
//!
//! It knows what is now, and no past: a document that changes takes the place of the one before.

pub mod document;
mod find;
mod fold;
pub mod query;
pub mod words;

pub use document::Document;
pub use find::{Changed, Found, Place};
pub use query::Query;

use crate::table::{Fold, Projection, Table};

/// Its name.
pub const NAME: &str = "search";

/// The projection.
pub struct Search;

impl Projection for Search {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn fold(&self) -> Box<dyn Fold> {
        Box::new(fold::SearchFold::default())
    }
}

/// Index of the table of documents.
const DOCUMENTS: usize = 0;
/// Index of the table of words: in SQLite a full-text index, which is why its only key is `rowid`.
const WORDS: usize = 1;

static TABLES: [Table; 2] = [
    Table {
        name: "search_documents",
        columns: &["partition", "key", "since", "version", "id", "created", "subject", "doc"],
        identity: Some("version"),
    },
    Table { name: "search_words", columns: &["rowid", "words"], identity: Some("rowid") },
];
