//! Pools without a free connection, for one of four reasons, and what the log and `GET /ops/pool` say about them.
//!
//! A real server has a pool of two connections. Two requests occupy them, a third one waits. [`assert_explained`] checks that
//! the log and the endpoint name those that hold the connections. The pool is a parameter.

use std::any::Any;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use actix_vitals::Vitals;
use actix_vitals::ops::OpsSettings;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection, SqliteConnection};
use futures_util::StreamExt as _;
use serde_json::Value;
use tracing::Level;

use super::log::Log;
use super::pooled_service::{PooledService, SECRET, finish};

/// How long to wait for a condition.
const BOUND: Duration = Duration::from_secs(120);

/// The connections of the pool.
pub(crate) const SIZE: u32 = 2;

/// The least time that callers wait for a connection. The log names the holders before they give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// How long a connection may be held.
const LEAK_THRESHOLD: Duration = Duration::from_millis(300);

static LOG: LazyLock<Log> = LazyLock::new(|| Log::of_process(Level::WARN));

/// A statement that takes some seconds, more than [`PATIENCE`].
pub(crate) fn slow_query(url: &str) -> &'static str {
    if url.starts_with("postgres:") {
        "SELECT pg_sleep(8), 'hunter2'"
    } else {
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 8000000) \
         SELECT max(x) FROM c WHERE 'hunter2' <> 'a'"
    }
}

/// Lets a connection wait for a lock.
pub(crate) fn wait_for_locks(url: &str) -> &'static str {
    if url.starts_with("postgres:") {
        "SET lock_timeout = '30s'"
    } else {
        "PRAGMA busy_timeout = 30000"
    }
}

/// A statement that waits while another connection has the lock.
pub(crate) const UPDATE: &str = "UPDATE items SET name = 'hunter2' WHERE id = 1";

/// A pool that requests can occupy.
pub(crate) trait Occupied: Clone + Send + 'static {
    /// Opens a pool of two connections, whose callers wait for [`PATIENCE`] or longer. It has this name.
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self;

    /// Takes a connection, and never returns it.
    async fn leak(&self);

    /// Runs a statement, and ignores errors.
    async fn run(&self, sql: &'static str);

    /// Runs a statement that waits for a lock.
    async fn run_locked(&self, before: &'static str, sql: &'static str);

    /// Awaits the client in a transaction.
    async fn transact(&self, client: impl Future<Output = ()>);
}

/// Why there is no free connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Leak,
    SlowQuery,
    Lock,
    SlowClient,
}

impl Reason {
    fn path(self) -> &'static str {
        match self {
            Self::Leak => "/leak",
            Self::SlowQuery => "/slow",
            Self::Lock => "/locked",
            Self::SlowClient => "/upload",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Leak => "held_without_a_query",
            Self::SlowQuery | Self::Lock => "query",
            Self::SlowClient => "idle_in_transaction",
        }
    }

    fn in_the_log(self) -> &'static str {
        match self {
            Self::Leak => ", without a query)",
            Self::SlowQuery | Self::Lock => ", in a query)",
            Self::SlowClient => ", idle in transaction)",
        }
    }
}

/// Starts a service over a pool.
fn start<P: Occupied>(name: &'static str, url: &str) -> PooledService {
    let url = url.to_owned();
    PooledService::start(BOUND, async move || {
        let vitals = Vitals::builder()
            .ops(OpsSettings::everything())
            .leak_threshold(LEAK_THRESHOLD)
            .build()
            .unwrap();
        let pool = P::open(&vitals, name, &url).await;
        let routes = move |routes: &mut ServiceConfig| {
            routes
                .app_data(web::Data::new(pool.clone()))
                .app_data(web::Data::new(url.clone()))
                .route("/leak/{secret}", web::post().to(leak::<P>))
                .route("/slow/{secret}", web::post().to(slow::<P>))
                .route("/locked/{secret}", web::post().to(locked::<P>))
                .route("/upload/{secret}", web::post().to(upload::<P>))
                .route("/waits/{secret}", web::post().to(waits::<P>));
        };
        (vitals, routes)
    })
}

async fn leak<P: Occupied>(pool: web::Data<P>) -> HttpResponse {
    pool.leak().await;
    HttpResponse::Ok().finish()
}

async fn slow<P: Occupied>(pool: web::Data<P>, url: web::Data<String>) -> HttpResponse {
    pool.run(slow_query(&url)).await;
    HttpResponse::Ok().finish()
}

async fn locked<P: Occupied>(pool: web::Data<P>, url: web::Data<String>) -> HttpResponse {
    pool.run_locked(wait_for_locks(&url), UPDATE).await;
    HttpResponse::Ok().finish()
}

async fn upload<P: Occupied>(pool: web::Data<P>, mut body: web::Payload) -> HttpResponse {
    pool.transact(async move { while body.next().await.is_some() {} })
        .await;
    HttpResponse::Ok().finish()
}

