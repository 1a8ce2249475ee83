//! Pools of r2d2: how callers get a connection, wait for one, or are rejected.
//!
//! - `builder`: the settings of a pool
//! - `checkout`: the [`Pool`], and the two ways to get a connection
//! - `wait_queue`, `holds`: the callers that wait, the threads that do their work, and how long connections are out
//! - `probe`: whether the database answers, without a position in the queue
//! - `error`: the errors that callers get in place of a connection
//!
//! Not here: how a connection is opened, and what is recorded of its queries.
//!
//! [`Pool::get`] blocks the calling thread. [`Pool::run`] and [`Pool::read`] are for the event loop: they wait in the queue
//! without a thread, then run the work on a blocking thread. As many callers have their turn at a time as the pool has
//! connections, so that no blocking thread waits for a connection. A thread that has finished the work of one caller goes on
//! with that of the next. The queue has a bound: further callers are rejected at once.
//!
//! Every wait is observed once, from the call until the connection is there: in the queue, for a thread, and in r2d2. It
//! is added to the tally of the request, too. Waits that end at the timeout are observed as well, so that the histogram
//! contains the worst; so are those of callers that leave (their future was dropped). A rejected caller has not waited.
//! `db_pool_rejected_total` counts all three by their reason.
//!
//! Of r2d2's events only the check-in is used: its checkout and timeout events cover a part of the wait only.

mod builder;
mod checkout;
mod error;
mod holds;
mod probe;
mod wait_queue;

pub use builder::PoolBuilder;
pub use checkout::{Connection, Pool};
pub use error::{CheckoutError, Opaque, QueryError, RunError, Typed, Wrapped};
pub(super) use holds::take_hold_time;

#[cfg(test)]
mod tests;
