//! Prepared statements that the server no longer takes, and how work on a connection gets by.
//!
//! PostgreSQL refuses a prepared statement once the types of its columns have changed (`ALTER TABLE` by a newer instance:
//! "cached plan must not change result type"), and forgets it where a pooler or an administrator runs `DISCARD ALL` or
//! `DEALLOCATE ALL`. Diesel would offer it for as long as the connection lives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::{CacheSize, SimpleConnection as _, TransactionManager as _};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::{Connection as _, PgConnection, QueryResult};

use super::connection::{Connection, limit_statements};
use actix_vitals::database::ErrorKind;

/// The log has one line for all connections that meet the same change.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Forgets what the server keeps for this session, and sets the session up as Diesel does when it opens one: `DISCARD ALL`
/// resets that, too.
const RENEW: &str =
    "DEALLOCATE ALL; SET TIME ZONE 'UTC'; SET CLIENT_ENCODING TO 'UTF8'; SET bytea_output TO 'hex'";

/// Renews connections whose statements are stale. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StaleStatements {
    /// The limit of a statement, which a renewed session gets again.
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

    /// Runs `work`. If it fails because a statement is stale, prepares all statements again and runs it once more.
    ///
    /// `work` is one statement that commits by itself, or several that only read: a statement that fails has then
    /// written nothing. Within a transaction nothing is tried again.
    pub(super) fn run<T>(
        &self,
        connection: &mut Connection,
        mut work: impl FnMut(&mut Connection) -> QueryResult<T>,
    ) -> QueryResult<T> {
        let error = match work(connection) {
            Err(error) if may_be_stale(&error) && !is_in_transaction(connection) => error,
            result => return result,
        };
        if self.renew(connection).is_err() {
            return Err(error);
        }
        let result = work(connection);
        if result.is_ok() {
            self.log();
        }
        result
    }

    /// Fails for SQLite, which prepares stale statements again by itself.
    fn renew(&self, connection: &mut Connection) -> QueryResult<()> {
        let Connection::Postgres(postgres) = connection else {
            return Err(DieselError::NotFound);
        };
        forget(postgres);
        postgres.batch_execute(RENEW)?;
        limit_statements(connection, self.limit)
    }

    fn log(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!(
                "prepared statements were out of date, as after a change of the tables; they are prepared anew"
            );
        }
    }
}

/// Whether the server refused a statement for a reason that has no name here. Diesel does not pass the code of an error on,
/// and its text depends on the server's language, so a stale statement is known by nothing else.
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

/// Drops Diesel's cache of statements. New statements get new names.
fn forget(connection: &mut PgConnection) {
    connection.set_prepared_statement_cache_size(CacheSize::Disabled);
    connection.set_prepared_statement_cache_size(CacheSize::Unbounded);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: DatabaseErrorKind, message: &str) -> DieselError {
        DieselError::DatabaseError(kind, Box::new(message.to_owned()))
    }

    #[test]
    fn a_statement_is_stale_only_where_the_server_names_no_better_reason() {
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
    fn work_in_a_transaction_is_not_tried_again() {
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
