//! Finds the query of an error that Diesel's events have left out.
//!
//! A query has at most one error. An error that the caller records belongs to the query that finished last without an
//! error. Only a query that writes can violate a constraint; a `SELECT` in between does not get such an error. An error that
//! an event has reported is recognised by the address of its information and by its message, and is not counted again.
//!
//! One case cannot be distinguished: an error that is recorded twice counts twice if a query in between could have failed
//! in the same way.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use diesel::result::Error;

use super::running::{Query, QueryKind};
use crate::database::error::ErrorKind;
use crate::database::sql::Operation;
use crate::database::statements::connection_statements::StatementLookup;

/// The most reported errors that are remembered.
const MOST_REPORTED: usize = 32;

/// The queries and errors of one user of the connection.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// A query failed and none has started since. A second end belongs to the same query.
    pub(super) just_failed: bool,
    /// The query that finished last.
    last: Option<Finished>,
    /// The query that finished last among those that may write.
    last_write: Option<Finished>,
    /// The errors that events have reported and the caller has not recorded.
    reported: Vec<ErrorIdentity>,
}

/// A query that has ended.
#[derive(Clone, Copy, Debug)]
struct Finished {
    /// The number of the query, in the order in which the queries started.
    number: u64,
    /// What it is counted as.
    kind: QueryKind,
    failed: bool,
}

/// Identifies an error: the address of its information, and its message. The address may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ErrorIdentity {
    address: usize,
    message: u64,
}

impl ErrorIdentity {
    /// `None` for errors that are not the database's.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let Error::DatabaseError(_, information) = error else {
            return None;
        };
        let mut message = DefaultHasher::new();
        information.message().hash(&mut message);
        Some(Self {
            address: std::ptr::from_ref(&**information).cast::<()>().addr(),
            message: message.finish(),
        })
    }
}

impl Failures {
    /// Notes the end of a query.
    #[inline]
    pub(super) fn finished(&mut self, query: &Query, may_write: bool, failed: bool) {
        self.last = Some(Finished {
            number: query.number,
            kind: query.kind,
            failed,
        });
        if may_write {
            self.last_write = self.last;
        }
    }

    /// Notes an error that an event has reported.
    pub(super) fn reported(&mut self, error: &Error) {
        if let Some(identity) = ErrorIdentity::of(error) {
            if self.reported.len() >= MOST_REPORTED {
                self.reported.remove(0);
            }
            self.reported.push(identity);
        }
    }

    /// Whether an event has reported this error. It is removed, because another error may get its address.
    pub(super) fn take_reported(&mut self, error: ErrorIdentity) -> bool {
        let found = self.reported.iter().position(|reported| *reported == error);
        found.map(|at| self.reported.remove(at)).is_some()
    }

    /// Whether the query with this number started after the query that finished last.
    pub(super) fn is_newest(&self, number: u64) -> bool {
        self.last.is_none_or(|last| last.number < number)
    }

    /// Returns the query of an error of this kind, and marks that query as failed.
    pub(super) fn fail(&mut self, kind: ErrorKind) -> Option<(Operation, StatementLookup)> {
        let owner = if is_violation(kind) {
            self.last_write
        } else {
            self.last
        }?;
        for finished in [&mut self.last, &mut self.last_write].into_iter().flatten() {
            if finished.number == owner.number {
                finished.failed = true;
            }
        }
        match owner.kind {
            QueryKind::Counted(operation, lookup) if !owner.failed => Some((operation, lookup)),
            _ => None,
        }
    }
}

/// Whether only a query that writes can have such an error.
fn is_violation(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UniqueViolation
            | ErrorKind::ForeignKeyViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation
    )
}
