//! Which request asked what of the database: known traffic moves every family by exactly the right amount, under the
//! right endpoint; statements are told by their shape; and no value is told anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test may panic; counts are whole numbers, which floats hold exactly"
)]

#[macro_use]
mod app;
#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_vitals::registry::Format;
use actix_vitals::vitals::Builder;
use actix_web::test::TestRequest;
use diesel::SqliteConnection;
use diesel::r2d2::{self, ConnectionManager};
use tempfile::TempDir;
use tracing_subscriber::fmt::MakeWriter;

use app::{Engine, TestApp, start};
use exposition::Exposition;

app::impl_engine!(SqliteConnection);

/// A database in a file of its own.
struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self) -> String {
        self.0.path().join("items.db").display().to_string()
    }
}

/// The application over SQLite, with a pool of so many connections.
async fn sqlite_app(
    size: u32,
    settings: fn(Builder) -> Builder,
) -> (TestApp<SqliteConnection>, Sqlite) {
    let database = Sqlite::new();
    (start(&database.url(), size, settings).await, database)
}

fn defaults(builder: Builder) -> Builder {
    builder
}

/// What the samples of these names have risen by, between two scrapes; those that have not are left out.
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

const COUNTS: [&str; 9] = [
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

/// A request moves the families of attribution by these, under its endpoint, and those of the database by those.
async fn moves_exactly<C: Engine>(
    app: &TestApp<C>,
    endpoint: &str,
    queries: f64,
    others: &[(&str, f64)],
) {
    let before = app.scrape();
    let status = app.get(endpoint).await.status;
    let mut expected: BTreeMap<String, f64> = others
        .iter()
        .map(|&(sample, rise)| (sample.to_owned(), rise))
        .collect();
    let route = format!("{endpoint} GET");
    expected.insert(format!("http_request_db_queries_count {route}"), 1.0);
    expected.insert(format!("http_request_db_seconds_count {route}"), 1.0);
    if queries > 0.0 {
        expected.insert(format!("http_request_db_queries_sum {route}"), queries);
        expected.insert("db_pool_wait_seconds_count ".to_owned(), 1.0);
    }
    let after = app.scrape();
    assert_eq!(
        moved(&before, &after, &COUNTS),
        expected,
        "{endpoint}: {status}"
    );
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    assert_eq!(seconds.len(), usize::from(queries > 0.0), "{endpoint}");
}

#[actix_web::test]
async fn known_traffic_moves_every_family_by_exactly_the_right_amount() {
    let (app, _database) = sqlite_app(2, defaults).await;
    for _ in 0..3 {
        moves_exactly(&app, "/none", 0.0, &[]).await;
        moves_exactly(&app, "/one", 1.0, &[("db_queries_total select", 1.0)]).await;
        let three = [
            ("db_queries_total select", 2.0),
            ("db_queries_total update", 1.0),
        ];
        moves_exactly(&app, "/three", 3.0, &three).await;
        moves_exactly(&app, "/few", 9.0, &[("db_queries_total select", 9.0)]).await;
        let in_a_loop = [
            ("db_queries_total select", 50.0),
            ("http_n_plus_one_suspected_total /loop GET", 1.0),
        ];
        moves_exactly(&app, "/loop", 50.0, &in_a_loop).await;
        let nested = [
            ("db_queries_total insert", 3.0),
            ("db_transactions_total rolled_back", 1.0),
            ("db_transaction_duration_seconds_count rolled_back", 1.0),
        ];
        moves_exactly(&app, "/nested", 3.0, &nested).await;
        let unique = [
            ("db_queries_total insert", 1.0),
            ("db_query_errors_total unique_violation insert", 1.0),
        ];
        moves_exactly(&app, "/unique", 1.0, &unique).await;
    }
}

#[actix_web::test]
async fn a_request_that_waits_for_the_pool_is_told_so() {
    let (app, _database) = sqlite_app(1, |builder| builder.server_timing(true)).await;
    let before = app.scrape();
    let held = app.pool.get().unwrap();
    let release = async {
        while app.scrape().get("db_pool_waiters", &[]) != Some(1.0) {
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
            ("db_pool_wait_seconds_count ".to_owned(), 2.0),
            ("http_request_db_queries_sum /one GET".to_owned(), 1.0),
        ])
    );
    // The wait is not time in the database.
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    assert!(
        seconds.values().all(|seconds| *seconds < 0.06),
        "{seconds:?}"
    );
}

