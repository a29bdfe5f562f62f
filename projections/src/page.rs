//! Pages of answers: keyset paging, so that what is written meanwhile moves nothing.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::Error;

/// Most items on a page.
pub const LIMIT_MAX: u32 = 1000;
/// Items on a page unless told otherwise.
pub const LIMIT: u32 = 100;

/// Which page is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// [`Listing::next`] of the page before; `None` for the first.
    pub after: Option<String>,
    /// How many items; more than [`LIMIT_MAX`] is [`LIMIT_MAX`], 0 is 1.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: LIMIT }
    }
}

impl Page {
    /// The items to ask for: one more than wanted tells whether there is a next page.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit.clamp(1, LIMIT_MAX)) + 1
    }

    /// The cursor as a number.
    pub(crate) fn after_number(&self) -> Result<Option<i64>, Error> {
        self.after.as_ref().map(|text| text.parse().map_err(|_| Error::Cursor(text.clone()))).transpose()
    }
}

/// A page of items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

impl<T> Listing<T> {
    /// Cuts what was fetched to the page's size.
    pub(crate) fn cut(mut items: Vec<T>, page: &Page, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(page.fetch() - 1).unwrap_or(1);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

/// A document of the registry; it serializes as its JSON.
#[derive(Clone, Debug)]
pub struct Doc {
    /// The partition of its model.
    pub partition: u32,
    /// The event that made it what it is.
    pub seq: u64,
    /// The model's sequence at the point that was asked for: what `If-Match` expects.
    pub modelseq: u64,
    /// What tells it apart in its listing; the cursor.
    pub(crate) cursor: String,
    /// The JSON.
    pub body: Box<RawValue>,
}

impl Serialize for Doc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}
