//! The statements: every way in which the service reads and writes its items.
//!
//! Each is written once, for both databases. Each write is one statement, which takes SQLite's write lock when it begins:
//! there is no read lock to be raised, so no deadlock between two writers, and no transaction to be opened and closed
//! around it.
//!
//! A statement that returns the row it wrote is read to its end (`load`, not `get_result`): SQLite commits it there.
//! Diesel drops a statement whose first row was enough to it, and with it the error of a commit that failed: a full
//! disk would be answered with 201.

use std::collections::HashMap;

use chrono::NaiveDateTime;
use diesel::connection::SimpleConnection as _;
use diesel::declare_sql_function;
use diesel::dsl::{case_when, sql};
use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Text};

use super::connection::{BUSY_TIMEOUT, Connection};
use super::models::{Item, ItemFields, Page, PageCursor, PageRequest};
use super::schema::items;
use actix_vitals::database::ErrorKind;

/// Stores a new item.
pub(super) fn insert(
    connection: &mut Connection,
    fields: &ItemFields,
    created_at: NaiveDateTime,
) -> QueryResult<Item> {
    let rows = diesel::insert_into(items::table)
        .values((
            items::name.eq(&fields.name),
            items::email.eq(&fields.email),
            items::message.eq(&fields.message),
            items::created_at.eq(created_at),
        ))
        .returning(items::all_columns)
        .load(connection)?;
    only(rows).ok_or(diesel::result::Error::NotFound)
}

#[declare_sql_function]
extern "SQL" {
    /// The bytes of a text in UTF-8. Both databases know it without reading the text.
    fn octet_length(text: Nullable<Text>) -> Nullable<Integer>;
}

/// A row of the list: `message` is left out where it is long.
#[derive(Queryable)]
struct ItemRow {
    id: i64,
    name: String,
    email: String,
    message: Option<String>,
    message_bytes: Option<i32>,
    created_at: NaiveDateTime,
}

impl ItemRow {
    /// The bytes of the whole item's texts.
    fn bytes(&self) -> usize {
        let message = usize::try_from(self.message_bytes.unwrap_or(0)).unwrap_or(0);
        self.name.len() + self.email.len() + message
    }

    fn lacks_message(&self) -> bool {
        self.message_bytes.is_some() && self.message.is_none()
    }

    fn into_item(self) -> Item {
        Item {
            id: self.id,
            name: self.name,
            email: self.email,
            message: self.message,
            created_at: self.created_at,
        }
    }
}

/// The items that are wanted, newest first; of the same instant, the highest id first. The page ends early where its
/// texts take more than the bytes that are wanted, but has one item if there is any.
///
/// Never loads much more than those bytes: a first statement leaves long messages out, and a second one reads those that
/// the page has room for. Of an item that is replaced in between, the second statement returns the new fields; an item
/// that is deleted in between is missing.
pub(super) fn list(connection: &mut Connection, wanted: &PageRequest) -> QueryResult<Page> {
    let limit = usize::try_from(wanted.limit).unwrap_or(0);
    let mut rows = list_rows(connection, wanted)?;
    let mut has_more = rows.len() > limit;
    rows.truncate(limit);
    let mut bytes = 0;
    let fitting = rows.iter().take_while(|row| {
        bytes += row.bytes();
        bytes <= wanted.bytes
    });
    let fitting = fitting.count().max(1);
    if fitting < rows.len() {
        rows.truncate(fitting);
        has_more = true;
    }
    let end = rows.last().map(|row| PageCursor {
        created_at: row.created_at,
        id: row.id,
    });
    let items = complete(connection, rows)?;
    Ok(Page {
        items,
        next: end.filter(|_| has_more),
    })
}

