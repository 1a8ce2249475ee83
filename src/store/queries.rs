//! All statements about items, for both databases.
//!
//! Each write of an item is one statement, which takes SQLite's write lock when it begins. It needs no transaction, and two
//! writers cannot deadlock because neither upgrades a read lock.
//!
//! A statement that returns the row it has written is read to its end, with `load` instead of `get_result`, because SQLite
//! commits at the end. `get_result` would drop the statement after the first row, and with it the error of a failed commit:
//! a full disk would be answered with 201.

use std::{collections::HashMap, time::Duration};

use actix_vitals::database::ErrorKind;
use chrono::NaiveDateTime;
use diesel::{
    backend::Backend,
    connection::SimpleConnection as _,
    declare_sql_function,
    dsl::{case_when, sql},
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, HasSqlType, Integer, Nullable, Text},
};

use super::{
    connection::{Connection, wait_for_locks},
    models::{Item, ItemFields, Page, PageCursor, PageRequest},
    schema::items,
    stored_time::StoredTime,
};

/// Runs a query on the connection inside of a [`Connection`]. The enum of Diesel's `MultiConnection` would write the text of a
/// query several times for each run, and wrap each value of each row.
macro_rules! on_either {
    ($connection:ident => $run:expr) => {
        match $connection {
            #[cfg(feature = "postgres")]
            Connection::Postgres($connection) => $run,
            Connection::Sqlite($connection) => $run,
        }
    };
}

/// Stores a new item.
pub(super) fn insert(
    connection: &mut Connection,
    fields: &ItemFields,
    created_at: NaiveDateTime,
) -> QueryResult<Item> {
    let insert = diesel::insert_into(items::table)
        .values((
            items::name.eq(&fields.name),
            items::email.eq(&fields.email),
            items::message.eq(&fields.message),
            items::created_at.eq(created_at),
        ))
        .returning(items::all_columns);
    let rows = on_either!(connection => insert.load(connection))?;
    only(rows).ok_or(diesel::result::Error::NotFound)
}

#[declare_sql_function]
extern "SQL" {
    /// The bytes of a text in UTF-8. Neither database reads the text for it.
    fn octet_length(text: Nullable<Text>) -> Nullable<Integer>;
}

/// A row of the list. A long `message` is not loaded.
#[derive(Queryable)]
struct ItemRow {
    id: i64,
    name: String,
    email: String,
    message: Option<String>,
    message_bytes: Option<i32>,
    #[diesel(deserialize_as = StoredTime)]
    created_at: NaiveDateTime,
}

impl ItemRow {
    /// The bytes of the item's texts, including a message that is not loaded.
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

/// A page of the list, newest first, then by descending id. The page ends early when its texts exceed the requested bytes, but
/// has at least one item if there is any.
///
/// Loads hardly more than those bytes: the first statement skips long messages, the second one reads those that fit into the
/// page. If an item is replaced in between, the page has its new fields; if it is deleted, the page lacks it.
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

/// The rows of a page and one more. A message is loaded if the page could hold as many bytes for each of its items.
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
        .order((items::created_at.desc(), items::id.desc()));
    let Some(after) = wanted.after else {
        let page = Part::of(page, limit, wanted.skip);
        return on_either!(connection => page.load(connection));
    };
    // The first condition lets the index find the cursor; the second one continues within items of the same time.
    let page = page.filter(items::created_at.le(after.created_at)).filter(
        items::created_at
            .lt(after.created_at)
            .or(items::id.lt(after.id)),
    );
    let page = Part::of(page, limit, wanted.skip);
    on_either!(connection => page.load(connection))
}

/// Some rows of a query: those after `offset`, at most `limit`.
///
/// SQLite makes use of the value of `LIMIT ?` when it plans a statement. So it would parse and plan the prepared statement
/// again whenever a value is bound, which takes several times as long as the rest of a short page. It does not look into an
/// expression.
#[derive(QueryId)]
struct Part<Q> {
    query: Q,
    limit: i64,
    offset: i64,
}

