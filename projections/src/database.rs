//! The databases that can keep views and the operational store, behind one trait: what differs between them, and nothing else.
//!
//! Questions and folds are written once, against [`Connection`]: statements with `?` for each value,
//! which both understand, and whole rows in and out. Each implementation has its own typed pool.

pub(crate) mod kept;
mod migrations;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;

pub use self::kept::Place;
use crate::error::Error;
use crate::search::Query;
use crate::store::count_of;
use crate::table::{Cell, Table};

/// Something that the database is asked to do.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'a>>;

/// A connection that somebody has for now.
pub(crate) type Held<'a> = Box<dyn Connection + 'a>;

/// One statement.
#[derive(Debug)]
pub(crate) struct Statement {
    /// `?` stands for the next of `cells`.
    pub(crate) sql: String,
    pub(crate) cells: Vec<Cell>,
    /// Whether it comes again and is worth being kept prepared.
    pub(crate) keep: bool,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<String>, cells: impl Into<Vec<Cell>>) -> Self {
        Self { sql: sql.into(), cells: cells.into(), keep: true }
    }

    /// A statement that is not seen again.
    pub(crate) fn once(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), cells: Vec::new(), keep: false }
    }

    pub(crate) fn kept(self, keep: bool) -> Self {
        Self { keep, ..self }
    }
}

/// A row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The columns' names, one list for all rows of an answer.
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    fn cell(&self, name: &str) -> Result<&Cell, sqlx::Error> {
        let found = self.names.iter().zip(&self.cells).find(|(n, _)| &***n == name);
        found.map(|(_, cell)| cell).ok_or_else(|| sqlx::Error::ColumnNotFound(name.into()))
    }

    /// Text, or `None` where there is nothing.
    pub(crate) fn maybe_text(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        match self.cell(name)? {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text.to_string())),
            Cell::Int(_) => Err(unlike(name, "text")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, sqlx::Error> {
        self.maybe_text(name)?.ok_or_else(|| unlike(name, "text"))
    }

    /// A number, or `None` where there is nothing.
    pub(crate) fn maybe_number(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
        match self.cell(name)? {
            Cell::Null => Ok(None),
            Cell::Int(n) => Ok(Some(*n)),
            Cell::Text(_) => Err(unlike(name, "a number")),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<i64, sqlx::Error> {
        self.maybe_number(name)?.ok_or_else(|| unlike(name, "a number"))
    }

    pub(crate) fn count(&self, name: &str) -> Result<u64, sqlx::Error> {
        self.number(name).map(count_of)
    }

    pub(crate) fn partition(&self) -> Result<u32, sqlx::Error> {
        u32::try_from(self.number("partition")?).map_err(|_| unlike("partition", "a partition"))
    }
}

fn unlike(column: &str, wanted: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column `{column}` does not hold {wanted}").into())
}

/// A connection: what a fold, a question or a rebuild asks of a database.
pub(crate) trait Connection: Send {
    /// Runs a statement and returns its rows.
    fn rows(&mut self, statement: Statement) -> Work<'_, Vec<Row>>;

    /// Runs a statement.
    fn run(&mut self, statement: Statement) -> Work<'_, ()>;

    /// Adds rows to a table, as quickly as this database can.
    fn insert<'a>(&'a mut self, prefix: &str, table: &'static Table, cells: Vec<Cell>) -> Work<'a, ()>;

    /// Begins a transaction in which nobody else writes this view's live tables; without a name it
    /// keeps nobody out. Dropped without a commit, it has not happened.
    fn begin<'a>(&'a mut self, view: &str) -> Work<'a, Box<dyn Transaction + 'a>>;

    /// The statement that makes a table like this one, without indexes, under another name. Until
    /// [`Connection::filled`] it is only to be filled.
    fn alike<'a>(&'a mut self, table: &'a str, name: &'a str) -> Work<'a, String>;

    /// Makes such a table one like any other, when it has its rows and indexes.
    fn filled<'a>(&'a mut self, name: &'a str) -> Work<'a, ()>;

    /// The indexes of a table: the name, and what comes behind `CREATE INDEX name ON table `.
    fn indexes<'a>(&'a mut self, table: &'a str) -> Work<'a, Vec<(String, String)>>;
}

/// A transaction under way.
pub(crate) trait Transaction: Send {
    /// The connection that it is on.
    fn on(&mut self) -> &mut dyn Connection;

    fn commit<'a>(self: Box<Self>) -> Work<'a, ()>
    where
        Self: 'a;
}

impl<DB: sqlx::Database> Transaction for sqlx::Transaction<'_, DB>
where
    DB::Connection: Connection,
{
    fn on(&mut self) -> &mut dyn Connection {
        &mut **self
    }

    fn commit<'a>(self: Box<Self>) -> Work<'a, ()>
    where
        Self: 'a,
    {
        Box::pin((*self).commit())
    }
}

/// A database: who may read and write it when.
pub(crate) trait Database: Send + Sync {
    /// Where it is.
    fn place(&self) -> &Place;

    /// Tells what is damaged from what cannot be used just now.
    fn fault(&self, e: sqlx::Error) -> Error;

    /// Whether other engines use it too.
    fn shared(&self) -> bool;

    /// The statement that finds by words, with one value for its `?`: it gives the `id` of each document.
    fn full_text(&self, query: &Query) -> (&'static str, Cell);

    /// A connection for questions.
    fn reader(&self) -> Work<'_, Held<'_>>;

    /// The connection that writes a live view; others wait for it.
    fn writer<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>>;

    /// After an error: the live view's connection is looked at before it is used again.
    fn doubt(&self, view: &str);

    /// Whether this engine is the one that writes the live view; tries to become it if nobody is.
    fn lead<'a>(&'a self, view: &'a str) -> Work<'a, bool>;

    /// Claims the new tables of a view for a rebuild; `false` if another engine has them.
    fn begin_rebuild<'a>(&'a self, view: &'static str) -> Work<'a, bool>;

    /// Gives them back.
    fn end_rebuild(&self, view: &str);

    /// The connection that fills new tables, between `begin_rebuild` and `end_rebuild`.
    fn builder<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>>;

    /// The same connection, and the live view stands still as long as it is held.
    fn standstill<'a>(&'a self, view: &'a str) -> Work<'a, Held<'a>>;

    /// Closes it and waits until that is done.
    fn close(self: Box<Self>) -> Work<'static, ()>;
}

/// A connection behind a lock or from a pool.
pub(crate) struct Behind<P>(pub(crate) P);

impl<P> Connection for Behind<P>
where
    P: DerefMut + Send,
    P::Target: Connection,
{
    fn rows(&mut self, statement: Statement) -> Work<'_, Vec<Row>> {
        self.0.rows(statement)
    }

    fn run(&mut self, statement: Statement) -> Work<'_, ()> {
        self.0.run(statement)
    }

    fn insert<'a>(&'a mut self, prefix: &str, table: &'static Table, cells: Vec<Cell>) -> Work<'a, ()> {
        self.0.insert(prefix, table, cells)
    }

    fn begin<'a>(&'a mut self, view: &str) -> Work<'a, Box<dyn Transaction + 'a>> {
        self.0.begin(view)
    }

    fn alike<'a>(&'a mut self, table: &'a str, name: &'a str) -> Work<'a, String> {
        self.0.alike(table, name)
    }

    fn filled<'a>(&'a mut self, name: &'a str) -> Work<'a, ()> {
        self.0.filled(name)
    }

    fn indexes<'a>(&'a mut self, table: &'a str) -> Work<'a, Vec<(String, String)>> {
        self.0.indexes(table)
    }
}
