//! What Diesel reports of a connection, made into counts and times.
//!
//! Here: the [`Recorder`], which is the `Instrumentation` of one connection. How a statement's verb is told is in
//! [`verb`](super::verb). No text of a statement, bind or URL is kept.
//!
//! What Diesel 2.3 reports, and what is made of it:
//!
//! * A query starts and finishes. Its duration is the time between the two: with a result that is read row by row, it ends
//!   when the last row was read or the result was dropped. A query that Diesel starts but that never gets to the database
//!   (a bind that cannot be serialized) has no end, and is none.
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

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use diesel::Connection;
use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent};
use diesel::result::Error;

use super::error::ErrorKind;
use super::hooks::Hooks;
use super::metrics::{Metrics, Outcome};
use super::verb::{Operation, Reader, Verb};

/// Records what one connection does.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    hooks: Hooks,
    /// What happens now is not to be recorded: the pool looks whether the connection is alive.
    muted: bool,
    running: Running,
    /// The query that came to its end last, if no error was reported of it: the one that an error belongs to which the
    /// events left out.
    last: Option<Operation>,
    /// A statement failed and none has started since: when it finishes once more, that is the same end.
    just_failed: bool,
    /// The message of the error that was counted last, hashed, so that it is not counted again.
    counted_error: Option<u64>,
    /// The verbs of the statements that Diesel has in its cache, by the type of their query.
    cached: HashMap<usize, Verb, BuildHasherDefault<AddressHasher>>,
    /// What the next query does to a transaction, as announced.
    announced: Option<Control>,
    transaction: Option<Instant>,
}

/// A query that has started.
#[derive(Clone, Copy, Debug)]
struct Query {
    kind: QueryKind,
    identity: Option<usize>,
    started: Instant,
}

#[derive(Clone, Copy, Debug)]
enum QueryKind {
    /// Counted under its operation.
    Counted(Operation),
    /// Controls an announced transaction.
    Announced(Control),
    /// Controls a transaction by hand.
    Uncounted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Begin,
    Commit,
    Rollback,
    /// Of a savepoint.
    Nested,
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

    fn latest(&self) -> Option<&Query> {
        self.queries[..self.length].last()?.as_ref()
    }
}

impl Recorder {
    /// A recorder for one connection.
    pub(super) fn new(metrics: Arc<Metrics>, hooks: Hooks) -> Self {
        Self {
            metrics,
            hooks,
            muted: false,
            running: Running::default(),
            last: None,
            just_failed: false,
            counted_error: None,
            cached: HashMap::default(),
            announced: None,
            transaction: None,
        }
    }

    /// The recorder of a connection, if it still has the one it was given.
    pub(super) fn of<C: Connection>(connection: &mut C) -> Option<&mut Self> {
        connection.instrumentation().downcast_mut::<Self>()
    }

    /// Records nothing until told otherwise.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Forgets what was left unfinished: the connection passes from one user to the next. A transaction that is still
    /// open here was rolled back without Diesel, or is about to be, with its connection.
    pub(super) fn turn_over(&mut self) {
        self.running = Running::default();
        self.last = None;
        self.just_failed = false;
        self.counted_error = None;
        self.announced = None;
        self.settle(Outcome::RolledBack, Instant::now());
    }

    fn start(&mut self, query: &dyn DebugQuery) {
        let identity = identity(query);
        let kind = match self.announced.take() {
            Some(control) => QueryKind::Announced(control),
            None => match self.verb(query, identity) {
                Verb::Query(operation) => {
                    self.last = None;
                    QueryKind::Counted(operation)
                }
                Verb::Transaction => QueryKind::Uncounted,
            },
        };
        self.just_failed = false;
        self.running.push(Query {
            kind,
            identity,
            // After the verb is known: finding it is our time, not the database's.
            started: Instant::now(),
        });
    }

    fn verb(&self, query: &dyn DebugQuery, identity: Option<usize>) -> Verb {
        if let Some(&verb) = identity.and_then(|identity| self.cached.get(&identity)) {
            return verb;
        }
        let mut reader = Reader::default();
        // An error is the reader's way of saying that it has read enough.
        let _ = fmt::write(&mut reader, format_args!("{query}"));
        reader.finish()
    }

    /// Diesel keeps the statement that is running now.
    ///
    /// It never does so for `sql_query`, `sql` and the like. What it keeps was put together from types, and the type says
    /// where the statement begins, if not always how it goes on. So the text, which Diesel would put together for us anew
    /// each time, binds and all, is not needed again for its first word.
    fn cache(&mut self) {
        let Some(&Query {
            kind,
            identity: Some(identity),
            ..
        }) = self.running.latest()
        else {
            return;
        };
        let verb = match kind {
            QueryKind::Counted(operation) => Verb::Query(operation),
            QueryKind::Uncounted => Verb::Transaction,
            QueryKind::Announced(_) => return,
        };
        self.cached.insert(identity, verb);
    }

