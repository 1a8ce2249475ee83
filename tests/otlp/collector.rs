//! An OpenTelemetry Collector is asked what it received: the metrics of a scrape, by the conventions' names, and the traces of
//! kept requests, with their parents, durations and attributes, and without any value that a client sent.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_vitals::{Vitals, database::Pool, otlp::OtlpSettings};
use actix_web::{
    App, HttpResponse,
    rt::time::sleep,
    test::{TestRequest, call_and_read_body, init_service},
    web,
};
use diesel::{RunQueryDsl, SqliteConnection, r2d2::ConnectionManager, sql_query};
use reqwest::Method;
use serde_json::Value;

use super::{BOUND, SPAN, TRACE, load, pushed_samples};
use crate::support::{
    collector::Collector,
    server::{Answer, Server},
    settled::settled,
    wait,
};

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const FAILED: u64 = 2;

/// The entries of a list; none if it is not there.
fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// A number of OTLP in JSON: 64 bits are a string.
fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().expect("a number"),
        value => value.as_f64().unwrap_or_default(),
    }
}

/// Attributes by their keys, with their values as text.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value.as_object().and_then(|one| one.iter().next()) {
        Some((_, Value::String(text))) => text.clone(),
        Some((_, other)) => other.to_string(),
        None => String::new(),
    };
    items(of, "attributes")
        .map(|pair| {
            let key = pair["key"].as_str().expect("a key");
            (key.to_owned(), text(&pair["value"]))
        })
        .collect()
}

/// Every span that was received.
fn spans(received: &[Value]) -> Vec<&Value> {
    let resources = received.iter().flat_map(|one| items(one, "resourceSpans"));
    let scopes = resources.flat_map(|one| items(one, "scopeSpans"));
    scopes.flat_map(|one| items(one, "spans")).collect()
}

fn seconds(span: &Value) -> f64 {
    (number(&span["endTimeUnixNano"]) - number(&span["startTimeUnixNano"])) / 1e9
}

/// A data point: when it began, and its value or count.
type Point = (f64, f64);

