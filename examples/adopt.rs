//! A shop with orders in SQLite, monitored. The lines with `vitals` are all that adopting needs.
//! `curl localhost:8080/metrics` shows the metrics. Prints the address that it listens on.

use actix_vitals::{Vitals, database::Pool};
use actix_web::{App, HttpServer, error, web};
use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};
use prometheus::IntCounter;

type Failure = Box<dyn std::error::Error>;

async fn create_order(
    pool: web::Data<Pool<SqliteConnection>>,
    orders: web::Data<IntCounter>,
) -> actix_web::Result<&'static str> {
    pool.run(|connection| sql_query("INSERT INTO orders DEFAULT VALUES").execute(connection))
        .await
        .map_err(error::ErrorServiceUnavailable)?;
    orders.inc();
    Ok("ordered")
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> Result<(), Failure> {
    let vitals = Vitals::builder().build()?;
    let pool = vitals
        .instrument(diesel::r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
    sql_query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&mut pool.get()?)?;
    let orders = IntCounter::new("shop_orders_total", "Orders that were taken.")?;
    (vitals.registry().prometheus()).register(Box::new(orders.clone()))?;

    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(web::Data::new(orders.clone()))
            .route("/orders", web::post().to(create_order))
            .configure(vitals.ops())
            .wrap(vitals.http())
    })
    // A client that leaves is noticed at once.
    .h1_allow_half_closed(false);
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
