//! The service: a small REST API over a database, monitored by `actix-vitals`.
//!
//! Only this package knows about items. Code that other services could use belongs to the crates in `crates/`.

pub mod access;
pub mod api;
mod connection;
mod descriptors;
mod early_answer;
mod exclusions;
pub mod heap_sampling;
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
