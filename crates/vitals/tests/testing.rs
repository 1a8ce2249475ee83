//! Tests the helper for the tests of adopters, and their own metrics.

#![cfg(all(feature = "http", feature = "database"))]
#![allow(clippy::expect_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix_vitals::{
    LATENCY_BUCKETS, Naming, Vitals,
    database::Pool,
    label_set,
    registry::{
        Counter, Descriptor, Family, FloatGauge, Format, Histogram, LabelSet, LabelledFamily,
        RegistryBuilder, RegistryError, Unit,
    },
    testing::TestMetrics,
};
use actix_web::{
    App, HttpResponse,
    http::StatusCode,
    test::{TestRequest, call_and_read_body, call_service, init_service},
    web::{self, ServiceConfig},
};
use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};

/// The lines of the two statements of [`orders`].
const ONCE_LINE: u32 = line!() + 5;
const REPEATED_LINE: u32 = line!() + 6;

async fn orders(pool: web::Data<Pool<SqliteConnection>>, count: web::Path<u32>) -> HttpResponse {
    let ran = pool.run(move |connection| {
        sql_query("SELECT 'once'").execute(connection)?;
        for _ in 1..*count {
            sql_query("SELECT 7 AS repeated").execute(connection)?;
        }
        Ok::<_, diesel::result::Error>(())
    });
    match ran.await {
        Ok(()) => HttpResponse::Ok().body("orders"),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// The routes of the service under test, with a pool of its own.
fn routes(vitals: &Vitals) -> impl FnOnce(&mut ServiceConfig) {
    let pool = vitals
        .instrument(diesel::r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .expect("a pool");
    |config| {
        config
            .app_data(web::Data::new(pool))
            .route("/orders/{count}", web::get().to(orders))
            .route("/idle", web::get().to(HttpResponse::Ok));
    }
}

fn message(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    let formatted = panic.downcast_ref::<String>().cloned();
    let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
    formatted.or(literal).expect("a message")
}

#[actix_web::test]
async fn requests_and_queries_are_counted_by_endpoint_in_either_naming() {
    for naming in [Naming::Vitals, Naming::OpenTelemetry] {
        let vitals = Vitals::builder().naming(naming).build().expect("it builds");
        let app = App::new().configure(routes(&vitals)).wrap(vitals.http());
        let app = init_service(app).await;
        let metrics = TestMetrics::new(&vitals);
        for uri in ["/orders/2", "/orders/3", "/idle", "/none"] {
            call_and_read_body(&app, TestRequest::with_uri(uri).to_request()).await;
        }
        assert_eq!(metrics.requests("/orders/{count}", 200), 2, "{metrics:?}");
        assert_eq!(metrics.requests("/orders/{count}", 404), 0);
        assert_eq!(metrics.requests("/idle", 200), 1);
        assert_eq!(metrics.queries("/orders/{count}"), 5);
        assert_eq!(metrics.queries("/idle"), 0);
        let listed = format!("{metrics:?}");
        assert!(listed.contains("GET /orders/{count} 200: 2"), "{listed}");
    }
}

#[actix_web::test]
async fn a_query_budget_that_is_exceeded_names_the_statements_of_the_endpoint() {
    let vitals = Vitals::builder().build().expect("it builds");
    let app = App::new().configure(routes(&vitals)).wrap(vitals.http());
    let app = init_service(app).await;
    let metrics = TestMetrics::new(&vitals);
    call_and_read_body(&app, TestRequest::with_uri("/orders/4").to_request()).await;
    metrics.assert_queries_at_most("/orders/{count}", 4);
    let exceeded = message(|| metrics.assert_queries_at_most("/orders/{count}", 3));
    let lines: Vec<&str> = exceeded.lines().collect();
    assert_eq!(
        lines[0],
        "/orders/{count} ran 4 queries, more than 3. Its statements, with their calls by any endpoint:"
    );
    assert_eq!(lines[1], "     3 x SELECT ? AS repeated");
    assert_eq!(lines[3], "     1 x SELECT ?");
    for (line, number) in [(lines[2], REPEATED_LINE), (lines[4], ONCE_LINE)] {
        let expected = format!("         at tests/testing.rs:{number} in testing::orders");
        assert_eq!(line, expected, "{exceeded}");
    }
    assert_eq!(lines.len(), 5, "{exceeded}");
}

#[actix_web::test]
async fn a_budget_of_an_endpoint_that_answered_nothing_fails() {
    let vitals = Vitals::builder().build().expect("it builds");
    let app = App::new().configure(routes(&vitals)).wrap(vitals.http());
    let app = init_service(app).await;
    let metrics = TestMetrics::new(&vitals);
    let orders = "/orders/{count}";
    let unread = call_service(&app, TestRequest::with_uri("/orders/1").to_request()).await;
    assert_eq!(unread.status(), StatusCode::OK);
    let early = message(|| metrics.assert_queries_at_most(orders, 9));
    assert!(
        early.starts_with("no request of /orders/{count} was counted"),
        "{early}"
    );
    drop(unread);
    metrics.assert_queries_at_most(orders, 1);
    let misspelt = message(|| metrics.assert_queries_at_most("/order", 9));
    assert!(
        misspelt.contains("GET /orders/{count} 200: 1"),
        "{misspelt}"
    );

    let vitals = Vitals::builder().database_tally(false).build();
    let metrics = TestMetrics::new(&vitals.expect("it builds"));
    let off = message(|| metrics.assert_queries_at_most("/idle", 9));
    assert!(off.contains("database_tally"), "{off}");
}

label_set! {
    /// The labels of an order.
    struct OrderLabels {
        kind: &'static str,
        country: String,
    }
}

#[derive(Clone)]
struct ShopMetrics {
    orders: LabelledFamily<Counter, OrderLabels>,
    load: Family<FloatGauge, 0>,
    payment: Family<Histogram, 0>,
}

impl ShopMetrics {
    fn declare(registry: &mut RegistryBuilder) -> Self {
        let orders = OrderLabels::descriptor("shop_orders_total", "Orders that were taken.");
        let payment = Descriptor::new("shop_payment_seconds", "Time to pay an order.", []);
        Self {
            orders: registry.counter(orders.max_series(2)),
            load: registry.float_gauge(Descriptor::new("shop_load_ratio", "Load.", [])),
            payment: registry.histogram(payment.unit(Unit::Seconds), &LATENCY_BUCKETS),
        }
    }
}

async fn pay(metrics: web::Data<ShopMetrics>) -> HttpResponse {
    metrics.payment.get().observe(0.3);
    HttpResponse::Ok().finish()
}

#[actix_web::test]
async fn a_histogram_of_the_adopter_takes_its_exemplar_from_the_request() {
    let (vitals, metrics) = Vitals::builder()
        .build_with(ShopMetrics::declare)
        .expect("it builds");
    let app = App::new()
        .app_data(web::Data::new(metrics.clone()))
        .route("/pay", web::post().to(pay))
        .wrap(vitals.http());
    let app = init_service(app).await;
    let exposition = || {
        let exposition = vitals.registry().encode(Format::OpenMetrics);
        String::from_utf8(exposition).expect("UTF-8")
    };
    metrics.payment.get().observe(0.3);
    assert!(
        !exposition().contains("# {trace_id"),
        "outside of a request"
    );
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = TestRequest::post()
        .uri("/pay")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")));
    call_and_read_body(&app, request.to_request()).await;
    let bucket = "shop_payment_seconds_bucket{le=\"0.5\"} 2 # {trace_id=\"";
    let exposition = exposition();
    let exemplar = exposition.lines().find(|line| line.starts_with(bucket));
    assert!(
        exemplar.is_some_and(|line| line.contains(trace)),
        "{exposition}"
    );
    assert_eq!(vitals.value("shop_payment_seconds_count", &[]), Some(2.0));
    assert_eq!(vitals.value("shop_payment_seconds_sum", &[]), Some(0.6));
}

#[test]
fn families_of_the_adopter_have_labels_by_name_a_budget_and_the_labels_of_the_service() {
    let (vitals, metrics) = Vitals::builder()
        .label("region", "eu")
        .build_with(ShopMetrics::declare)
        .expect("it builds");
    let order = |kind, country: &str| OrderLabels {
        kind,
        country: country.to_owned(),
    };
    metrics.orders.series(&order("book", "de")).inc();
    metrics.orders.series(&order("book", "fr")).add(2);
    metrics.orders.series(&order("pen", "at")).add(4);
    metrics.load.get().set(0.25);
    let value = |labels: &[(&str, &str)]| vitals.value("shop_orders_total", labels);
    assert_eq!(value(&[]), Some(7.0));
    assert_eq!(value(&[("kind", "book")]), Some(3.0));
    assert_eq!(value(&[("kind", "book"), ("country", "de")]), Some(1.0));
    assert_eq!(value(&[("kind", "pen")]), Some(0.0), "beyond the budget");
    assert_eq!(value(&[("kind", "overflow")]), Some(4.0));
    assert_eq!(value(&[("colour", "red")]), None);
    assert_eq!(vitals.value("shop_orders", &[]), None);
    assert_eq!(vitals.value("shop_load_ratio", &[]), Some(0.25));
    let text = String::from_utf8(vitals.registry().encode(Format::Text)).expect("UTF-8");
    let line = "shop_orders_total{region=\"eu\",kind=\"book\",country=\"fr\"} 2\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_family_of_the_adopter_whose_name_is_taken_is_an_error() {
    let built = Vitals::builder().build_with(|registry| {
        registry.counter(Descriptor::new(
            "http_requests_total",
            "Mine.",
            ["endpoint"],
        ))
    });
    let error = built.expect_err("the name is taken");
    assert!(
        matches!(
            error,
            actix_vitals::BuildError::Registry(RegistryError::DuplicateFamily { .. })
        ),
        "{error}"
    );
}
