//! What Diesel reports of a connection, made into counts and times.
//!
//! Here: the [`Recorder`], which is the `Instrumentation` of one connection. How a statement's verb is told is in
//! [`sql`](super::sql), what is kept of its text in [`statements`](super::statements). No bind and no URL is kept.
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
//! * Diesel keeps most statements prepared, and announces each when it begins to. It never does so for `sql_query`, `sql`
//!   and the like. What it keeps was put together from types, so that the type of a query says which statement it is, and
//!   the text, which Diesel would put together for us anew each time, binds and all, need not be looked at. The exception
//!   are types whose text depends on their values (boxed queries, changesets with options): they are known by a second
//!   statement of theirs, either when Diesel announces that one or when, now and then, the text is looked at to be sure.
//!   From then on it always is. Until then, calls of such a type may be counted under its first statement.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use diesel::Connection;
use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent};
use diesel::result::Error;

use super::error::ErrorKind;
use super::metrics::{Metrics, Outcome};
use super::sql::Dialect;
use super::sql::verb::{BINDS, Operation};
use super::statements::{Known, Place, Statements};
use crate::vitals::clock::{self, Moment};
use crate::vitals::context::{self, Attribution};

/// Bytes of a text's buffer that are kept from one query to the next.
const KEPT_TEXT: usize = 64 * 1024;

/// Of so many uses of a query's type, one looks at the text; and so do the first few.
const USES_BETWEEN_LOOKS: u32 = 256;
const FIRST_LOOKS: u32 = 4;

/// Records what one connection does.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    /// What happens now is not to be recorded: the pool looks whether the connection is alive.
    muted: bool,
    /// The pool's customizer sets the connection up: its queries belong to the pool, not to a request or job.
    setting_up: bool,
    /// The database has answered a query since the connection changed hands.
    answered: bool,
    running: Running,
    /// The query that came to its end last, if no error was reported of it: the one that an error belongs to which the
    /// events left out.
    last: Option<(Operation, Place)>,
    /// A statement failed and none has started since: when it finishes once more, that is the same end.
    just_failed: bool,
    /// The message of the error that was counted last, hashed, so that it is not counted again.
    counted_error: Option<u64>,
    known: Known,
    /// The statements that Diesel has in its cache, by the type of their query.
    cached: HashMap<usize, Learnt, BuildHasherDefault<AddressHasher>>,
    /// The text that is being looked at; empty in between.
    text: String,
    /// What the next query does to a transaction, as announced.
    announced: Option<Control>,
    transaction: Option<Moment>,
}

