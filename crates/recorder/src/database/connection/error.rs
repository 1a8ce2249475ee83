//! The [`ErrorKind`] of an error of Diesel.

mod translations;

use translations::TRANSLATED;

use diesel::result::{DatabaseErrorKind, Error};

use crate::database::error::ErrorKind;

impl ErrorKind {
    /// The kind of an error. `None` if it is not the database's: no row was found, or the application wanted a rollback.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::NotFound | Error::RollbackTransaction => None,
            Error::DatabaseError(kind, information) => {
                Some(of_database(*kind, information.message()))
            }
            Error::RollbackErrorOnCommit { commit_error, .. } => Self::of(commit_error),
            _ => Some(Self::Other),
        }
    }
}

fn of_database(kind: DatabaseErrorKind, message: &str) -> ErrorKind {
    match kind {
        DatabaseErrorKind::UniqueViolation => ErrorKind::UniqueViolation,
        // SQLSTATE 23001: `ON DELETE RESTRICT`.
        DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation => {
            ErrorKind::ForeignKeyViolation
        }
        DatabaseErrorKind::NotNullViolation => ErrorKind::NotNullViolation,
        DatabaseErrorKind::CheckViolation => ErrorKind::CheckViolation,
        DatabaseErrorKind::SerializationFailure => ErrorKind::SerializationFailure,
        DatabaseErrorKind::ClosedConnection => ErrorKind::ConnectionLost,
        _ => kind_of_message(message),
    }
}

/// SQLite's message of a statement that was stopped.
const INTERRUPTED: &str = "interrupted";

/// The beginnings of messages in English, for errors without a kind of Diesel's.
///
/// Later parts of a message may have text of a client, in quotes (`syntax error in tsquery: "…"`) or not
/// (`no such column: …`).
const BEGINNINGS: &[(&str, ErrorKind)] = &[
    // SQLite's `sqlite3_errstr`. Diesel has no kind for a row id.
    ("UNIQUE constraint failed", ErrorKind::UniqueViolation),
    ("database is locked", ErrorKind::Busy),
    ("database table is locked", ErrorKind::Busy),
    ("database schema is locked", ErrorKind::Busy),
    // PostgreSQL and libpq.
    ("could not obtain lock", ErrorKind::Busy),
    ("deadlock detected", ErrorKind::SerializationFailure),
    ("could not serialize", ErrorKind::SerializationFailure),
    ("restart transaction", ErrorKind::SerializationFailure),
    ("canceling statement due to", ErrorKind::Timeout),
    ("timeout expired", ErrorKind::Timeout),
    ("server closed the connection", ErrorKind::ConnectionLost),
    ("terminating connection", ErrorKind::ConnectionLost),
    ("no connection to the server", ErrorKind::ConnectionLost),
    ("connection not open", ErrorKind::ConnectionLost),
    ("connection to server", ErrorKind::ConnectionLost),
    (
        "could not receive data from server",
        ErrorKind::ConnectionLost,
    ),
    ("could not send data to server", ErrorKind::ConnectionLost),
    ("SSL SYSCALL error", ErrorKind::ConnectionLost),
    ("SSL connection has been closed", ErrorKind::ConnectionLost),
    // tokio-postgres, under diesel-async.
    (
        "error communicating with the server",
        ErrorKind::ConnectionLost,
    ),
    ("connection closed", ErrorKind::ConnectionLost),
    // MySQL, MariaDB and their client libraries. A constraint of MariaDB has the code 4025, which Diesel does not know.
    ("Lock wait timeout exceeded", ErrorKind::Busy),
    (
        "Statement aborted because lock(s) could not be acquired immediately",
        ErrorKind::Busy,
    ),
    ("Deadlock found", ErrorKind::SerializationFailure),
    (
        "Record has changed since last read",
        ErrorKind::SerializationFailure,
    ),
    ("Query execution was interrupted", ErrorKind::Timeout),
    ("CONSTRAINT `", ErrorKind::CheckViolation),
    ("MySQL server has gone away", ErrorKind::ConnectionLost),
    ("Server has gone away", ErrorKind::ConnectionLost),
    ("Lost connection to", ErrorKind::ConnectionLost),
    ("Connection was killed", ErrorKind::ConnectionLost),
    // mysql_async, under diesel-async.
    (
        "Driver error: `Connection to the server is closed",
        ErrorKind::ConnectionLost,
    ),
    ("Input/output error", ErrorKind::ConnectionLost),
];

