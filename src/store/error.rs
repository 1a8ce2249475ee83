//! The errors of the store. The API translates them into problems.

use std::io;

use actix_vitals::database::{CheckoutError, ErrorKind, RunError};
use diesel::result::Error as DieselError;

/// Why the store could not be opened. Each message is a sentence without its full stop.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not exist or denies access.
    #[error("The {database} cannot be opened: {cause}")]
    Unreachable {
        /// The database, without credentials.
        database: String,
        /// The message of the driver.
        cause: String,
    },
    /// The database is corrupt, read-only, locked, or no database.
    #[error("The {database} cannot be used: {cause}")]
    Unusable {
        /// The database, without credentials.
        database: String,
        /// The message of the driver.
        cause: String,
    },
    /// The migrations did not run.
    #[error("The {database} cannot be migrated: {cause}")]
    Migration {
        /// The database, without credentials.
        database: String,
        /// The message of the driver.
        cause: String,
    },
}

/// Why an operation of the store failed.
///
/// In most cases nothing is written. With [`StoreError::Unreachable`], [`StoreError::Unanswered`] and
/// [`StoreError::Database`] the database may have completed the write and then failed to report it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection became free within the pool timeout, or too many waited for one already.
    #[error("no connection to the database became free in time")]
    Overloaded,
    /// Another writer, possibly of another process, held the database for longer than SQLite's busy timeout.
    #[error("others held the database for too long")]
    Busy,
    /// No connection could be opened, or it was lost.
    #[error("the database cannot be reached")]
    Unreachable,
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    Unanswered,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(DieselError),
    /// The work panicked.
    #[error("the work on the database panicked")]
    Panicked,
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match ErrorKind::of(&error) {
            Some(ErrorKind::Busy | ErrorKind::SerializationFailure) => Self::Busy,
            Some(ErrorKind::ConnectionLost) => Self::Unreachable,
            Some(ErrorKind::Timeout) => Self::Unanswered,
            _ => Self::Database(error),
        }
    }
}

/// Why the connections could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionsError {
    /// The pool has none.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The database file cannot be watched.
    #[error("its file cannot be watched: {0}")]
    File(#[from] io::Error),
}

/// Why the work on a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    /// The turn to write did not come in time. No statement ran, so the database has no error.
    #[error("the turn to write did not come in time")]
    TurnMissed,
    /// The database file was removed or replaced. All later writes to it are lost.
    #[error("the database file was removed or replaced")]
    FileLost,
    /// A statement failed.
    #[error("a statement failed: {0}")]
    Query(#[source] DieselError),
}

impl From<WorkError> for StoreError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::TurnMissed => Self::Busy,
            WorkError::FileLost => Self::Unreachable,
            WorkError::Query(error) => error.into(),
        }
    }
}

impl<E: Into<Self>> From<RunError<E>> for StoreError {
    fn from(error: RunError<E>) -> Self {
        match error {
            RunError::Saturated | RunError::Timeout => Self::Overloaded,
            RunError::Query(error) => error.into(),
            RunError::Panicked => Self::Panicked,
            // Unavailable or cancelled: the work did not run.
            _ => Self::Unreachable,
        }
    }
}
