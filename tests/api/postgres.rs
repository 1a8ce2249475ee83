//! The same suite on PostgreSQL.
//!
//! If PostgreSQL is missing, the suite runs on SQLite again, and the skip is recorded.

use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::tools;

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
    match tools::postgres("the API's suite on PostgreSQL") {
        Some(programs) => Server::start_on(Cluster::shared(&programs).database(), flags),
        None => Server::start_with(flags),
    }
}
