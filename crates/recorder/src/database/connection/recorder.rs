//! Turns the events of a Diesel connection into counts and times.
//!
//! Contains the [`QueryRecorder`], which is the `Instrumentation` of one connection. Not here: how the verb of a statement
//! is found ([`sql`](crate::database::sql)), and what is kept of its text (`statements`). No bind and no URL is kept.
//!
//! This file has the state of a recorder and the events that it receives. `starts` and `ends` handle the two ends of a query,
//! `transactions` what controls a transaction, `errors` what failed, and `users` the connection's way from one user to the
//! next.
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
//! * The ping of a pool is a query like others: see [`pings`]. If the application has turned Diesel's statement cache off,
//!   the pings of an r2d2 pool that is not a [`Pool`](crate::database::Pool) count.
//!
//! What diesel-async 0.9 reports differently:
//!
//! * A query starts when its future is created, and ends when the first row is there. Errors of later rows are left out.
//! * A future that is dropped finishes nothing. Its query is counted as `cancelled` as soon as it is certain that nobody
//!   awaits it: see [`QueryRecorder::cancel_unfinished`]. A query whose binds MySQL's connection cannot serialize looks the
//!   same.
//! * An `AsyncPgConnection` pipelines queries, so that several run at a time. Their texts tell which one an event is about.

mod ends;
mod errors;
mod failures;
mod pings;
mod running;
mod starts;
#[cfg(test)]
mod tests;
mod transactions;
mod types;
mod users;
mod values;

use std::sync::Arc;

use diesel::Connection;
use diesel::connection::{Instrumentation, InstrumentationEvent};

use super::forward::Forward;
use crate::clock::{self, Moment};
use crate::database::holders::HoldSlot;
use crate::database::metrics::{Metrics, PoolWriters, QueryWriters};
use crate::database::statements::connection_statements::ConnectionStatements;

pub use errors::record_error;
use failures::Failures;
use running::{Control, Running};
use types::{TypeIdentity, Types};
use users::MutedQuery;

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
    /// The last query that ran while muted.
    muted_query: MutedQuery,
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
    /// The type of `R2D2Connection::ping`, once it is known.
    ping: Option<TypeIdentity>,
    /// Lists who holds the connection, and what it does. `None` outside of a pool.
    slot: Option<Arc<HoldSlot>>,
    /// Observes the waits and holds of the connection. `None` where the pool itself does.
    pool: Option<PoolWriters>,
}

impl QueryRecorder {
    /// Returns a recorder for one connection.
    pub(super) fn new(metrics: Arc<Metrics>, known: ConnectionStatements, driver: Driver) -> Self {
        Self {
            metrics,
            writers: QueryWriters::default(),
            driver,
            muted: false,
            muted_query: MutedQuery::None,
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

    /// Hands an event to the part that handles it.
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

impl Drop for QueryRecorder {
    fn drop(&mut self) {
        if self.driver != Driver::Blocking {
            self.cancel_unfinished();
        }
        self.settle_open_transaction();
    }
}
