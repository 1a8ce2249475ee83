//! The queries of one connection that have started and not finished.

use super::types::TypeIdentity;
use crate::clock::{self, Moment};
use crate::database::sql::Operation;
use crate::database::statements::connection_statements::{StatementLookup, TextEffect, TextKind};

/// A query that has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// The number of the query, in the order in which the queries of the connection started.
    pub(super) number: u64,
    pub(super) kind: QueryKind,
    /// What its text does beyond its kind.
    pub(super) effect: TextEffect,
    pub(super) identity: Option<TypeIdentity>,
    /// The hash of its text; 0 if it was not read.
    pub(super) text: u64,
    pub(super) started: Moment,
    /// The nanoseconds of queries within this one.
    pub(super) nested: u64,
}

impl Query {
    /// Whether it may have been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.kind != QueryKind::Unbuilt
    }
}

/// What a query is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryKind {
    /// Counted under its operation and its statement.
    Counted(Operation, StatementLookup),
    /// Controls a transaction that Diesel announced.
    Announced(Control),
    /// Controls a transaction that the application manages by hand.
    Uncounted,
    /// The ping of a pool.
    Ping,
    /// A query with the text of Diesel's ping. It is the ping if Diesel announces it, and else a query of the application.
    PossiblePing,
    /// Diesel cannot build its text, so that it is never sent.
    Unbuilt,
}

impl QueryKind {
    /// Whether it is a query or controls a transaction.
    pub(super) fn is_recorded(self) -> bool {
        !matches!(self, Self::Ping | Self::PossiblePing | Self::Unbuilt)
    }
}

impl From<TextKind> for QueryKind {
    fn from(kind: TextKind) -> Self {
        match kind {
            Some((operation, lookup)) => Self::Counted(operation, lookup),
            None => Self::Uncounted,
        }
    }
}

/// What a query does to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Begin,
    Commit,
    Rollback,
    /// Of a savepoint.
    Nested,
}

/// The queries that have started and not finished, in the order of their start.
///
/// A blocking connection has one, or two while PostgreSQL's connection looks up a type. A pipelining connection has any
/// number.
#[derive(Debug, Default)]
pub(super) struct Running {
    queries: Vec<Query>,
}

impl Running {
    /// Adds a query. Removes and returns the oldest if there are more than `most`.
    pub(super) fn push(&mut self, query: Query, most: usize) -> Option<Query> {
        let oldest = (self.queries.len() >= most).then(|| self.queries.remove(0));
        self.queries.push(query);
        oldest
    }

    /// Whether at most one query runs, so that an event needs no text to find its query.
    #[inline]
    pub(super) fn is_unambiguous(&self) -> bool {
        self.queries.len() <= 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Whether a query may have been sent and has not finished.
    pub(super) fn has_sent(&self) -> bool {
        self.queries.iter().any(Query::is_sent)
    }

    /// Removes the query that started last.
    pub(super) fn pop(&mut self) -> Option<Query> {
        self.queries.pop()
    }

    /// Removes the query with this text that started last, or the query that started last if none has this text.
    ///
    /// Of several queries with one text the last is the right choice. If an earlier one was dropped, only the last can
    /// finish. If none was dropped, they were pipelined, and started at nearly the same time.
    pub(super) fn remove(&mut self, text: u64) -> Option<Query> {
        match self.queries.iter().rposition(|query| query.text == text) {
            Some(index) => Some(self.queries.remove(index)),
            None => self.pop(),
        }
    }

    /// The query that started last.
    pub(super) fn latest(&mut self) -> Option<&mut Query> {
        self.queries.last_mut()
    }

    /// The query with this text that started last, or the query that started last if none has this text.
    pub(super) fn find(&mut self, text: u64) -> Option<&mut Query> {
        match self.queries.iter().rposition(|query| query.text == text) {
            Some(index) => self.queries.get_mut(index),
            None => self.latest(),
        }
    }

    /// Restarts the time of the query that started last.
    pub(super) fn restart(&mut self) {
        if let Some(latest) = self.latest() {
            latest.started = clock::now();
        }
    }

    /// Adds the time of a query within the query that started last.
    #[inline]
    pub(super) fn add_nested(&mut self, took: u64) {
        if let Some(outer) = self.latest() {
            outer.nested += took;
        }
    }

    /// Removes all queries, but keeps their memory.
    pub(super) fn clear(&mut self) {
        self.queries.clear();
    }
}
