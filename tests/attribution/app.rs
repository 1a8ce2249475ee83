//! A monitored application with routes that run a known number of queries, for any type of connection.
//!
//! [`impl_engine!`] adds a type of connection. The tests are written for any [`Engine`].

use std::time::Duration;

use actix_vitals::database::{Explainable, Manager, Pool, RunError};
use actix_vitals::ops::OpsSettings;
use actix_vitals::problem::Problem;
use actix_vitals::registry::Format;
use actix_vitals::{Builder, Vitals};
use actix_vitals::{carry, carry_future};
use actix_web::dev::Service as _;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, Error, HttpResponse, web};
use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ConnectionManager, R2D2Connection};

use crate::support::exposition::Exposition;
use crate::support::in_process::{Answer, InProcess};

diesel::table! {
    items (id) {
        id -> Integer,
        name -> Text,
    }
}

/// A connection that the tests can use. Each call is one query.
pub(crate) trait Engine:
    R2D2Connection + Explainable + SimpleConnection + Send + 'static
{
    fn name_of(&mut self, id: i32) -> QueryResult<Option<String>>;
    fn count(&mut self) -> QueryResult<i64>;
    fn insert(&mut self, id: i32, name: &str) -> QueryResult<usize>;
    fn rename(&mut self, id: i32, name: &str) -> QueryResult<usize>;
    /// Runs this text, without binds.
    fn raw(&mut self, sql: &str) -> QueryResult<usize>;
}

/// Implements [`Engine`] for a type of connection.
macro_rules! impl_engine {
    ($connection:ty) => {
        impl $crate::app::Engine for $connection {
            fn name_of(&mut self, id: i32) -> diesel::QueryResult<Option<String>> {
                use diesel::prelude::*;
                use $crate::app::items;
                items::table
                    .find(id)
                    .select(items::name)
                    .first(self)
                    .optional()
            }

            fn count(&mut self) -> diesel::QueryResult<i64> {
                use diesel::prelude::*;
                $crate::app::items::table.count().get_result(self)
            }

            fn insert(&mut self, id: i32, name: &str) -> diesel::QueryResult<usize> {
                use diesel::prelude::*;
                use $crate::app::items;
                diesel::insert_into(items::table)
                    .values((items::id.eq(id), items::name.eq(name)))
                    .execute(self)
            }

            fn rename(&mut self, id: i32, name: &str) -> diesel::QueryResult<usize> {
                use diesel::prelude::*;
                use $crate::app::items;
                diesel::update(items::table.find(id))
                    .set(items::name.eq(name))
                    .execute(self)
            }

            fn raw(&mut self, sql: &str) -> diesel::QueryResult<usize> {
                diesel::RunQueryDsl::execute(diesel::sql_query(sql), self)
            }
        }
    };
}
pub(crate) use impl_engine;

/// The application under test.
pub(crate) struct TestApp<C: Engine> {
    pub(crate) vitals: Vitals,
    pub(crate) pool: Pool<C>,
    service: InProcess,
}

/// Starts the application over a pool of this size, with two rows in its table.
pub(crate) async fn start<C: Engine>(
    url: &str,
    size: u32,
    settings: impl FnOnce(Builder) -> Builder,
) -> TestApp<C> {
    let vitals = settings(Vitals::builder().ops(OpsSettings::everything()))
        .build()
        .unwrap();
    let builder: r2d2::Builder<Manager<C>> = r2d2::Pool::builder()
        .max_size(size)
        .test_on_check_out(false)
        .connection_timeout(Duration::from_secs(5));
    let pool = vitals
        .instrument(builder)
        .build(ConnectionManager::new(url))
        .unwrap();
    pool.get()
        .unwrap()
        .batch_execute(
            "DROP TABLE IF EXISTS items;
             CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(99) NOT NULL UNIQUE);
             INSERT INTO items VALUES (1, 'one'), (2, 'two')",
        )
        .unwrap();
    let monitor = vitals.http();
    let app = App::new()
        .app_data(web::Data::new(pool.clone()))
        .app_data(web::Data::new(vitals.clone()))
        .configure(vitals.ops())
        .configure(routes::<C>)
        .wrap(monitor);
    TestApp {
        vitals,
        pool,
        service: InProcess::new(init_service(app).await),
    }
}