/// The latest point of each series of the sums and histograms, by the name of a scrape.
fn totals(received: &[Value]) -> BTreeMap<(String, BTreeMap<String, String>), Point> {
    let resources = received
        .iter()
        .flat_map(|one| items(one, "resourceMetrics"));
    let scopes = resources.flat_map(|one| items(one, "scopeMetrics"));
    let mut totals = BTreeMap::new();
    for metric in scopes.flat_map(|one| items(one, "metrics")) {
        let name = metric["name"].as_str().expect("a name");
        let mut scraped = name.replace('.', "_");
        let is_sum = metric.get("sum").is_some();
        if name.contains('.') {
            match metric["unit"].as_str() {
                Some("s") => scraped += "_seconds",
                Some("By") => scraped += "_bytes",
                _ => {}
            }
            if is_sum {
                scraped += "_total";
            }
        }
        let data = ["sum", "exponentialHistogram", "histogram"];
        let Some(kind) = data.into_iter().find(|kind| metric.get(*kind).is_some()) else {
            continue;
        };
        assert_eq!(
            metric[kind]["aggregationTemporality"], 2,
            "{name} is cumulative"
        );
        for point in items(&metric[kind], "dataPoints") {
            let mut value = ["asInt", "asDouble", "count"].into_iter();
            let value = value.find_map(|key| point.get(key)).map_or(0.0, number);
            let labels = attributes(point).into_iter();
            let labels = labels.map(|(key, value)| (key.replace('.', "_"), value));
            let began = number(&point["startTimeUnixNano"]) / 1e9;
            totals.insert((scraped.clone(), labels.collect()), (began, value));
        }
    }
    totals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_what_a_scrape_shows_by_the_conventions_names() {
    let test = "a_collector_gets_what_a_scrape_shows_by_the_conventions_names";
    let Some(collector) = Collector::start(test).await else {
        return;
    };
    let url = collector.url();
    let flags = [
        "--naming",
        "otel",
        "--otlp-endpoint",
        &url,
        "--otlp-interval",
        "300ms",
    ];
    let server = Server::start_with(&flags);
    load(&server).await;
    let first = settled(&server).await;
    let pushes = |received: &[Value]| {
        let labels = super::PUSHED.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let key = ("vitals_push_total".to_owned(), BTreeMap::from(labels));
        totals(received).get(&key).map_or(0.0, |(_, value)| *value)
    };
    let before = first.value("vitals_push_total", &super::PUSHED);
    let received = wait::until("a later push", BOUND, async || {
        let received = collector.received("metrics");
        match pushes(&received) {
            // One push may have been under way.
            count if count >= before + 2.0 => Ok(received),
            count => Err(format!("{before} before, now {count}")),
        }
    })
    .await;
    let last = server.scrape().await;
    let totals = totals(&received);
    let started = first.value("process_start_time_seconds", &[]);
    let mut compared = 0;
    let [first, last] = [&first, &last].map(pushed_samples);
    for (series, (kind, before)) in &first {
        if kind == "gauge" {
            continue;
        }
        let Some((began, value)) = totals.get(series) else {
            panic!("{series:?} was not received");
        };
        let (_, after) = last.get(series).expect("series stay");
        assert!(
            before <= value && value <= after,
            "{series:?}: {before}, {value}, {after}"
        );
        assert!(*began >= started - 0.1, "{series:?} began at {began}");
        let (name, _) = series;
        if name.starts_with("process_") || name.starts_with("ops_http_") {
            let is_start = (began - started).abs() < 0.01;
            assert!(is_start, "{name}: {began}, not {started}");
        }
        compared += 1;
    }
    assert!(compared >= 100, "only {compared} series");
    let named = serde_json::to_string(&received).expect("JSON");
    for name in [
        "\"http.server.request.duration\"",
        "\"http.route\"",
        "\"db.client.operation.duration\"",
    ] {
        assert!(named.contains(name), "{name}");
    }
    assert!(!named.contains("\"name\":\"http_server"), "{named}");
}

/// Waits until a server span with this name has been received, and returns it with its children.
async fn trace(collector: &Collector, name: &str) -> (Value, Vec<Value>) {
    wait::until(name, BOUND, async || {
        let received = collector.received("traces");
        let spans = spans(&received);
        let found = spans
            .iter()
            .find(|span| span["name"] == name && span["kind"] == SERVER);
        let Some(found) = found else {
            let names: Vec<_> = spans.iter().map(|span| &span["name"]).collect();
            return Err(format!("{names:?}"));
        };
        let children = spans
            .iter()
            .filter(|span| span["parentSpanId"] == found["spanId"]);
        let children = children.map(|span| (*span).clone()).collect();
        Ok(((*found).clone(), children))
    })
    .await
}

fn traceparent() -> (&'static str, String) {
    ("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_traces_of_kept_requests_without_their_values() {
    let test = "a_collector_gets_the_traces_of_kept_requests_without_their_values";
    let Some(collector) = Collector::start(test).await else {
        return;
    };
    let url = collector.url();
    let server = Server::start_with(&["--otlp-endpoint", &url, "--otlp-interval", "300ms"]);
    let (name, value) = traceparent();
    let created = server
        .request(Method::POST, "/data?token=hunter2")
        .header(name, value.clone())
        .header("authorization", "Bearer hunter2")
        .json(&serde_json::json!({"name": "hunter2", "email": "hunter2@example.com"}));
    assert_eq!(Answer::of(created).await.status, 201);
    let missing = server
        .request(Method::GET, "/data/9081726354")
        .header(name, value);
    assert_eq!(Answer::of(missing).await.status, 404);

    let (span, children) = trace(&collector, "POST /data").await;
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], SPAN);
    let of_span = attributes(&span);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.scheme", "http"),
        ("http.route", "/data"),
        ("http.response.status_code", "201"),
        ("vitals.queries", "1"),
    ] {
        assert_eq!(
            of_span.get(key).map(String::as_str),
            Some(value),
            "{of_span:?}"
        );
    }
    assert!(span["status"].get("code").is_none(), "{span}");
    let insert = children.iter().find(|child| child["name"] == "INSERT");
    let insert = insert.unwrap_or_else(|| panic!("{children:?}"));
    assert_eq!(insert["kind"], CLIENT);
    assert_eq!(insert["traceId"], TRACE);
    let of_query = attributes(insert);
    assert_eq!(of_query["db.operation.name"], "INSERT");
    assert!(
        of_query["db.query.text"].starts_with("INSERT INTO"),
        "{of_query:?}"
    );
    assert_eq!(of_query["db.client.connection.pool.name"], "writers");
    assert_eq!(of_query["db.system.name"], "sqlite");
    for child in &children {
        let is_of_database = child["kind"] == CLIENT;
        let system = attributes(child).contains_key("db.system.name");
        assert_eq!(system, is_of_database, "{child}");
    }
    for child in &children {
        for time in ["startTimeUnixNano", "endTimeUnixNano"] {
            let at = number(&child[time]);
            let within = number(&span["startTimeUnixNano"])..=number(&span["endTimeUnixNano"]);
            assert!(within.contains(&at), "{child} is not within {span}");
        }
    }

    let (span, _) = trace(&collector, "GET /data/{item_id}").await;
    assert_eq!(attributes(&span)["http.response.status_code"], "404");
    // Right before the end: it is part of the last push.
    server.get("/nowhere").await;
    assert_eq!(server.stop(), Some(0));
    trace(&collector, "GET").await;
    let all = serde_json::to_string(&collector.received("traces")).expect("JSON");
    for secret in ["hunter2", "9081726354", "nowhere", "token"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
}

async fn slow(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
    let answered = pool.run(|connection| {
        let answered = sql_query("SELECT 'hunter2'").execute(connection);
        std::thread::sleep(Duration::from_secs(1));
        answered
    });
    match answered.await {
        Ok(_) => HttpResponse::InternalServerError().body("hunter2"),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// Runs one statement twice: without a table, and with it.
async fn broken(pool: web::Data<Pool<SqliteConnection>>) -> HttpResponse {
    let insert = "INSERT INTO carts VALUES ('hunter2')";
    let first = pool.run(move |connection| sql_query(insert).execute(connection));
    let is_broken = first.await.is_err();
    let second = pool.run(move |connection| {
        sql_query("CREATE TABLE carts (name TEXT UNIQUE)").execute(connection)?;
        sql_query(insert).execute(connection)?;
        sql_query(insert).execute(connection)
    });
    let is_known = second.await.is_err();
    assert!(is_broken && is_known);
    HttpResponse::InternalServerError().finish()
}

#[derive(Debug)]
struct Unpaid {
    _card: &'static str,
}

impl std::fmt::Display for Unpaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the card hunter2 was declined")
    }
}

