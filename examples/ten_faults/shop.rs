//! The shop on one database: its tables, its routes and its listeners. `Db` is the type of its connections.

use std::{sync::Mutex, time::Duration};

use actix_vitals::{
    Vitals,
    database::{Connection, Pool},
    ops::OpsSettings,
};
use actix_web::{App, HttpServer, Result, error, web};
use diesel::{
    Connection as _, QueryResult,
    connection::SimpleConnection as _,
    r2d2::{self, ConnectionManager},
};

use super::{super::Prepared, Db};

mod faulty;
mod healthy;

/// How long a call of another service takes: of a bank, or of a shipping company.
pub(crate) const REMOTE_CALL: Duration = Duration::from_millis(400);

#[allow(missing_docs, reason = "the macro makes public items")]
pub(crate) mod schema {
    diesel::table! { customers (id) { id -> Integer, name -> Text, } }
    diesel::table! { orders (id) { id -> Integer, customer -> Integer, code -> Integer, note -> Text, } }
    diesel::table! { settings (name) { name -> Text, value -> Text, } }
    diesel::table! { stock (id) { id -> Integer, amount -> Integer, } }
    diesel::table! { events (id) { id -> Integer, kind -> Integer, shop -> Integer, } }
    diesel::allow_tables_to_appear_in_same_query!(customers, orders);
}

const TABLES: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, code INTEGER NOT NULL, note TEXT NOT NULL);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE stock (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
    CREATE TABLE events (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, shop INTEGER NOT NULL);
    CREATE INDEX orders_by_code ON orders (code);
    CREATE INDEX events_by_kind ON events (kind);
    CREATE INDEX events_by_shop ON events (shop);
    INSERT INTO settings VALUES ('currency', 'EUR');
    INSERT INTO stock VALUES (1, 1000000), (2, 1000000);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO customers SELECT i, 'customer ' || i FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO orders SELECT i, i % 1000 + 1, i * 7919 % 100003,
            'a note about order ' || i * 7919 % 100003 || ', which is long enough to fill pages' FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
        INSERT INTO events SELECT i, i, 1 FROM n;
    ANALYZE;
";

/// Loads thousands of rows through another table, as a nightly import does, and updates the statistics. The other table changes
/// the schema, so that all connections of SQLite read the statistics again.
const LOAD: &str = "
    CREATE TABLE loaded (id INTEGER, kind INTEGER, shop INTEGER);
    WITH RECURSIVE n (i) AS (SELECT 11 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
        INSERT INTO loaded SELECT i, i % 2, i FROM n;
    INSERT INTO events SELECT id, kind, shop FROM loaded;
    DROP TABLE loaded;
    ANALYZE;
";

pub(crate) type Shop = web::Data<Pool<Db>>;

/// The connections that nobody returns.
pub(crate) type Kept = web::Data<Mutex<Vec<Connection<Db>>>>;

/// Answers with what a closure finds in the database. The connection is taken by its caller.
#[track_caller]
fn ask<T: Send + 'static>(
    shop: &Shop,
    work: impl FnOnce(&mut Db) -> QueryResult<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let answer = shop.run(work);
    async { answer.await.map_err(error::ErrorServiceUnavailable) }
}

/// Loads the rows that make the database choose another plan.
async fn load(shop: Shop) -> Result<&'static str> {
    ask(&shop, |connection| {
        connection.transaction(|connection| connection.batch_execute(LOAD))
    })
    .await?;
    Ok("loaded")
}

/// Serves the shop and its ops endpoints, until it is stopped.
#[allow(
    clippy::print_stdout,
    reason = "a reader of the output finds the ports"
)]
pub(crate) async fn serve(
    url: &str,
    [shop, ops]: [String; 2],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder()
        .ops(OpsSettings::everything())
        .leak_threshold(Duration::from_secs(4))
        .build()?;
    let pool = r2d2::Pool::builder().max_size(10);
    let pool = vitals
        .instrument(pool.connection_customizer(Box::new(Prepared)))
        .build(ConnectionManager::<Db>::new(url))?;
    pool.get()?
        .transaction(|connection| connection.batch_execute(TABLES))?;
    let kept: Kept = web::Data::new(Mutex::default());
    let monitor = vitals.http();
    let service = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(kept.clone())
            .route("/load", web::post().to(load))
            .service(web::scope("/faulty").configure(faulty::routes))
            .service(web::scope("/healthy").configure(healthy::routes))
            .wrap(monitor.clone())
    });
    let service = service.workers(2).bind(shop)?;
    let operations = HttpServer::new(move || App::new().configure(vitals.ops()));
    let operations = operations.workers(1).bind(ops)?;
    println!("listening on http://{}", service.addrs()[0]);
    println!("ops listening on http://{}", operations.addrs()[0]);
    tokio::try_join!(service.run(), operations.run())?;
    Ok(())
}