impl<C: Engine> TestApp<C> {
    pub(crate) async fn send(&self, request: TestRequest) -> Answer {
        self.service.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::get().uri(path)).await
    }

    /// The reported statements, with these parameters.
    pub(crate) async fn statements(&self, query: &str) -> Vec<serde_json::Value> {
        let answer = self.get(&format!("/ops/statements?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let listing: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        listing["statements"].as_array().unwrap().clone()
    }

    pub(crate) fn scrape(&self) -> Exposition {
        let text = self.vitals.registry().encode(Format::Text);
        Exposition::parse(&String::from_utf8(text).unwrap()).unwrap()
    }
}

/// Routes that run a known number of queries.
fn routes<C: Engine>(config: &mut web::ServiceConfig) {
    config
        .route(
            "/none",
            web::get().to(async || HttpResponse::Ok().body("none")),
        )
        .route("/one", route(C::count))
        .route(
            "/three",
            route(|connection: &mut C| {
                connection.count()?;
                connection.name_of(1)?;
                connection.rename(1, "uno")
            }),
        )
        .route("/loop", route(|connection: &mut C| names(connection, 50)))
        .route("/few", route(|connection: &mut C| names(connection, 9)))
        .route("/slow_count", route(C::count))
        .route("/same", route(same_names::<C>))
        .route("/serial", route(columns_in_turn::<C>))
        .route(
            "/two_columns",
            route(|connection: &mut C| {
                connection.raw("SELECT id FROM items WHERE id = 1")?;
                connection.raw("SELECT name FROM items WHERE id = 1")
            }),
        )
        .route(
            "/after_31",
            route(|connection: &mut C| names_after(connection, 31)),
        )
        .route(
            "/after_32",
            route(|connection: &mut C| names_after(connection, 32)),
        )
        .route(
            "/after_700",
            route(|connection: &mut C| names_after(connection, 700)),
        )
        .route("/nested", route(nested::<C>))
        .route("/late", web::get().to(late::<C>))
        .route("/block", web::get().to(block::<C>))
        .route("/web_block", web::get().to(web_block::<C>))
        .route("/tasks", web::get().to(tasks::<C>))
        .route("/thread", web::get().to(thread::<C>))
        .route("/job", web::get().to(job::<C>))
        .route("/excluded", route(C::count))
        .service(
            web::scope("/auth")
                .wrap_fn(|request, service| {
                    // As middlewares do that look the session up before they call the next: not within the future.
                    let pool = request.app_data::<web::Data<Pool<C>>>().cloned();
                    let counted = pool.and_then(|pool| pool.get().ok()?.count().ok());
                    let answer = service.call(request);
                    async move {
                        assert!(counted.is_some(), "the database answers");
                        answer.await
                    }
                })
                .route("/one", route(C::count)),
        )
        .route(
            "/unique",
            route(|connection: &mut C| connection.insert(3, "two")),
        )
        .route(
            "/secret/{secret}",
            web::get().to(
                async |pool: web::Data<Pool<C>>, secret: web::Path<String>| {
                    answer(
                        pool.run(move |connection| use_secret(connection, &secret))
                            .await,
                    )
                },
            ),
        );
}

fn route<C: Engine, T: Send + 'static>(work: fn(&mut C) -> QueryResult<T>) -> actix_web::Route {
    web::get().to(move |pool: web::Data<Pool<C>>| async move { answer(pool.run(work).await) })
}

/// The common idiom of Actix and Diesel, with our function in place of `web::block`.
async fn block<C: Engine>(pool: web::Data<Pool<C>>) -> Result<HttpResponse, Error> {
    let count = actix_vitals::block(move || count_twice(&pool)).await?;
    Ok(HttpResponse::Ok().body(count.to_string()))
}

async fn web_block<C: Engine>(pool: web::Data<Pool<C>>) -> Result<HttpResponse, Error> {
    let count = web::block(move || count_twice(&pool)).await?;
    Ok(HttpResponse::Ok().body(count.to_string()))
}

fn count_twice<C: Engine>(pool: &Pool<C>) -> i64 {
    let mut connection = pool.get().expect("a connection");
    connection.count().expect("a count") + connection.count().expect("a count")
}

