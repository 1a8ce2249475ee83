//! What Diesel reports of a connection, made into counts and times.
//!
//! Here: the [`QueryRecorder`], which is the `Instrumentation` of one connection. How a statement's verb is told is in
//! [`sql`](super::sql), what is kept of its text in [`statements`](super::statements). No bind and no URL is kept.
//!
//! What Diesel 2.3 reports, and what is made of it:
//!
//! * A query starts and finishes. Its duration is the time between the two: with a result that is read row by row, it ends
//!   when the last row was read or the result was dropped. A query that Diesel starts but never sends (a bind that cannot be
//!   serialized, an update without a change) has no end, or ends with an error of Diesel's own. It is not counted.
//! * PostgreSQL's connection looks up the types it does not know yet by queries of its own, between the start and the end
//!   of the query that needs them. Both count.
//! * PostgreSQL's row-by-row mode finishes a query twice if it failed in between. It counts once.
//! * SQLite's connection finishes a query without its error if it failed while its rows were read, and that is every
//!   failure of a statement with `RETURNING` or of a `SELECT`. What the events leave out, [`record_error`] puts in; a
//!   [`Pool`](super::pool::Pool) calls it with the error of the work it ran.
//! * A transaction is announced before its `BEGIN`, `COMMIT` or `ROLLBACK`, which are reported as queries too. The
//!   announcement says what the next query is for; the end of that query says whether it came to be. A transaction that
//!   was neither committed nor rolled back when its connection closed was rolled back by the database. Transactions made
//!   by hand (`sql_query("BEGIN")`) are not announced, and not counted.
//! * Diesel keeps most statements prepared, and announces each when it begins to, between the start and the end of the
//!   query. It never does so for `sql_query`, `sql` and the like. Which query needs its text read is in [`types`].
//! * `R2D2Connection::ping` runs `SELECT 1` by a type of its own, which Diesel keeps prepared and so announces. An
//!   application's `SELECT 1` is not announced, being `sql_query` or `sql`, and counts. Where the application has turned
//!   Diesel's cache of statements off, nothing is announced, and the pings of a pool that is not ours count as well.

mod failures;
mod types;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use diesel::Connection;
use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent};
use diesel::result::Error;

use super::forward::Forward;
use crate::clock::{self, Moment};
use crate::context::{self, Attribution};
use crate::database::error::ErrorKind;
use crate::database::metrics::{Metrics, TransactionOutcome};
use crate::database::sql::{Dialect, Operation};
use crate::database::statements::Statements;
use crate::database::statements::connection_statements::{
    ConnectionStatements, StatementLookup, TextKind,
};

use failures::{ErrorIdentity, Failures};
use types::{TypeIdentity, Types};

/// How Diesel's `Display` of a query separates the statement from its binds.
const BINDS: &str = " -- binds: ";

/// Bytes of a text's buffer that are kept from one query to the next.
const KEPT_TEXT: usize = 64 * 1024;

/// The text of `R2D2Connection::ping`, by which a pool looks whether a connection is alive.
const PING: &str = "SELECT 1";

/// Records what one connection does.
#[derive(Debug)]
pub struct QueryRecorder {
    metrics: Arc<Metrics>,
    /// What happens now is not to be recorded: the pool looks whether the connection is alive.
    muted: bool,
    /// The pool's customizer sets the connection up: its queries belong to the pool, not to a request or job.
    setting_up: bool,
    /// The database has answered a query since the connection changed hands.
    answered: bool,
    running: Running,
    /// Queries that have started so far.
    started: u64,
    /// What an error may belong to that the events left out.
    failures: Failures,
    known: ConnectionStatements,
    types: Types,
    /// The text that is being looked at; empty in between.
    text: String,
    /// What the next query does to a transaction, as announced.
    announced: Option<Control>,
    transaction: Option<Moment>,
    /// The application's instrumentation.
    forward: Forward,
    /// The type of Diesel's ping, once it was met.
    ping: Option<TypeIdentity>,
}

