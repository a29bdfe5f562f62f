//! Rows as a projection makes them, before any database is asked to keep them.

use std::collections::BTreeSet;

use annals_events::record::Corrupt;

use crate::position::Event;

/// A view: which tables it keeps, and how events become their rows.
///
/// A projection is pure. It says which open rows it needs to know, is given them, and answers with
/// rows to add and rows to close; the store writes those and the position in one transaction.
///
/// ```text
///  entries ─rule R─▶ events ─needs─▶ store ─load─▶ fold ─changes─▶ store (rows + position: one commit)
/// ```
pub trait Projection: Send + Sync {
    /// Its name, such as `registry`.
    fn name(&self) -> &'static str;

    /// Its tables, which the migrations create.
    fn tables(&self) -> &'static [Table];

    /// An empty fold.
    fn fold(&self) -> Box<dyn Fold>;
}

/// Events becoming rows. One fold serves a batch of live events, or a partition from its beginning.
pub trait Fold: Send {
    /// Names the open rows that this event may change or read.
    fn needs(&self, event: &Event<'_>, needs: &mut Needs);

    /// Names what follows from the rows that were loaded: an event may name a thing, and the thing
    /// another one. Asked once, for every event again.
    fn needs_then(&self, _: &Event<'_>, _: &mut Needs) {}

    /// Takes an open row that was needed.
    ///
    /// # Errors
    /// [`Corrupt`] if the document is not what this build writes: the view must be rebuilt.
    fn load(&mut self, row: OpenRow) -> Result<(), Corrupt>;

    /// Takes the next event. Cannot fail: what is in the journal happened.
    fn apply(&mut self, event: &Event<'_>, changes: &mut Changes);

    /// Hands out the rows that are still open and not in the store yet, and forgets everything.
    fn settle(&mut self, changes: &mut Changes);
}

/// A table of a projection.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// All columns, in the order of a row's cells.
    pub columns: &'static [&'static str],
    /// With `key`, where there is that column, what tells the open rows apart; `None` where rows are only ever added.
    pub identity: Option<&'static str>,
}

impl Table {
    /// Whether a row that ends stays, with the event that ended it; otherwise it goes.
    pub(crate) fn keeps_history(&self) -> bool {
        self.columns.contains(&"until")
    }
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(Box<str>),
}

impl Cell {
    /// A number that counts events or versions; these never reach 2^63.
    #[must_use]
    pub fn count(n: u64) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// A number, if there is one.
    #[must_use]
    pub fn maybe_count(n: Option<u64>) -> Self {
        n.map_or(Self::Null, Self::count)
    }

    /// Text, if there is some.
    #[must_use]
    pub fn maybe(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl From<&str> for Cell {
    /// PostgreSQL's texts hold no NUL, which JSON may: both databases get the replacement character.
    fn from(text: &str) -> Self {
        if text.contains('\0') { Self::Text(text.replace('\0', "\u{fffd}").into()) } else { Self::Text(text.into()) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        if text.contains('\0') { text.as_str().into() } else { Self::Text(text.into()) }
    }
}

/// The open rows that a batch needs: table, key and identity.
#[derive(Debug, Default)]
pub struct Needs(pub BTreeSet<(usize, Box<str>, Cell)>);

impl Needs {
    /// Names one.
    pub fn add(&mut self, table: usize, key: &str, identity: Cell) {
        self.0.insert((table, key.into(), identity));
    }
}

/// A row that is valid now, as it lies in the store.
#[derive(Debug)]
pub struct OpenRow {
    /// Index into [`Projection::tables`].
    pub table: usize,
    /// The partition.
    pub partition: u32,
    /// The model's key.
    pub key: Box<str>,
    /// The event from which on it is valid.
    pub since: u64,
    /// The document.
    pub doc: String,
}

/// What a fold wants written, table by table.
#[derive(Debug, Default)]
pub struct Changes {
    /// For each table the cells of new rows, one row after the other.
    pub rows: Vec<Vec<Cell>>,
    /// For each table: key, identity and `until` of stored open rows that end, one after the other. Where no history is
    /// kept, they are removed.
    pub closed: Vec<Vec<Cell>>,
}

impl Changes {
    /// Nothing to write yet, for so many tables.
    #[must_use]
    pub fn new(tables: usize) -> Self {
        let lists = || (0..tables).map(|_| Vec::new()).collect();
        Self { rows: lists(), closed: lists() }
    }

    /// Adds a row.
    pub fn add(&mut self, table: usize, row: impl IntoIterator<Item = Cell>) {
        if let Some(rows) = self.rows.get_mut(table) {
            rows.extend(row);
        }
    }

    /// Closes the stored open row of this key and identity: it was valid until before `until`.
    pub fn close(&mut self, table: usize, key: &str, identity: Cell, until: u64) {
        if let Some(closed) = self.closed.get_mut(table) {
            closed.extend([key.into(), identity, Cell::count(until)]);
        }
    }

    /// How many cells wait to be written.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.rows.iter().chain(&self.closed).map(Vec::len).sum()
    }
}
