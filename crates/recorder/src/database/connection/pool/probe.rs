//! Whether the database of a pool answers, asked for `/readyz`. A probe never waits for a connection, and it is in none of
//! the pool's families. Diesel's ping is no query; a health check of the service runs queries like any other.
//!
//! A probe asks on an idle connection where one can be taken at once. Where all are busy, the pool is ready if the database
//! has answered one of them lately. Otherwise a connection that is opened on the side, and closed again, decides: so a busy
//! pool is ready and one whose database is gone is not, however long either lasts. A database that refuses the connection
//! for having as many as it may has answered: the pool may well be what took them all.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use diesel::QueryResult;
use diesel::r2d2::{self, R2D2Connection};
use tokio::sync::Mutex;

use super::super::manager::{Connector, Manager, mute};
use crate::context;
use crate::database::driver_message::{is_connection_limit, without_quotations};
use crate::database::health::DatabaseHealth;

/// For so long after an answer of the database a busy pool is ready without being asked.
const LATELY: Duration = Duration::from_millis(500);

/// The check that a probe runs on an idle connection in place of Diesel's ping.
pub(super) type HealthCheck<C> = Box<dyn Fn(&mut C) -> QueryResult<()> + Send + Sync>;

thread_local! {
    static PROBING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a probe's: no caller held the connection that it gives back.
pub(super) fn is_probing() -> bool {
    PROBING.get()
}

/// Asks the database of one pool.
pub(super) struct PoolProbe<C> {
    connector: Arc<Connector<C>>,
    health_check: Option<HealthCheck<C>>,
    /// Held by the probe that runs. A database that does not answer keeps at most one connection of the pool, and one
    /// thread, however often it is asked.
    turn: Arc<Mutex<()>>,
    /// Connections of the pool that a probe has.
    taken: AtomicU32,
    /// Whether the last probe failed, which the log has.
    failing: AtomicBool,
}

impl<C: R2D2Connection + Send + 'static> PoolProbe<C> {
    pub(super) fn new(connector: Arc<Connector<C>>, health_check: Option<HealthCheck<C>>) -> Self {
        Self {
            connector,
            health_check,
            turn: Arc::default(),
            taken: AtomicU32::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// Waits until no other probe runs. The next probe runs when the returned guard is dropped.
    pub(super) async fn turn(&self) -> impl Send + use<C> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Connections of the pool that a probe has.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Asks the database. Blocks.
    pub(super) fn ask(&self, pool: &r2d2::Pool<Manager<C>>, health: &DatabaseHealth) -> bool {
        let answer = {
            let _taking = ProbeCheckout::begin(&self.taken);
            // Dropped before the guard.
            pool.try_get().map(|mut connection| {
                if let Some(check) = &self.health_check {
                    // A listener for operators need not record its requests.
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
            None if pool.state().connections > 0 && health.answered_within(LATELY) => Ok(()),
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
            self.log(answer.as_ref().err());
        }
        answer.is_ok()
    }

    /// Logs that probes fail, once, and that they succeed again.
    fn log(&self, error: Option<&String>) {
        let was_failing = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_failing => {
                let error = without_quotations(error);
                tracing::warn!(error, "the database fails a health check");
            }
            None if was_failing => tracing::info!("the database passes its health check again"),
            _ => {}
        }
    }
}

/// A probe that may have a connection of the pool.
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
