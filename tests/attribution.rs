//! Attribution of queries to requests and jobs, on SQLite, PostgreSQL and (with the feature `mysql`) MariaDB.
//!
//! Known traffic moves every family by exactly the right amount, under the right endpoint. Statements are reported by their
//! shape, and no value is shown anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test may panic and print; counts are whole numbers, which floats represent exactly"
)]

mod support;

use support::log::Log;
use support::{exposition, postgres, server, tools};
#[macro_use]
#[path = "attribution/app.rs"]
mod app;
#[path = "attribution/lines.rs"]
mod lines;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use actix_vitals::Builder;
use actix_vitals::registry::Format;
use actix_web::test::TestRequest;
use diesel::r2d2::{self, ConnectionManager};
use diesel::{PgConnection, SqliteConnection};

use app::{Engine, TestApp, start};
use exposition::Exposition;
use postgres::Cluster;
use server::Data as _;
use support::database_counts::{database_counts, expected_counts, of_queries, openings};

app::impl_engine!(SqliteConnection);
app::impl_engine!(PgConnection);

/// A type of connection with a real database.
trait Backed: Engine {
    /// The URL of an empty database, and what keeps it. `None` if the programs of the database are missing.
    fn database() -> Option<(String, Box<dyn Any>)>;

    /// The URL of a database that does not exist. It contains the secret.
    fn nowhere() -> String;
}

impl Backed for SqliteConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let directory = tempfile::tempdir().unwrap();
        let url = directory.path().join("items.db").display().to_string();
        Some((url, Box::new(directory)))
    }

    fn nowhere() -> String {
        format!("/nowhere/{SECRET}/items.db")
    }
}

impl Backed for PgConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let programs = tools::postgres("attribution on PostgreSQL")?;
        let database = Cluster::shared(&programs).database();
        Some((database.url(), Box::new(database)))
    }

    fn nowhere() -> String {
        format!("postgres://somebody:{SECRET}@127.0.0.1:1/nowhere")
    }
}

#[cfg(feature = "mysql")]
#[path = "mysql/mariadb.rs"]
mod mariadb_server;

#[cfg(feature = "mysql")]
app::impl_engine!(diesel::MysqlConnection);

#[cfg(feature = "mysql")]
impl Backed for diesel::MysqlConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let server = mariadb_server::Mariadb::shared("attribution on MariaDB")?;
        Some((server.create_database(), Box::new(server)))
    }

    fn nowhere() -> String {
        format!("mysql://somebody:{SECRET}@127.0.0.1:1/nowhere")
    }
}

/// Each test, on each database.
macro_rules! on_each_database {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::SqliteConnection>().await; })*
        }
        mod postgresql {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::PgConnection>().await; })*
        }
        #[cfg(feature = "mysql")]
        mod mariadb {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::MysqlConnection>().await; })*
        }
    };
}

on_each_database! {
    known_traffic_moves_every_family_by_exactly_the_right_amount
    a_plain_pool_counts_like_an_instrumented_one
    queries_on_other_threads_and_tasks_belong_to_their_request
    a_query_in_the_synchronous_part_of_a_middleware_belongs_to_its_request
    a_background_job_is_recorded_like_an_endpoint
    queries_outside_of_any_request_are_counted_as_such
    queries_of_an_excluded_request_are_not_unattributed
    a_query_that_outlives_its_request_is_attributed_at_its_end
    a_wait_for_the_pool_is_in_server_timing
    no_response_has_server_timing_by_default
    the_threshold_of_n_plus_one_can_be_set_and_turned_off
    a_loop_after_many_other_statements_is_detected
    a_suspected_loop_is_logged_once_by_its_endpoint_and_its_shape
    statements_are_reported_by_their_shape_with_their_endpoints
    the_rows_of_statements_add_up_to_all_queries
    wrong_parameters_and_methods_are_rejected
    ten_thousand_values_are_one_shape
    no_secret_is_shown
}

/// Each test of lines and of kinds of repetition, on each database.
mod lines_on {
    macro_rules! lines_on_each_database {
        ($($test:ident)*) => {
            mod sqlite {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::SqliteConnection>().await; })*
            }
            mod postgresql {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::PgConnection>().await; })*
            }
            #[cfg(feature = "mysql")]
            mod mariadb {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::MysqlConnection>().await; })*
            }
        };
    }

    lines_on_each_database! {
        a_loop_is_named_with_its_kind_and_its_line
        a_stack_is_captured_once_for_each_statement_and_endpoint
        a_slow_statement_is_logged_with_its_line
        a_slow_statement_that_is_not_kept_is_logged_with_its_operation
        harmless_requests_raise_nothing
        no_line_is_found_if_that_is_turned_off
    }
}

