//! Every promised metric, from outside: there, of its type, with its labels, and moved by exactly the right amount by
//! requests that are known; in every format, to the satisfaction of foreign readers.
//!
//! What requests are answered with is tested in `api`; what a real Prometheus makes of it all in `prometheus`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test may panic and print; counts are whole numbers, which floats hold exactly"
)]

mod conformance;
mod database;
mod document;
mod formats;
mod http;
mod naming;
mod process;
mod promises;
mod reader;
#[path = "../support/all.rs"]
mod support;

use support::{exposition, foreign, server, settled, tools, wait};
