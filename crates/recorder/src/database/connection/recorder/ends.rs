//! The end of a query: its time, what it is counted under, and what it is suspected of.
//!
//! A query ends with an event of Diesel, whose error it may have, or without one when its future is dropped. Either way it
//! ends once.

use std::fmt::Write as _;
use std::time::Duration;

use diesel::connection::DebugQuery;
use diesel::result::Error;

use super::running::{Query, QueryKind};
use super::starts::{KEPT_TEXT, Text, without_binds};
use super::{Driver, QueryRecorder};
use crate::clock::{self, Moment};
use crate::context::{self, Attribution, QueryEnd};
use crate::database::error::ErrorKind;
use crate::database::sql::{Operation, TransactionEffect};
use crate::database::statements::connection_statements::StatementLookup;
use crate::suspicions::SuspiciousQuery;

impl QueryRecorder {
    /// Handles Diesel's event for the end of a query.
    ///
    /// The query is passed as a reference to its reference: Diesel has just written the two words of that, and a processor
    /// waits before it reads both at once. Most ends need none of them.
    #[inline]
    pub(super) fn finished(&mut self, finished: &&dyn DebugQuery, error: Option<&Error>) {
        let now = clock::now();
        if self.driver == Driver::Blocking || self.running.is_unambiguous() {
            self.finish_at(error, now);
            return;
        }
        let mut text = Text {
            text: &mut self.text,
            has_binds: false,
        };
        // The writer stops at the binds with an error.
        let _ = write!(text, "{finished}");
        let hash = self.known.hash(without_binds(&self.text));
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        if let Some(query) = self.running.remove(hash) {
            self.end(&query, error, now);
        }
    }

    /// Ends the query that started last.
    pub(super) fn finish(&mut self, error: Option<&Error>) {
        self.finish_at(error, clock::now());
    }

    #[inline]
    fn finish_at(&mut self, error: Option<&Error>, now: Moment) {
        if self.driver == Driver::Blocking && error.is_none() && self.failures.just_failed {
            return;
        }
        if let Some(query) = self.running.pop() {
            self.end(&query, error, now);
        }
    }

    /// Ends a query, which no longer runs.
    fn end(&mut self, query: &Query, error: Option<&Error>, now: Moment) {
        if query.kind == QueryKind::PossiblePing {
            let query = self.not_a_ping(query);
            return self.end(&query, error, now);
        }
        if query.effect.transaction != TransactionEffect::None {
            self.controlled_by_hand(query.effect.transaction, error.is_none());
        }
        self.settle_query(query, error, now);
        self.rest(query, now);
    }

    /// Counts a query as what it is, and notes what its end says about the connection.
    fn settle_query(&mut self, query: &Query, error: Option<&Error>, now: Moment) {
        if let Some(Error::QueryBuilderError(_) | Error::SerializationError(_)) = error {
            // It could not be built and was never sent.
            if query.kind.is_recorded() {
                self.note_control_end(query, 0, now);
            }
            return;
        }
        let took = now.nanoseconds_since(query.started);
        if self.driver == Driver::Blocking {
            self.running.add_nested(took);
        }
        // The time of nested queries is in the request's tally already.
        let own = took.saturating_sub(query.nested);
        match query.kind {
            QueryKind::Counted(operation, lookup) => {
                self.count(operation, lookup, (query.started, own), now, true);
                let may_write = operation != Operation::Select || query.effect.writes;
                if may_write && self.is_in_transaction() {
                    self.writes(true);
                }
                self.may_have_written |= may_write;
                self.failures.finished(query, may_write, error.is_some());
            }
            QueryKind::Announced(control) => {
                self.control(control, query, now, error.is_none());
                self.note_control_end(query, own, now);
            }
            QueryKind::Uncounted => {
                self.may_have_written |= query.effect.writes;
                self.note_control_end(query, own, now);
            }
            QueryKind::Ping | QueryKind::PossiblePing | QueryKind::Unbuilt => {}
        }
        match error {
            Some(_) if query.kind == QueryKind::Ping => {}
            Some(error) => {
                self.failures.just_failed = true;
                self.reported(query, error);
            }
            None => {
                self.answered = true;
                self.answered_at = now;
            }
        }
    }

