//! The statements: every way in which the service reads and writes its items.
//!
//! Each is written once, for both databases. Each write is one statement, which takes SQLite's write lock when it begins:
//! there is no read lock to be raised, so no deadlock between two writers, and no transaction to be opened and closed
//! around it.
//!
//! A statement that returns the row it wrote is read to its end (`load`, not `get_result`): SQLite commits it there.
//! Diesel drops a statement whose first row was enough to it, and with it the error of a commit that failed: a full
//! disk would be answered with 201.

use chrono::NaiveDateTime;
use diesel::prelude::*;

use super::connection::Connection;
use super::models::{Item, ItemFields};
use super::schema::items;

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

/// At most `limit` items after the first `skip`, newest first; of the same instant, the highest id first.
pub(super) fn list(connection: &mut Connection, skip: i64, limit: i64) -> QueryResult<Vec<Item>> {
    items::table
        .order((items::created_at.desc(), items::id.desc()))
        .offset(skip)
        .limit(limit)
        .load(connection)
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

/// The row of a statement that, by a primary key, concerns one at most.
fn only(rows: Vec<Item>) -> Option<Item> {
    rows.into_iter().next()
}
