//! A shop with one fault in each endpoint: docs/WHY.md finds them with the live page. The ops endpoints are on a listener
//! of their own, so that they answer while all workers are blocked. Prints both addresses, that of the ops listener last.

use std::{sync::Mutex, thread, time::Duration};

use actix_vitals::{
    Vitals, block,
    database::{Connection, Pool},
    ops::OpsSettings,
};
use actix_web::{App, Error, HttpResponse, HttpServer, Result, body::SizedStream, error, web};
use diesel::{
    Connection as _, ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl, SqliteConnection,
    TextExpressionMethods,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    dsl::count_star,
    r2d2::{self, ConnectionManager},
};
use futures_util::stream;
use schema::{customers, orders};

type Db = web::Data<Pool<SqliteConnection>>;

#[allow(missing_docs, reason = "the macro makes public items")]
mod schema {
    diesel::table! { customers { id -> Integer, name -> Text } }
    diesel::table! { orders { id -> Integer, customer -> Integer, note -> Text } }
}

const TABLES: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, note TEXT NOT NULL);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO customers SELECT i, 'customer ' || i FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
        INSERT INTO orders SELECT i, i % 1000 + 1, 'note ' || (i * 7919 % 300007) FROM n;
";

/// No fault: one query by a primary key.
async fn customer(pool: Db, id: web::Path<i32>) -> Result<String> {
    let query = customers::table.find(*id).select(customers::name);
    pool.run(move |connection| query.first(connection))
        .await
        .map_err(error::ErrorServiceUnavailable)
}

/// A blocked loop: the report comes from a client that blocks its thread.
async fn report() -> &'static str {
    thread::sleep(Duration::from_secs(2));
    "all is well"
}

/// A leaked connection: each import keeps its own, in an open transaction.
async fn import(
    pool: Db,
    imports: web::Data<Mutex<Vec<Connection<SqliteConnection>>>>,
) -> Result<&'static str> {
    let connection = block(move || {
        let mut connection = pool.get().ok()?;
        AnsiTransactionManager::begin_transaction(&mut *connection).ok()?;
        let found: QueryResult<i64> = orders::table.select(count_star()).first(&mut *connection);
        found.ok().map(|_| connection)
    });
    let connection = connection.await?;
    let connection = connection.ok_or_else(|| error::ErrorServiceUnavailable("no connection"))?;
    if let Ok(mut imports) = imports.lock() {
        imports.push(connection);
    }
    Ok("imported")
}

/// A lock that is held for long: the bank is asked while the transaction is open.
async fn pay(pool: Db, id: web::Path<i32>) -> Result<&'static str> {
    let paid = pool.run(move |connection| {
        connection.immediate_transaction(|connection| {
            let order = diesel::update(orders::table.find(*id));
            order.set(orders::note.eq("paid")).execute(connection)?;
            thread::sleep(Duration::from_secs(10));
            QueryResult::Ok(())
        })
    });
    paid.await.map_err(error::ErrorServiceUnavailable)?;
    Ok("paid")
}

/// No fault: it waits for others that write.
async fn note(pool: Db, id: web::Path<i32>) -> Result<&'static str> {
    let noted = pool.run(move |connection| {
        connection.batch_execute("PRAGMA busy_timeout = 30000")?;
        let order = diesel::update(orders::table.find(*id));
        order.set(orders::note.eq("noted")).execute(connection)
    });
    noted.await.map_err(error::ErrorServiceUnavailable)?;
    Ok("noted")
}

/// N+1: the customer of each order is a query of its own.
async fn list_orders(pool: Db) -> Result<web::Json<Vec<String>>> {
    let named = pool.run(|connection| {
        let latest = orders::table.order(orders::id.desc()).limit(200);
        let latest: Vec<i32> = latest.select(orders::customer).load(connection)?;
        let name = |customer| customers::table.find(customer).select(customers::name);
        (latest
            .into_iter()
            .map(|customer| name(customer).first(connection)))
        .collect::<QueryResult<Vec<String>>>()
    });
    Ok(web::Json(
        named.await.map_err(error::ErrorServiceUnavailable)?,
    ))
}

/// A slow statement: no index helps it.
async fn search(pool: Db, text: web::Path<String>) -> Result<web::Json<Vec<i32>>> {
    let found = pool.run(move |connection| {
        let notes = orders::table.filter(orders::note.like(format!("%{text}%")));
        let best = notes.order(orders::note.desc()).limit(10);
        best.select(orders::id).load(connection)
    });
    Ok(web::Json(
        found.await.map_err(error::ErrorServiceUnavailable)?,
    ))
}

/// A slow client makes it slow: 32 MB, as fast as the client takes them.
async fn download() -> HttpResponse {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 512;
    let chunk = web::Bytes::from(vec![b'x'; CHUNK]);
    let chunks = stream::iter((0..CHUNKS).map(move |_| Ok::<_, Error>(chunk.clone())));
    let body = SizedStream::new((CHUNK * CHUNKS) as u64, chunks);
    HttpResponse::Ok().body(body)
}

#[actix_web::main]
#[allow(
    clippy::print_stdout,
    reason = "a reader of the output finds the ports"
)]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder().ops(OpsSettings::everything()).build()?;
    let directory = tempfile::tempdir()?;
    let database = directory.path().join("shop.db");
    let pool = vitals
        .instrument(r2d2::Pool::builder().max_size(3))
        .build(ConnectionManager::<SqliteConnection>::new(
            database.to_string_lossy(),
        ))?;
    pool.get()?
        .transaction(|connection| connection.batch_execute(TABLES))?;
    let imports = web::Data::new(Mutex::<Vec<Connection<SqliteConnection>>>::default());
    let monitor = vitals.http();
    let service = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(imports.clone())
            .route("/customers/{id}", web::get().to(customer))
            .route("/report", web::get().to(report))
            .route("/import", web::post().to(import))
            .route("/orders", web::get().to(list_orders))
            .route("/orders/{id}/payment", web::post().to(pay))
            .route("/orders/{id}/note", web::put().to(note))
            .route("/search/{text}", web::get().to(search))
            .route("/download", web::get().to(download))
            .wrap(monitor.clone())
    })
    .workers(2)
    .h1_allow_half_closed(false);
    let operations = HttpServer::new(move || App::new().configure(vitals.ops())).workers(1);

    let mut addresses = std::env::args().skip(1);
    let mut next = |otherwise: &str| addresses.next().unwrap_or_else(|| otherwise.to_owned());
    let service = service.bind(next("127.0.0.1:8080"))?;
    let operations = operations.bind(next("127.0.0.1:9100"))?;
    println!("listening on http://{}", service.addrs()[0]);
    println!("ops listening on http://{}", operations.addrs()[0]);
    tokio::try_join!(service.run(), operations.run())?;
    Ok(())
}
