//! Every route and every rejection of the service: the real binary on a real database, over plain HTTP.
//!
//! Its metrics are tested in `metrics`.

#![allow(
    clippy::duplicate_mod,
    reason = "the same files are the suites of both databases"
)]

mod postgres;
mod problem;
mod settings;
mod snapshot;
mod sqlite;
