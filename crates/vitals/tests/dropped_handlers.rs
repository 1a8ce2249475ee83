//! Queries that run while a handler's future or an answer's body is dropped: because its client has left, because an answer
//! to HEAD has no body, or after a panic.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test may panic; counts are whole numbers, which floats represent exactly"
)]

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use actix_vitals::{Vitals, registry::Format};
use actix_web::{
    App, HttpResponse,
    body::{BodySize, MessageBody},
    dev::Service as _,
    http::Method,
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
    assert_eq!(sum_of(&vitals, "http_request_db_queries_sum"), 1.0);
}

/// The sum of all series of this name.
fn sum_of(vitals: &Vitals, name: &str) -> f64 {
    let scrape = String::from_utf8(vitals.registry().encode(Format::Text)).unwrap();
    let samples = scrape.lines().filter(|line| line.starts_with(name));
    let values = samples.map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// A stream without an end, which holds a guard.
struct GuardedBody {
    _guard: Guard,
    panics: bool,
}

impl MessageBody for GuardedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<web::Bytes, Infallible>>> {
        assert!(!self.panics, "the body panics as it should");
        Poll::Pending
    }
}

#[actix_web::test]
async fn a_query_of_a_dropped_body_belongs_to_its_request() {
    for (method, panics, is_polled, expected) in [
        (Method::GET, false, true, 1.0),
        (Method::GET, false, false, 1.0),
        (Method::GET, true, true, 1.0),
        // The request has ended with its head, so that its queries are counted already.
        (Method::HEAD, false, false, 0.0),
    ] {
        let vitals = Vitals::builder().build().unwrap();
        let monitoring = vitals.clone();
        let handler = move || {
            let mut connection = SqliteConnection::establish(":memory:").unwrap();
            monitoring.instrument_connection(&mut connection);
            let body = GuardedBody {
                _guard: Guard(connection),
                panics,
            };
            std::future::ready(HttpResponse::Ok().body(body))
        };
        let app = App::new().route("/a", web::to(handler));
        let service = init_service(app.wrap(vitals.http())).await;
        let request = TestRequest::with_uri("/a").method(method.clone());
        let response = service.call(request.to_request()).await.unwrap();
        let mut body = Box::pin(response.into_body());
        if is_polled {
            let mut task = Context::from_waker(Waker::noop());
            let polled = body.as_mut().poll_next(&mut task);
            assert_eq!(polled.is_ready(), panics);
        }
        drop(body);
        let case = format!("{method}, panics: {panics}, polled: {is_polled}");
        assert_eq!(sum_of(&vitals, "db_queries_total"), 1.0, "{case}");
        assert_eq!(
            sum_of(&vitals, "db_queries_unattributed_total"),
            0.0,
            "{case}"
        );
        assert_eq!(
            sum_of(&vitals, "http_request_db_queries_sum"),
            expected,
            "{case}"
        );
    }
}
