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
/// In most cases nothing is written. With [`StoreError::Unreachable`], [`StoreError::Unfinished`] and
/// [`StoreError::Database`] the database may have completed the write and then failed to report it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection became free within the pool timeout, or too many waited for one already.
    #[error("no connection to the database became free in time")]
    Overloaded,
    /// Another connection, such as one of another process, held a lock for too long.
    #[error("others held the database for too long")]
    Busy,
    /// No connection could be opened, or it was lost.
    #[error("the database cannot be reached")]
    Unreachable,
    /// The database did not finish in time. It may have cancelled the statement itself, or not have answered at all.
    #[error("the database did not finish in time")]
    Unfinished,
    /// The database failed. Its message may contain values: [`described`] is for the log.
    #[error("the database failed")]
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
            Some(ErrorKind::Timeout) => Self::Unfinished,
            _ => Self::Database(error),
        }
    }
}

/// The beginnings of messages in which a database says what is wrong with itself or with the schema.
const KNOWN_MESSAGES: [&str; 13] = [
    "attempt to write a readonly database",
    "cannot execute",
    "column",
    "could not extend file",
    "database disk image is malformed",
    "database or disk is full",
    "disk I/O error",
    "file is not a database",
    "no such column",
    "no such table",
    "permission denied",
    "relation",
    "unable to open database file",
];

/// Describes an error of the database for the log: its kind, the constraint that was violated, and the beginning of its
/// message if that is a known one. Messages may contain values, such as those of a trigger, so none is shown.
pub fn described(error: &DieselError) -> String {
    let kind = ErrorKind::of(error).map_or("other", ErrorKind::label);
    let DieselError::DatabaseError(_, information) = error else {
        return kind.to_owned();
    };
    let message = information.message();
    let known = (KNOWN_MESSAGES.iter()).find(|beginning| message.starts_with(**beginning));
    let constraint = information.constraint_name();
    let parts = [Some(kind), known.copied(), constraint];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
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

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    #[test]
    fn no_message_of_a_database_is_in_its_description() {
        for (message, expected) in [
            ("boom SECRET secret@example.org", "other"),
            ("no such table: SECRET", "other: no such table"),
            (
                "permission denied for table SECRET",
                "other: permission denied",
            ),
            ("disk I/O error", "other: disk I/O error"),
        ] {
            let information = Box::new(message.to_owned());
            let error = DieselError::DatabaseError(DatabaseErrorKind::Unknown, information);
            assert_eq!(described(&error), expected);
            assert_eq!(StoreError::from(error).to_string(), "the database failed");
        }
        let error = DieselError::DeserializationError("SECRET".into());
        assert_eq!(described(&error), "other");
    }
}
