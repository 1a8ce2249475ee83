//! The way from a signal to the end: what is answered when, that nothing is lost, and that the last scrape has it all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod load;
mod stages;
#[path = "../support/all.rs"]
mod support;

use support::{exposition, postgres, server, tools, wait};
