//! An existing application with CORS, authentication, files at `/`, a pool and work in `web::block`, now monitored. Its
//! middlewares wrap its own routes, and not the ops endpoints. Prints the address that it listens on.

use actix_cors::Cors;
use actix_files::Files;
use actix_vitals::{
    Vitals,
    database::{Pool, RunError},
    ops::OpsSettings,
};
use actix_web::{
    App, Error, HttpServer, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::{ErrorInternalServerError, ErrorUnauthorized},
    http::StatusCode,
    middleware::{Next, from_fn},
    web,
};
use diesel::{
    RunQueryDsl, SqliteConnection,
    dsl::sql,
    r2d2::{self, ConnectionManager},
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
    sql_types::Integer,
};

type Db = web::Data<Pool<SqliteConnection>>;

/// The application's answers to database errors.
#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("there is such an order already")]
    Exists,
    #[error("the database failed")]
    Database(#[source] DieselError),
}

impl From<DieselError> for ShopError {
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Exists,
            error => Self::Database(error),
        }
    }
}

impl ResponseError for ShopError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Exists => StatusCode::CONFLICT,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// `Pool::run` keeps this off the event loop. A full pool answers 503, and an order that exists 409.
async fn create_order(pool: Db, id: web::Path<i32>) -> Result<String, RunError<ShopError>> {
    let insert = sql_query("INSERT INTO orders (id) VALUES (?)").bind::<Integer, _>(*id);
    let rows = pool.run(move |connection| Ok::<_, ShopError>(insert.execute(connection)?));
    Ok(rows.await?.to_string())
}

/// `block` replaces `web::block` and keeps this off the event loop.
async fn count_orders(pool: Db) -> Result<String, Error> {
    let count = actix_vitals::block(move || -> anyhow::Result<_> {
        let mut connection = pool.get()?;
        let count = sql::<Integer>("(SELECT count(*) FROM orders)");
        Ok(diesel::select(count).get_result::<i32>(&mut connection)?)
    });
    let count = count.await?.map_err(ErrorInternalServerError)?;
    Ok(count.to_string())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/orders/{id}", web::post().to(create_order))
        .route("/orders", web::get().to(count_orders));
}

async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.headers().get("authorization").is_none() {
        return Err(ErrorUnauthorized("who are you?"));
    }
    next.call(request).await
}

/// Sites that may use the application from a browser. Requests of other sites are rejected.
fn cors() -> Cors {
    Cors::default()
        .allowed_origin("https://shop.example")
        .block_on_origin_mismatch(true)
}

#[actix_web::main]
#[allow(clippy::print_stdout, reason = "a reader of the output finds the port")]
async fn main() -> std::io::Result<()> {
    let ops = OpsSettings::new().with_dashboard();
    let vitals = Vitals::builder().ops(ops).build()?;
    // The same settings as before.
    let existing = r2d2::Pool::builder().max_size(1);
    let pool = vitals
        .instrument(existing)
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))?;
    let tables = sql_query("CREATE TABLE orders (id INTEGER PRIMARY KEY)");
    pool.run(move |connection| tables.execute(connection))
        .await?;

    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(pool.clone()))
            // First: files at `/` answer every path that no earlier service answers.
            .configure(vitals.ops())
            .service(
                web::scope("")
                    .configure(routes)
                    .service(Files::new("/", "examples").index_file("README.md"))
                    .wrap(from_fn(authenticate))
                    .wrap(cors()),
            )
            // Last, so that it is outermost and sees the answers of all other middlewares.
            .wrap(vitals.http())
    });
    let address = std::env::args().nth(1);
    let server = server.bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await
}
