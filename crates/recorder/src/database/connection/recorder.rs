//! Turns the events of a Diesel connection into counts and times.
//!
//! Contains the [`QueryRecorder`], which is the `Instrumentation` of one connection. Not here: how the verb of a statement
//! is found ([`sql`](crate::database::sql)), and what is kept of its text (`statements`). No bind and no URL is kept.
//!
//! What Diesel 2.3 reports, and what follows from it:
//!
//! * A query starts and finishes. Its duration is the time between the two. A result that is read row by row ends when the
//!   last row was read or the result was dropped. Diesel starts queries that it never sends: a bind cannot be serialized, or
//!   an update changes nothing. They have no end, or end with an error of Diesel's own, and are not counted.
//! * PostgreSQL's connection looks up unknown types by queries of its own, between the start and the end of the query that
//!   needs them. Both count.
//! * PostgreSQL's row-by-row mode finishes a query twice if it failed in between. It counts once.
//! * SQLite's connection finishes a query without its error if it failed while its rows were read. That applies to every
//!   failure of a `SELECT` or of a statement with `RETURNING`. [`record_error`] adds such errors; a
//!   [`Pool`](crate::database::Pool) calls it with the error of the work that it ran.
//! * A transaction is announced before its `BEGIN`, `COMMIT` or `ROLLBACK`, which are reported as queries too. The
//!   announcement says what the next query is for, and the end of that query whether it succeeded. A transaction that was
//!   neither committed nor rolled back when its connection closed was rolled back by the database. Transactions made by
//!   hand (`sql_query("BEGIN")`) are not announced, and not counted.
//! * Diesel keeps most statements prepared, and announces each when it begins to, between the start and the end of the
//!   query. It never does so for `sql_query`, `sql` and similar queries. [`types`] decides which texts must be read.
//! * `R2D2Connection::ping` runs `SELECT 1` by a type of its own, which Diesel keeps prepared and so announces. A `SELECT 1`
//!   of an application is `sql_query` or `sql`, is not announced, and counts. If the application has turned Diesel's
//!   statement cache off, nothing is announced, and the pings of a foreign pool count as well.
//!
//! What diesel-async 0.9 reports differently:
//!
//! * A query starts when its future is created, and ends when the first row is there. Errors of later rows are left out.
//! * A future that is dropped finishes nothing. Its query is counted as `cancelled` as soon as it is certain that nobody
//!   awaits it: see [`QueryRecorder::cancel_unfinished`]. A query whose binds MySQL's connection cannot serialize looks the
//!   same.
//! * An `AsyncPgConnection` pipelines queries, so that several run at a time. Their texts tell which one an event is about.

mod failures;
mod running;
mod types;
mod values;

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use diesel::Connection;
use diesel::connection::{DebugQuery, Instrumentation, InstrumentationEvent};
use diesel::result::Error;

use super::forward::Forward;
use crate::clock::{self, Moment};
use crate::context::{self, Attribution, EventKind, QueryEnd};
use crate::database::error::ErrorKind;
use crate::database::holders::HoldSlot;
use crate::database::metrics::{Metrics, PoolWriters, QueryWriters, TransactionOutcome};
use crate::database::sql::{Operation, TransactionEffect};
use crate::database::statements::connection_statements::{
    ConnectionStatements, StatementLookup, TextEffect, TextKind,
};
use crate::database::wait::WaitEnd;
use crate::suspicions::SuspiciousQuery;

use failures::{ErrorIdentity, Failures};
use running::{Control, Query, QueryKind, Running};
use types::{TypeIdentity, Types};

/// Separates the statement from its binds in Diesel's `Display` of a query.
const BINDS: &str = " -- binds: ";

/// The most memory of the text buffer that is kept between queries, in bytes.
const KEPT_TEXT: usize = 64 * 1024;

/// The text of `R2D2Connection::ping`, with which a pool checks a connection.
const PING: &str = "SELECT 1";

