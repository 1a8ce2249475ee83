//! Three pools of r2d2 as services have them, each monitored by one changed expression: in `web::Data`, in a static, and
//! behind a trait. No type changes. Prints the address that it listens on.

#![allow(
    clippy::expect_used,
    reason = "a static can return its error to nobody"
)]

use std::sync::{Arc, LazyLock};

use actix_vitals::Vitals;
use actix_web::{App, Error, HttpServer, error::ErrorServiceUnavailable, web};
use diesel::{
    RunQueryDsl, SqliteConnection,
    r2d2::{self, ConnectionManager, PoolError, PooledConnection},
    sql_query,
};

type Pool = r2d2::Pool<ConnectionManager<SqliteConnection>>;

static VITALS: LazyLock<Vitals> =
    LazyLock::new(|| Vitals::builder().build().expect("valid settings"));
static AUDIT: LazyLock<Pool> = LazyLock::new(|| {
    VITALS
        .monitor("audit", pool_builder(), manager())
        .expect("a database")
});

trait Repository: Send + Sync {
    fn connection(
        &self,
    ) -> Result<PooledConnection<ConnectionManager<SqliteConnection>>, PoolError>;
}

struct SqliteRepository {
    pool: Pool,
}

impl Repository for SqliteRepository {
    fn connection(
        &self,
    ) -> Result<PooledConnection<ConnectionManager<SqliteConnection>>, PoolError> {
        self.pool.get()
    }
}

/// A function that returns the builder of a pool stays as it is.
fn pool_builder() -> r2d2::Builder<ConnectionManager<SqliteConnection>> {
    r2d2::Pool::builder().max_size(1)
}

fn manager() -> ConnectionManager<SqliteConnection> {
    ConnectionManager::new(":memory:")
}

/// So does one that takes a pooled connection.
fn select(
    connection: &mut PooledConnection<ConnectionManager<SqliteConnection>>,
) -> diesel::QueryResult<usize> {
    sql_query("SELECT 7").execute(connection)
}

async fn orders(pool: web::Data<Pool>) -> Result<&'static str, Error> {
    let work = move || -> anyhow::Result<_> { Ok(select(&mut pool.get()?)?) };
    (actix_vitals::block(work).await?).map_err(ErrorServiceUnavailable)?;
    Ok("orders")
}

async fn audit() -> Result<&'static str, Error> {
    let work = || -> anyhow::Result<_> { Ok(select(&mut AUDIT.get()?)?) };
    (actix_vitals::block(work).await?).map_err(ErrorServiceUnavailable)?;
    Ok("audit")
}

async fn books(repository: web::Data<dyn Repository>) -> Result<&'static str, Error> {
    let work = move || -> anyhow::Result<_> { Ok(select(&mut repository.connection()?)?) };
    (actix_vitals::block(work).await?).map_err(ErrorServiceUnavailable)?;
    Ok("books")
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> anyhow::Result<()> {
    let vitals = &*VITALS;
    let pool = vitals.monitor("orders", r2d2::Pool::builder().max_size(1), manager())?;
    let repository = SqliteRepository {
        pool: vitals.monitor("books", pool_builder(), manager())?,
    };
    let repository: Arc<dyn Repository> = Arc::new(repository);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            .app_data(web::Data::from(Arc::clone(&repository)))
            .route("/orders", web::get().to(orders))
            .route("/audit", web::get().to(audit))
            .route("/books", web::get().to(books))
            .configure(vitals.ops())
            .wrap(vitals.http())
    })
    .h1_allow_half_closed(false);
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
