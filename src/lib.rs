//! The service: a small REST API over a database, monitored by `actix-vitals`.
//!
//! Code that any service could use belongs to the crates below; only this package knows `/data`.

pub mod access;
pub mod api;
mod connection;
mod descriptors;
mod exclusions;
mod intake;
mod ops_watch;
pub mod server;
pub mod settings;
mod shutdown;
pub mod store;
pub mod supervisor;
mod threads;

/// The name of the program.
pub const NAME: &str = "actix-vitals";