/// The rows of a page and one more, each with its message where that is short enough for all of them to be loaded.
fn list_rows(connection: &mut Connection, wanted: &PageRequest) -> QueryResult<Vec<ItemRow>> {
    let limit = wanted.limit.saturating_add(1);
    let shortest = usize::try_from(limit).unwrap_or(usize::MAX);
    let inlined_bytes = i32::try_from(wanted.bytes / shortest.max(1)).unwrap_or(i32::MAX);
    let message_bytes = octet_length(items::message);
    let columns = (
        items::id,
        items::name,
        items::email,
        case_when(message_bytes.le(inlined_bytes), items::message),
        octet_length(items::message),
        items::created_at,
    );
    let page = items::table
        .select(columns)
        .order((items::created_at.desc(), items::id.desc()))
        .offset(wanted.skip)
        .limit(limit);
    match wanted.after {
        None => page.load(connection),
        // The first condition finds the place in the index, the second one the place within an instant.
        Some(after) => page
            .filter(items::created_at.le(after.created_at))
            .filter(
                items::created_at
                    .lt(after.created_at)
                    .or(items::id.lt(after.id)),
            )
            .load(connection),
    }
}

/// The items of these rows, with the messages that the rows lack.
fn complete(connection: &mut Connection, rows: Vec<ItemRow>) -> QueryResult<Vec<Item>> {
    let lacking: Vec<i64> = rows
        .iter()
        .filter(|row| row.lacks_message())
        .map(|row| row.id)
        .collect();
    let mut loaded = HashMap::new();
    if !lacking.is_empty() {
        let items: Vec<Item> = items::table
            .filter(items::id.eq_any(lacking))
            .load(connection)?;
        loaded.extend(items.into_iter().map(|item| (item.id, item)));
    }
    let items = rows.into_iter().filter_map(|row| {
        if row.lacks_message() {
            loaded.remove(&row.id)
        } else {
            Some(row.into_item())
        }
    });
    Ok(items.collect())
}

/// The item of this id.
pub(super) fn find(connection: &mut Connection, id: i64) -> QueryResult<Option<Item>> {
    items::table.find(id).first(connection).optional()
}

/// Gives the item of this id new fields, and returns it as it is then.
pub(super) fn replace(
    connection: &mut Connection,
    id: i64,
    fields: &ItemFields,
) -> QueryResult<Option<Item>> {
    diesel::update(items::table.find(id))
        .set((
            items::name.eq(&fields.name),
            items::email.eq(&fields.email),
            items::message.eq(&fields.message),
        ))
        .returning(items::all_columns)
        .load(connection)
        .map(only)
}

/// Deletes the item of this id, and returns it as it was.
pub(super) fn delete(connection: &mut Connection, id: i64) -> QueryResult<Option<Item>> {
    diesel::delete(items::table.find(id))
        .returning(items::all_columns)
        .load(connection)
        .map(only)
}

/// Reads the table, so that it fails where the database is gone: `SELECT 1` would not touch SQLite's file.
pub(super) fn probe(connection: &mut Connection) -> QueryResult<()> {
    items::table
        .select(items::id)
        .limit(1)
        .load::<i64>(connection)
        .map(drop)
}

/// Writes to SQLite's file, and changes nothing, so that it fails where the disk is full or fails. Does not wait for a
/// writer of another process: where there is one, the file takes writes.
pub(super) fn probe_writing(connection: &mut Connection) -> QueryResult<()> {
    connection.batch_execute("PRAGMA busy_timeout = 0")?;
    let written = write_version(connection);
    let busy_timeout_ms = BUSY_TIMEOUT.as_millis();
    connection.batch_execute(&format!("PRAGMA busy_timeout = {busy_timeout_ms}"))?;
    match written {
        Err(error) if ErrorKind::of(&error) == Some(ErrorKind::Busy) => Ok(()),
        written => written,
    }
}

/// Writes the number that the file's header has for its users, as it is. SQLite leaves a row out that does not change, and
/// the header never.
fn write_version(connection: &mut Connection) -> QueryResult<()> {
    let version: i32 =
        sql::<Integer>("SELECT user_version FROM pragma_user_version").get_result(connection)?;
    connection.batch_execute(&format!("PRAGMA user_version = {version}"))
}

/// The row of a statement that, by a primary key, concerns one at most.
fn only(rows: Vec<Item>) -> Option<Item> {
    rows.into_iter().next()
}