/// The kind of an error that has no kind of Diesel's, by its message.
pub(super) fn kind_of_message(message: &str) -> ErrorKind {
    if message == INTERRUPTED {
        return ErrorKind::Timeout;
    }
    (BEGINNINGS.iter().chain(TRANSLATED))
        .find(|(beginning, _)| message.starts_with(beginning))
        .map_or(ErrorKind::Other, |&(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: DatabaseErrorKind, message: &str) -> Error {
        Error::DatabaseError(kind, Box::new(message.to_owned()))
    }

    /// Kinds and messages of errors, with what they are.
    const ERRORS: &[(DatabaseErrorKind, &str, ErrorKind)] = &[
        (
            DatabaseErrorKind::UniqueViolation,
            "",
            ErrorKind::UniqueViolation,
        ),
        (
            DatabaseErrorKind::ForeignKeyViolation,
            "",
            ErrorKind::ForeignKeyViolation,
        ),
        (
            DatabaseErrorKind::RestrictViolation,
            "",
            ErrorKind::ForeignKeyViolation,
        ),
        (
            DatabaseErrorKind::NotNullViolation,
            "",
            ErrorKind::NotNullViolation,
        ),
        (
            DatabaseErrorKind::CheckViolation,
            "",
            ErrorKind::CheckViolation,
        ),
        (
            DatabaseErrorKind::SerializationFailure,
            "",
            ErrorKind::SerializationFailure,
        ),
        (
            DatabaseErrorKind::ClosedConnection,
            "",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::UnableToSendCommand,
            "no connection to the server\n",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::UnableToSendCommand,
            "number of parameters must be between 0 and 65535\n",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "UNIQUE constraint failed: t.rowid",
            ErrorKind::UniqueViolation,
        ),
        (
            DatabaseErrorKind::Unknown,
            "database is locked",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "database table is locked: t",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "could not obtain lock on row in relation \"t\"",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "deadlock detected",
            ErrorKind::SerializationFailure,
        ),
        (
            DatabaseErrorKind::Unknown,
            "canceling statement due to statement timeout",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "canceling statement due to lock timeout",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "server closed the connection unexpectedly",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "terminating connection due to administrator command",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "no such table: t",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::UnableToSendCommand,
            "connection closed",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Deadlock found when trying to get lock; try restarting transaction",
            ErrorKind::SerializationFailure,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Lock wait timeout exceeded; try restarting transaction",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Query execution was interrupted (max_statement_time exceeded)",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "CONSTRAINT `short` failed for `shop`.`items`",
            ErrorKind::CheckViolation,
        ),
        (
            DatabaseErrorKind::Unknown,
            "MySQL server has gone away",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Lost connection to server during query",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Duplicate column name 'a'",
            ErrorKind::Other,
        ),
        // Text of a client is within a message, and may be quoted or not.
        (
            DatabaseErrorKind::Unknown,
            "syntax error in tsquery: \"connection closed\"",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "invalid input syntax for type integer: \"deadlock detected\"",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "invalid input syntax for type integer: \"\nterminating connection due to",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "no such column: interrupted",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "interrupted: no such function",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "fts5: syntax error near \"database is locked\"",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Incorrect integer value: 'Lost connection to' for column `shop`.`items`.`id` at row 1",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Unknown column 'Input/output error' in 'WHERE'",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::UnableToSendCommand,
            "error serializing parameter 0: connection closed",
            ErrorKind::Other,
        ),
        // The messages of each driver.
        (
            DatabaseErrorKind::Unknown,
            "interrupted",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Query execution was interrupted, maximum statement execution time exceeded",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Statement aborted because lock(s) could not be acquired immediately and NOWAIT is set.",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Server has gone away",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Connection was killed",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Driver error: `Connection to the server is closed.'",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Input/output error: Input/output error: Broken pipe (os error 32)",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::UnableToSendCommand,
            "error communicating with the server: Connection reset by peer (os error 104)",
            ErrorKind::ConnectionLost,
        ),
        // A server in another language.
        (
            DatabaseErrorKind::Unknown,
            "storniere Anfrage wegen Zeitüberschreitung der Anfrage",
            ErrorKind::Timeout,
        ),
        (
            DatabaseErrorKind::Unknown,
            "konnte Sperre für Zeile in Relation »t« nicht setzen",
            ErrorKind::Busy,
        ),
        (
            DatabaseErrorKind::Unknown,
            "interblocage (deadlock) détecté",
            ErrorKind::SerializationFailure,
        ),
        (
            DatabaseErrorKind::Unknown,
            "закрытие подключения по команде администратора",
            ErrorKind::ConnectionLost,
        ),
        (
            DatabaseErrorKind::Unknown,
            "リレーション\"t\"の行ロックを取得できませんでした",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "ungültige Eingabesyntax für Typ integer: »Verbindung wird abgebrochen«",
            ErrorKind::Other,
        ),
        (
            DatabaseErrorKind::Unknown,
            "Relation »storniere Anfrage wegen« existiert nicht",
            ErrorKind::Other,
        ),
        (DatabaseErrorKind::ReadOnlyTransaction, "", ErrorKind::Other),
        (DatabaseErrorKind::ExclusionViolation, "", ErrorKind::Other),
    ];

    #[test]
    fn every_kind_follows_from_the_error_of_the_database() {
        for &(kind, message, expected) in ERRORS {
            assert_eq!(
                ErrorKind::of(&error(kind, message)),
                Some(expected),
                "{kind:?} {message}"
            );
        }
    }

    #[test]
    fn a_beginning_is_never_hidden_by_a_shorter_one_of_another_kind() {
        let all: Vec<_> = BEGINNINGS.iter().chain(TRANSLATED).collect();
        for (beginning, kind) in all {
            assert_eq!(kind_of_message(beginning), *kind, "{beginning}");
        }
    }

    #[test]
    fn no_row_is_not_an_error_of_the_database() {
        assert_eq!(ErrorKind::of(&Error::NotFound), None);
        assert_eq!(ErrorKind::of(&Error::RollbackTransaction), None);
    }

    #[test]
    fn a_failed_commit_that_cannot_be_rolled_back_has_the_kind_of_the_commit_error() {
        let failed = Error::RollbackErrorOnCommit {
            commit_error: Box::new(error(DatabaseErrorKind::SerializationFailure, "")),
            rollback_error: Box::new(Error::BrokenTransactionManager),
        };
        assert_eq!(
            ErrorKind::of(&failed),
            Some(ErrorKind::SerializationFailure)
        );
        assert_eq!(
            ErrorKind::of(&Error::BrokenTransactionManager),
            Some(ErrorKind::Other)
        );
    }

    #[test]
    fn every_kind_has_its_index() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