/// The text of diesel-async's `PoolableConnection::ping`, in PostgreSQL's dialect and in the others.
const ASYNC_PINGS: [&str; 2] = ["SELECT $1", "SELECT ?"];

/// How the events of a connection relate to its queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// One of Diesel's connections: a query ends before the next one starts, or is within another.
    Blocking,
    /// A connection of diesel-async that runs one query at a time.
    Exclusive,
    /// A connection of diesel-async that runs any number of queries at a time.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "connections of diesel-async alone pipeline")
    )]
    Pipelining,
}

impl Driver {
    /// The most queries that are followed at a time. More run only if some have no end.
    const fn most_running(self) -> usize {
        match self {
            Self::Blocking => 4,
            Self::Exclusive => 1,
            Self::Pipelining => 1024,
        }
    }
}

/// Records the queries, transactions and errors of one connection.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub struct QueryRecorder {
    metrics: Arc<Metrics>,
    writers: QueryWriters,
    driver: Driver,
    /// Nothing is recorded while the pool checks the connection.
    muted: bool,
    /// A query has started while muted, and not finished.
    muted_runs: bool,
    /// The customizer of the pool sets the connection up. Its queries belong to no request or job.
    setting_up: bool,
    /// The database has answered a query of the present user.
    answered: bool,
    /// When the database last answered on this connection: a query, a check or its opening.
    answered_at: Moment,
    /// A statement found that the connection is lost.
    lost: bool,
    /// The present user has run a statement that may write.
    may_have_written: bool,
    /// The answer of a dropped query is still to come, and the next query would read it.
    out_of_step: bool,
    running: Running,
    /// How many queries have started so far.
    started: u64,
    /// Finds the query of an error that the events left out.
    failures: Failures,
    known: ConnectionStatements,
    types: Types,
    /// A buffer for the text of a query. It is empty between events.
    text: String,
    /// What the next query does to a transaction, as announced.
    announced: Option<Control>,
    transaction: Option<Moment>,
    /// The application has begun a transaction by hand. It stays open when the connection passes to the next user.
    has_raw_transaction: bool,
    /// The open transaction has written.
    has_written: bool,
    /// The instrumentation of the application.
    forward: Forward,
    /// The type of Diesel's ping, once it is known.
    ping: Option<TypeIdentity>,
    /// Lists who holds the connection, and what it does. `None` outside of a pool.
    slot: Option<Arc<HoldSlot>>,
    /// Observes the waits and holds of the connection. `None` where the pool itself does.
    pool: Option<PoolWriters>,
}

