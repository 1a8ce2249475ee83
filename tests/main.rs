//! The integration tests: one binary, one module for each theme. Most start the real server on port 0 and wait for it, so
//! they run in parallel.
//!
//! A test that needs a whole machine is in `exclusive.rs`. A test that needs a process of its own is a binary of its own:
//! `Cargo.toml` lists them.

#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic and print; counts are whole numbers, which floats represent exactly"
)]

mod support;

// What clients see.
mod api;
mod description;
mod http;
mod limits;

// What operators see.
mod access;
mod accuracy;
mod dashboard;
mod locks;
mod log_filter;
mod metrics;
mod ops;
mod plans;
mod secrets;
mod statements;

// What other programs see.
mod deploy;
mod instances;
mod otlp;
mod prometheus;
mod supervisor;

// What happens when something fails or ends.
mod crash;
mod faults;
mod shutdown;

// What adopters see.
mod adoption;
mod examples;
mod ten_faults;

// Parsers on mutated input.
mod fuzz;