/// The log of the process, including the threads of the pool. It is set before the first log line, because lines without a
/// subscriber may stay disabled for a later one.
static LOG: LazyLock<Log> = LazyLock::new(|| Log::of_process(tracing::Level::TRACE));

/// The application over a database of its own, with a pool of this size.
async fn app_on<C: Backed>(
    size: u32,
    settings: fn(Builder) -> Builder,
) -> Option<(TestApp<C>, Box<dyn Any>)> {
    LazyLock::force(&LOG);
    let (url, database) = C::database()?;
    Some((start(&url, size, settings).await, database))
}

fn defaults(builder: Builder) -> Builder {
    builder
}

/// How much the samples of these names rose between two scrapes, without those that did not.
fn moved(before: &Exposition, after: &Exposition, names: &[&str]) -> BTreeMap<String, f64> {
    let mut moved = BTreeMap::new();
    for (name, labels, value) in after.samples() {
        let earlier = before
            .series(name)
            .into_iter()
            .find(|(of_series, _)| *of_series == labels);
        let rise = value - earlier.map_or(0.0, |(_, value)| value);
        if names.contains(&name) && rise != 0.0 {
            let values: Vec<&str> = labels.values().map(String::as_str).collect();
            moved.insert(format!("{name} {}", values.join(" ")), rise);
        }
    }
    moved
}

const COUNTS: [&str; 10] = [
    "db_queries_unattributed_total",
    "http_request_db_queries_count",
    "http_request_db_queries_sum",
    "http_request_db_seconds_count",
    "http_n_plus_one_suspected_total",
    "db_queries_total",
    "db_query_errors_total",
    "db_transactions_total",
    "db_transaction_duration_seconds_count",
    "db_pool_wait_seconds_count",
];

/// Asserts that a request moves every count of databases by `queries`, under its endpoint, and by `others`.
async fn moves_exactly<C: Engine>(
    app: &TestApp<C>,
    endpoint: &str,
    queries: &[(&str, f64)],
    others: &[(&str, f64)],
) {
    let before = app.scrape();
    let status = app.get(endpoint).await.status;
    let after = app.scrape();
    let connections = if queries.is_empty() { 0.0 } else { 1.0 };
    assert_eq!(
        database_counts(&before, &after),
        expected_counts(endpoint, queries, connections, others),
        "{endpoint}: {status}"
    );
    assert_eq!(openings(&before, &after), 0.0, "{endpoint}");
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    assert_eq!(
        seconds.len(),
        usize::from(!queries.is_empty()),
        "{endpoint}"
    );
}

async fn known_traffic_moves_every_family_by_exactly_the_right_amount<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    for _ in 0..3 {
        moves_exactly(&app, "/none", &[], &[]).await;
        moves_exactly(&app, "/one", &[("select", 1.0)], &[]).await;
        let three = [("select", 2.0), ("update", 1.0)];
        moves_exactly(&app, "/three", &three, &[]).await;
        moves_exactly(&app, "/few", &[("select", 9.0)], &[]).await;
        let in_a_loop = [("http_n_plus_one_suspected_total /loop GET", 1.0)];
        moves_exactly(&app, "/loop", &[("select", 50.0)], &in_a_loop).await;
        let rolled_back = [
            ("db_transactions_total rolled_back", 1.0),
            ("db_transaction_duration_seconds_count rolled_back", 1.0),
        ];
        moves_exactly(&app, "/nested", &[("insert", 3.0)], &rolled_back).await;
        let failed = [("db_query_errors_total unique_violation insert", 1.0)];
        moves_exactly(&app, "/unique", &[("insert", 1.0)], &failed).await;
    }
}