#[actix_web::test]
async fn no_answer_bears_server_timing_unless_asked_for() {
    let (app, _database) = sqlite_app(1, defaults).await;
    assert!(!app.get("/one").await.headers.contains_key("server-timing"));
}

#[actix_web::test]
async fn the_threshold_of_suspicion_can_be_set_and_turned_off() {
    let suspected = ["http_n_plus_one_suspected_total"];
    let (app, _database) = sqlite_app(1, |builder| builder.n_plus_one(9)).await;
    let before = app.scrape();
    app.get("/few").await;
    assert_eq!(moved(&before, &app.scrape(), &suspected).len(), 1);
    let (app, _database) = sqlite_app(1, |builder| builder.n_plus_one(0)).await;
    let before = app.scrape();
    app.get("/loop").await;
    assert!(moved(&before, &app.scrape(), &suspected).is_empty());
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[actix_web::test]
async fn a_suspected_loop_is_logged_once_by_its_endpoint_and_its_shape() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let (app, _database) = sqlite_app(1, defaults).await;
    for _ in 0..3 {
        app.get("/loop").await;
    }
    let text = log.text();
    let told: Vec<&str> = text.lines().filter(|line| line.contains("N+1")).collect();
    assert_eq!(told.len(), 1, "{text}");
    assert!(
        told[0].contains("endpoint=\"/loop\"") || told[0].contains("endpoint=/loop"),
        "{text}"
    );
    assert!(
        told[0].contains("WHERE") && told[0].contains("= ?"),
        "{text}"
    );
}

#[actix_web::test]
async fn statements_are_told_by_their_shape_with_those_who_ran_them() {
    let (app, _database) = sqlite_app(1, defaults).await;
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

#[actix_web::test]
async fn wrong_parameters_and_methods_are_refused() {
    let (app, _database) = sqlite_app(1, defaults).await;
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

#[actix_web::test]
async fn ten_thousand_values_are_one_shape() {
    let (app, _database) = sqlite_app(1, defaults).await;
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

/// What is planted; nothing else looks like it.
const SECRET: &str = "xyzzy4711plugh";

#[actix_web::test]
async fn a_secret_is_told_nowhere() {
    let log = Log::default();
    // Also for the threads that work for the pool.
    tracing::subscriber::set_global_default(log.subscriber()).unwrap();
    let (app, _database) = sqlite_app(2, |builder| builder.server_timing(true).n_plus_one(1)).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let answer = app.get(&format!("/secret/{SECRET}")).await;
        assert_eq!(answer.status, 409);
        told.push(answer.body);
        told.push(format!("{:?}", answer.headers));
    }
    // A database that cannot be opened, with a password in its address.
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(200));
    let unreachable = app
        .vitals
        .instrument(builder)
        .build_unchecked(ConnectionManager::<SqliteConnection>::new(format!(
            "/nowhere/{SECRET}/items.db"
        )));
    let error = unreachable.run(app::Engine::count).await.unwrap_err();
    told.push(format!("{error} {error:?} {unreachable:?}"));

    let statements = app.get("/ops/statements?limit=1000").await.body;
    assert!(
        statements.contains("SELECT id FROM items WHERE name = ?"),
        "{statements}"
    );
    told.push(statements);
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let exposition = app.vitals.registry().encode(format);
        told.push(String::from_utf8_lossy(&exposition).into_owned());
    }
    let log = log.text();
    assert!(log.contains("N+1"), "the log is captured: {log}");
    // Not ours to hide: what the test's own path says.
    told.push(log);
    for text in told {
        assert!(!text.contains(SECRET), "{text}");
    }
}