async fn waits<P: Occupied>(pool: web::Data<P>) -> HttpResponse {
    pool.run("SELECT count(*) FROM items").await;
    HttpResponse::Ok().finish()
}

/// Takes the lock for as long as the returned connection exists.
fn lock(url: &str) -> Box<dyn Any> {
    if url.starts_with("postgres:") {
        let mut connection = PgConnection::establish(url).unwrap();
        let sql = "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE";
        connection.batch_execute(sql).unwrap();
        return Box::new(connection);
    }
    let mut connection = SqliteConnection::establish(url).unwrap();
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    Box::new(connection)
}

/// The line of the log about this pool that contains a text, as soon as there is one.
fn line_about(pool: &str, text: &str) -> String {
    let deadline = Instant::now() + BOUND;
    let of_pool = format!("pool=\"{pool}\"");
    loop {
        let mut lines = LOG.lines().into_iter();
        let found = lines.find(|line| line.contains(&of_pool) && line.contains(text));
        if let Some(line) = found {
            return line;
        }
        assert!(Instant::now() < deadline, "no {text}: {}", LOG.text());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The value of a field in a line of the log.
fn field(line: &str, name: &str) -> f64 {
    let (_, rest) = line.split_once(&format!("{name}=")).expect(line);
    let value = rest.split(' ').next().unwrap_or_default();
    value.parse().expect(line)
}

/// Occupies all connections of a new pool of this name, and checks what is said about it. The file is the one with the calls
/// that take a connection.
pub(crate) fn assert_explained<P: Occupied>(
    name: &'static str,
    url: &str,
    reason: Reason,
    file: &str,
) {
    LazyLock::force(&LOG);
    let service = start::<P>(name, url);
    let locked = (reason == Reason::Lock).then(|| lock(url));
    let holders: Vec<_> = (0..SIZE)
        .map(|_| service.begin(reason.path(), ""))
        .collect();
    let endpoint = format!("{}/{{secret}}", reason.path());
    let is_held = |connection: &Value| {
        connection["endpoint"] == endpoint
            && connection["method"] == "POST"
            && connection["doing"] == reason.doing()
    };
    service.wait_for("occupied", |pool| {
        let connections = pool["connections"].as_array().unwrap();
        connections.len() == SIZE as usize && connections.iter().all(is_held)
    });
    let begun = Instant::now();
    let waiter = service.begin("/waits", "");
    // A caller is listed only while it waits, so this is within its patience.
    let pool = service.wait_for("awaited", |pool| pool["waiters"][0].is_object());
    assert_eq!(pool["waiters"][0]["endpoint"], "/waits/{secret}");
    assert_eq!(pool["waiting"], 1);
    for connection in pool["connections"].as_array().unwrap() {
        assert!(is_held(connection), "{pool}");
        let taken_at = connection["taken_at"].as_str().unwrap();
        assert!(taken_at.contains(file), "{taken_at}");
        let statement = connection["statement"].as_str();
        assert_eq!(statement.is_some(), reason.doing() == "query", "{pool}");
    }
    let line = line_about(name, "callers wait for a connection");
    let summary = format!("2 of 2 connections: 2 x POST {endpoint} (oldest ");
    assert!(line.contains(&summary), "{line}");
    assert!(line.contains(reason.in_the_log()), "{line}");
    // The database has been asked by then, unless the machine is slow.
    assert!(
        reason == Reason::Lock || !line.contains("wait for a lock"),
        "{line}"
    );
    // How late a busy machine lets the log be is not known, but the time is the right one, and the caller still waited.
    let longest = field(&line, "longest_wait_seconds");
    let most = begun.elapsed().min(PATIENCE).as_secs_f64();
    assert!((0.5..most).contains(&longest), "{most}: {line}");
    let leak = line_about(name, &format!("endpoint=\"{endpoint}\""));
    assert!(leak.contains("longer than the leak threshold"), "{leak}");
    assert!(leak.contains(file), "{leak}");
    let pool = service.pool();
    assert_eq!(pool["connections"][0]["is_leak"], true, "{pool}");

    drop(locked);
    for holder in holders {
        assert!(finish(holder).starts_with("HTTP/1.1 200"));
    }
    assert!(finish(waiter).starts_with("HTTP/1.1 200"));
    let of_pool = format!("pool=\"{name}\"");
    let lines: Vec<_> = LOG.lines();
    let count = |text: &str| {
        let lines = lines.iter();
        lines
            .filter(|line| line.contains(&of_pool) && line.contains(text))
            .count()
    };
    assert_eq!(count("callers wait for a connection"), 1, "{lines:#?}");
    assert!(count("leak threshold") >= SIZE as usize, "{lines:#?}");
    assert!(!lines.concat().contains(SECRET), "{lines:#?}");
    service.stop();
}
