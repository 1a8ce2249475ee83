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

#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod postgres_server;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;

#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tools;

mod postgres;
mod problem;
mod settings;
mod snapshot;
mod sqlite;