impl<Q> Part<Q> {
    fn of(query: Q, limit: i64, offset: i64) -> Self {
        Self {
            query,
            limit,
            offset,
        }
    }
}

impl<Q: Query> Query for Part<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, C: diesel::Connection> RunQueryDsl<C> for Part<Q> {}

impl<Q, DB> QueryFragment<DB> for Part<Q>
where
    DB: Backend + HasSqlType<BigInt>,
    Q: QueryFragment<DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.query.walk_ast(pass.reborrow())?;
        pass.push_sql(" LIMIT CAST(");
        pass.push_bind_param::<BigInt, _>(&self.limit)?;
        pass.push_sql(" AS BIGINT) OFFSET ");
        pass.push_bind_param::<BigInt, _>(&self.offset)
    }
}

/// The items of these rows. Loads their missing messages.
fn complete(connection: &mut Connection, rows: Vec<ItemRow>) -> QueryResult<Vec<Item>> {
    let lacking: Vec<i64> = rows
        .iter()
        .filter(|row| row.lacks_message())
        .map(|row| row.id)
        .collect();
    let mut loaded = HashMap::new();
    if !lacking.is_empty() {
        let items = items::table.filter(items::id.eq_any(lacking));
        let items: Vec<Item> = on_either!(connection => items.load(connection))?;
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

/// Returns the item with this id.
pub(super) fn find(connection: &mut Connection, id: i64) -> QueryResult<Option<Item>> {
    // By primary key, so that there is one row at most. `first` would add a limit, with the cost that `Part` avoids.
    let item = items::table.find(id);
    on_either!(connection => item.get_result(connection)).optional()
}

/// Replaces the fields of the item with this id, and returns the new item.
pub(super) fn replace(
    connection: &mut Connection,
    id: i64,
    fields: &ItemFields,
) -> QueryResult<Option<Item>> {
    let update = diesel::update(items::table.find(id))
        .set((
            items::name.eq(&fields.name),
            items::email.eq(&fields.email),
            items::message.eq(&fields.message),
        ))
        .returning(items::all_columns);
    on_either!(connection => update.load(connection)).map(only)
}

/// Deletes the item with this id, and returns it.
pub(super) fn delete(connection: &mut Connection, id: i64) -> QueryResult<Option<Item>> {
    let delete = diesel::delete(items::table.find(id)).returning(items::all_columns);
    on_either!(connection => delete.load(connection)).map(only)
}

/// Reads the table, which fails if the database cannot be reached. `SELECT 1` would not read SQLite's file.
pub(super) fn probe(connection: &mut Connection) -> QueryResult<()> {
    items::table
        .select(items::id)
        .limit(1)
        .load::<i64>(connection)
        .map(drop)
}

/// Writes to SQLite's file without changing data, which fails if the disk is full or defective. Succeeds without waiting if
/// another process writes, because the file is then writable. Afterwards, the connection waits for locks for `lock_timeout`.
pub(super) fn probe_writing(
    connection: &mut Connection,
    lock_timeout: Duration,
) -> QueryResult<()> {
    wait_for_locks(connection, Duration::ZERO)?;
    let written = write_version(connection);
    wait_for_locks(connection, lock_timeout)?;
    match written {
        Err(error) if ErrorKind::of(&error) == Some(ErrorKind::Busy) => Ok(()),
        written => written,
    }
}

/// Writes the user version in the file's header, unchanged. SQLite skips the write of an unchanged row, but never that of the
/// header. Within a transaction, so that no other process changes the version in between.
fn write_version(connection: &mut Connection) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => Ok(()),
        Connection::Sqlite(connection) => connection.immediate_transaction(|connection| {
            let version: i32 = sql::<Integer>("SELECT user_version FROM pragma_user_version")
                .get_result(connection)?;
            connection.batch_execute(&format!("PRAGMA user_version = {version}"))
        }),
    }
}

/// The row of a statement by primary key, which returns at most one.
fn only(rows: Vec<Item>) -> Option<Item> {
    rows.into_iter().next()
}
