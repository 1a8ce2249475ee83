//! Who may connect to the operators' endpoints and enter them, and over what; and the files that tell, as they change.
//!
//! Which web configurations are taken and refused is tested beside the code, in a table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod authority;
mod clients;
mod credentials;
#[path = "../support/daemon.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod daemon;
mod description;
#[path = "../support/exposition.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod exposition;
mod flood;
mod headers;
mod operators;
mod origin;
#[path = "../support/prometheus.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod prometheus;
mod reload;
mod scrape;
#[path = "../support/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;
mod tls;
#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tools;
#[path = "../support/wait.rs"]
mod wait;
