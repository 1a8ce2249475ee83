//! The shop on SQLite.

use std::thread;

use diesel::{
    SqliteConnection,
    connection::SimpleConnection as _,
    r2d2::{self, CustomizeConnection},
    sql_types::Integer,
};

use crate::{PRICING, Prepared};

#[path = "shop.rs"]
pub(crate) mod shop;

pub(crate) type Db = SqliteConnection;

#[diesel::declare_sql_function]
extern "SQL" {
    fn price(code: Integer) -> Integer;
}

impl CustomizeConnection<SqliteConnection, r2d2::Error> for Prepared {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), r2d2::Error> {
        let pragmas = "PRAGMA busy_timeout = 20000; PRAGMA synchronous = OFF;";
        let prepared = connection.batch_execute(pragmas).and_then(|()| {
            price_utils::register_impl(connection, |code: i32| {
                thread::sleep(PRICING);
                code
            })
        });
        prepared.map_err(r2d2::Error::QueryError)
    }
}
