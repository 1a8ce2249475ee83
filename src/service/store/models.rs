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