/// A pool that keeps r2d2's type.
async fn a_plain_pool_counts_like_an_instrumented_one<C: Backed>() {
    let Some((url, _database)) = C::database() else {
        return;
    };
    let vitals = Builder::default().build().unwrap();
    let scrape = || {
        let text = vitals.registry().encode(Format::Text);
        Exposition::parse(&String::from_utf8(text).unwrap()).unwrap()
    };
    let before = scrape();
    let builder = r2d2::Pool::builder()
        .max_size(2)
        // The pool opens its connections within that time.
        .connection_timeout(Duration::from_secs(2));
    let pool = vitals
        .monitor("default", builder, ConnectionManager::<C>::new(url))
        .unwrap();
    let opened = |scrape: &Exposition| scrape.sum_rise(&before, "db_connections_opened_total", &[]);
    assert_eq!(opened(&scrape()), 2.0);
    for _ in 0..3 {
        let before = scrape();
        let mut held = pool.get().unwrap();
        for number in 0..6 {
            held.raw(&format!("SELECT {number}")).unwrap();
        }
        let result = held.transaction(|_| Err::<(), _>(diesel::result::Error::RollbackTransaction));
        assert!(result.is_err());
        let other = pool.get().unwrap();
        assert!(pool.get().is_err());
        drop((held, other));
        let mut expected = of_queries(&[("select", 6.0)], 2.0);
        expected.extend(
            [
                ("db_pool_rejected_total default timeout", 1.0),
                ("db_pool_timeouts_total default", 1.0),
                ("db_pool_wait_seconds_count default", 3.0),
                ("db_queries_unattributed_total select", 6.0),
                ("db_transactions_total rolled_back", 1.0),
                ("db_transaction_duration_seconds_count rolled_back", 1.0),
            ]
            .map(|(name, rise)| (name.to_owned(), rise)),
        );
        assert_eq!(database_counts(&before, &scrape()), expected);
    }
    assert_eq!(opened(&scrape()), 2.0);
}

async fn queries_on_other_threads_and_tasks_belong_to_their_request<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(3, defaults).await else {
        return;
    };
    for (endpoint, queries, waits) in [
        ("/block", 2.0, 1.0),
        ("/tasks", 3.0, 3.0),
        ("/thread", 2.0, 1.0),
    ] {
        let before = app.scrape();
        assert_eq!(app.get(endpoint).await.status, 200, "{endpoint}");
        let route = format!("{endpoint} GET");
        assert_eq!(
            moved(&before, &app.scrape(), &COUNTS),
            BTreeMap::from([
                (format!("http_request_db_queries_count {route}"), 1.0),
                (format!("http_request_db_queries_sum {route}"), queries),
                (format!("http_request_db_seconds_count {route}"), 1.0),
                ("db_queries_total select".to_owned(), queries),
                ("db_pool_wait_seconds_count default".to_owned(), waits),
            ]),
            "{endpoint}"
        );
    }
}

async fn a_query_in_the_synchronous_part_of_a_middleware_belongs_to_its_request<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    let before = app.scrape();
    for _ in 0..193 {
        assert_eq!(app.get("/auth/one").await.status, 200);
    }
    let names = [
        "db_queries_total",
        "db_queries_unattributed_total",
        "http_request_db_queries_sum",
    ];
    assert_eq!(
        moved(&before, &app.scrape(), &names),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 386.0),
            (
                "http_request_db_queries_sum /auth/one GET".to_owned(),
                386.0
            ),
        ])
    );
}

const OF_JOBS: [&str; 6] = [
    "job_runs_total",
    "job_duration_seconds_count",
    "job_db_queries_sum",
    "job_db_queries_count",
    "job_db_seconds_count",
    "job_n_plus_one_suspected_total",
];

