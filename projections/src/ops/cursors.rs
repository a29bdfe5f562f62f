//! Named cursors: where a subscriber goes on, kept for it.

use annals_events::time::Timestamp;

use super::{DOOR, Ops};
use crate::database::{Row, Statement};
use crate::error::Error;
use crate::live::Failure;
use crate::page::{Listing, Page};
use crate::table::Cell;

/// Where a subscriber goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorRow {
    /// Its workspace.
    pub workspace: String,
    /// Its name, unique in the workspace.
    pub name: String,
    /// The cursor, as the subscriber got it.
    pub cursor: String,
    /// When it was last moved.
    pub updated: Timestamp,
    /// From 1; grows with each move.
    pub revision: u64,
}

impl CursorRow {
    fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            workspace: row.text("workspace")?,
            name: row.text("name")?,
            cursor: row.text("cursor")?,
            updated: Timestamp(row.number("updated")?),
            revision: row.count("revision")?,
        })
    }
}

impl Ops {
    /// A subscriber's cursor.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn cursor(&self, workspace: &str, name: &str) -> Result<Option<CursorRow>, Error> {
        let mut reader = self.reader().await?;
        let select = "SELECT workspace, name, cursor, updated, revision FROM cursors WHERE workspace = ? AND name = ?";
        let rows = reader.rows(Statement::new(select, [workspace.into(), name.into()])).await.map_err(|e| self.fault(e))?;
        rows.first().map(CursorRow::read).transpose().map_err(|e| self.fault(e))
    }

    /// The cursors of a workspace, by name.
    ///
    /// # Errors
    /// [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn cursors(&self, workspace: &str, page: &Page) -> Result<Listing<CursorRow>, Error> {
        let mut reader = self.reader().await?;
        let select =
            "SELECT workspace, name, cursor, updated, revision FROM cursors WHERE workspace = ? AND name > ? ORDER BY name LIMIT ?";
        let after = page.after.as_deref().unwrap_or_default();
        let select = Statement::new(select, [workspace.into(), after.into(), Cell::Int(page.fetch())]);
        let rows = reader.rows(select).await.map_err(|e| self.fault(e))?;
        let rows = rows.iter().map(CursorRow::read).collect::<Result<_, _>>().map_err(|e| self.fault(e))?;
        Ok(Listing::cut(rows, page, |row: &CursorRow| row.name.clone()))
    }

    /// Moves a cursor, and returns its revision from now on. `expected` is the revision that it must
    /// be at, 0 for one that must not be there yet; `None` moves or makes it whatever it is.
    ///
    /// # Errors
    /// [`Error::CursorMoved`], [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn set_cursor(&self, workspace: &str, name: &str, cursor: &str, expected: Option<u64>, now: Timestamp) -> Result<u64, Error> {
        let moving = async {
            let mut writer = self.inner.database.writer(DOOR).await?;
            let (cursor, updated): (Cell, Cell) = (cursor.into(), Cell::Int(now.0));
            // one statement, so that of two who expect the same one is refused
            let statement = match expected {
                Some(revision) if revision > 0 => {
                    let sql = "UPDATE cursors SET cursor = ?, updated = ?, revision = revision + 1
                        WHERE workspace = ? AND name = ? AND revision = ? RETURNING revision";
                    Statement::new(sql, [cursor, updated, workspace.into(), name.into(), Cell::count(revision)])
                }
                _ => {
                    let otherwise = if expected.is_none() {
                        "UPDATE SET cursor = excluded.cursor, updated = excluded.updated, revision = cursors.revision + 1"
                    } else {
                        "NOTHING"
                    };
                    let sql = format!(
                        "INSERT INTO cursors (workspace, name, cursor, updated, revision) VALUES (?, ?, ?, ?, 1)
                        ON CONFLICT (workspace, name) DO {otherwise} RETURNING revision"
                    );
                    Statement::new(sql, [workspace.into(), name.into(), cursor, updated])
                }
            };
            let rows = writer.rows(statement).await?;
            match rows.first() {
                Some(row) => Ok(row.count("revision")?),
                None => Err(self.moved(workspace, name).await),
            }
        };
        self.working(DOOR, moving).await
    }

    /// Forgets a cursor; `false` if there was none. `expected` as in [`Ops::set_cursor`].
    ///
    /// # Errors
    /// [`Error::CursorMoved`], [`Error::OpsUnavailable`], [`Error::Damaged`].
    pub async fn forget_cursor(&self, workspace: &str, name: &str, expected: Option<u64>) -> Result<bool, Error> {
        let forgetting = async {
            let mut writer = self.inner.database.writer(DOOR).await?;
            let sql = "DELETE FROM cursors WHERE workspace = ? AND name = ? AND (? = 0 OR revision = ?) RETURNING revision";
            let (any, revision) = (Cell::Int(expected.is_some().into()), Cell::count(expected.unwrap_or(0)));
            let rows = writer.rows(Statement::new(sql, [workspace.into(), name.into(), any, revision])).await?;
            match rows.first() {
                Some(_) => Ok(true),
                None => match self.moved(workspace, name).await {
                    Failure::View(Error::CursorMoved { found: None }) => Ok(false),
                    moved => Err(moved),
                },
            }
        };
        self.working(DOOR, forgetting).await
    }

    async fn moved(&self, workspace: &str, name: &str) -> Failure {
        match self.cursor(workspace, name).await {
            Ok(row) => Error::CursorMoved { found: row.map(|row| row.revision) }.into(),
            Err(e) => e.into(),
        }
    }
}
