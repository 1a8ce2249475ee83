//! Every route and every refusal of the service, from outside: the real binary, a real database, plain HTTP.
//!
//! What the requests do to the metrics is tested in `metrics`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::duplicate_mod,
    reason = "a test may panic and print; the suite runs once on each database"
)]

mod postgres;
mod problem;
mod settings;
mod snapshot;
mod sqlite;
#[path = "../support/all.rs"]
mod support;

use support::{postgres as postgres_server, server, tools};
