//! A shop that takes orders, and an office that may delete them, over PostgreSQL. Prints the address that it listens on.

use actix_web::{App, HttpResponse, HttpServer, error, web};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager};
use serde::{Deserialize, Serialize};

type Pool = r2d2::Pool<ConnectionManager<PgConnection>>;

diesel::table! {
    orders (id) {
        id -> Integer,
        name -> Text,
        email -> Text,
    }
}

#[derive(Queryable, Serialize)]
struct Order {
    id: i32,
    name: String,
    email: String,
}

#[derive(Deserialize, Insertable)]
#[diesel(table_name = orders)]
struct NewOrder {
    name: String,
    email: String,
}

/// Runs `work` with a connection, off the event loop.
async fn with_connection<T, F>(pool: &Pool, work: F) -> actix_web::Result<T>
where
    F: FnOnce(&mut PgConnection) -> QueryResult<T> + Send + 'static,
    T: Send + 'static,
{
    let pool = pool.clone();
    let worked = web::block(move || {
        let mut connection = pool.get()?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(work(&mut connection)?)
    });
    worked.await?.map_err(error::ErrorServiceUnavailable)
}

async fn create_order(
    pool: web::Data<Pool>,
    new: web::Json<NewOrder>,
) -> actix_web::Result<HttpResponse> {
    let order: Order = with_connection(&pool, |connection| {
        diesel::insert_into(orders::table)
            .values(new.into_inner())
            .get_result(connection)
    })
    .await?;
    Ok(HttpResponse::Created().json(order))
}

async fn list_orders(pool: web::Data<Pool>) -> actix_web::Result<HttpResponse> {
    let found: Vec<Order> = with_connection(&pool, |connection| {
        orders::table
            .order(orders::id.desc())
            .limit(100)
            .load(connection)
    })
    .await?;
    Ok(HttpResponse::Ok().json(found))
}

async fn read_order(pool: web::Data<Pool>, id: web::Path<i32>) -> actix_web::Result<HttpResponse> {
    let found: Option<Order> = with_connection(&pool, move |connection| {
        orders::table
            .find(id.into_inner())
            .first(connection)
            .optional()
    })
    .await?;
    Ok(match found {
        Some(order) => HttpResponse::Ok().json(order),
        None => HttpResponse::NotFound().finish(),
    })
}

async fn delete_order(
    pool: web::Data<Pool>,
    id: web::Path<i32>,
) -> actix_web::Result<HttpResponse> {
    let deleted = with_connection(&pool, move |connection| {
        diesel::delete(orders::table.find(id.into_inner())).execute(connection)
    });
    Ok(match deleted.await? {
        0 => HttpResponse::NotFound().finish(),
        _ => HttpResponse::NoContent().finish(),
    })
}

fn routes(config: &mut web::ServiceConfig) {
    let shop = web::scope("/shop")
        .route("/orders", web::post().to(create_order))
        .route("/orders", web::get().to(list_orders))
        .route("/orders/{id}", web::get().to(read_order));
    let office = web::scope("/office").route("/orders/{id}", web::delete().to(delete_order));
    config.service(shop).service(office);
}

const TABLES: &str = "CREATE TABLE IF NOT EXISTS orders (id SERIAL PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL)";

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database_url = std::env::var("DATABASE_URL")?;
    let pool = r2d2::Pool::builder()
        .max_size(10)
        .build(ConnectionManager::<PgConnection>::new(database_url))?;
    pool.get()?.batch_execute(TABLES)?;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .configure(routes)
    })
    .workers(2)
    .bind("127.0.0.1:0")?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
