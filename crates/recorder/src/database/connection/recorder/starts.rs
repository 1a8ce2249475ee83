//! The start of a query: what it is counted as, and that it runs.
//!
//! A query is classified by its Rust type if that is enough ([`types`](super::types)), and otherwise by its text up to its
//! binds. If the text turns out to be another one, Diesel announces it while the query runs, which corrects the first
//! finding.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;

use diesel::connection::DebugQuery;

use super::running::{Query, QueryKind};
use super::types::TypeIdentity;
use super::{Driver, QueryRecorder, pings, values};
use crate::clock;
use crate::context;
use crate::database::statements::connection_statements::TextEffect;

/// Separates the statement from its binds in Diesel's `Display` of a query.
const BINDS: &str = " -- binds: ";

/// The most memory of the text buffer that is kept between queries, in bytes.
pub(super) const KEPT_TEXT: usize = 64 * 1024;

/// Receives the text of a query up to its binds.
pub(super) struct Text<'a> {
    pub(super) text: &'a mut String,
    pub(super) has_binds: bool,
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
    /// Handles Diesel's event for the start of a query.
    #[inline]
    pub(super) fn start(&mut self, debug_query: &dyn DebugQuery) {
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

    /// Classifies a query by its type, or by its text if the type is not enough.
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
        let (kind, effect) = if !is_built {
            (QueryKind::Unbuilt, TextEffect::default())
        } else if let Some(ping) = self.ping_of(hash, sql, query) {
            (ping, TextEffect::default())
        } else {
            let (kind, effect) = self.known.of_text(hash, sql);
            if let Some(identity) = identity {
                self.types.saw(identity, hash, kind);
            }
            (kind.into(), effect)
        };
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        (hash, kind, effect)
    }

    /// Handles Diesel's event for caching the statement of a query that is running. The event has the text that runs, even
    /// if another text was assumed when the query started.
    pub(super) fn cache(&mut self, sql: &str) {
        let statement = without_binds(sql);
        let hash = self.known.hash(statement);
        let may_be_ping = self.may_be_async_ping(statement);
        let Some(query) = self.running.find(hash) else {
            return;
        };
        if pings::is_announced_ping(self.driver, sql) {
            query.kind = QueryKind::Ping;
            self.ping = query.identity;
            return;
        }
        if may_be_ping && query.kind == QueryKind::Ping {
            // The next query of the type may be one of the application.
            if let Some(identity) = query.identity {
                self.types.always_read(identity);
            }
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
            if effect == TextEffect::default() && !may_be_ping {
                self.types.announced(identity, hash, kind);
            } else {
                self.types.always_read(identity);
            }
        }
    }

    /// Notes for the lists of requests in flight and of holders that a query runs. Returns its statement if the values of
    /// this run are to be compared with those of others.
    #[inline]
    fn note_start(&mut self, query: &Query) -> Option<NonZeroU32> {
        let statement = match query.kind {
            QueryKind::Counted(_, lookup) => self.known.number(lookup),
            QueryKind::Announced(_) | QueryKind::Uncounted => None,
            QueryKind::Ping | QueryKind::PossiblePing | QueryKind::Unbuilt => return None,
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
}

/// The text of a query without the binds that `Display` adds.
pub(super) fn without_binds(sql: &str) -> &str {
    // Most texts have no hyphen. That is found many bytes at a time, unlike a string.
    if !sql.contains('-') {
        return sql;
    }
    sql.split(BINDS).next().unwrap_or_default()
}
