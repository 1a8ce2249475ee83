//! A shop with ten faults of its database, and a healthy twin of each: `/faulty/…` and `/healthy/…`. It runs on SQLite or on
//! PostgreSQL, by the URL that is the first argument. The test `ten_faults` looks for each fault by the ops endpoints, and
//! expects nothing of the twins. Prints both addresses, that of the ops listener last.

mod postgres;
mod sqlite;

use diesel::{Connection as _, PgConnection, SqliteConnection, connection::SimpleConnection as _};

/// How long the function of the database takes.
pub(crate) const PRICING: std::time::Duration = std::time::Duration::from_millis(600);

/// Prepares the connections of a pool.
#[derive(Debug)]
pub(crate) struct Prepared;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| ":memory:".to_owned());
    let mut next = |otherwise: &str| arguments.next().unwrap_or_else(|| otherwise.to_owned());
    let addresses = [next("127.0.0.1:8080"), next("127.0.0.1:9100")];
    if url.starts_with("postgres://") {
        let mut connection = PgConnection::establish(&url)?;
        let pricing = format!(
            "CREATE FUNCTION price(code integer) RETURNS integer LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep({}); RETURN code; END'",
            PRICING.as_secs_f64()
        );
        connection.batch_execute(&pricing)?;
        postgres::shop::serve(&url, addresses).await
    } else {
        SqliteConnection::establish(&url)?.batch_execute("PRAGMA journal_mode = WAL")?;
        sqlite::shop::serve(&url, addresses).await
    }
}
