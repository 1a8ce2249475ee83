//! The rows: what is stored, and what is given to be stored. What makes a value valid is the API's knowledge.

use chrono::{NaiveDateTime, SecondsFormat};
use diesel::Queryable;
use serde::{Serialize, Serializer};

/// A stored item, in the order of the table's columns.
///
/// Serialised it is the JSON that clients see.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Serialize)]
pub struct Item {
    /// Its number: positive, given once, never used again.
    pub id: i64,
    /// 1 to 100 characters.
    pub name: String,
    /// A valid address of at most 255 characters.
    pub email: String,
    /// Free text, or none.
    pub message: Option<String>,
    /// When it was created: UTC, to the microsecond. Replacing an item leaves it as it is.
    #[serde(serialize_with = "as_rfc_3339")]
    pub created_at: NaiveDateTime,
}

/// A place in the list of items: right behind an item of this instant and id, whether there is one or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    /// When the item was created.
    pub created_at: NaiveDateTime,
    /// Its id.
    pub id: i64,
}

/// The part of the list of items that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Where to begin; at the newest item by default.
    pub after: Option<PageCursor>,
    /// Items to leave out there.
    pub skip: i64,
    /// Most items.
    pub limit: i64,
    /// Most bytes of their texts; one item may have more.
    pub bytes: usize,
}

/// A part of the list of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first; of the same instant, the highest id first.
    pub items: Vec<Item>,
    /// Where to go on, if there is more.
    pub next: Option<PageCursor>,
}

/// The part of an item that clients choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFields {
    /// 1 to 100 characters.
    pub name: String,
    /// A valid address of at most 255 characters.
    pub email: String,
    /// Free text, or none.
    pub message: Option<String>,
}

/// Always six digits of a second, always `Z`: `2026-01-31T12:00:00.000000Z`.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn as_rfc_3339<S: Serializer>(time: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.and_utc().to_rfc3339_opts(SecondsFormat::Micros, true))
}
