//! Which query an error belongs to, where Diesel's events have left it out.
//!
//! A query has at most one error. An error that is handed in belongs to the query that finished last without one; a
//! constraint is violated by a query that writes, so that a `SELECT` between the two takes no such error. An error that an
//! event has reported is known by where its information lies in memory and by its message: it is counted already, however
//! late it is handed in.
//!
//! One case cannot be distinguished. An error that is handed in twice counts twice if a query in between could have
//! failed in the same way.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use diesel::result::Error;

use crate::database::error::ErrorKind;
use crate::database::sql::Operation;
use crate::database::statements::connection_statements::StatementLookup;

/// Errors that are remembered as reported and not yet handed in.
const MOST_REPORTED: usize = 32;

/// The queries and errors of one user of the connection.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// A query failed and none has started since: when it finishes once more, that is the same end.
    pub(super) just_failed: bool,
    /// The query that finished last.
    last: Option<Finished>,
    /// The query that finished last, of those that may write.
    last_write: Option<Finished>,
    /// What events have reported, as long as it was not handed in.
    reported: Vec<ErrorIdentity>,
}

/// A query that has come to its end.
#[derive(Clone, Copy, Debug)]
struct Finished {
    /// Its place in the order in which the queries started.
    number: u64,
    /// What is counted of it; nothing for control of a transaction.
    query: Option<(Operation, StatementLookup)>,
    failed: bool,
}

/// Identifies an error: the address of its information, and its message. The address may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ErrorIdentity {
    address: usize,
    message: u64,
}

impl ErrorIdentity {
    /// Nothing for errors that are not the database's.
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
    /// A query came to its end.
    pub(super) fn finished(
        &mut self,
        number: u64,
        query: (Operation, StatementLookup),
        failed: bool,
    ) {
        let finished = Finished {
            number,
            query: Some(query),
            failed,
        };
        self.last = Some(finished);
        if query.0 != Operation::Select {
            self.last_write = self.last;
        }
    }

    /// Control of a transaction failed.
    pub(super) fn control_failed(&mut self, number: u64) {
        self.last = Some(Finished {
            number,
            query: None,
            failed: true,
        });
        self.last_write = self.last;
    }

    /// An event has reported this error.
    pub(super) fn reported(&mut self, error: &Error) {
        if let Some(identity) = ErrorIdentity::of(error) {
            if self.reported.len() >= MOST_REPORTED {
                self.reported.remove(0);
            }
            self.reported.push(identity);
        }
    }

    /// Whether an event has reported this error. Handed in, it is forgotten: another may come to lie in its place.
    pub(super) fn take_reported(&mut self, error: ErrorIdentity) -> bool {
        let found = self.reported.iter().position(|reported| *reported == error);
        found.map(|at| self.reported.remove(at)).is_some()
    }

    /// Whether the query with this number started after the query that finished last.
    pub(super) fn is_newest(&self, number: u64) -> bool {
        self.last.is_none_or(|last| last.number < number)
    }

    /// The query that an error of this kind belongs to, which has failed from now on.
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
        owner.query.filter(|_| !owner.failed)
    }
}

/// Whether only a query that writes can fail so.
fn is_violation(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UniqueViolation
            | ErrorKind::ForeignKeyViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation
    )
}
