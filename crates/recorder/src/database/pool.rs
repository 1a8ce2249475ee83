//! The pool of connections: who gets one, who waits, and who is turned away.
//!
//! - `builder`: what there is to set
//! - `checkout`: the [`Pool`], and the two ways to a connection
//! - `line`, `wait`: who stands where, and what is observed of it
//! - `probe`: whether the database answers, without a place in the line
//! - `error`: what there is in place of a connection
//!
//! Not here: how a connection is opened, or what is recorded of what it does.
//!
//! Two ways lead to a connection. [`Pool::get`] blocks the thread that calls it. [`Pool::run`] is for the event loop: it
//! waits in line without a thread, then runs the work on a blocking thread. The line admits as many as the pool has
//! connections, so that no more blocking threads are taken than can do something, and it has an end: whoever comes when it
//! is full is turned away at once.
//!
//! Every wait is measured once, as its caller feels it: from the call until the connection is there, however much of that
//! was in line, before a thread was free, or in r2d2. It also goes to the tally of the request that it was for. A wait that
//! ended at the timeout is observed as well, for the worst waits must not be missing from the histogram; and so is that of a
//! caller that left (its future was dropped), which is no waiter from that moment on. A caller that was turned away did not
//! wait. `db_pool_rejected_total` counts all three by their reason.
//!
//! Of r2d2's events only the check-in is used: its checkout and timeout know of a part of the wait.

mod builder;
mod checkout;
mod error;
mod line;
mod probe;
mod wait;

pub use builder::PoolBuilder;
pub use checkout::{Connection, Pool};
pub use error::{CheckoutError, Opaque, QueryError, RunError, Typed, Wrapped};

#[cfg(test)]
mod tests;