/// A query that has started.
#[derive(Clone, Copy, Debug)]
struct Query {
    /// Its place in the order in which the queries started.
    number: u64,
    kind: QueryKind,
    identity: Option<TypeIdentity>,
    started: Moment,
    /// The time of queries within this one.
    nested: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryKind {
    /// Counted under its operation and its statement.
    Counted(Operation, StatementLookup),
    /// Controls an announced transaction.
    Announced(Control),
    /// Controls a transaction by hand.
    Uncounted,
    /// Diesel's own look whether the connection is alive.
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Begin,
    Commit,
    Rollback,
    /// Of a savepoint.
    Nested,
}

impl From<TextKind> for QueryKind {
    fn from(kind: TextKind) -> Self {
        match kind {
            Some((operation, place)) => Self::Counted(operation, place),
            None => Self::Uncounted,
        }
    }
}

/// Takes a query's text up to its binds.
struct Text<'a>(&'a mut String);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if piece.starts_with(BINDS) {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

/// The queries that have started and not finished: one, or two while PostgreSQL's connection looks up a type. More are
/// there only if some never finish, and then the eldest give way.
#[derive(Debug, Default)]
struct Running {
    queries: [Option<Query>; 4],
    length: usize,
}

impl Running {
    fn push(&mut self, query: Query) {
        if self.length == self.queries.len() {
            self.queries.rotate_left(1);
            self.length -= 1;
        }
        self.queries[self.length] = Some(query);
        self.length += 1;
    }

    fn pop(&mut self) -> Option<Query> {
        self.length = self.length.checked_sub(1)?;
        self.queries[self.length].take()
    }

    fn latest(&mut self) -> Option<&mut Query> {
        self.queries[..self.length].last_mut()?.as_mut()
    }

    /// The latest starts only now.
    fn restart(&mut self) {
        if let Some(latest) = self.latest() {
            latest.started = clock::now();
        }
    }

    /// Adds the time of a query within the latest.
    fn add_nested(&mut self, took: Duration) {
        if let Some(outer) = self.latest() {
            outer.nested += took;
        }
    }
}

impl QueryRecorder {
    /// A recorder for one connection.
    pub(super) fn new(metrics: Arc<Metrics>, statements: Statements, dialect: Dialect) -> Self {
        Self {
            metrics,
            muted: false,
            setting_up: false,
            answered: false,
            running: Running::default(),
            started: 0,
            failures: Failures::default(),
            known: ConnectionStatements::new(statements, dialect),
            types: Types::default(),
            text: String::new(),
            announced: None,
            transaction: None,
            forward: Forward::default(),
            ping: None,
        }
    }

    /// Returns a recorder for a connection that a pool opens. The queries of the pool's customizer belong to no caller.
    pub(super) fn of_pool(metrics: Arc<Metrics>, statements: Statements, dialect: Dialect) -> Self {
        let mut recorder = Self::new(metrics, statements, dialect);
        recorder.setting_up = true;
        recorder
    }

    /// The recorder of a connection, if it still has the one it was given.
    pub(super) fn of<C: Connection>(connection: &mut C) -> Option<&mut Self> {
        connection.instrumentation().downcast_mut::<Self>()
    }

    /// Hands every event on to this instrumentation, and to no other.
    pub(super) fn forward(&mut self, forward: Forward) {
        self.forward = forward;
    }

    /// Takes the instrumentation that receives the events next, for another recorder.
    pub(super) fn take_forward(&mut self) -> Forward {
        std::mem::take(&mut self.forward)
    }

    /// Records nothing until told otherwise.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Whether the database has answered a query since the connection changed hands.
    pub(super) fn was_answered(&self) -> bool {
        self.answered
    }

    /// Forgets what was left unfinished: the connection passes from one user to the next. A transaction that is still
    /// open here was rolled back without Diesel, or is about to be, with its connection.
    pub(super) fn turn_over(&mut self) {
        self.setting_up = false;
        self.answered = false;
        self.running = Running::default();
        self.failures = Failures::default();
        self.announced = None;
        self.settle(TransactionOutcome::RolledBack, clock::now());
    }

