//! How an asynchronous pool opens connections and checks them.
//!
//! Contains the [`AsyncManager`], which wraps the manager of a pool, and sets the recorder of each new connection. Each
//! kind of pool has a trait for managers, which is implemented in its own file.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Instant;

use diesel::connection::get_default_instrumentation;
use diesel_async::AsyncConnection;

use super::super::backend::backend_of_async;
use super::super::error::kind_of_message;
use super::recorder::{InUse, Muted, SharedRecorder};
use super::{Driver, Forward, Recorders, runs_elsewhere};
use crate::clock;
use crate::database::error::ErrorKind;
use crate::database::health::DatabaseHealth;
use crate::database::metrics::{PoolMetrics, PoolWriters};

/// Wraps the manager `M` of an asynchronous pool, and counts and times the connections that it opens.
///
/// The query with which a pool checks a connection is not recorded. A connection that a dropped query left out of step is
/// replaced, which the checks of diesel-async do not do.
pub struct AsyncManager<M> {
    pub(super) inner: Arc<M>,
    pub(super) openings: Arc<Openings>,
}

/// What a pool needs to record the opening and the checks of its connections.
pub(super) struct Openings {
    pub(super) recorders: Recorders,
    pub(super) pool_metrics: Arc<PoolMetrics>,
    pub(super) driver: Driver,
    pub(super) health: Arc<DatabaseHealth>,
}

impl Openings {
    /// Records the opening of a connection by `open`, and sets its recorder.
    pub(super) async fn open<C, E>(&self, open: impl Future<Output = Result<C, E>>) -> Result<C, E>
    where
        C: AsyncConnection,
        E: Display,
    {
        let (started, since) = (Instant::now(), clock::now());
        match open.await {
            Ok(mut connection) => {
                self.pool_metrics.opened(started.elapsed());
                self.health.recovered();
                let recorder = self.recorders.recorder(self.driver);
                let forward = Forward::to(get_default_instrumentation());
                let slot = self.pool_metrics.holders.new_slot();
                let writers = PoolWriters::new(&self.pool_metrics);
                let recorder = recorder.in_pool(Arc::clone(&slot), writers);
                connection.set_instrumentation(SharedRecorder::new(recorder, forward));
                if self.recorders.are_of_postgres() {
                    let muted = muted(&mut connection);
                    slot.opened(backend_of_async(&mut connection).await, since);
                    Muted::end(muted);
                }
                Ok(connection)
            }
            Err(error) => {
                self.pool_metrics.open_failed();
                self.health.failed(&error.to_string());
                Err(error)
            }
        }
    }

    /// Notes the result of a check of a connection. Its error is known by its text, as drivers have no common type.
    pub(super) fn checked<E: Display>(&self, result: Result<(), &E>) {
        match result {
            Ok(()) => self.health.recovered(),
            Err(error) => {
                let message = error.to_string();
                match kind_of_message(&message) {
                    ErrorKind::ConnectionLost => self.health.lost(&message),
                    _ => self.health.ping_rejected(&message),
                }
            }
        }
    }
}

/// Whether a dropped query of the connection still runs, or its answer is still to come, so that the connection must not be
/// used again.
pub(super) fn is_out_of_step<C: AsyncConnection>(connection: &mut C) -> bool {
    match SharedRecorder::find(connection) {
        Ok(recorder) => recorder.is_some_and(|recorder| recorder.is_out_of_step()),
        Err(InUse) => true,
    }
}

/// Stops the recorder of a connection from recording until the returned guard is dropped: see [`Muted::end`].
pub(super) fn muted<C: AsyncConnection>(connection: &mut C) -> Option<Muted> {
    SharedRecorder::of(connection).map(|recorder| recorder.muted(runs_elsewhere::<C>()))
}

impl<M> Clone for AsyncManager<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            openings: Arc::clone(&self.openings),
        }
    }
}

impl<M> fmt::Debug for AsyncManager<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncManager").finish_non_exhaustive()
    }
}
