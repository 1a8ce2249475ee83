//! Errors of the database: those with which Diesel's events end a query, and those that they leave out.
//!
//! An error counts once, under the query that it belongs to. [`failures`](super::failures) finds that query, and recognises
//! an error that was counted before.

use diesel::Connection;
use diesel::result::Error;

use super::QueryRecorder;
use super::failures::ErrorIdentity;
use super::running::{Query, QueryKind};
use crate::context::{self, EventKind};
use crate::database::error::ErrorKind;
use crate::database::sql::Operation;
use crate::database::statements::connection_statements::StatementLookup;

/// Counts an error of the database under the last statement of this connection, if Diesel's events left it out.
///
/// Diesel leaves out the errors of SQLite's `SELECT` and of its statements with `RETURNING`.
/// [`Pool::run`](crate::database::Pool::run) calls this function with the error of its work. Call it yourself for errors on
/// a connection from [`Pool::get`](crate::database::Pool::get), and for errors that the work handles. Call it once for each
/// error, before the next statement runs. The error is counted under the last statement that could have failed with it,
/// unless that statement has failed already. It does nothing for an error that Diesel has reported, for an error that is
/// not the database's, and on a connection without a recorder.
pub fn record_error<C: Connection>(connection: &mut C, error: &Error) {
    if let Some(recorder) = QueryRecorder::of(connection) {
        recorder.left_out(error);
    }
}

impl QueryRecorder {
    /// Counts the error with which a query finished.
    #[cold]
    pub(super) fn reported(&mut self, query: &Query, error: &Error) {
        let Some(kind) = ErrorKind::of(error) else {
            return;
        };
        self.failures.reported(error);
        if let QueryKind::Counted(operation, lookup) = query.kind {
            self.failed(operation, lookup, kind);
        } else {
            self.failures.finished(query, true, true);
            context::note_database_error(kind, EventKind::TransactionControl, None);
            self.count_error(Operation::Other, kind);
        }
    }

    /// Counts an error of a statement.
    pub(super) fn failed(
        &mut self,
        operation: Operation,
        lookup: StatementLookup,
        kind: ErrorKind,
    ) {
        context::note_database_error(kind, EventKind::Query, self.known.number(lookup));
        self.known.failed(lookup);
        self.count_error(operation, kind);
    }

    fn count_error(&mut self, operation: Operation, kind: ErrorKind) {
        self.lost |= kind == ErrorKind::ConnectionLost;
        self.metrics.error(operation, kind);
    }

    /// Counts an error, unless an event has reported it.
    pub(in super::super) fn left_out(&mut self, error: &Error) {
        let (Some(identity), Some(kind)) = (ErrorIdentity::of(error), ErrorKind::of(error)) else {
            return;
        };
        if self.failures.take_reported(identity) {
            return;
        }
        let running = self.running.latest().map(|query| query.number);
        if running.is_some_and(|number| self.failures.is_newest(number)) {
            // It started, failed before it ran, and has no end.
            self.finish(Some(error));
            self.failures.take_reported(identity);
        } else if let Some((operation, lookup)) = self.failures.fail(kind) {
            self.failed(operation, lookup, kind);
        }
    }
}