    fn finish(&mut self, error: Option<&Error>) {
        let now = Instant::now();
        if error.is_none() && self.just_failed {
            return;
        }
        let Some(query) = self.running.pop() else {
            return;
        };
        match query.kind {
            QueryKind::Counted(operation) => {
                let took = now.duration_since(query.started);
                let span = (self.hooks.span)();
                self.metrics.query(operation, took, span.as_ref());
                self.last = error.is_none().then_some(operation);
            }
            QueryKind::Announced(control) => self.control(control, &query, now, error.is_none()),
            QueryKind::Uncounted => {}
        }
        if let Some(error) = error {
            self.just_failed = true;
            self.failed(query.kind.operation(), error);
        }
    }

    fn failed(&mut self, operation: Operation, error: &Error) {
        if let Some(kind) = ErrorKind::of(error) {
            self.counted_error = hash_of_message(error);
            self.metrics.error(operation, kind);
        }
    }

    fn announce(&mut self, depth: u32, control: Control) {
        self.announced = Some(if depth == 1 { control } else { Control::Nested });
        if depth == 1 && control == Control::Begin {
            // One is still open only if the database rolled it back by itself.
            self.settle(Outcome::RolledBack, Instant::now());
        }
    }

    fn control(&mut self, control: Control, query: &Query, now: Instant, succeeded: bool) {
        match control {
            Control::Begin if succeeded => self.transaction = Some(query.started),
            Control::Commit if succeeded => self.settle(Outcome::Committed, now),
            // Diesel rolls back what could not be committed, if the database has not done so.
            Control::Commit | Control::Rollback => self.settle(Outcome::RolledBack, now),
            Control::Begin | Control::Nested => {}
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Instant) {
        if let Some(begun) = self.transaction.take() {
            let span = (self.hooks.span)();
            self.metrics
                .transaction(outcome, now.duration_since(begun), span.as_ref());
        }
    }

    /// Counts an error, unless an event has reported it.
    fn left_out(&mut self, error: &Error) {
        let message = hash_of_message(error);
        if message.is_none() || message == self.counted_error {
            return;
        }
        if self.running.latest().is_some() {
            // It started, failed before it ran, and was never finished.
            self.finish(Some(error));
        } else if let Some(operation) = self.last.take() {
            self.failed(operation, error);
        }
    }
}

impl QueryKind {
    /// What an error of it is counted under.
    fn operation(self) -> Operation {
        match self {
            Self::Counted(operation) => operation,
            Self::Announced(_) | Self::Uncounted => Operation::Other,
        }
    }
}

/// Counts an error of the database under the statement that ran last on this connection, if Diesel's events left it out.
///
/// Diesel does so for SQLite, where a statement with `RETURNING` or a `SELECT` fails (see the head of this module's file).
/// [`Pool::run`](crate::vitals::database::Pool::run) calls this with the error that its work returns. It remains to be
/// called by whoever has a connection from [`Pool::get`](crate::vitals::database::Pool::get), or handles such an error
/// within the work. Called for an error that is counted already, or that is not the database's, or on a connection without
/// a recorder, it does nothing.
pub fn record_error<C: Connection>(connection: &mut C, error: &Error) {
    if let Some(recorder) = Recorder::of(connection) {
        recorder.left_out(error);
    }
}

/// The hash of what the database said; nothing for errors that are not the database's.
fn hash_of_message(error: &Error) -> Option<u64> {
    let Error::DatabaseError(_, information) = error else {
        return None;
    };
    let mut hasher = DefaultHasher::new();
    information.message().hash(&mut hasher);
    Some(hasher.finish())
}

/// What tells the type of a query from that of others: the address of its methods' table, which is the second half of the
/// reference. Hashing the pointer is the way to see it without `unsafe`; should it come to be hashed in another way, there
/// is no identity, and the statement is read each time.
fn identity(query: &dyn DebugQuery) -> Option<usize> {
    let mut halves = PointerHalves::default();
    std::ptr::from_ref(query).hash(&mut halves);
    (halves.seen == 2).then_some(halves.last)
}

#[derive(Default)]
struct PointerHalves {
    seen: u32,
    last: usize,
}

impl Hasher for PointerHalves {
    fn write_usize(&mut self, half: usize) {
        self.seen += 1;
        self.last = half;
    }

    fn write(&mut self, _: &[u8]) {
        self.seen = u32::MAX / 2;
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Spreads addresses, which are unlike each other in the middle, over the table. Nobody from outside chooses them.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 3)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Instrumentation for Recorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if self.muted {
            return;
        }
        match event {
            InstrumentationEvent::StartQuery { query, .. } => self.start(query),
            InstrumentationEvent::CacheQuery { .. } => self.cache(),
            InstrumentationEvent::FinishQuery { error, .. } => self.finish(error),
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

impl Drop for Recorder {
    fn drop(&mut self) {
        self.settle(Outcome::RolledBack, Instant::now());
    }
}

#[cfg(test)]
mod tests;
