//! What code notes for the request or job that its thread works for: queries, transactions, errors and waits.
//!
//! What has ended is added to the context: the numbers of the tally, and an event with its time. What begins or lasts is
//! noted as well, so that the request can be seen doing it, in the list of requests in flight and in a timeline that is
//! read early. Outside of any request and job, nothing is kept.

use std::{num::NonZeroU32, sync::atomic::Ordering::Relaxed, time::Duration};

use vitals_registry::SpanContext;

use super::{
    Event, EventKind, RequestContext, access::Access, carried::IS_CARRIED, current_span,
    nanoseconds, with_context, with_known,
};
use crate::{
    clock::Moment,
    database::ErrorKind,
    in_flight::{SlotHandle, WorkKind},
    suspicions::SuspectKey,
};

/// What an amount was added to.
///
/// A span is not part of it: it is as wide as a cache line, and few requests have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribution {
    /// The work runs outside of any request and job.
    Unattributed,
    /// The work belongs to a request or job.
    Attributed,
    /// The work belongs to a request that is part of a sampled trace.
    Sampled,
}

impl Attribution {
    /// The span of the request that this thread works for, if there is one.
    #[inline]
    pub(crate) fn span(self) -> Option<SpanContext> {
        match self {
            Self::Unattributed | Self::Attributed => None,
            Self::Sampled => current_span(),
        }
    }
}

/// The end of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryEnd {
    pub(crate) started: Moment,
    pub(crate) at: Moment,
    /// Its nanoseconds without the queries within it.
    pub(crate) own: u64,
    /// The number of its statement's shape, if that is known.
    pub(crate) shape: Option<NonZeroU32>,
    /// Whether a transaction is open.
    pub(crate) in_transaction: bool,
}

/// Adds a query to the request or job that this thread works for, and notes that it no longer runs. Returns how often the
/// request or job has run its statement; 0 if that is not known. After the run `compared_from`, the values of further runs are
/// compared.
#[inline]
pub(crate) fn note_query_end(query: &QueryEnd, compared_from: u32) -> (Attribution, u32) {
    let mut runs = 0;
    let attribution = add(|context, access| {
        let event = Event {
            statement: query.shape,
            ..Event::new(EventKind::Query, query.started, query.at)
        };
        runs = context.add_query(&event, query.own, access);
        if runs == compared_from
            && let Some(statement) = query.shape
        {
            context.repetitions.begin(statement);
        }
        context.note_idle(query.at, query.in_transaction);
    });
    (attribution, runs)
}

/// Notes the key under which the stack of a statement was captured that this thread's request or job repeats.
#[cold]
pub(crate) fn note_repetition(statement: NonZeroU32, key: Option<SuspectKey>) {
    add(|context, _| context.repetitions.add(statement, key));
}

/// Adds the hash of the values of a run: see [`note_query`].
#[cold]
pub(crate) fn note_values(statement: NonZeroU32, values: u64) {
    add(|context, _| context.repetitions.compare(statement, values));
}

/// Adds transaction control to the request or job that this thread works for, and notes that it no longer runs.
pub(crate) fn note_control_end(control: &QueryEnd) {
    add(|context, access| {
        let event = Event::new(EventKind::TransactionControl, control.started, control.at);
        context.add_control(&event, control.own, access);
        context.note_idle(control.at, control.in_transaction);
    });
}

/// Notes an error of the database for the request or job that this thread works for, if there is one. The last event of
/// this kind and statement has failed with it.
#[cold]
pub(crate) fn note_database_error(
    error: ErrorKind,
    event: EventKind,
    statement: Option<NonZeroU32>,
) {
    let number = u8::try_from(error.index() + 1).unwrap_or(0);
    add(|context, _| {
        context.database_error.store(number, Relaxed);
        context.events.fail(event, statement, number);
    });
}

/// The error of the database with this number, which is its index plus one.
pub(crate) fn error_of(number: u8) -> Option<ErrorKind> {
    let index = usize::from(number).checked_sub(1)?;
    ErrorKind::ALL.get(index).copied()
}

/// Adds a transaction that has ended to the request or job that this thread works for, if there is one, and returns its
/// span.
pub(crate) fn note_transaction_end(began: Moment, at: Moment) -> Option<SpanContext> {
    let transaction = Event::new(EventKind::Transaction, began, at);
    add(|context, access| context.events.add(&transaction, access)).span()
}

/// Adds a wait for a connection to the request or job that this thread works for, if there is one, and notes that it is
/// over. Returns the span of the request.
pub(crate) fn note_wait_end(elapsed: Duration, at: Moment) -> Option<SpanContext> {
    let attribution = add(|context, access| {
        context.add_pool_wait(elapsed, at, access);
        context.note_idle(at, false);
    });
    attribution.span()
}

