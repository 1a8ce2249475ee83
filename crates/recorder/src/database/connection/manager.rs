//! How a pool of r2d2 opens connections and checks them.
//!
//! Contains the [`Manager`], which wraps Diesel's and sets the recorder of each new connection. Not here: how many
//! connections there are, and the callers that wait for one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use diesel::r2d2::{ConnectionManager, Error, HandleError, ManageConnection, R2D2Connection};
use diesel::{ConnectionError, ConnectionResult};

use super::backend::backend_of;
use super::checks::Checks;
use super::instrumentation::install;
use super::pool::take_hold_time;
use super::recorder::{Driver, QueryRecorder};
use super::recorders::Recorders;
use crate::clock;
use crate::database::error::ErrorKind;
use crate::database::health::DatabaseHealth;
use crate::database::metrics::{PoolMetrics, PoolWriters};
use crate::database::wait;

/// A function that opens a connection in place of `C::establish`.
pub(super) type Opener<C> = Box<dyn Fn() -> ConnectionResult<C> + Send + Sync>;

/// Opens connections, with the opener if there is one, and with Diesel's manager otherwise.
pub(super) struct Connector<C> {
    inner: ConnectionManager<C>,
    opener: Option<Opener<C>>,
}

impl<C: R2D2Connection + Send + 'static> Connector<C> {
    pub(super) fn new(inner: ConnectionManager<C>, opener: Option<Opener<C>>) -> Self {
        Self { inner, opener }
    }

    /// Opens a connection. A panic becomes an error, because r2d2 would wait for that connection forever.
    pub(super) fn open(&self) -> Result<C, Error> {
        catch_unwind(AssertUnwindSafe(|| match &self.opener {
            Some(open) => open().map_err(Error::ConnectionError),
            None => self.inner.connect(),
        }))
        .unwrap_or_else(|_| {
            let panicked = "the function that opens a connection panicked".to_owned();
            Err(Error::ConnectionError(ConnectionError::BadConnection(
                panicked,
            )))
        })
    }
}

/// Wraps Diesel's connection manager, and counts and times the connections that it opens.
///
/// r2d2 checks connections at each checkout by a ping, which is left out while the server's last answer on the connection is
/// recent: see [`PoolBuilder::check_after`](crate::database::PoolBuilder::check_after). The ping is not a query and is not
/// recorded, whether it succeeds or fails. A connection that a statement found lost is closed when it is returned.
pub struct Manager<C> {
    connector: Arc<Connector<C>>,
    recorders: Recorders,
    pool_metrics: Arc<PoolMetrics>,
    health: Arc<DatabaseHealth>,
    checks: Checks,
}

impl<C> Manager<C> {
    /// A manager of the connections that `connector` opens.
    pub(super) fn new(
        connector: Arc<Connector<C>>,
        recorders: Recorders,
        pool_metrics: Arc<PoolMetrics>,
        health: Arc<DatabaseHealth>,
        checks: Checks,
    ) -> Self {
        Self {
            connector,
            recorders,
            pool_metrics,
            health,
            checks,
        }
    }
}

impl<C> fmt::Debug for Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("inner", &self.connector.inner)
            .finish_non_exhaustive()
    }
}

impl<C> ManageConnection for Manager<C>
where
    C: R2D2Connection + Send + 'static,
{
    type Connection = C;
    type Error = Error;

    fn connect(&self) -> Result<C, Error> {
        let (started, since) = (Instant::now(), clock::now());
        match self.connector.open() {
            Ok(mut connection) => {
                self.pool_metrics.opened(started.elapsed());
                self.health.recovered();
                let recorder = self.recorders.recorder(Driver::Blocking);
                let slot = self.pool_metrics.holders.new_slot();
                let writers = PoolWriters::new(&self.pool_metrics);
                install(
                    &mut connection,
                    recorder.in_pool(Arc::clone(&slot), writers),
                );
                if self.recorders.are_of_postgres() {
                    mute(&mut connection, true);
                    slot.opened(backend_of(&mut connection), since);
                    mute(&mut connection, false);
                }
                Ok(connection)
            }
            Err(error) => {
                self.pool_metrics.open_failed();
                Err(error)
            }
        }
    }

    fn is_valid(&self, connection: &mut C) -> Result<(), Error> {
        if let Some(recorder) = QueryRecorder::of(connection)
            && !self.checks.is_due(recorder.answered_at(), clock::now())
        {
            return Ok(());
        }
        let alive = wait::checking(&self.pool_metrics, || {
            mute(connection, true);
            let alive = self.connector.inner.is_valid(connection);
            mute(connection, false);
            alive
        });
        if alive.is_ok() {
            self.health.recovered();
            if let Some(recorder) = QueryRecorder::of(connection) {
                recorder.passed_check();
            }
        }
        alive
    }

    fn has_broken(&self, connection: &mut C) -> bool {
        let mut is_lost = false;
        let held = take_hold_time();
        let mut is_observed = false;
        if let Some(recorder) = QueryRecorder::of(connection) {
            is_lost = recorder.is_lost();
            if is_lost {
                self.checks.note_lost(clock::now());
            } else if recorder.was_answered() {
                self.health.recovered();
            }
            is_observed = recorder.check_in(held);
        }
        if let (false, Some(held)) = (is_observed, held) {
            self.pool_metrics.held(held);
        }
        is_lost || self.connector.inner.has_broken(connection)
    }
}

/// Stops the recorder of a connection from recording, or lets it record again.
pub(super) fn mute<C: R2D2Connection>(connection: &mut C, muted: bool) {
    if let Some(recorder) = QueryRecorder::of(connection) {
        recorder.mute(muted);
    }
}

/// Logs an outage of the database once, however often the pool retries. The counters have the rest.
///
/// A connection that fails its check is no outage: see [`DatabaseHealth::lost`] and [`DatabaseHealth::ping_rejected`].
#[derive(Debug)]
pub(super) struct OutageLog {
    /// Shared with the manager.
    pub(super) health: Arc<DatabaseHealth>,
}

impl HandleError<Error> for OutageLog {
    fn handle_error(&self, error: Error) {
        let message = error.to_string();
        match &error {
            Error::QueryError(refused) if ErrorKind::of(refused) == Some(ErrorKind::Other) => {
                self.health.ping_rejected(&message);
            }
            Error::QueryError(_) => self.health.lost(&message),
            Error::ConnectionError(_) => self.health.failed(&message),
        }
    }
}