    fn start(&mut self, query: &dyn DebugQuery) {
        let identity = TypeIdentity::of(query);
        let kind = match self.announced.take() {
            Some(control) => QueryKind::Announced(control),
            None if identity.is_some() && identity == self.ping => QueryKind::Ping,
            None => self.kind(query, identity).into(),
        };
        self.failures.just_failed = false;
        self.started += 1;
        self.running.push(Query {
            number: self.started,
            kind,
            identity,
            // After the statement is known: finding it is our time, not the database's.
            started: clock::now(),
            nested: Duration::ZERO,
        });
    }

    #[inline]
    fn kind(&mut self, query: &dyn DebugQuery, identity: Option<TypeIdentity>) -> TextKind {
        let known = &self.known;
        let trusted = identity.and_then(|identity| self.types.kind(identity, known));
        trusted.unwrap_or_else(|| self.read(query, identity))
    }

    /// Classifies a query by its text, up to its binds. The buffer is left empty: it held literals.
    fn read(&mut self, query: &dyn DebugQuery, identity: Option<TypeIdentity>) -> TextKind {
        // An error is the writer's way of saying that it has all it wants.
        let _ = write!(Text(&mut self.text), "{query}");
        let sql = without_binds(&self.text);
        let hash = self.known.hash(sql);
        let kind = self.known.of_text(hash, sql);
        if let Some(identity) = identity {
            self.types.saw(identity, hash, kind);
        }
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        kind
    }

    /// Handles Diesel's event for caching the statement of the query that is running now. The event has the text that
    /// runs, even if another text was assumed when the query started.
    fn cache(&mut self, sql: &str) {
        let Some(query) = self.running.latest() else {
            return;
        };
        if sql == PING {
            query.kind = QueryKind::Ping;
            self.ping = query.identity;
            return;
        }
        if let QueryKind::Announced(_) = query.kind {
            return;
        }
        let sql = without_binds(sql);
        let hash = self.known.hash(sql);
        let kind = self.known.of_text(hash, sql);
        query.kind = kind.into();
        if let Some(identity) = query.identity {
            self.types.announced(identity, hash, kind);
        }
    }

    fn finish(&mut self, error: Option<&Error>) {
        let now = clock::now();
        if error.is_none() && self.failures.just_failed {
            return;
        }
        let Some(query) = self.running.pop() else {
            return;
        };
        if let Some(Error::QueryBuilderError(_) | Error::SerializationError(_)) = error {
            // It was never sent: it could not be put together.
            return;
        }
        let took = now.since(query.started);
        self.running.add_nested(took);
        // What is within a query is in the request's tally already.
        let own = took.saturating_sub(query.nested);
        match query.kind {
            QueryKind::Counted(operation, place) => {
                let shape = self.known.ran(place, took, now);
                let attribution = context::add_query(own, shape);
                self.metrics
                    .query(operation, took, attribution.span().as_ref());
                if attribution == Attribution::Unattributed && !self.setting_up {
                    self.metrics.unattributed(operation);
                    self.known.unattributed(place);
                }
                self.failures
                    .finished(query.number, (operation, place), error.is_some());
            }
            QueryKind::Announced(control) => {
                context::add_database_time(own);
                self.control(control, &query, now, error.is_none());
            }
            QueryKind::Uncounted => context::add_database_time(own),
            QueryKind::Ping => {}
        }
        match error {
            Some(_) if query.kind == QueryKind::Ping => {}
            Some(error) => {
                self.failures.just_failed = true;
                self.reported(&query, error);
            }
            None => self.answered = true,
        }
    }

    /// A query finished with an error.
    #[cold]
    fn reported(&mut self, query: &Query, error: &Error) {
        let Some(kind) = ErrorKind::of(error) else {
            return;
        };
        self.failures.reported(error);
        if let QueryKind::Counted(operation, place) = query.kind {
            self.failed(operation, place, kind);
        } else {
            self.failures.control_failed(query.number);
            self.metrics.error(Operation::Other, kind);
        }
    }

