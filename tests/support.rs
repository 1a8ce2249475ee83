//! Code that the test binaries share, one module for each concern. Each binary uses a part of it.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic and print; each binary uses a part of this; counts are whole numbers, which floats represent exactly"
)]

pub(crate) mod alertmanager;
pub(crate) mod collector;
pub(crate) mod conformance;
pub(crate) mod daemon;
pub(crate) mod database_counts;
pub(crate) mod deployment;
pub(crate) mod dotted;
pub(crate) mod example;
pub(crate) mod exhausted;
pub(crate) mod exposition;
pub(crate) mod foreign;
pub(crate) mod in_process;
pub(crate) mod keeper;
pub(crate) mod locked;
pub(crate) mod log;
pub(crate) mod pooled_service;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod promised;
pub(crate) mod promql;
pub(crate) mod scrapers;
pub(crate) mod server;
pub(crate) mod settled;
pub(crate) mod strace;
pub(crate) mod tools;
pub(crate) mod turn;
pub(crate) mod wait;
pub(crate) mod writers;
