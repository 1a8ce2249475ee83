//! Everything that depends on Diesel: what its connections report, and pools of them.
//!
//! - `instrumentation`, `forward`: how a connection gets its recorder, beside the application's own instrumentation
//! - `recorder`, `recorders`: what the events of a connection count; what the connections of a pool share
//! - `manager`, `pool`, `checks`: instrumented pools of r2d2
//! - `plain`: monitors a pool of r2d2 without a change of its type
//! - `asynchronous`: connections and pools of diesel-async
//! - `backend`: which process of PostgreSQL serves a connection
//! - `explainable`: how a connection answers the questions of the explaining connection
//! - `error`, `system`: which kind of error, and which database, by Diesel's types
//!
//! The rest of `database` does not know Diesel: families, series, statements, levels, waits and the reader of SQL.

#[cfg(feature = "diesel-async")]
mod asynchronous;
mod backend;
mod checks;
mod error;
mod explainable;
#[cfg(test)]
pub(super) mod fixture;
mod forward;
mod instrumentation;
mod manager;
mod plain;
mod pool;
mod recorder;
mod recorders;
mod system;

use diesel::connection::{Instrumentation, get_default_instrumentation};
use diesel::r2d2::{self, R2D2Connection};

use super::Database;

use forward::Forward;
use recorder::Driver;
use recorders::Recorders;

#[cfg(feature = "diesel-async")]
pub use asynchronous::{
    AsyncExplainable, AsyncManager, AsyncPool, AsyncPoolBuilder, Held, NativePool, bb8, deadpool,
    mobc, record_async_error, set_async_instrumentation,
};
pub use explainable::Explainable;
pub use instrumentation::set_instrumentation;
pub use manager::Manager;
pub use pool::{
    CheckoutError, Connection, Opaque, Pool, PoolBuilder, QueryError, RunError, Typed, Wrapped,
};
pub use recorder::{QueryRecorder, record_error};

impl Database {
    /// Returns a builder of instrumented pools, with the settings of `builder`.
    ///
    /// The event handler and the error handler of `builder` are replaced. Its connection customizer is kept, and the
    /// queries that it runs on a new connection are counted like any other.
    pub fn instrument<C>(&self, builder: r2d2::Builder<Manager<C>>) -> PoolBuilder<C>
    where
        C: R2D2Connection + Send + 'static,
    {
        PoolBuilder::new(builder, self.clone())
    }

    /// Records a connection outside of any pool.
    pub fn instrument_connection<C: diesel::Connection>(&self, connection: &mut C) {
        instrumentation::install(connection, self.recorder::<C>());
    }

    /// Returns the instrumentation for one connection outside of any pool, of the type `C`.
    pub fn instrumentation<C: diesel::Connection>(&self) -> impl Instrumentation + use<C> {
        let mut recorder = self.recorder::<C>();
        recorder.forward(Forward::to(get_default_instrumentation()));
        recorder
    }

    /// Returns a recorder for a connection outside of any pool, of the type `C`.
    fn recorder<C: diesel::Connection>(&self) -> QueryRecorder {
        let system = system::system_of::<C::Backend>();
        Recorders::of_no_pool(self, system).recorder(Driver::Blocking)
    }
}