/// Adds a wait for a connection to the request or job that this thread works for, if there is one, and returns its span.
pub(crate) fn add_pool_wait(elapsed: Duration, at: Moment) -> Option<SpanContext> {
    add(|context, access| context.add_pool_wait(elapsed, at, access)).span()
}

#[inline]
fn add(amount: impl FnOnce(&RequestContext, Access)) -> Attribution {
    with_context(|context| match context {
        None => Attribution::Unattributed,
        Some(context) => {
            amount(context, RequestContext::access(context));
            match context.span {
                Some(_) => Attribution::Sampled,
                None => Attribution::Attributed,
            }
        }
    })
}

/// Calls `begin` with the context of the request that this thread works for. If it is listed among those in flight, calls
/// `list` with its slot, and with whether this thread is the request's worker.
#[inline]
fn note(begin: impl FnOnce(&RequestContext), list: impl FnOnce(&SlotHandle, bool)) {
    with_known(|_, context| {
        if let Some(context) = context {
            begin(context);
            if let Some(slot) = &context.listing.in_flight {
                list(slot, !IS_CARRIED.get());
            }
        }
    });
}

/// Notes that this thread's request waits for a connection. The wait keeps the worker's event loop busy if the thread is the
/// worker's and the wait is `blocking`.
#[inline]
pub(crate) fn note_pool_wait(since: Moment, blocking: bool) {
    note(
        |context| context.events.begin(EventKind::PoolWait, since),
        |slot, on_worker| slot.set_work(WorkKind::PoolWait, since, on_worker && blocking),
    );
}

/// Notes that a query runs for this thread's request: see [`note_pool_wait`]. Returns whether its values are to be compared
/// with those of other runs, because the request repeats its statement.
#[inline]
pub(crate) fn note_query(statement: Option<NonZeroU32>, since: Moment, blocking: bool) -> bool {
    let mut is_compared = false;
    note(
        |context| {
            context.events.begin_query(statement, since);
            is_compared = statement.is_some_and(|statement| context.repetitions.wants(statement));
        },
        |slot, on_worker| slot.set_query(statement, since, on_worker && blocking),
    );
    is_compared
}

impl RequestContext {
    /// Adds a query, with its own nanoseconds: without the queries within it. Returns the runs of its statement so far.
    #[inline]
    pub(super) fn add_query(&self, query: &Event, own: u64, access: Access) -> u32 {
        let number = access.add(&self.queries, 1);
        let runs = (query.statement).map_or(0, |shape| self.shapes.count(shape, access));
        self.events.add_query(number, query);
        access.add(&self.database_nanoseconds, own);
        let nested = query.nanoseconds().saturating_sub(own);
        if nested > 0 {
            access.add(&self.nested_nanoseconds, nested);
        }
        runs
    }

    /// Adds transaction control, with its own nanoseconds.
    fn add_control(&self, control: &Event, own: u64, access: Access) {
        self.events.add(control, access);
        access.add(&self.database_nanoseconds, own);
        access.add(&self.control_nanoseconds, own);
    }

    /// Adds a wait for a connection that has just ended.
    pub(super) fn add_pool_wait(&self, elapsed: Duration, at: Moment, access: Access) {
        let wait = Event::new(EventKind::PoolWait, at.before(elapsed), at);
        self.events.add(&wait, access);
        access.add(&self.pool_wait_nanoseconds, nanoseconds(elapsed));
    }

    /// Counts a run of a statement.
    #[cfg(test)]
    pub(crate) fn count_run(&self, shape: NonZeroU32) {
        self.shapes.count(shape, Access::Shared);
    }

    /// Adds an event as if it had been noted.
    #[cfg(test)]
    pub(crate) fn add_event(&self, event: &Event) {
        if event.kind == EventKind::Query {
            self.add_query(event, event.nanoseconds(), Access::Shared);
        } else {
            self.events.add(event, Access::Shared);
        }
    }

    /// Notes that the thread which did something for the request no longer does so.
    #[inline]
    fn note_idle(&self, now: Moment, in_transaction: bool) {
        self.events.over(EventKind::Query);
        if in_transaction {
            self.events.begin_unless_begun(EventKind::Transaction, now);
        }
        let Some(slot) = &self.listing.in_flight else {
            return;
        };
        let on_worker = !IS_CARRIED.get();
        match (in_transaction, on_worker) {
            (true, _) => slot.set_work(WorkKind::Transaction, now, false),
            (false, true) => slot.set_work(WorkKind::None, now, true),
            (false, false) => slot.set_work(WorkKind::BlockingThread, now, false),
        }
    }
}
