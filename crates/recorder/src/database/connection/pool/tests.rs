//! Tests of the pool: what the themes share.
//!
//! - `opening`: how connections are opened, named and counted
//! - `levels`: levels, names and holds
//! - `holders`: who holds the connections, and for how long in all
//! - `waiting`: waits, timeouts and the queue
//! - `work`: the work of `Pool::run` and its errors
//! - `probe`: health checks
//! - `checks`: connections that are lost

mod checks;
mod holders;
mod levels;
mod opening;
mod probe;
mod waiting;
mod work;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager, CustomizeConnection};
use diesel::result::{DatabaseErrorKind, Error};
use tempfile::TempDir;

use super::super::Manager;
use super::super::fixture::{Fixture, create_table, insert, insert_returning, items};
use super::{CheckoutError, Pool, RunError};
use crate::context;
use crate::reading::samples;

type R2d2Builder = r2d2::Builder<Manager<SqliteConnection>>;

/// A pool on a database of its own, with the table.
struct Pooled {
    fixture: Fixture,
    pool: Pool<SqliteConnection>,
    _directory: TempDir,
}

fn pooled(settings: impl FnOnce(R2d2Builder) -> R2d2Builder) -> Pooled {
    pooled_with(Fixture::new(), 1024, settings)
}

fn pooled_with(
    fixture: Fixture,
    max_waiters: usize,
    settings: impl FnOnce(R2d2Builder) -> R2d2Builder,
) -> Pooled {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    let path = path.to_str().unwrap();
    create_table(&mut SqliteConnection::establish(path).unwrap());
    let pool = fixture
        .database
        .instrument(settings(r2d2::Pool::builder()))
        .max_waiters(max_waiters)
        .build(ConnectionManager::new(path))
        .unwrap();
    Pooled {
        fixture,
        pool,
        _directory: directory,
    }
}

fn of_size(size: u32) -> impl FnOnce(R2d2Builder) -> R2d2Builder {
    move |builder| {
        builder
            .max_size(size)
            .connection_timeout(Duration::from_secs(5))
    }
}

/// The pool opens its connections within that time, too.
fn impatient(size: u32) -> impl FnOnce(R2d2Builder) -> R2d2Builder {
    move |builder| {
        builder
            .max_size(size)
            .connection_timeout(Duration::from_millis(500))
    }
}

impl Pooled {
    fn waiters(&self) -> i64 {
        self.fixture
            .families
            .pool_waiters
            .series(["default"])
            .value()
    }

    fn waits(&self) -> u64 {
        self.fixture
            .families
            .pool_wait_seconds
            .series(["default"])
            .snapshot()
            .count
    }

    fn waited_seconds(&self) -> f64 {
        self.fixture
            .families
            .pool_wait_seconds
            .series(["default"])
            .snapshot()
            .sum
    }

    fn holds(&self) -> u64 {
        self.fixture
            .families
            .pool_hold_seconds
            .series(["default"])
            .snapshot()
            .count
    }

    /// Rejected callers: saturated, timeout, cancelled.
    fn rejected(&self) -> [u64; 3] {
        let family = &self.fixture.families.pool_rejected;
        ["saturated", "timeout", "cancelled"]
            .map(|reason| family.series(["default", reason]).value())
    }

    fn timeouts(&self) -> u64 {
        self.fixture
            .families
            .pool_timeouts
            .series(["default"])
            .value()
    }

    /// Checked out, idle, maximum.
    fn levels(&self) -> Option<[f64; 3]> {
        levels(&self.fixture)
    }
}

fn levels(fixture: &Fixture) -> Option<[f64; 3]> {
    levels_of(fixture, "default")
}

fn levels_of(fixture: &Fixture, pool: &str) -> Option<[f64; 3]> {
    let read = samples(fixture.database.levels());
    let level = |name: &str| read.get(&format!("{name}{{pool=\"{pool}\"}}")).copied();
    Some([
        level("db_pool_checked_out_connections")?,
        level("db_pool_idle_connections")?,
        level("db_pool_max_connections")?,
    ])
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Work = Box<dyn FnOnce(&mut SqliteConnection) -> QueryResult<u32> + Send>;

/// Work that signals when it has begun, and continues when it is signalled.
struct PausedWork {
    begun: tokio::sync::oneshot::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl PausedWork {
    fn new() -> (
        Self,
        impl FnOnce(&mut SqliteConnection) -> QueryResult<u32> + Send,
    ) {
        let (signal, begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = mpsc::channel();
        let work = move |_: &mut SqliteConnection| {
            signal.send(()).ok();
            wait.recv().ok();
            Ok(7)
        };
        (Self { begun, go_on }, work)
    }
}
