//! An asynchronous pool of diesel-async: a pool of deadpool on PostgreSQL, and a query that belongs to its request.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --features diesel-async --example async_pool`

use actix_vitals::Vitals;
use actix_vitals::database::deadpool::Pool;
use actix_web::{App, HttpResponse, HttpServer, error, web};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

async fn orders(pool: web::Data<Pool<AsyncPgConnection>>) -> actix_web::Result<HttpResponse> {
    let mut connection = pool.get().await.map_err(error::ErrorServiceUnavailable)?;
    let count = diesel::sql_query("SELECT 1")
        .execute(&mut connection)
        .await
        .map_err(error::ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().body(count.to_string()))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vitals = Vitals::builder().build()?;
    let manager = AsyncDieselConnectionManager::new(std::env::var("DATABASE_URL")?);
    let pool: Pool<AsyncPgConnection> = vitals
        .instrument_async(manager)
        .name("shop")
        .deadpool(|pool| pool.max_size(8))?;
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .route("/orders", web::get().to(orders))
            .configure(vitals.ops())
            .wrap(vitals.http())
    })
    .h1_allow_half_closed(false)
    .bind("127.0.0.1:8080")?
    .run()
    .await?;
    Ok(())
}