async fn a_background_job_is_recorded_like_an_endpoint<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(2, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    assert_eq!(app.get("/job").await.status, 200);
    let pool = app.pool.clone();
    let spawned = app.vitals.job("nightly", async move {
        pool.run(|connection| connection.insert(7, "seven")).await?;
        pool.run(|connection| connection.insert(8, "seven")).await
    });
    assert!(actix_web::rt::spawn(spawned).await.unwrap().is_err());
    let pool = app.pool.clone();
    app.vitals
        .job_blocking("by-hand", || pool.get().unwrap().count().unwrap());
    let after = app.scrape();
    let of_job = |name: &str, outcome: &str, queries: f64| {
        [
            (format!("job_runs_total {name} {outcome}"), 1.0),
            (format!("job_duration_seconds_count {name}"), 1.0),
            (format!("job_db_queries_sum {name}"), queries),
            (format!("job_db_queries_count {name}"), 1.0),
            (format!("job_db_seconds_count {name}"), 1.0),
        ]
    };
    let mut expected: BTreeMap<String, f64> = [
        of_job("in-a-request", "ok", 12.0),
        of_job("nightly", "error", 2.0),
        of_job("by-hand", "ok", 1.0),
    ]
    .into_iter()
    .flatten()
    .collect();
    expected.insert(
        "job_n_plus_one_suspected_total in-a-request".to_owned(),
        1.0,
    );
    assert_eq!(moved(&before, &after, &OF_JOBS), expected);
    let requests = [
        "http_request_db_queries_sum",
        "db_queries_unattributed_total",
    ];
    assert_eq!(
        moved(&before, &after, &requests),
        BTreeMap::new(),
        "they are the jobs'"
    );
    for name in ["in-a-request", "nightly", "by-hand"] {
        assert_eq!(after.value("jobs_in_progress", &[("job_name", name)]), 0.0);
        let failed = [("job_name", name), ("outcome", "panicked")];
        assert_eq!(
            after.value("job_runs_total", &failed),
            0.0,
            "from the start"
        );
    }
    let statements = app.statements("sort=calls").await;
    let endpoints: Vec<_> = statements
        .iter()
        .map(|row| row["endpoints"].clone())
        .collect();
    let ran_by = |name: &str| serde_json::json!([format!("JOB {name}")]);
    assert_eq!(
        endpoints,
        [ran_by("in-a-request"), ran_by("nightly"), ran_by("by-hand")]
    );
}

async fn queries_outside_of_any_request_are_counted_as_such<C: Backed>() {
    let log = LOG.clone();
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    for _ in 0..3 {
        assert_eq!(app.get("/web_block").await.status, 200);
    }
    app.get("/one").await;
    let names = [
        "db_queries_total",
        "db_queries_unattributed_total",
        "http_request_db_queries_sum",
    ];
    assert_eq!(
        moved(&before, &app.scrape(), &names),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 7.0),
            ("db_queries_unattributed_total select".to_owned(), 6.0),
            ("http_request_db_queries_sum /one GET".to_owned(), 1.0),
        ])
    );
    let statements = app.statements("").await;
    assert_eq!(
        (
            &statements[0]["calls"],
            &statements[0]["unattributed_calls"]
        ),
        (&7.into(), &6.into())
    );
    assert_eq!(statements[0]["endpoints"], serde_json::json!(["GET /one"]));
    let log = log.text();
    assert!(
        log.contains("actix_vitals::block in place of web::block"),
        "{log}"
    );
}

async fn queries_of_an_excluded_request_are_not_unattributed<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.exclude(["/excluded"])).await
    else {
        return;
    };
    let before = app.scrape();
    assert_eq!(app.get("/excluded").await.status, 200);
    assert_eq!(
        moved(&before, &app.scrape(), &COUNTS),
        BTreeMap::from([
            ("db_queries_total select".to_owned(), 1.0),
            ("db_pool_wait_seconds_count default".to_owned(), 1.0),
        ])
    );
}

async fn a_query_that_outlives_its_request_is_attributed_at_its_end<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let before = app.scrape();
    assert_eq!(app.get("/late").await.status, 503);
    let queries = [
        "http_request_db_queries_count",
        "http_request_db_queries_sum",
        "db_queries_total",
    ];
    assert!(
        moved(&before, &app.scrape(), &queries).is_empty(),
        "the query is not done yet"
    );
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while moved(&before, &app.scrape(), &queries).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "never attributed");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        moved(&before, &app.scrape(), &queries),
        BTreeMap::from([
            ("http_request_db_queries_count /late GET".to_owned(), 1.0),
            ("http_request_db_queries_sum /late GET".to_owned(), 1.0),
            ("db_queries_total select".to_owned(), 1.0),
        ])
    );
    assert_eq!(
        app.statements("").await[0]["endpoints"],
        serde_json::json!(["GET /late"])
    );
}

