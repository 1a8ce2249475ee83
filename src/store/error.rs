//! What can go wrong with the store, as its callers tell it apart. What a client hears of it is the API's knowledge.

use std::io;

use diesel::result::Error as DieselError;

use actix_vitals::database::{CheckoutError, ErrorKind, RunError};

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

/// Why the store could not do what it was asked.
///
/// Nothing was written, except, it may be, where the database was lost on the way ([`StoreError::Unreachable`]), did not
/// answer in time ([`StoreError::Unanswered`]) or failed ([`StoreError::Database`], such as a log that was written and
/// could not be synced): there the write may have been the last thing that it did.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection became free within the pool timeout, or too many waited for one already.
    #[error("no connection to the database became free in time")]
    Overloaded,
    /// Others held what was needed for too long: a writer of another process, for longer than SQLite's busy timeout.
    #[error("others held the database for too long")]
    Busy,
    /// There is no connection to the database, and none could be opened; or the connection was lost.
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

/// Why the work on a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    /// The turn to write did not come: no statement ran, so it is no error of the database.
    #[error("the turn to write did not come in time")]
    TurnMissed,
    /// The database file was removed or replaced. Everything written there since is lost.
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
            // Unavailable or cancelled: there was no database to ask.
            _ => Self::Unreachable,
        }
    }
}
