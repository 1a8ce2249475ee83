//! Every route and every refusal of the service, from outside: the real binary, a real database, plain HTTP.
//!
//! What the requests do to the metrics is tested in `metrics`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;

mod items;
mod operations;
mod problem;
mod refusals;
mod settings;
mod validation;
