//! Whether the database of a pool answers, for `/readyz`.
//!
//! A probe never waits for a connection, and the families of the pool do not count it. Diesel's ping is not a query; the
//! queries of a health check of the service are counted like any other.
//!
//! A probe uses an idle connection if it can have one at once. If all are busy, the pool is ready if the database has
//! answered one of them recently. Otherwise the probe opens a connection outside of the pool and closes it again. A server
//! that rejects it because of the number of connections has answered: the pool itself may hold them all.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diesel::QueryResult;
use diesel::r2d2::{self, R2D2Connection};
use tokio::sync::Mutex;

use super::super::checks::checking_all;
use super::super::manager::{Connector, Manager, mute};
use crate::context;
use crate::database::driver_message::is_connection_limit;
use crate::database::health::{DatabaseHealth, HealthCheckLog};

/// For this long after an answer of the database, a busy pool is ready without a question.
const RECENTLY: Duration = Duration::from_millis(500);

/// The check that a probe runs on an idle connection in place of Diesel's ping.
pub(super) type HealthCheck<C> = Box<dyn Fn(&mut C) -> QueryResult<()> + Send + Sync>;

thread_local! {
    static PROBING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a probe, which is not a hold of the connection.
pub(super) fn is_probing() -> bool {
    PROBING.get()
}

/// Asks the database of one pool.
pub(super) struct PoolProbe<C> {
    connector: Arc<Connector<C>>,
    health_check: Option<HealthCheck<C>>,
    /// Held by the probe that runs, so that a database that does not answer occupies at most one connection of the pool
    /// and one thread.
    turn: Arc<Mutex<()>>,
    /// How many connections of the pool probes hold.
    taken: AtomicU32,
    log: HealthCheckLog,
}

impl<C: R2D2Connection + Send + 'static> PoolProbe<C> {
    pub(super) fn new(connector: Arc<Connector<C>>, health_check: Option<HealthCheck<C>>) -> Self {
        Self {
            connector,
            health_check,
            turn: Arc::default(),
            taken: AtomicU32::new(0),
            log: HealthCheckLog::default(),
        }
    }

    /// Waits until no other probe runs. The next probe runs when the returned guard is dropped.
    pub(super) async fn turn(&self) -> impl Send + use<C> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// How many connections of the pool probes hold.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Asks the database. Blocks.
    pub(super) fn ask(&self, pool: &r2d2::Pool<Manager<C>>, health: &DatabaseHealth) -> bool {
        let answer = {
            let _taking = ProbeCheckout::begin(&self.taken);
            // Dropped before the guard.
            checking_all(|| pool.try_get()).map(|mut connection| {
                if let Some(check) = &self.health_check {
                    // The listener of the ops endpoints may not record its requests.
                    return context::on_purpose(|| check(&mut connection));
                }
                mute(&mut *connection, true);
                let answer = connection.ping();
                mute(&mut *connection, false);
                answer
            })
        };
        let answer = match answer {
            Some(answer) => answer.map_err(|error| error.to_string()),
            None if pool.state().connections > 0 && health.answered_within(RECENTLY) => Ok(()),
            None => match self.connector.open() {
                Ok(mut connection) => connection.ping().map_err(|error| error.to_string()),
                Err(error) => {
                    let error = error.to_string();
                    if pool.state().connections > 0 && is_connection_limit(&error) {
                        Ok(())
                    } else {
                        Err(error)
                    }
                }
            },
        };
        // The failure was logged already if no caller gets an answer either.
        if answer.is_ok() || !health.is_silent() {
            let error = answer.as_ref().err().map(String::as_str);
            self.log.note(health.pool(), error);
        }
        answer.is_ok()
    }
}

/// Marks this thread as a probe that may hold a connection of the pool.
struct ProbeCheckout<'a>(&'a AtomicU32);

impl<'a> ProbeCheckout<'a> {
    fn begin(taken: &'a AtomicU32) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        PROBING.set(true);
        Self(taken)
    }
}

impl Drop for ProbeCheckout<'_> {
    fn drop(&mut self) {
        PROBING.set(false);
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