/// Receives the text of a query up to its binds.
struct Text<'a> {
    text: &'a mut String,
    has_binds: bool,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if piece.starts_with(BINDS) {
            self.has_binds = true;
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

impl QueryRecorder {
    /// Returns a recorder for one connection.
    pub(super) fn new(metrics: Arc<Metrics>, known: ConnectionStatements, driver: Driver) -> Self {
        Self {
            metrics,
            writers: QueryWriters::default(),
            driver,
            muted: false,
            muted_runs: false,
            setting_up: false,
            answered: false,
            answered_at: clock::now(),
            lost: false,
            may_have_written: false,
            out_of_step: false,
            running: Running::default(),
            started: 0,
            failures: Failures::default(),
            known,
            types: Types::default(),
            text: String::new(),
            announced: None,
            transaction: None,
            has_raw_transaction: false,
            has_written: false,
            forward: Forward::default(),
            ping: None,
            slot: None,
            pool: None,
        }
    }

    /// Marks the connection as new in a pool: the queries of the customizer belong to no caller.
    #[must_use]
    pub(super) fn in_pool(mut self, slot: Arc<HoldSlot>, pool: PoolWriters) -> Self {
        self.setting_up = true;
        self.pool = Some(pool);
        self.listed_in(slot)
    }

    /// Lists in this slot what the connection does.
    #[must_use]
    pub(super) fn listed_in(mut self, slot: Arc<HoldSlot>) -> Self {
        self.slot = Some(slot);
        self
    }

    /// Passes the connection to the request or job that this thread works for, which waited for it and took it by this call.
    /// Observes the wait, unless the recorder is of no pool, which is the result then.
    #[must_use]
    pub(super) fn check_out(
        &mut self,
        taken_at: &'static Location<'static>,
        wait: &WaitEnd,
    ) -> bool {
        self.turn_over();
        if let Some(slot) = &self.slot {
            slot.begin(Some(taken_at), wait.at);
        }
        self.pool.as_ref().map(|pool| pool.waited(wait)).is_some()
    }

    /// Takes the connection from its holder, who had it for this time; `None` for a health check, which does not count.
    /// Observes the time, unless the recorder is of no pool, which is the result then.
    #[must_use]
    pub(super) fn check_in(&mut self, held: Option<Duration>) -> bool {
        self.turn_over();
        let Some(held) = held else {
            return true;
        };
        if let Some(slot) = &self.slot {
            slot.end(held);
        }
        self.pool.as_ref().map(|pool| pool.held(held)).is_some()
    }

    /// The recorder of a connection, unless it was replaced.
    pub(super) fn of<C: Connection>(connection: &mut C) -> Option<&mut Self> {
        connection.instrumentation().downcast_mut::<Self>()
    }

    /// Forwards every event to this instrumentation, and to no other.
    pub(super) fn forward(&mut self, forward: Forward) {
        self.forward = forward;
    }

    /// Takes the instrumentation that receives the events next, for another recorder.
    pub(super) fn take_forward(&mut self) -> Forward {
        std::mem::take(&mut self.forward)
    }

    /// Stops recording, or starts it again. No future of the connection may exist.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
        self.settle_muted();
    }

    /// Notes that a query that ran while muted was dropped, if one has not finished.
    fn settle_muted(&mut self) {
        let was_dropped = std::mem::take(&mut self.muted_runs);
        self.out_of_step |= was_dropped && self.driver == Driver::Exclusive;
    }

    /// Whether the database has answered a query of the present user.
    pub(super) fn was_answered(&self) -> bool {
        self.answered
    }

    /// When the database last answered on this connection; `None` if a statement found that the connection is lost.
    pub(super) fn answered_at(&self) -> Option<Moment> {
        (!self.lost).then_some(self.answered_at)
    }

    /// Notes that the connection has passed a check.
    pub(super) fn passed_check(&mut self) {
        self.answered_at = clock::now();
    }

    /// Whether a statement found that the connection is lost, so that it must not be used again.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether all statements of the present user were `SELECT`s that only read, or controlled a transaction.
    pub(super) fn has_only_read(&self) -> bool {
        !self.may_have_written
    }

    /// Whether the answer of a dropped query is still to come, so that the connection must not be used again. Called when no
    /// future of the connection can exist any more.
    ///
    /// `AsyncMysqlConnection` does not notice that by itself. `AsyncPgConnection` skips the answers of dropped queries.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "pools of asynchronous connections alone ask")
    )]
    pub(super) fn is_out_of_step(&self) -> bool {
        // A caller that has the connection from the inner pool does not return it to the recorder.
        self.out_of_step || self.driver == Driver::Exclusive && self.running.has_sent()
    }

    /// Resets the state of the present user, because the connection passes to the next one. A transaction that is still
    /// open was rolled back without Diesel, or will be, together with its connection.
    pub(super) fn turn_over(&mut self) {
        match self.driver {
            // It was never sent.
            Driver::Blocking => self.running.clear(),
            Driver::Exclusive | Driver::Pipelining => self.cancel_unfinished(),
        }
        self.setting_up = false;
        self.muted = false;
        self.answered = false;
        self.may_have_written = false;
        self.failures = Failures::default();
        self.announced = None;
        self.settle_open_transaction();
    }

    /// Counts a transaction that is still open as rolled back.
    fn settle_open_transaction(&mut self) {
        if self.transaction.is_some() {
            self.settle(TransactionOutcome::RolledBack, clock::now());
        }
    }

    /// Whether queries have started and not finished.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(dead_code, reason = "connections of diesel-async alone ask")
    )]
    #[inline]
    pub(super) fn has_unfinished(&self) -> bool {
        !self.running.is_empty()
    }

    /// Counts the queries that have not finished as cancelled. Called when no future of the connection can exist any more:
    /// the connection is borrowed exclusively, returned to its pool, or dropped.
    pub(super) fn cancel_unfinished(&mut self) {
        if !self.running.is_empty() {
            let now = clock::now();
            while let Some(query) = self.running.pop() {
                self.cancelled(&query, now);
            }
        }
    }

    /// Counts a query whose future was dropped.
    #[cold]
    fn cancelled(&mut self, query: &Query, now: Moment) {
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
            QueryKind::Ping | QueryKind::Unbuilt => {}
        }
        self.rest(query, now);
    }

    fn start(&mut self, debug_query: &dyn DebugQuery) {
        let identity = TypeIdentity::of(debug_query);
        let none = TextEffect::default();
        let (text, kind, effect) = match self.announced.take() {
            Some(control) => (0, QueryKind::Announced(control), none),
            None if identity.is_some() && identity == self.ping => (0, QueryKind::Ping, none),
            None => self.kind(debug_query, identity),
        };
        self.failures.just_failed = false;
        if self.driver == Driver::Exclusive {
            self.cancel_unfinished();
        }
        self.started += 1;
        let query = Query {
            number: self.started,
            kind,
            effect,
            identity,
            text,
            // Read after the statement is found, which is not the time of the database.
            started: clock::now(),
            nested: 0,
        };
        let compared = self.note_start(&query);
        let dropped = self.running.push(query, self.driver.most_running());
        if let Some(statement) = compared {
            self.compare(statement, debug_query);
        }
        if let (Some(dropped), Driver::Pipelining) = (dropped, self.driver) {
            self.cancelled(&dropped, clock::now());
        }
    }

    #[inline]
    fn kind(
        &mut self,
        query: &dyn DebugQuery,
        identity: Option<TypeIdentity>,
    ) -> (u64, QueryKind, TextEffect) {
        let known = &self.known;
        match identity.and_then(|identity| self.types.kind(identity, known)) {
            // The texts of other types are read each time.
            Some((text, kind)) => (text, kind.into(), TextEffect::default()),
            None => self.read(query, identity),
        }
    }

    /// Classifies a query by its text, up to its binds. The buffer is cleared, because the text may contain literals.
    fn read(
        &mut self,
        query: &dyn DebugQuery,
        identity: Option<TypeIdentity>,
    ) -> (u64, QueryKind, TextEffect) {
        let mut text = Text {
            text: &mut self.text,
            has_binds: false,
        };
        let is_written = write!(text, "{query}").is_ok();
        let is_built = is_written || text.has_binds;
        let sql = without_binds(&self.text);
        let hash = self.known.hash(sql);
        let (kind, effect) = if is_built {
            let (kind, effect) = self.known.of_text(hash, sql);
            if let Some(identity) = identity {
                self.types.saw(identity, hash, kind);
            }
            (kind.into(), effect)
        } else {
            (QueryKind::Unbuilt, TextEffect::default())
        };
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        (hash, kind, effect)
    }

    /// Handles Diesel's event for caching the statement of a query that is running. The event has the text that runs, even
    /// if another text was assumed when the query started.
    fn cache(&mut self, sql: &str) {
        let statement = without_binds(sql);
        let hash = self.known.hash(statement);
        let Some(query) = self.running.find(hash) else {
            return;
        };
        let is_ping = match self.driver {
            Driver::Blocking => sql == PING,
            Driver::Exclusive | Driver::Pipelining => ASYNC_PINGS.contains(&sql),
        };
        if is_ping {
            query.kind = QueryKind::Ping;
            self.ping = query.identity;
            return;
        }
        if let QueryKind::Announced(_) = query.kind {
            return;
        }
        let (kind, effect) = self.known.of_text(hash, statement);
        query.kind = kind.into();
        query.effect = effect;
        query.text = hash;
        if let Some(identity) = query.identity {
            if effect == TextEffect::default() {
                self.types.announced(identity, hash, kind);
            } else {
                self.types.always_read(identity);
            }
        }
    }

    /// Handles Diesel's event for the end of a query.
    ///
    /// The query is passed as a reference to its reference: Diesel has just written the two words of that, and a processor
    /// waits before it reads both at once. Most ends need none of them.
    fn finished(&mut self, finished: &&dyn DebugQuery, error: Option<&Error>) {
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
    fn finish(&mut self, error: Option<&Error>) {
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

    /// Notes for the lists of requests in flight and of holders that a query runs. Returns its statement if the values of
    /// this run are to be compared with those of others.
    #[inline]
    fn note_start(&mut self, query: &Query) -> Option<NonZeroU32> {
        let statement = match query.kind {
            QueryKind::Counted(_, lookup) => self.known.number(lookup),
            QueryKind::Announced(_) | QueryKind::Uncounted => None,
            QueryKind::Ping | QueryKind::Unbuilt => return None,
        };
        let is_blocking = self.driver == Driver::Blocking;
        let is_compared = context::note_query(statement, query.started, is_blocking);
        if let Some(slot) = &self.slot {
            slot.runs(statement, query.started);
        }
        statement.filter(|_| is_compared)
    }

    /// Adds the values of the query that started last to those of the other runs in the request.
    #[cold]
    fn compare(&mut self, statement: NonZeroU32, query: &dyn DebugQuery) {
        if let Some(values) = values::hash(query) {
            context::note_values(statement, values);
        }
        // The time of the comparison is not the time of the database.
        self.running.restart();
    }

    /// Notes for the list of holders that a query no longer runs.
    #[inline]
    fn rest(&mut self, query: &Query, now: Moment) {
        let Some(slot) = &self.slot else {
            return;
        };
        if let QueryKind::Ping | QueryKind::Unbuilt = query.kind {
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

    fn end(&mut self, query: &Query, error: Option<&Error>, now: Moment) {
        if query.effect.transaction != TransactionEffect::None {
            self.controlled_by_hand(query.effect.transaction, error.is_none());
        }
        self.settle_query(query, error, now);
        self.rest(query, now);
    }

    /// Whether a transaction is open that Diesel or the application has begun.
    #[inline]
    fn is_in_transaction(&self) -> bool {
        self.transaction.is_some() || self.has_raw_transaction
    }

    /// Notes the effect of a text with which the application controls a transaction by hand.
    #[cold]
    fn controlled_by_hand(&mut self, effect: TransactionEffect, succeeded: bool) {
        match effect {
            TransactionEffect::Ends => {
                self.has_raw_transaction = false;
                self.writes(false);
            }
            TransactionEffect::Begins | TransactionEffect::BeginsWriting if succeeded => {
                self.has_raw_transaction = true;
                self.writes(effect == TransactionEffect::BeginsWriting);
            }
            _ => {}
        }
    }

    /// Notes whether the open transaction has written.
    fn writes(&mut self, has_written: bool) {
        if self.has_written != has_written {
            self.has_written = has_written;
            if let Some(slot) = &self.slot {
                slot.writes(has_written);
            }
        }
    }

    fn settle_query(&mut self, query: &Query, error: Option<&Error>, now: Moment) {
        if let Some(Error::QueryBuilderError(_) | Error::SerializationError(_)) = error {
            // It could not be built and was never sent.
            if !matches!(query.kind, QueryKind::Ping | QueryKind::Unbuilt) {
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
            QueryKind::Uncounted => self.note_control_end(query, own, now),
            QueryKind::Ping | QueryKind::Unbuilt => {}
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

    /// Counts the error with which a query finished.
    #[cold]
    fn reported(&mut self, query: &Query, error: &Error) {
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

    fn failed(&mut self, operation: Operation, lookup: StatementLookup, kind: ErrorKind) {
        context::note_database_error(kind, EventKind::Query, self.known.number(lookup));
        self.known.failed(lookup);
        self.count_error(operation, kind);
    }

    fn count_error(&mut self, operation: Operation, kind: ErrorKind) {
        self.lost |= kind == ErrorKind::ConnectionLost;
        self.metrics.error(operation, kind);
    }

    fn announce(&mut self, depth: u32, control: Control) {
        if self.driver != Driver::Blocking {
            // Diesel controls transactions through an exclusive reference.
            self.cancel_unfinished();
        }
        self.announced = Some(if depth == 1 { control } else { Control::Nested });
        if depth == 1 && control == Control::Begin {
            // A transaction that is still open was rolled back by the database.
            self.settle_open_transaction();
        }
    }

    fn control(&mut self, control: Control, query: &Query, now: Moment, succeeded: bool) {
        match control {
            Control::Begin if succeeded => self.transaction = Some(query.started),
            Control::Commit if succeeded => self.settle(TransactionOutcome::Committed, now),
            // Diesel rolls back a transaction that could not be committed, if the database has not done so.
            Control::Commit | Control::Rollback => self.settle(TransactionOutcome::RolledBack, now),
            Control::Begin | Control::Nested => {}
        }
    }

    fn settle(&mut self, outcome: TransactionOutcome, now: Moment) {
        if let Some(begun) = self.transaction.take() {
            self.writes(false);
            let span = context::note_transaction_end(begun, now);
            self.metrics
                .transaction(outcome, now.since(begun), span.as_ref());
        }
    }

    /// Counts an error, unless an event has reported it.
    pub(super) fn left_out(&mut self, error: &Error) {
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

/// The text of a query without the binds that `Display` adds.
fn without_binds(sql: &str) -> &str {
    // Most texts have no hyphen. That is found many bytes at a time, unlike a string.
    if !sql.contains('-') {
        return sql;
    }
    sql.split(BINDS).next().unwrap_or_default()
}

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

impl Instrumentation for QueryRecorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if self.muted {
            self.follow_muted(&event);
        } else {
            self.record(&event);
        }
        if self.forward.is_set() {
            let starts = matches!(event, InstrumentationEvent::StartQuery { .. });
            self.forward.hand_on(event);
            if starts {
                // The time of the application's instrumentation is not the time of the database.
                self.running.restart();
            }
        }
    }
}

impl QueryRecorder {
    /// Notes whether a query runs that is not recorded.
    #[cold]
    fn follow_muted(&mut self, event: &InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => {
                self.settle_muted();
                self.muted_runs = true;
            }
            InstrumentationEvent::FinishQuery { .. } => self.muted_runs = false,
            _ => {}
        }
    }

    fn record(&mut self, event: &InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => self.start(*query),
            InstrumentationEvent::CacheQuery { sql, .. } => self.cache(sql),
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                self.finished(query, *error);
            }
            InstrumentationEvent::BeginTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Begin);
            }
            InstrumentationEvent::CommitTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Commit);
            }
            InstrumentationEvent::RollbackTransaction { depth, .. } => {
                self.announce(depth.get(), Control::Rollback);
            }
            // The manager times the opening of connections. These events contain the URL.
            _ => {}
        }
    }
}

impl Drop for QueryRecorder {
    fn drop(&mut self) {
        if self.driver != Driver::Blocking {
            self.cancel_unfinished();
        }
        self.settle_open_transaction();
    }
}

#[cfg(test)]
mod tests;
