//! Every route and every refusal of the service, from outside: the real binary, a real database, plain HTTP.
//!
//! What the requests do to the metrics is tested in `metrics`.

#![allow(clippy::duplicate_mod, reason = "the suite runs once on each database")]

mod postgres;
mod problem;
mod settings;
mod snapshot;
mod sqlite;