async fn a_wait_for_the_pool_is_in_server_timing<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.server_timing(true)).await else {
        return;
    };
    let before = app.scrape();
    let held = app.pool.get().unwrap();
    let release = async {
        while app.scrape().get("db_pool_waiters", &[("pool", "default")]) != Some(1.0) {
            actix_web::rt::time::sleep(Duration::from_millis(1)).await;
        }
        actix_web::rt::time::sleep(Duration::from_millis(60)).await;
        drop(held);
    };
    let (answer, ()) = futures_util::future::join(app.get("/one"), release).await;
    let timing = answer
        .headers
        .get("server-timing")
        .unwrap()
        .to_str()
        .unwrap();
    let parts: Vec<&str> = timing.split(", ").collect();
    let duration = |part: &str, name: &str| -> f64 {
        let rest = part
            .strip_prefix(name)
            .unwrap()
            .strip_prefix(";dur=")
            .unwrap();
        rest.split(';').next().unwrap().parse().unwrap()
    };
    let (database, pool, app_time) = (
        duration(parts[0], "db"),
        duration(parts[1], "pool"),
        duration(parts[2], "app"),
    );
    assert!(parts[0].ends_with(";desc=\"1 query\""), "{timing}");
    assert!(database > 0.0 && pool >= 60.0, "{timing}");
    assert!(app_time >= database + pool, "{timing}");
    let after = app.scrape();
    // The test itself took a connection first.
    assert_eq!(
        moved(
            &before,
            &after,
            &["db_pool_wait_seconds_count", "http_request_db_queries_sum"]
        ),
        BTreeMap::from([
            ("db_pool_wait_seconds_count default".to_owned(), 2.0),
            ("http_request_db_queries_sum /one GET".to_owned(), 1.0),
        ])
    );
    // The wait is not time in the database: both report the same time.
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    let agrees = |seconds: &f64| (seconds * 1000.0 - database).abs() < 1.0;
    assert!(seconds.values().all(agrees), "{seconds:?}, {timing}");
}

async fn no_response_has_server_timing_by_default<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    assert!(!app.get("/one").await.headers.contains_key("server-timing"));
}

async fn the_threshold_of_n_plus_one_can_be_set_and_turned_off<C: Backed>() {
    let suspected = ["http_n_plus_one_suspected_total"];
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.n_plus_one(9)).await else {
        return;
    };
    let before = app.scrape();
    app.get("/few").await;
    assert_eq!(moved(&before, &app.scrape(), &suspected).len(), 1);
    let Some((app, _database)) = app_on::<C>(1, |builder| builder.n_plus_one(0)).await else {
        return;
    };
    let before = app.scrape();
    app.get("/loop").await;
    assert!(moved(&before, &app.scrape(), &suspected).is_empty());
}

async fn a_loop_after_many_other_statements_is_detected<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    for (path, others) in [
        ("/after_31", 31.0),
        ("/after_32", 32.0),
        ("/after_700", 700.0),
    ] {
        let selects = others + 12.0;
        let suspected = format!("http_n_plus_one_suspected_total {path} GET");
        let queries = [("select", selects)];
        moves_exactly(&app, path, &queries, &[(suspected.as_str(), 1.0)]).await;
    }
}

async fn a_suspected_loop_is_logged_once_by_its_endpoint_and_its_shape<C: Backed>() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber(tracing::Level::TRACE));
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    for _ in 0..3 {
        app.get("/loop").await;
    }
    lines::logged(&log, "N+1").await;
    let text = log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("N+1")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(
        lines[0].contains("endpoint=\"/loop\"") || lines[0].contains("endpoint=/loop"),
        "{text}"
    );
    assert!(
        lines[0].contains("WHERE") && lines[0].contains("= ?"),
        "{text}"
    );
}

