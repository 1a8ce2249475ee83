//! What can go wrong with the store, as its callers tell it apart. What a client hears of it is the API's knowledge.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::vitals::database::RunError;

/// Why the store could not be opened; a whole sentence, without its full stop.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such database, or it does not let us in.
    #[error("The {database} cannot be opened: {cause}")]
    Unreachable {
        /// Which database, without credentials.
        database: String,
        /// What the driver says.
        cause: String,
    },
    /// It was opened, and cannot be used: it is corrupt, read-only, locked, or no database.
    #[error("The {database} cannot be used: {cause}")]
    Unusable {
        /// Which database, without credentials.
        database: String,
        /// What the driver says.
        cause: String,
    },
    /// The tables could not be brought up to date.
    #[error("The {database} cannot be migrated: {cause}")]
    Migration {
        /// Which database, without credentials.
        database: String,
        /// What the driver says.
        cause: String,
    },
}

/// Why the store could not do what it was asked. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection became free within the pool timeout, or too many waited for one already.
    #[error("no connection to the database became free in time")]
    Overloaded,
    /// A writer of another process held the database for longer than the busy timeout.
    #[error("another process held the database for too long")]
    Busy,
    /// There is no connection to the database, and none could be opened.
    #[error("the database cannot be reached")]
    Unreachable,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(DieselError),
    /// The work panicked.
    #[error("the work on the database panicked")]
    Panicked,
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            // Diesel has no kind for SQLITE_BUSY and SQLITE_LOCKED, only SQLite's own words.
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, information)
                if information.message().contains("is locked") =>
            {
                Self::Busy
            }
            _ => Self::Database(error),
        }
    }
}

impl From<RunError<DieselError>> for StoreError {
    fn from(error: RunError<DieselError>) -> Self {
        match error {
            RunError::Saturated | RunError::Timeout => Self::Overloaded,
            RunError::Unavailable | RunError::Cancelled => Self::Unreachable,
            RunError::Query(error) => error.into(),
            RunError::Panicked => Self::Panicked,
        }
    }
}