impl actix_web::ResponseError for Unpaid {}

async fn unpaid() -> Result<HttpResponse, Unpaid> {
    Err(Unpaid { _card: "hunter2" })
}

#[actix_web::test]
async fn a_collector_sees_where_the_time_of_a_failed_request_went() {
    let test = "a_collector_sees_where_the_time_of_a_failed_request_went";
    let Some(collector) = Collector::start(test).await else {
        return;
    };
    let settings = OtlpSettings::new(&collector.url())
        .expect("a URL")
        .service("shop", "1.0");
    let vitals = Vitals::builder()
        .otlp(settings)
        .build()
        .expect("a monitoring");
    let pool = vitals
        .instrument(diesel::r2d2::Pool::builder().max_size(1))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .expect("a pool");
    let app = App::new()
        .app_data(web::Data::new(pool))
        .route("/first", web::get().to(slow))
        .route("/second/{secret}", web::get().to(slow))
        .route("/unpaid", web::get().to(unpaid))
        .route("/broken", web::get().to(broken))
        .wrap(vitals.http());
    let app = init_service(app).await;
    let first = TestRequest::with_uri("/first").to_request();
    let second = TestRequest::with_uri("/second/hunter2?x=hunter2")
        .insert_header(traceparent())
        .to_request();
    let waiting = async {
        sleep(Duration::from_millis(100)).await;
        call_and_read_body(&app, second).await
    };
    futures_util::join!(call_and_read_body(&app, first), waiting);
    for path in ["/unpaid", "/broken"] {
        call_and_read_body(&app, TestRequest::with_uri(path).to_request()).await;
    }
    let finished = web::block(move || vitals.finish_push(Duration::from_secs(10)));
    assert!(finished.await.expect("a thread"), "the last push");

    let (span, children) = trace(&collector, "GET /second/{secret}").await;
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], SPAN);
    assert_eq!(span["status"]["code"], FAILED);
    let of_span = attributes(&span);
    assert_eq!(of_span["http.response.status_code"], "500");
    assert_eq!(of_span["error.type"], "500");
    assert!(of_span["vitals.kept_for"].contains("failed"), "{of_span:?}");
    let events: Vec<_> = items(&span, "events").map(|event| &event["name"]).collect();
    assert_eq!(events, ["error"]);
    let whole = seconds(&span);
    assert!((1.15..10.0).contains(&whole), "{whole} s");
    let child = |name: &str| {
        let child = children.iter().find(|child| child["name"] == name);
        child.unwrap_or_else(|| panic!("{name} is missing: {children:?}"))
    };
    // It waited for the rest of the other's time, and held the connection as long as the other did.
    let waited = seconds(child("wait for a connection"));
    assert!((0.15..whole).contains(&waited), "{waited} s");
    let held = seconds(child("blocking thread"));
    assert!((0.99..whole).contains(&held), "{held} s");
    let query = child("SELECT");
    assert_eq!(query["kind"], CLIENT);
    assert_eq!(attributes(query)["db.query.text"], "SELECT ?");
    let (other, _) = trace(&collector, "GET /first").await;
    assert!(
        other.get("parentSpanId").is_none_or(|id| id == ""),
        "{other}"
    );
    assert_ne!(other["traceId"], TRACE);
    assert_eq!(other["traceId"].as_str().map(str::len), Some(32));
    let (unpaid, _) = trace(&collector, "GET /unpaid").await;
    let event = &unpaid["events"][0];
    assert_eq!(event["name"], "exception");
    assert_eq!(attributes(event)["exception.type"], "Unpaid");
    let (_, children) = trace(&collector, "GET /broken").await;
    let queries = children.iter().filter(|child| child["kind"] == CLIENT);
    let mut queries: Vec<_> = queries.collect();
    queries.sort_by(|one, other| {
        let began = |query: &Value| number(&query["startTimeUnixNano"]);
        began(one).total_cmp(&began(other))
    });
    let errors: Vec<_> = queries
        .iter()
        .map(|query| {
            let is_failed = query["status"]["code"] == FAILED;
            let error = attributes(query).remove("error.type");
            assert_eq!(error.is_some(), is_failed, "{query}");
            error.unwrap_or_default()
        })
        .collect();
    assert_eq!(errors, ["other", "", "", "unique_violation"], "{queries:?}");
    let received = collector.received("traces");
    let resource = attributes(&received[0]["resourceSpans"][0]["resource"]);
    assert_eq!(resource["service.name"], "shop");
    let all = serde_json::to_string(&received).expect("JSON");
    assert!(!all.contains("hunter2"), "{all}");
}
