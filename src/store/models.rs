//! Items and pages of them, as the database stores them. The API validates their values.

use chrono::NaiveDateTime;
use diesel::Queryable;

use super::stored_time::StoredTime;

/// A stored item, in the order of the table's columns.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Item {
    /// Positive, and never used again.
    pub id: i64,
    /// 1 to 100 characters.
    pub name: String,
    /// A valid address of at most 255 characters.
    pub email: String,
    /// Free text.
    pub message: Option<String>,
    /// In UTC, with microseconds. Replacing an item does not change it.
    #[diesel(deserialize_as = StoredTime)]
    pub created_at: NaiveDateTime,
}

/// A position in the list of items: after an item with this time and id, even if it no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    /// The time of the item's creation.
    pub created_at: NaiveDateTime,
    /// The id of the item.
    pub id: i64,
}

/// A request for a page of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The position to start after. `None` starts at the newest item.
    pub after: Option<PageCursor>,
    /// Items to skip first.
    pub skip: i64,
    /// Most items of the page.
    pub limit: i64,
    /// Most bytes of the items' texts. A single item may have more.
    pub bytes: usize,
}

/// A page of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first, then by descending id.
    pub items: Vec<Item>,
    /// The position of the next page, if there is one.
    pub next: Option<PageCursor>,
}

/// The fields of an item that clients set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFields {
    /// 1 to 100 characters.
    pub name: String,
    /// A valid address of at most 255 characters.
    pub email: String,
    /// Free text.
    pub message: Option<String>,
}
