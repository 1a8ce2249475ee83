//! Stale statements: prepared statements that PostgreSQL no longer accepts.
//!
//! PostgreSQL rejects a prepared statement once the types of its columns have changed, as after an `ALTER TABLE` by a newer
//! instance ("cached plan must not change result type"). It forgets the statement when a pooler or an administrator runs
//! `DISCARD ALL` or `DEALLOCATE ALL`. Diesel would use the statement as long as the connection exists.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_vitals::database::ErrorKind;
use diesel::{
    QueryResult,
    connection::TransactionManager as _,
    result::{DatabaseErrorKind, Error as DieselError},
};

use super::connection::Connection;
#[cfg(feature = "postgres")]
use super::postgres;

/// The pause between two lines of the log, so that one change of the tables is logged once for all connections.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Prepares the statements of a connection again when they are stale. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StaleStatements {
    /// The time limit of statements, which a renewed session needs again.
    limit: Duration,
    logged: Arc<Mutex<Option<Instant>>>,
}

impl StaleStatements {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            logged: Arc::default(),
        }
    }

    /// Runs `work`. If it fails because a statement is stale, drops all prepared statements and runs `work` again, once.
    ///
    /// `work` must be one statement that commits by itself, or several that only read. Then a failed statement has written
    /// nothing. Within a transaction, nothing is repeated.
    pub(super) fn run<T>(
        &self,
        connection: &mut Connection,
        mut work: impl FnMut(&mut Connection) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let error = match work(connection) {
            Err(error) if may_be_stale(&error) && !is_in_transaction(connection) => error,
            result => return result,
        };
        if renew(connection, self.limit).is_err() {
            return Err(error);
        }
        let result = work(connection);
        if result.is_ok() {
            self.log();
        }
        result
    }

    fn log(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!(
                "prepared statements were stale, as after a change of the tables; they are prepared again"
            );
        }
    }
}

/// Drops the prepared statements. Fails on SQLite, which prepares stale statements again itself.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
fn renew(connection: &mut Connection, limit: Duration) -> QueryResult<()> {
    match connection {
        #[cfg(feature = "postgres")]
        Connection::Postgres(connection) => postgres::renew(connection, limit),
        Connection::Sqlite(_) => Err(DieselError::NotFound),
    }
}

/// Whether a statement failed for an unknown reason, as a stale one does. Diesel does not pass on the code of an error, and its
/// text depends on the server's language.
fn may_be_stale(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, _)
    ) && ErrorKind::of(error) == Some(ErrorKind::Other)
}

fn is_in_transaction(connection: &mut Connection) -> bool {
    type Transactions = <Connection as diesel::Connection>::TransactionManager;
    let status = Transactions::transaction_manager_status_mut(connection);
    !matches!(status.transaction_depth(), Ok(None))
}

#[cfg(test)]
mod tests {
    use diesel::Connection as _;

    use super::*;

    fn error(kind: DatabaseErrorKind, message: &str) -> DieselError {
        DieselError::DatabaseError(kind, Box::new(message.to_owned()))
    }

    #[test]
    fn a_statement_may_be_stale_only_if_the_server_gives_no_other_reason() {
        use DatabaseErrorKind::{ClosedConnection, NotNullViolation, Unknown};
        for (error, expected) in [
            (
                error(Unknown, "cached plan must not change result type"),
                true,
            ),
            (
                error(
                    Unknown,
                    "prepared statement \"__diesel_stmt_1\" does not exist",
                ),
                true,
            ),
            (error(Unknown, "deadlock detected"), false),
            (
                error(Unknown, "canceling statement due to statement timeout"),
                false,
            ),
            (
                error(Unknown, "server closed the connection unexpectedly"),
                false,
            ),
            (error(ClosedConnection, ""), false),
            (error(NotNullViolation, ""), false),
            (DieselError::NotFound, false),
            (DieselError::BrokenTransactionManager, false),
        ] {
            assert_eq!(may_be_stale(&error), expected, "{error}");
        }
    }

    #[test]
    fn work_in_a_transaction_is_not_repeated() {
        let url = crate::settings::DatabaseUrl::Sqlite(crate::settings::SqliteLocation::Memory);
        let mut connection = super::super::connection::open(&url).unwrap();
        assert!(!is_in_transaction(&mut connection));
        let stale = StaleStatements::new(Duration::from_secs(1));
        let mut runs = 0;
        let result = connection.transaction(|connection| {
            assert!(is_in_transaction(connection));
            stale.run(connection, |_| -> QueryResult<()> {
                runs += 1;
                let message = "cached plan must not change result type";
                Err(error(DatabaseErrorKind::Unknown, message))
            })
        });
        assert_eq!((runs, result.is_err()), (1, true));
    }
}
