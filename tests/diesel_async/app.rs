//! A monitored application over an asynchronous pool. Each route runs a known number of queries.

use std::time::Duration;

use actix_vitals::ops::OpsSettings;
use actix_vitals::registry::Format;
use actix_vitals::{Vitals, carry_future};
use actix_web::http::StatusCode;
use actix_web::test::init_service;
use actix_web::{App, HttpResponse, web};
use diesel::QueryResult;
use futures_util::future::join3;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::pools::TestPool;
use crate::support::exposition::Exposition;
use crate::support::in_process::InProcess;

/// After how long a running query is dropped: long enough that it is sent, and much shorter than it takes.
const DROPPED_AFTER: Duration = Duration::from_millis(200);

/// The application under test.
pub(crate) struct TestApp<P: TestPool> {
    pub(crate) vitals: Vitals,
    pub(crate) pool: P,
    service: InProcess,
}

/// Starts the application over a pool of this size, with two rows in its table.
pub(crate) async fn start<P: TestPool>(url: &str, size: u32) -> TestApp<P> {
    let vitals = Vitals::builder()
        .ops(OpsSettings::everything())
        .build()
        .unwrap();
    let pool = P::open(&vitals, "default", url, size).await;
    pool.get().await.unwrap().create().await.unwrap();
    let monitor = vitals.http();
    let app = App::new()
        .app_data(web::Data::new(pool.clone()))
        .configure(vitals.ops())
        .configure(routes::<P>)
        .wrap(monitor);
    TestApp {
        vitals,
        pool,
        service: InProcess::new(init_service(app).await),
    }
}

impl<P: TestPool> TestApp<P> {
    /// Sends a request, and returns the status of its response.
    pub(crate) async fn get(&self, path: &str) -> StatusCode {
        self.get_with_body(path).await.0
    }

    /// Sends a request, and returns the status and the body of its response.
    pub(crate) async fn get_with_body(&self, path: &str) -> (StatusCode, String) {
        let answer = self.service.get(path).await;
        (answer.status, answer.body)
    }

    pub(crate) fn scrape(&self) -> Exposition {
        scrape(&self.vitals)
    }
}

pub(crate) fn scrape(vitals: &Vitals) -> Exposition {
    let text = vitals.registry().encode(Format::Text);
    Exposition::parse(&String::from_utf8(text).unwrap()).unwrap()
}

pub(crate) fn routes<P: TestPool>(config: &mut web::ServiceConfig) {
    config
        .route("/none", web::get().to(HttpResponse::Ok))
        .route("/one", web::get().to(one::<P>))
        .route("/slow", web::get().to(slow::<P>))
        .route("/three", web::get().to(three::<P>))
        .route("/loop", web::get().to(in_a_loop::<P>))
        .route("/unique", web::get().to(unique::<P>))
        .route("/commit", web::get().to(commit::<P>))
        .route("/rollback", web::get().to(roll_back::<P>))
        .route("/join", web::get().to(join::<P>))
        .route("/spawn", web::get().to(spawn::<P>))
        .route("/stray", web::get().to(stray::<P>))
        .route("/dropped", web::get().to(dropped::<P>))
        .route("/retried", web::get().to(retried::<P>))
        .route(
            "/dropped_transaction",
            web::get().to(dropped_transaction::<P>),
        );
}

fn answer<T>(result: QueryResult<T>) -> HttpResponse {
    match result {
        Ok(_) => HttpResponse::Ok().finish(),
        Err(error) => HttpResponse::Conflict().body(error.to_string()),
    }
}

async fn one<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    answer(pool.get().await.unwrap().count().await)
}

async fn slow<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    answer(pool.get().await.unwrap().sleep().await)
}

async fn three<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    connection.count().await.unwrap();
    connection.name_of(1).await.unwrap();
    answer(connection.rename(1, "uno").await)
}

async fn in_a_loop<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    for id in 0..50 {
        connection.name_of(id).await.unwrap();
    }
    HttpResponse::Ok().finish()
}

async fn unique<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    answer(pool.get().await.unwrap().insert(3, "two").await)
}

async fn commit<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    connection.transact(100, true).await.unwrap();
    answer(connection.raw("DELETE FROM items WHERE id >= 100").await)
}

async fn roll_back<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    answer(pool.get().await.unwrap().transact(200, false).await)
}

/// Three connections at the same time.
async fn join<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let count = || async { pool.get().await.unwrap().count().await };
    let (one, two, three) = join3(count(), count(), count()).await;
    answer(one.and(two).and(three))
}

/// A task that carries the context.
async fn spawn<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let task = async move { pool.get().await.unwrap().count().await };
    answer(actix_web::rt::spawn(carry_future(task)).await.unwrap())
}

/// A task that does not.
async fn stray<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let task = async move { pool.get().await.unwrap().count().await };
    answer(actix_web::rt::spawn(task).await.unwrap())
}

/// Drops a query that runs, and its connection.
async fn dropped<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    let query = async move { connection.sleep().await };
    let result = tokio::time::timeout(DROPPED_AFTER, query).await;
    assert!(result.is_err(), "the query takes longer");
    HttpResponse::Ok().finish()
}

/// Drops a query that runs, and runs it again on the same connection.
async fn retried<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    let result = tokio::time::timeout(DROPPED_AFTER, connection.sleep()).await;
    assert!(result.is_err(), "the query takes longer");
    answer(connection.sleep().await)
}

/// Drops a transaction that is open.
async fn dropped_transaction<P: TestPool>(pool: web::Data<P>) -> HttpResponse {
    let mut connection = pool.get().await.unwrap();
    let inserted = Notify::new();
    let work = async { connection.transact_slowly(300, &inserted).await };
    let leave = async {
        inserted.notified().await;
        tokio::time::sleep(DROPPED_AFTER).await;
    };
    tokio::select! {
        biased;
        result = work => panic!("the transaction takes longer: {result:?}"),
        () = leave => {}
    }
    drop(connection);
    HttpResponse::Ok().finish()
}
