//! Performance monitoring built into an Actix-web and Diesel service: every request and every query counted once,
//! the pool, the process and the runtime beside them, exposed to Prometheus in whichever format it asks for.
//!
//! Three wings, each of which knows only those below it:
//!
//! - [`service`]: the monolith, a small REST API over a database; the `actix-vitals` binary runs it
//! - [`vitals`]: the recorders and the operator's endpoints, for any service; [`Vitals`] is where to begin
//! - [`registry`]: families of series, and the formats that they are written in
//!
//! ```no_run
//! use actix_vitals::{Vitals, vitals::ops::{Health, Ops, ScrapeSettings}};
//! use actix_web::{App, HttpResponse, HttpServer, web};
//! use diesel::{RunQueryDsl, SqliteConnection, r2d2::{ConnectionManager, Pool}, sql_query};
//!
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vitals = Vitals::builder().build()?;
//! let pool = vitals
//!     .instrument(Pool::builder().max_size(10))
//!     .build(ConnectionManager::<SqliteConnection>::new("orders.db"))?;
//! let health = Health::new(async || Ok(()));
//! let ops = Ops::new(vitals.registry(), health, ScrapeSettings::default())?;
//!
//! HttpServer::new(move || {
//!     let orders = async |pool: web::Data<actix_vitals::vitals::database::Pool<SqliteConnection>>| {
//!         match pool.run(|connection| sql_query("DELETE FROM carts").execute(connection)).await {
//!             Ok(carts) => HttpResponse::Ok().body(carts.to_string()),
//!             Err(_) => HttpResponse::ServiceUnavailable().finish(),
//!         }
//!     };
//!     App::new()
//!         .app_data(web::Data::new(pool.clone()))
//!         .route("/carts", web::delete().to(orders))
//!         .configure(|config| ops.configure(config))
//!         .wrap(vitals.http())
//! })
//! .bind("127.0.0.1:8000")?
//! .run()
//! .await?;
//! # Ok(())
//! # }
//! ```

pub mod registry;
pub mod service;
pub mod vitals;

pub use vitals::Vitals;
