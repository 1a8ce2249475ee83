//! What the integration tests share, one room for each concern. A binary has all of it, and names what it uses:
//!
//! ```ignore
//! #[path = "../support/all.rs"]
//! mod support;
//!
//! use support::{server, wait};
//! ```

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic and print, and uses a part of this; counts are whole numbers, which floats hold exactly"
)]

pub(crate) mod alertmanager;
pub(crate) mod conformance;
pub(crate) mod daemon;
pub(crate) mod deployment;
pub(crate) mod exposition;
pub(crate) mod foreign;
pub(crate) mod log;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod promql;
pub(crate) mod server;
pub(crate) mod settled;
pub(crate) mod strace;
pub(crate) mod tools;
pub(crate) mod wait;
pub(crate) mod writers;