    fn failed(&mut self, operation: Operation, place: StatementLookup, kind: ErrorKind) {
        self.known.failed(place);
        self.metrics.error(operation, kind);
    }

    fn announce(&mut self, depth: u32, control: Control) {
        self.announced = Some(if depth == 1 { control } else { Control::Nested });
        if depth == 1 && control == Control::Begin {
            // One is still open only if the database rolled it back by itself.
            self.settle(TransactionOutcome::RolledBack, clock::now());
        }
    }

    fn control(&mut self, control: Control, query: &Query, now: Moment, succeeded: bool) {
        match control {
            Control::Begin if succeeded => self.transaction = Some(query.started),
            Control::Commit if succeeded => self.settle(TransactionOutcome::Committed, now),
            // Diesel rolls back what could not be committed, if the database has not done so.
            Control::Commit | Control::Rollback => self.settle(TransactionOutcome::RolledBack, now),
            Control::Begin | Control::Nested => {}
        }
    }

    fn settle(&mut self, outcome: TransactionOutcome, now: Moment) {
        if let Some(begun) = self.transaction.take() {
            let span = context::current_span();
            self.metrics
                .transaction(outcome, now.since(begun), span.as_ref());
        }
    }

    /// Counts an error, unless an event has reported it.
    fn left_out(&mut self, error: &Error) {
        let (Some(identity), Some(kind)) = (ErrorIdentity::of(error), ErrorKind::of(error)) else {
            return;
        };
        if self.failures.take_reported(identity) {
            return;
        }
        let running = self.running.latest().map(|query| query.number);
        if running.is_some_and(|number| self.failures.is_newest(number)) {
            // It started, failed before it ran, and was never finished.
            self.finish(Some(error));
            self.failures.take_reported(identity);
        } else if let Some((operation, place)) = self.failures.fail(kind) {
            self.failed(operation, place, kind);
        }
    }
}

/// The text of a query without what `Display` writes of its binds.
fn without_binds(sql: &str) -> &str {
    sql.split(BINDS).next().unwrap_or_default()
}

/// Counts an error of the database under the statement that ran last on this connection, if Diesel's events left it out.
///
/// Diesel does so for SQLite, where a statement with `RETURNING` or a `SELECT` fails (see the head of this module's file).
/// [`Pool::run`](crate::database::Pool::run) calls this with the error that its work returns. It remains to be
/// called by whoever has a connection from [`Pool::get`](crate::database::Pool::get), or handles such an error
/// within the work. Call it once for each error, before the connection runs the next statement: the error is counted under
/// the last statement that could have failed so, unless that has failed already. Called for an error that Diesel has
/// reported, or that is not the database's, or on a connection without a recorder, it does nothing.
pub fn record_error<C: Connection>(connection: &mut C, error: &Error) {
    if let Some(recorder) = QueryRecorder::of(connection) {
        recorder.left_out(error);
    }
}

impl Instrumentation for QueryRecorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if !self.muted {
            self.record(&event);
        }
        if self.forward.is_set() {
            let starts = matches!(event, InstrumentationEvent::StartQuery { .. });
            self.forward.hand_on(event);
            if starts {
                // The time of the application's instrumentation is not the database's.
                self.running.restart();
            }
        }
    }
}

impl QueryRecorder {
    fn record(&mut self, event: &InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => self.start(*query),
            InstrumentationEvent::CacheQuery { sql, .. } => self.cache(sql),
            InstrumentationEvent::FinishQuery { error, .. } => self.finish(*error),
            InstrumentationEvent::BeginTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Begin);
            }
            InstrumentationEvent::CommitTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Commit);
            }
            InstrumentationEvent::RollbackTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Rollback);
            }
            // The manager times the opening of connections; these events carry the URL.
            _ => {}
        }
    }
}

impl Drop for QueryRecorder {
    fn drop(&mut self) {
        self.settle(TransactionOutcome::RolledBack, clock::now());
    }
}

#[cfg(test)]
mod tests;
