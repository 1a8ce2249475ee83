//! The suite on SQLite.

use crate::support::server::Server;

#[path = "items.rs"]
mod items;
#[path = "operations.rs"]
mod operations;
#[path = "refusals.rs"]
mod refusals;
#[path = "validation.rs"]
mod validation;

/// Starts a server on a fresh database.
fn start() -> Server {
    start_with(&[])
}

/// Starts a server on a fresh database, with these flags.
fn start_with(flags: &[&str]) -> Server {
    Server::start_with(flags)
}
