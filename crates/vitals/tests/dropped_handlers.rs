//! Queries that run while a handler's future is dropped, because its client has left.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::task::{Context, Waker};

use actix_vitals::{Vitals, registry::Format};
use actix_web::{
    App, HttpResponse,
    dev::Service as _,
    test::{TestRequest, init_service},
    web,
};
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, sql_query};

/// Runs a query when it is dropped, like a guard that releases a lock.
struct Guard(SqliteConnection);

impl Drop for Guard {
    fn drop(&mut self) {
        sql_query("SELECT 1").execute(&mut self.0).unwrap();
    }
}

#[actix_web::test]
async fn a_query_of_a_dropped_handler_belongs_to_its_request() {
    let vitals = Vitals::builder().build().unwrap();
    let monitoring = vitals.clone();
    let handler = move || {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        monitoring.instrument_connection(&mut connection);
        async move {
            let _guard = Guard(connection);
            std::future::pending::<HttpResponse>().await
        }
    };
    let app = App::new().route("/a", web::get().to(handler));
    let service = init_service(app.wrap(vitals.http())).await;
    let request = TestRequest::get().uri("/a").to_request();
    let mut left = Box::pin(service.call(request));
    let mut task = Context::from_waker(Waker::noop());
    assert!(left.as_mut().poll(&mut task).is_pending());
    drop(left);
    let scrape = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
    let mut sums = scrape
        .lines()
        .filter(|line| line.starts_with("http_request_db_queries_sum"));
    assert!(
        sums.next().is_some_and(|sum| sum.ends_with(" 1")),
        "{scrape}"
    );
    assert!(sums.next().is_none());
}