    /// Adds the time of a query that is not counted to the tally of the request, and notes that it no longer runs.
    fn note_control_end(&self, query: &Query, own: u64, now: Moment) {
        context::note_control_end(&QueryEnd {
            started: query.started,
            at: now,
            own,
            shape: None,
            in_transaction: self.is_in_transaction(),
        });
    }

    /// Counts a query that ended, adds its own time to the tally of the request, and notes that the query no longer runs.
    /// `is_on_stack` is whether the code that ran it is on the stack of this thread.
    #[inline]
    fn count(
        &mut self,
        operation: Operation,
        lookup: StatementLookup,
        (started, own): (Moment, u64),
        now: Moment,
        is_on_stack: bool,
    ) {
        let took = now.nanoseconds_since(started);
        let seconds = took as f64 / 1e9;
        let (shape, is_wanted) = self.known.ran(lookup, seconds, now);
        let end = QueryEnd {
            started,
            at: now,
            own,
            shape,
            in_transaction: self.is_in_transaction(),
        };
        let compared_from = self.known.suspicions().compared_from();
        let (attribution, runs) = context::note_query_end(&end, compared_from);
        (self.writers).query(&self.metrics, operation, seconds, attribution);
        if attribution == Attribution::Unattributed && !self.setting_up {
            self.metrics.unattributed(operation);
            self.known.unattributed(lookup);
        }
        if is_wanted || self.known.suspicions().is_suspicious(runs, took) {
            let query = SuspiciousQuery {
                statement: shape,
                operation,
                runs,
                took: Duration::from_nanos(took),
                is_on_stack,
                is_wanted,
            };
            self.suspect(lookup, query);
        }
    }

    /// Reports a query that is slow, or that the request repeats.
    #[cold]
    fn suspect(&mut self, lookup: StatementLookup, query: SuspiciousQuery) {
        let suspicions = self.known.suspicions().clone();
        let key = suspicions.query_ended(&query, || self.known.describe(lookup));
        if query.is_wanted && key.is_some_and(|key| suspicions.is_captured(key)) {
            self.known.located(lookup);
        }
        if let Some(statement) = query
            .statement
            .filter(|_| suspicions.is_captured_at(query.runs))
        {
            context::note_repetition(statement, key);
        }
    }

    /// Notes for the list of holders that a query no longer runs.
    #[inline]
    fn rest(&mut self, query: &Query, now: Moment) {
        let Some(slot) = &self.slot else {
            return;
        };
        if !query.kind.is_recorded() {
            return;
        }
        match self.running.latest() {
            None => slot.rests(self.is_in_transaction(), now),
            // Another query of the connection goes on.
            Some(Query { kind, started, .. }) => {
                let statement = match *kind {
                    QueryKind::Counted(_, lookup) => self.known.number(lookup),
                    _ => None,
                };
                slot.runs(statement, *started);
            }
        }
    }

    /// Whether queries have started and not finished.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "connections of diesel-async alone ask")
    )]
    #[inline]
    pub(in super::super) fn has_unfinished(&self) -> bool {
        !self.running.is_empty()
    }

    /// Counts the queries that have not finished as cancelled. Called when no future of the connection can exist any more:
    /// the connection is borrowed exclusively, returned to its pool, or dropped.
    pub(in super::super) fn cancel_unfinished(&mut self) {
        if !self.running.is_empty() {
            let now = clock::now();
            while let Some(query) = self.running.pop() {
                self.cancelled(&query, now);
            }
        }
    }

    /// Counts a query whose future was dropped.
    #[cold]
    pub(super) fn cancelled(&mut self, query: &Query, now: Moment) {
        let took = now.nanoseconds_since(query.started);
        self.out_of_step |= self.driver == Driver::Exclusive && query.is_sent();
        match query.kind {
            QueryKind::Counted(operation, lookup) => {
                self.count(operation, lookup, (query.started, took), now, false);
                self.failed(operation, lookup, ErrorKind::Cancelled);
            }
            QueryKind::Announced(_) | QueryKind::Uncounted => {
                self.note_control_end(query, took, now);
                self.metrics.error(Operation::Other, ErrorKind::Cancelled);
            }
            QueryKind::Ping | QueryKind::PossiblePing | QueryKind::Unbuilt => {}
        }
        self.rest(query, now);
    }
}
