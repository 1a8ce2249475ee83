//! Recognises the pings with which a pool checks its connections. They are no queries and take no place in the table of
//! statements.
//!
//! The pools of this crate mute the recorder while they check a connection, so that no event of a ping is recorded. This file
//! is for the other pools:
//!
//! * `R2D2Connection::ping` runs `SELECT 1` by a type of its own. Diesel keeps that type prepared, and announces it after the
//!   start of the first ping. A `SELECT 1` of the application is `sql_query` or `sql`, which is never announced. So the text is
//!   a possible ping until it is announced or ends.
//! * `PoolableConnection::ping` of diesel-async selects the value 1, by types that an application can use as well. A text and
//!   a value that are those of the ping are taken for it.

use diesel::connection::DebugQuery;

use super::running::{Query, QueryKind};
use super::{Driver, QueryRecorder, values};

/// The text of `R2D2Connection::ping`.
const PING: &str = "SELECT 1";

/// The texts of diesel-async's `PoolableConnection::ping`, with its value as Diesel displays it: in PostgreSQL's dialect, in
/// the others, and in that of a `SyncConnectionWrapper`.
const ASYNC_PINGS: [(&str, &str); 3] = [
    ("SELECT $1", "SELECT $1 -- binds: [1]"),
    ("SELECT ?", "SELECT ? -- binds: [1]"),
    ("SELECT ?", "SELECT ? -- binds: [I32(1)]"),
];

/// Whether a text that Diesel begins to keep prepared is that of `R2D2Connection::ping`.
pub(super) fn is_announced_ping(driver: Driver, sql: &str) -> bool {
    driver == Driver::Blocking && sql == PING
}

impl QueryRecorder {
    /// What a query of this text is, if it is a ping or may be one.
    pub(super) fn ping_of(
        &self,
        hash: u64,
        sql: &str,
        query: &dyn DebugQuery,
    ) -> Option<QueryKind> {
        if self.driver == Driver::Blocking {
            let is_possible = sql == PING && !self.known.knows(hash);
            return is_possible.then_some(QueryKind::PossiblePing);
        }
        let is_ping = self.may_be_async_ping(sql)
            && (ASYNC_PINGS.iter()).any(|(_, displayed)| values::displays_as(query, displayed));
        is_ping.then_some(QueryKind::Ping)
    }

    /// Whether a text without its values is that of diesel-async's ping. A pool of this crate mutes its checks.
    pub(super) fn may_be_async_ping(&self, sql: &str) -> bool {
        let is_foreign = self.driver != Driver::Blocking && self.slot.is_none();
        is_foreign && ASYNC_PINGS.iter().any(|(text, _)| *text == sql)
    }

    /// The query of the application that a possible ping has turned out to be.
    #[cold]
    pub(super) fn not_a_ping(&mut self, query: &Query) -> Query {
        let (kind, effect) = self.known.of_text(query.text, PING);
        Query {
            kind: kind.into(),
            effect,
            ..*query
        }
    }
}