/// Two tasks and a future that the handler awaits together.
async fn tasks<C: Engine>(pool: web::Data<Pool<C>>) -> HttpResponse {
    let count = || {
        let pool = pool.clone();
        async move { pool.run(C::count).await }
    };
    let on_actix = actix_web::rt::spawn(carry_future(count()));
    let on_tokio = tokio::task::spawn_local(carry_future(count()));
    let (one, two, three) = futures_util::future::join3(on_actix, on_tokio, count()).await;
    let answers = [one.expect("no panic"), two.expect("no panic"), three];
    assert!(answers.iter().all(Result::is_ok));
    HttpResponse::Ok().finish()
}

async fn thread<C: Engine>(pool: web::Data<Pool<C>>) -> HttpResponse {
    let thread = std::thread::spawn(carry(move || count_twice(&pool)));
    match thread.join() {
        Ok(count) => HttpResponse::Ok().body(count.to_string()),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// A job within a request. Its queries belong to the job.
async fn job<C: Engine>(pool: web::Data<Pool<C>>, vitals: web::Data<Vitals>) -> HttpResponse {
    let work = async move { pool.run(|connection| names(connection, 12)).await };
    answer(vitals.job("in-a-request", work).await)
}

/// Stops waiting for a query after it has started.
async fn late<C: Engine>(pool: web::Data<Pool<C>>) -> HttpResponse {
    let (begins, begun) = tokio::sync::oneshot::channel();
    let query = pool.run(|connection| {
        // Fails only if the handler is gone, and then nothing waits for it.
        let _sent = begins.send(());
        std::thread::sleep(Duration::from_millis(300));
        connection.count()
    });
    tokio::select! {
        biased;
        _ = query => HttpResponse::Ok().finish(),
        _ = begun => HttpResponse::ServiceUnavailable().finish(),
    }
}

fn answer<T>(result: Result<T, RunError<diesel::result::Error>>) -> HttpResponse {
    match result {
        Ok(_) => HttpResponse::Ok().body("done"),
        Err(RunError::Query(_)) => {
            Problem::new(StatusCode::CONFLICT, "The database said no.").to_response()
        }
        Err(error) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).to_response()
        }
    }
}

fn names<C: Engine>(connection: &mut C, count: i32) -> QueryResult<()> {
    (0..count).try_for_each(|id| connection.name_of(id).map(drop))
}

fn same_names<C: Engine>(connection: &mut C) -> QueryResult<()> {
    (0..12).try_for_each(|_| connection.name_of(1).map(drop))
}

/// Three selects of the same row.
fn columns_in_turn<C: Engine>(connection: &mut C) -> QueryResult<()> {
    for columns in ["id", "name", "name, id"] {
        connection.raw(&format!("SELECT {columns} FROM items WHERE id = 1"))?;
    }
    Ok(())
}

/// Runs this many different statements, and then one statement 12 times.
fn names_after<C: Engine>(connection: &mut C, others: i32) -> QueryResult<()> {
    for number in 0..others {
        connection.raw(&format!("SELECT id AS c{number} FROM items"))?;
    }
    names(connection, 12)
}

/// Three inserts in nested transactions that are rolled back.
fn nested<C: Engine>(connection: &mut C) -> QueryResult<()> {
    let result = connection.transaction(|connection| {
        connection.insert(10, "ten")?;
        connection.transaction(|connection| {
            connection.insert(11, "eleven")?;
            connection.transaction(|connection| {
                connection.insert(12, "twelve")?;
                Err::<(), _>(diesel::result::Error::RollbackTransaction)
            })
        })
    });
    match result {
        Err(diesel::result::Error::RollbackTransaction) => Ok(()),
        other => other,
    }
}

/// Passes a secret to the database in all ways, and fails.
fn use_secret<C: Engine>(connection: &mut C, secret: &str) -> QueryResult<()> {
    connection.insert(20, secret)?;
    connection.name_of(20)?;
    connection.raw(&format!(
        "SELECT id FROM items WHERE name = '{secret}' -- {secret}"
    ))?;
    connection.raw(&format!(
        "/* {secret} */ UPDATE items SET name = 'x{secret}' WHERE id = 20"
    ))?;
    connection.batch_execute(&format!(
        "DELETE FROM items WHERE name IN ('a', 'x{secret}')"
    ))?;
    connection.insert(21, secret)?;
    connection.insert(22, secret).map(drop)
}
