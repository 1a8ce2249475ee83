//! Requests that wait for locks of a database, and what `GET /ops/pool` says about them.
//!
//! A real server has a pool. Requests hold locks in transactions until their bodies end, others wait for these locks. The pool
//! is a parameter.

use std::net::TcpStream;
use std::time::Duration;

use actix_vitals::Vitals;
use actix_vitals::ops::OpsSettings;
use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::pooled_service::{PooledService, finish};

/// How long to wait for a condition.
const BOUND: Duration = Duration::from_secs(60);

/// The connections of the pool.
pub(crate) const SIZE: u32 = 6;

/// The trace of requests that hold a lock.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The table, in which each request locks one row or two.
pub(crate) const ITEMS: &str = "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(99));
    INSERT INTO items VALUES (1, 'one'), (2, 'two')";

const LOCK_FIRST: &str = "UPDATE items SET name = 'hunter2' WHERE id = 1";
const LOCK_SECOND: &str = "UPDATE items SET name = 'hunter2 again' WHERE id = 2";

/// A pool whose connections can hold locks.
pub(crate) trait Locking: Clone + Send + 'static {
    /// Opens a pool of six connections. It has this name.
    async fn open(vitals: &Vitals, name: &'static str, url: &str) -> Self;

    /// Runs statements on one connection in a transaction that is begun by hand, awaits the client, and commits.
    async fn transact(&self, sql: &'static [&'static str], client: impl Future<Output = ()>);
}

/// A running service.
#[derive(Debug)]
pub(crate) struct Service(PooledService);

impl Service {
    /// Starts a service over a pool.
    pub(crate) fn start<P: Locking>(name: &'static str, url: &str) -> Self {
        let url = url.to_owned();
        Self(PooledService::start(BOUND, async move || {
            let vitals = Vitals::builder()
                .ops(OpsSettings::everything())
                .build()
                .unwrap();
            let pool = P::open(&vitals, name, &url).await;
            let routes = move |routes: &mut ServiceConfig| {
                routes
                    .app_data(web::Data::new(pool.clone()))
                    .route("/holds/{secret}", web::post().to(holds::<P>))
                    .route("/middle/{secret}", web::post().to(middle::<P>))
                    .route("/waits/{secret}", web::post().to(waits::<P>))
                    .route("/waits_for_middle/{secret}", web::post().to(last::<P>));
            };
            (vitals, routes)
        }))
    }

    /// Begins a request with secrets, which ends with its last byte.
    pub(crate) fn begin(&self, path: &str) -> Request {
        let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
        Request(self.0.begin(path, &trace))
    }

    /// What `GET /ops/pool` says about the only pool.
    pub(crate) fn pool(&self) -> Value {
        self.0.pool()
    }

    /// Waits until the pool fulfils a condition.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.0.wait_for(what, condition)
    }

    /// Waits until a connection of this endpoint does that.
    pub(crate) fn wait_until(&self, endpoint: &str, doing: &str) {
        self.wait_for("it is so", |pool| {
            let connections = pool["connections"].as_array().unwrap();
            let mut connections = connections.iter();
            connections.any(|held| held["endpoint"] == endpoint && held["doing"] == doing)
        });
    }

    /// Waits until this many connections wait for a lock, and returns the waits.
    pub(crate) fn waits(&self, count: usize) -> Vec<Value> {
        let pool = self.wait_for("enough waits", |pool| {
            pool["locks"]["waits"].as_array().unwrap().len() == count
        });
        assert_eq!(pool["locks"]["unknown"], Value::Null, "{pool:#}");
        assert!(pool["locks"]["age_seconds"].is_number(), "{pool:#}");
        pool["locks"]["waits"].as_array().unwrap().clone()
    }

    pub(crate) fn stop(&self) {
        self.0.stop();
    }
}

/// A request that goes on until it is finished.
#[derive(Debug)]
pub(crate) struct Request(TcpStream);

