//! Connections of diesel-async, and pools of them: deadpool, bb8 and mobc.
//!
//! - `recorder`: the recorder of a connection, shared with the caller that has the connection
//! - `manager`: wraps the manager of a pool; opens and checks connections
//! - `pool`, `held`: a pool, and a connection that a caller has
//! - `explainable`: how a connection answers the questions of the explaining connection
//! - `deadpool`, `bb8`, `mobc`: what differs between the pools
//!
//! The events of a connection reach the recorder while the query's future is polled, so that they belong to the request
//! that awaits it. A `SyncConnectionWrapper` runs its queries on another thread; there they belong to the request that has
//! the connection.
//!
//! A pool of this module contains a pool of the crate that it is named after, and dereferences to it. Only `get` and its
//! variants are replaced: they observe the wait, and return a connection that observes its hold.

#![expect(
    type_alias_bounds,
    reason = "without a bound on the builder of a pool, rustdoc looks for the pool's trait without end"
)]

pub mod bb8;
pub mod deadpool;
mod explainable;
mod held;
mod manager;
pub mod mobc;
mod pool;
mod recorder;

use diesel::connection::{Instrumentation, get_default_instrumentation};
use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncConnectionCore};

use super::forward::Forward;
use super::recorder::Driver;
use super::recorders::Recorders;
use super::system::system_of;
use crate::database::Database;

pub use explainable::AsyncExplainable;
pub use held::Held;
pub use manager::AsyncManager;
pub use pool::{AsyncPool, AsyncPoolBuilder, NativePool};
use recorder::SharedRecorder;

impl Database {
    /// Returns a builder of instrumented pools for the connections of `manager`.
    pub fn instrument_async<M>(&self, manager: M) -> AsyncPoolBuilder<M> {
        AsyncPoolBuilder::new(self.clone(), manager)
    }

    /// Records a connection of diesel-async outside of any instrumented pool.
    pub fn instrument_async_connection<C: AsyncConnection>(&self, connection: &mut C) {
        connection.set_instrumentation(self.async_instrumentation::<C>());
    }

    /// Returns the instrumentation for one connection of diesel-async, of the type `C`.
    pub fn async_instrumentation<C: AsyncConnection>(&self) -> impl Instrumentation + use<C> {
        let system = system_of::<C::Backend>();
        let recorder = Recorders::of_no_pool(self, system).recorder(driver_of::<C>());
        SharedRecorder::new(recorder, Forward::to(get_default_instrumentation()))
    }
}

/// How the events of a connection of type `C` relate to its queries. Only PostgreSQL's connection pipelines.
fn driver_of<C: AsyncConnectionCore>() -> Driver {
    match system_of::<C::Backend>() {
        "mysql" | "sqlite" => Driver::Exclusive,
        _ => Driver::Pipelining,
    }
}

/// Whether a connection of type `C` runs its queries on another thread than that of its caller.
fn runs_elsewhere<C>() -> bool {
    std::any::type_name::<C>().starts_with("diesel_async::sync_connection_wrapper::")
}

/// Sets the instrumentation of a connection of diesel-async beside its recorder: both see every event.
///
/// Use it in place of `AsyncConnection::set_instrumentation`, which would replace the recorder. On a connection without a
/// recorder it does the same as diesel-async's method.
pub fn set_async_instrumentation<C: AsyncConnection>(
    connection: &mut C,
    instrumentation: impl Instrumentation,
) {
    match SharedRecorder::of(connection) {
        Some(recorder) => recorder.forward(Forward::to(Some(Box::new(instrumentation)))),
        None => connection.set_instrumentation(instrumentation),
    }
}

/// Counts an error of the database under the last statement of this connection, if the events of diesel-async left it out.
///
/// diesel-async leaves out errors of the rows after the first, and on SQLite those of a `SELECT` and of statements with
/// `RETURNING`. The rules are those of [`record_error`](crate::database::record_error).
pub fn record_async_error<C: AsyncConnection>(connection: &mut C, error: &Error) {
    if let Some(recorder) = SharedRecorder::of(connection) {
        recorder.left_out(error);
    }
}
