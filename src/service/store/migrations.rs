//! The migrations, built into the binary, and their run at start.

use std::error::Error;

use diesel::result::Error as DieselError;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use super::connection::Connection;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Why the tables could not be brought up to date.
#[derive(Debug)]
pub(super) enum MigrationError {
    /// The database does not take a write at all.
    Unusable(DieselError),
    /// A migration failed, and all were rolled back.
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<DieselError> for MigrationError {
    fn from(error: DieselError) -> Self {
        Self::Unusable(error)
    }
}

/// Brings the tables up to date, all or nothing, and gives the number of migrations run.
///
/// The transaction takes the write lock first. So of two services that start on one file the second waits for the
/// first and then finds nothing to do, and a file that cannot be written is found out now, not at the first request.
pub(super) fn run(connection: &mut Connection) -> Result<usize, MigrationError> {
    connection.immediate_transaction(|connection| {
        connection
            .run_pending_migrations(SQLITE)
            .map(|versions| versions.len())
            .map_err(MigrationError::Failed)
    })
}