async fn statements_are_reported_by_their_shape_with_their_endpoints<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    let reset = app
        .send(TestRequest::post().uri("/ops/statements/reset"))
        .await;
    assert_eq!(reset.status, 204);
    assert_eq!(app.statements("").await, Vec::<serde_json::Value>::new());
    app.get("/one").await;
    app.get("/three").await;
    app.get("/loop").await;
    app.get("/unique").await;
    let statements = app.statements("sort=calls").await;
    let calls: Vec<(u64, u64, &str)> = statements
        .iter()
        .map(|statement| {
            (
                statement["calls"].as_u64().unwrap(),
                statement["errors"].as_u64().unwrap(),
                statement["operation"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(calls[..2], [(51, 0, "select"), (2, 0, "select")]);
    assert_eq!(statements.len(), 4);
    assert_eq!(
        statements[0]["endpoints"],
        serde_json::json!(["GET /three", "GET /loop"])
    );
    assert_eq!(
        statements[1]["endpoints"],
        serde_json::json!(["GET /one", "GET /three"])
    );
    let failed = &app.statements("sort=errors&limit=1").await;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["errors"], &failed[0]["calls"]),
        (&1.into(), &1.into())
    );
    let (total, mean) = (
        &statements[0]["total_seconds"],
        &statements[0]["mean_seconds"],
    );
    let (total, mean) = (total.as_f64().unwrap(), mean.as_f64().unwrap());
    assert!(total > 0.0 && (mean * 51.0 / total - 1.0).abs() < 1e-9);
    assert!(statements[0]["p95_seconds"].as_f64().unwrap() > 0.0);
    assert!(statements[0]["rows"].is_null());
    assert!(statements[0]["first_seen"].as_str() <= statements[0]["last_seen"].as_str());
}

async fn the_rows_of_statements_add_up_to_all_queries<C: Backed>() {
    for capacity in [1, 3, 100_000] {
        let settings: fn(Builder) -> Builder = match capacity {
            1 => |builder| builder.statements(1),
            3 => |builder| builder.statements(3),
            _ => |builder| builder.statements(100_000),
        };
        let Some((app, _database)) = app_on::<C>(2, settings).await else {
            return;
        };
        for path in [
            "/after_31",
            "/three",
            "/unique",
            "/nested",
            "/after_32",
            "/one",
        ] {
            app.get(path).await;
        }
        let rows = app.statements("limit=1000").await;
        let calls = rows.iter().map(|row| row["calls"].as_u64().unwrap());
        let scrape = app.scrape();
        let sum = |name: &str| -> f64 {
            let series = scrape.series(name).into_iter();
            series.map(|(_, value)| value).sum()
        };
        assert_eq!(calls.sum::<u64>() as f64, sum("db_queries_total"));
        let errors = rows.iter().map(|row| row["errors"].as_u64().unwrap());
        assert_eq!(errors.sum::<u64>() as f64, sum("db_query_errors_total"));
        let is_other = |row: &serde_json::Value| row["statement"] == "(other)";
        let others = rows.iter().filter(|row| is_other(row)).count();
        assert_eq!(others, usize::from(capacity < 100));
        assert_eq!(sum("db_statements"), (rows.len() - others) as f64);
        assert!(capacity > 100 || rows.len() - others == capacity);
    }
}

async fn wrong_parameters_and_methods_are_rejected<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    let refused = app.get("/ops/statements?sort=name&limit=0").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("\"sort\"") && refused.body.contains("\"limit\""),
        "{}",
        refused.body
    );
    assert_eq!(app.get("/ops/statements/reset").await.status, 405);
    let post = app.send(TestRequest::post().uri("/ops/statements")).await;
    assert_eq!(post.status, 405);
}

async fn ten_thousand_values_are_one_shape<C: Backed>() {
    let Some((app, _database)) = app_on::<C>(1, defaults).await else {
        return;
    };
    app.vitals.statements().reset();
    let mut connection = app.pool.get().unwrap();
    for number in 0..10_000 {
        let sql = format!("SELECT id FROM items WHERE id = {number} OR name = 'n{number}'");
        connection.raw(&sql).unwrap();
    }
    drop(connection);
    let statements = app.statements("").await;
    assert_eq!(statements.len(), 1);
    assert_eq!(statements[0]["calls"], 10_000);
    assert_eq!(
        statements[0]["statement"],
        "SELECT id FROM items WHERE id = ? OR name = ?"
    );
}

/// A secret. No other text contains it.
const SECRET: &str = "xyzzy4711plugh";

async fn no_secret_is_shown<C: Backed>() {
    let log = LOG.clone();
    let Some((app, _database)) =
        app_on::<C>(2, |builder| builder.server_timing(true).n_plus_one(1)).await
    else {
        return;
    };
    let mut shown = Vec::new();
    for _ in 0..2 {
        let answer = app.get(&format!("/secret/{SECRET}")).await;
        assert_eq!(answer.status, 409);
        shown.push(answer.body);
        shown.push(format!("{:?}", answer.headers));
    }
    // A database that cannot be opened, with a password in its address.
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(200));
    let unreachable = app
        .vitals
        .instrument(builder)
        .build_unchecked(ConnectionManager::<C>::new(C::nowhere()));
    let error = unreachable.run(app::Engine::count).await.unwrap_err();
    shown.push(format!("{error} {error:?} {unreachable:?}"));

    let statements = app.get("/ops/statements?limit=1000").await.body;
    assert!(
        statements.contains("SELECT id FROM items WHERE name = ?"),
        "{statements}"
    );
    shown.push(statements);
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let exposition = app.vitals.registry().encode(format);
        shown.push(String::from_utf8_lossy(&exposition).into_owned());
    }
    let log = log.text();
    assert!(log.contains("N+1"), "the log is captured: {log}");
    shown.push(log);
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}
