//! The questions: what is found by a query, and what has changed since.

use serde_json::value::RawValue;

use super::{NAME, Query};
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::page::{Listing, Page};
use crate::position::Position;
use crate::table::Cell;
use crate::views::Views;

/// A document that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// `workspace/model` or `workspace/model/version`.
    pub subject: String,
    /// The JSON.
    pub body: Box<RawValue>,
}

impl serde::Serialize for Found {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}

/// Where a page begins: behind this document, in the order of answers (the newest first, and by subject).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When that one was made, in milliseconds since 1970.
    pub created: i64,
    /// Its subject.
    pub subject: String,
}

impl Place {
    /// The place that a page names, if it is not the first.
    ///
    /// # Errors
    /// [`Error::Cursor`].
    pub fn of(page: &Page) -> Result<Option<Self>, Error> {
        let Some(text) = &page.after else { return Ok(None) };
        let parts = text.split_once(' ').and_then(|(created, subject)| Some((created.parse().ok()?, subject)));
        let (created, subject) = parts.filter(|(_, subject)| subject.contains('/')).ok_or_else(|| Error::Cursor(text.clone()))?;
        Ok(Some(Self { created, subject: subject.into() }))
    }
}

impl Found {
    /// What the next page begins behind.
    #[must_use]
    pub fn cursor(&self) -> String {
        format!("{} {}", self.created, self.subject)
    }
}

/// A document as it is, and the event that made it so.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The event.
    pub seq: u64,
    /// Tells documents of one event apart.
    pub id: i64,
    /// The JSON: a [`Document`](super::Document).
    pub doc: String,
}

impl Views {
    /// The documents that a query means, in one workspace or in all; the newest first.
    ///
    /// # Errors
    /// [`Error::Cursor`], [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn found(&self, workspace: Option<&str>, query: &Query, page: &Page) -> Result<Listing<Found>, Error> {
        let (source, cell) = self.database.full_text(query);
        // `0` is the character behind `/`, and no subject is behind the last character
        let (first, end) = workspace.map_or_else(|| (String::new(), char::MAX.to_string()), |w| (format!("{w}/"), format!("{w}0")));
        let mut cells = vec![cell, first.into(), end.into()];
        let mut behind = "";
        if let Some(Place { created, subject }) = Place::of(page)? {
            behind = " AND (d.created < ? OR (d.created = ? AND d.subject > ?))";
            cells.extend([Cell::Int(created), Cell::Int(created), subject.into()]);
        }
        // the page is chosen by what an index holds; only its own documents are read
        let sql = format!(
            "WITH page AS (SELECT d.id, d.created, d.subject FROM search_documents d JOIN ({source}) w ON w.id = d.id \
             WHERE d.subject > ? AND d.subject < ?{behind} ORDER BY d.created DESC, d.subject LIMIT {}) \
             SELECT t.created, t.subject, t.doc FROM page JOIN search_documents t ON t.id = page.id \
             ORDER BY t.created DESC, t.subject",
            page.fetch()
        );
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, cells)).await;
        let found = rows.and_then(|rows| rows.iter().map(found).collect()).map_err(|e| self.fault(e))?;
        Ok(Listing::cut(found, page, Found::cursor))
    }

    /// The documents of a partition that events in (`after`, `until`] have made what they are, oldest change first; behind a
    /// document of the last answer, if there was one. Each comes once, as it is now.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn changed(
        &self,
        partition: u32,
        after: Option<u64>,
        until: u64,
        last: Option<&Changed>,
        limit: u32,
    ) -> Result<Vec<Changed>, Error> {
        let after = Cell::Int(after.map_or(-1, |seq| i64::try_from(seq).unwrap_or(i64::MAX)));
        let (seq, id) = last.map_or((after.clone(), i64::MAX), |last| (Cell::count(last.seq), last.id));
        let sql = format!(
            "SELECT since, id, doc FROM search_documents \
             WHERE partition = ? AND since > ? AND since <= ? AND (since, id) > (?, ?) ORDER BY since, id LIMIT {limit}"
        );
        let cells = [Cell::Int(partition.into()), after, Cell::count(until), seq, Cell::Int(id)];
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new(sql, cells)).await;
        rows.and_then(|rows| rows.iter().map(changed).collect()).map_err(|e| self.fault(e))
    }

    /// How many documents there are.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn documents(&self) -> Result<u64, Error> {
        let mut reader = self.reader().await?;
        let rows = reader.rows(Statement::new("SELECT count(*) AS documents FROM search_documents", [])).await;
        let count = rows.and_then(|rows| rows.first().ok_or(sqlx::Error::RowNotFound)?.count("documents"));
        count.map_err(|e| self.fault(e))
    }

    /// How far the documents are.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    pub async fn documented(&self) -> Result<Vec<Position>, Error> {
        self.positions(NAME).await
    }
}

fn found(row: &Row) -> Result<Found, sqlx::Error> {
    Ok(Found {
        created: row.number("created")?,
        subject: row.text("subject")?,
        body: RawValue::from_string(row.text("doc")?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
    })
}

fn changed(row: &Row) -> Result<Changed, sqlx::Error> {
    Ok(Changed { seq: row.count("since")?, id: row.number("id")?, doc: row.text("doc")? })
}
