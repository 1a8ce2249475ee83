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

mod floods;
mod guarded;
mod host;
mod http_2;
mod kinds;
mod left;
mod log;
mod memory;
mod mutants;
mod pipelining;
mod slow;
#[path = "../support/all.rs"]
mod support;

use std::time::Duration;

use support::{exposition, server, tools, wait};

/// How much later than its deadline a connection may be gone.
const GRACE: Duration = Duration::from_secs(2);
