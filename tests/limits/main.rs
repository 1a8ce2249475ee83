//! Clients that take their time, take too much, or send what is not HTTP: each is ended in time and told why where it can
//! hear it, what became of it is counted, and whoever behaves is served meanwhile.
//!
//! The servers here have short deadlines. A connection must be gone by its deadline and [`GRACE`]; sooner than the deadline
//! is a fault as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "counts are whole, small and not negative"
)]

#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
mod guarded;
mod http_2;
mod kinds;
mod mutants;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;
mod slow;
#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tools;
#[path = "../support/wait.rs"]
mod wait;

use std::time::Duration;

/// How much later than its deadline a connection may be gone.
const GRACE: Duration = Duration::from_secs(2);