impl Request {
    /// Sends the last byte, and awaits the answer.
    pub(crate) fn finish(self) {
        let answer = finish(self.0);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Locks the first row, until the body ends.
async fn holds<P: Locking>(pool: web::Data<P>, mut body: web::Payload) -> HttpResponse {
    let client = async move { while body.next().await.is_some() {} };
    pool.transact(&[LOCK_FIRST], client).await;
    HttpResponse::Ok().finish()
}

/// Locks the second row, then waits for the first.
async fn middle<P: Locking>(pool: web::Data<P>, _body: web::Payload) -> HttpResponse {
    pool.transact(&[LOCK_SECOND, LOCK_FIRST], async {}).await;
    HttpResponse::Ok().finish()
}

/// Waits for the first row.
async fn waits<P: Locking>(pool: web::Data<P>, _body: web::Payload) -> HttpResponse {
    pool.transact(&[LOCK_FIRST], async {}).await;
    HttpResponse::Ok().finish()
}

/// Waits for the second row.
async fn last<P: Locking>(pool: web::Data<P>, _body: web::Payload) -> HttpResponse {
    pool.transact(&[LOCK_SECOND], async {}).await;
    HttpResponse::Ok().finish()
}

/// Three requests wait for a request that is idle in its transaction.
pub(crate) fn assert_a_convoy_is_named<P: Locking>(name: &'static str, url: &str) {
    let service = Service::start::<P>(name, url);
    let holder = service.begin("/holds");
    service.wait_until("/holds/{secret}", "idle_in_transaction");
    // A pool that opens connections lets callers wait, and asks then, too.
    service.wait_for("calm", |pool| pool["locks"]["age_seconds"].is_null());
    let waiters: Vec<_> = (0..3).map(|_| service.begin("/waits")).collect();
    for wait in service.waits(3) {
        assert_eq!(
            (&wait["kind"], &wait["method"]),
            (&"request".into(), &"POST".into())
        );
        assert_eq!(wait["endpoint"], "/waits/{secret}");
        assert_eq!(wait["is_deadlock"], false);
        assert!(wait["waiting_seconds"].as_f64().unwrap() > 0.0, "{wait}");
        assert!(
            wait["statement"]
                .as_str()
                .unwrap()
                .starts_with("UPDATE items"),
            "{wait}"
        );
        let held_by = wait["held_by"].as_array().unwrap();
        let cause = held_by.last().unwrap();
        assert_eq!(cause["endpoint"], "/holds/{secret}", "{wait}");
        assert_eq!(cause["trace_id"], TRACE, "{wait}");
        assert_eq!(cause["doing"], "idle_in_transaction", "{wait}");
        let sentence = wait["sentence"].as_str().unwrap();
        assert!(
            sentence.starts_with("POST /waits/{secret} waits for a lock held by POST /"),
            "{sentence}"
        );
        let end = format!("POST /holds/{{secret}} (trace {TRACE}), idle in transaction for ");
        assert!(sentence.contains(&end), "{sentence}");
    }
    let pool = service.pool();
    let summary = pool["summary"].as_str().unwrap();
    let expected = "; 3 of them wait for a lock: 3 x because of POST /holds/{secret} (idle in transaction for ";
    assert!(summary.contains(expected), "{summary}");
    holder.finish();
    for waiter in waiters {
        waiter.finish();
    }
    let calm = service.wait_for("calm", |pool| pool["locks"]["age_seconds"].is_null());
    assert_eq!(calm["locks"]["waits"], Value::Array(Vec::new()));
    service.stop();
}

/// A request waits for one that waits for a third.
pub(crate) fn assert_a_chain_is_named<P: Locking>(name: &'static str, url: &str) {
    let service = Service::start::<P>(name, url);
    let holder = service.begin("/holds");
    service.wait_until("/holds/{secret}", "idle_in_transaction");
    let middle = service.begin("/middle");
    service.wait_until("/middle/{secret}", "query");
    // It has the second row, because it waits for the first.
    service.waits(1);
    let last = service.begin("/waits_for_middle");
    let waits = service.waits(2);
    let of = |endpoint: &str| {
        let wait = waits
            .iter()
            .find(|wait| wait["endpoint"] == endpoint)
            .unwrap();
        let held_by = wait["held_by"].as_array().unwrap().iter();
        held_by
            .map(|party| party["endpoint"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("/middle/{secret}"), ["/holds/{secret}"]);
    assert_eq!(
        of("/waits_for_middle/{secret}"),
        ["/middle/{secret}", "/holds/{secret}"]
    );
    for request in [holder, middle, last] {
        request.finish();
    }
    service.stop();
}