/// A query that has started.
#[derive(Clone, Copy, Debug)]
struct Query {
    kind: QueryKind,
    identity: Option<usize>,
    started: Moment,
    /// The time of queries within this one.
    nested: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryKind {
    /// Counted under its operation and its statement.
    Counted(Operation, Place),
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

/// What a query's type says.
#[derive(Clone, Copy, Debug)]
enum Learnt {
    /// It is always this.
    One { kind: QueryKind, uses: u32 },
    /// It may be this or that.
    Many,
}

impl Learnt {
    /// What a query of this type is; nothing where its text is to be looked at.
    #[inline]
    fn kind(&mut self, known: &Known) -> Option<QueryKind> {
        let Self::One { kind, uses } = self else {
            return None;
        };
        *uses = uses.wrapping_add(1);
        let is_sure = *uses > FIRST_LOOKS && *uses % USES_BETWEEN_LOOKS != 0;
        (is_sure && kind.is_valid(known)).then_some(*kind)
    }

    /// A query of this type was this.
    fn saw(&mut self, seen: QueryKind, known: &Known) {
        if let Self::One { kind, .. } = self {
            if kind.is_valid(known) && *kind != seen {
                *self = Self::Many;
            } else {
                *kind = seen;
            }
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

    fn latest(&self) -> Option<&Query> {
        self.queries[..self.length].last()?.as_ref()
    }

    /// Adds the time of a query within the latest.
    fn add_nested(&mut self, took: Duration) {
        if let Some(Some(outer)) = self.queries[..self.length].last_mut() {
            outer.nested += took;
        }
    }
}

impl Recorder {
    /// A recorder for one connection.
    pub(super) fn new(metrics: Arc<Metrics>, statements: Statements, dialect: Dialect) -> Self {
        Self {
            metrics,
            muted: false,
            setting_up: false,
            answered: false,
            running: Running::default(),
            last: None,
            just_failed: false,
            counted_error: None,
            known: Known::new(statements, dialect),
            cached: HashMap::default(),
            text: String::new(),
            announced: None,
            transaction: None,
        }
    }

    /// A recorder for a connection that a pool opens: what its customizer runs is nobody's.
    pub(super) fn of_pool(metrics: Arc<Metrics>, statements: Statements, dialect: Dialect) -> Self {
        let mut recorder = Self::new(metrics, statements, dialect);
        recorder.setting_up = true;
        recorder
    }

    /// The recorder of a connection, if it still has the one it was given.
    pub(super) fn of<C: Connection>(connection: &mut C) -> Option<&mut Self> {
        connection.instrumentation().downcast_mut::<Self>()
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
        self.last = None;
        self.just_failed = false;
        self.counted_error = None;
        self.announced = None;
        self.settle(Outcome::RolledBack, clock::now());
    }

    fn start(&mut self, query: &dyn DebugQuery) {
        let identity = identity(query);
        let kind = match self.announced.take() {
            Some(control) => QueryKind::Announced(control),
            None => self.kind(query, identity),
        };
        if let QueryKind::Counted(..) = kind {
            self.last = None;
        }
        self.just_failed = false;
        self.running.push(Query {
            kind,
            identity,
            // After the statement is known: finding it is our time, not the database's.
            started: clock::now(),
            nested: Duration::ZERO,
        });
    }

    fn kind(&mut self, query: &dyn DebugQuery, identity: Option<usize>) -> QueryKind {
        let learnt = identity.and_then(|identity| self.cached.get_mut(&identity));
        let Some(learnt) = learnt else {
            return read(&mut self.text, &mut self.known, query);
        };
        learnt.kind(&self.known).unwrap_or_else(|| {
            let kind = read(&mut self.text, &mut self.known, query);
            learnt.saw(kind, &self.known);
            kind
        })
    }

    /// Diesel keeps the statement that is running now.
    fn cache(&mut self) {
        let Some(&Query {
            kind,
            identity: Some(identity),
            ..
        }) = self.running.latest()
        else {
            return;
        };
        if let QueryKind::Announced(_) = kind {
            return;
        }
        self.cached
            .entry(identity)
            .and_modify(|learnt| learnt.saw(kind, &self.known))
            .or_insert(Learnt::One { kind, uses: 0 });
    }

    fn finish(&mut self, error: Option<&Error>) {
        let now = clock::now();
        if error.is_none() && self.just_failed {
            return;
        }
        let Some(query) = self.running.pop() else {
            return;
        };
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
                self.last = error.is_none().then_some((operation, place));
            }
            QueryKind::Announced(control) => {
                context::add_database_time(own);
                self.control(control, &query, now, error.is_none());
            }
            QueryKind::Uncounted => context::add_database_time(own),
        }
        match error {
            Some(error) => {
                self.just_failed = true;
                self.failed(query.kind, error);
            }
            None => self.answered = true,
        }
    }

    fn failed(&mut self, query: QueryKind, error: &Error) {
        let Some(kind) = ErrorKind::of(error) else {
            return;
        };
        self.counted_error = hash_of_message(error);
        let operation = match query {
            QueryKind::Counted(operation, place) => {
                self.known.failed(place);
                operation
            }
            QueryKind::Announced(_) | QueryKind::Uncounted => Operation::Other,
        };
        self.metrics.error(operation, kind);
    }

    fn announce(&mut self, depth: u32, control: Control) {
        self.announced = Some(if depth == 1 { control } else { Control::Nested });
        if depth == 1 && control == Control::Begin {
            // One is still open only if the database rolled it back by itself.
            self.settle(Outcome::RolledBack, clock::now());
        }
    }

    fn control(&mut self, control: Control, query: &Query, now: Moment, succeeded: bool) {
        match control {
            Control::Begin if succeeded => self.transaction = Some(query.started),
            Control::Commit if succeeded => self.settle(Outcome::Committed, now),
            // Diesel rolls back what could not be committed, if the database has not done so.
            Control::Commit | Control::Rollback => self.settle(Outcome::RolledBack, now),
            Control::Begin | Control::Nested => {}
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Moment) {
        if let Some(begun) = self.transaction.take() {
            let span = context::current_span();
            self.metrics
                .transaction(outcome, now.since(begun), span.as_ref());
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
        } else if let Some((operation, place)) = self.last.take() {
            self.failed(QueryKind::Counted(operation, place), error);
        }
    }
}

impl QueryKind {
    /// Whether its statement is still where it was.
    #[inline]
    fn is_valid(self, known: &Known) -> bool {
        match self {
            Self::Counted(_, place) => known.is_valid(place),
            Self::Announced(_) | Self::Uncounted => true,
        }
    }
}

/// What a query is by its text, up to its binds. The buffer is left empty: it held literals.
fn read(text: &mut String, known: &mut Known, query: &dyn DebugQuery) -> QueryKind {
    // An error is the writer's way of saying that it has all it wants.
    let _ = write!(Text(text), "{query}");
    let sql = text.split(BINDS).next().unwrap_or_default();
    let kind = match known.of_text(sql) {
        Some((operation, place)) => QueryKind::Counted(operation, place),
        None => QueryKind::Uncounted,
    };
    text.clear();
    text.shrink_to(KEPT_TEXT);
    kind
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
        self.settle(Outcome::RolledBack, clock::now());
    }
}

#[cfg(test)]
mod tests;
