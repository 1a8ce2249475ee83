//! The context of the current code: the request or job that it works for, with its span and its tally of queries.
//!
//! The middleware sets the context while it calls and polls a request's handler. All code within finds it with
//! [`current`]. Background jobs have a context of their own. A context does not follow work to another thread or task by
//! itself: wrap a closure with [`carry`] and a future with [`carry_future`]. The pool's `run` and `actix_vitals::block` do
//! so.
//!
//! The memory of a request's context is used again for later requests of the same worker, unless code that works for the
//! request still has it.
//!
//! This file contains [`RequestContext`] itself: its memory, and what is read from it. In `current_work`, a thread finds its
//! context; in `notes`, code on the thread adds to it; in `carried`, the context follows work to other threads and tasks.

mod access;
mod carried;
mod current_work;
mod events;
#[cfg(test)]
mod fixture;
mod held;
#[cfg_attr(
    not(feature = "diesel-async"),
    expect(dead_code, reason = "connections of diesel-async alone need it")
)]
pub(crate) mod identity;
mod notes;
pub(crate) mod owner;
mod repetitions;
mod shapes;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{Acquire, Relaxed},
            fence,
        },
    },
    time::Duration,
};

use access::Access;
#[cfg(feature = "diesel")]
pub(crate) use carried::carry_waiting;
pub use carried::{Carried, carry, carry_future};
pub(crate) use current_work::{Entered, enter, on_purpose, within};
pub use current_work::{current, current_span};
use current_work::{with_context, with_known};
use events::Events;
pub(crate) use events::{Event, EventKind, LeftOut};
#[cfg(test)]
pub(crate) use fixture::{QueryOnDrop, add_query, of_span};
use held::HeldTally;
pub(crate) use notes::{
    Attribution, QueryEnd, add_pool_wait, error_of, note_control_end, note_database_error,
    note_pool_wait, note_query, note_query_end, note_repetition, note_transaction_end, note_values,
    note_wait_end,
};
pub use owner::{Owner, OwnerKind};
use repetitions::Repetitions;
use shapes::ShapeCounts;
use vitals_registry::SpanContext;

use crate::{
    clock::Moment,
    database::ErrorKind,
    in_flight::SlotHandle,
    suspicions::{SuspectKey, Suspicion},
};

/// The span and the tally of one request or job. All code that works for it shares the context, on any thread.
#[derive(Default)]
pub struct RequestContext {
    span: Option<SpanContext>,
    queries: AtomicU64,
    /// The times of all queries and of transaction control, each without the queries within it.
    database_nanoseconds: AtomicU64,
    /// The part of it that is transaction control.
    control_nanoseconds: AtomicU64,
    /// The times of queries within queries.
    nested_nanoseconds: AtomicU64,
    pool_wait_nanoseconds: AtomicU64,
    /// The bytes that were allocated, if that is counted.
    allocated: AtomicU64,
    held: HeldTally,
    /// The index of the last error of the database plus one; 0 without an error.
    database_error: AtomicU8,
    shapes: ShapeCounts,
    repetitions: Repetitions,
    events: Events,
    listing: Listing,
    on_done: OnceLock<OnDone>,
}

/// What a request's worker reads with each poll, on a cache line that nobody else stores into meanwhile.
#[derive(Default)]
#[repr(align(64))]
struct Listing {
    /// Where the request is listed among those in flight.
    in_flight: Option<SlotHandle>,
    /// The number of the job's name; 0 for a request.
    job: u32,
}

/// Called with a context when all work for its request has ended.
type OnDone = Box<dyn Fn(&RequestContext) + Send + Sync>;

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("span", &self.span)
            .field("queries", &self.queries())
            .field("database_time", &self.database_time())
            .field("pool_wait", &self.pool_wait())
            .finish_non_exhaustive()
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if let Some(on_done) = self.on_done.take() {
            on_done(self);
        }
        self.held.leave_unattributed();
    }
}

impl RequestContext {
    /// Returns the context of requests that are listed in this slot.
    pub(crate) fn listed_in(slot: Option<SlotHandle>) -> Arc<Self> {
        let mut context = Self::default();
        context.listing.in_flight = slot;
        Arc::new(context)
    }

    /// Where the request is listed among those in flight.
    #[inline]
    pub(crate) fn in_flight(&self) -> Option<&SlotHandle> {
        self.listing.in_flight.as_ref()
    }

    /// Returns the context of a job, whose name has this number.
    pub(crate) fn of_job(name: u32) -> Self {
        let mut context = Self::default();
        context.listing.job = name;
        context
    }

    /// The number of the job's name; 0 for a request.
    #[inline]
    fn job(&self) -> u32 {
        self.listing.job
    }

    /// Sets the span of a request that is part of a sampled trace.
    #[cold]
    pub(crate) fn set_span(this: &mut Arc<Self>, span: SpanContext) {
        if let Some(context) = Self::owned(this) {
            context.span = Some(span);
        }
    }

    /// Sets where the request is listed among those in flight.
    #[cold]
    pub(crate) fn list_in(this: &mut Arc<Self>, slot: SlotHandle) {
        if let Some(context) = Self::owned(this) {
            context.listing.in_flight = Some(slot);
        }
    }

    /// Whether code has worked for the request: it has added to the tally, or still has the context.
    #[inline]
    pub(crate) fn is_used(this: &Arc<Self>) -> bool {
        let database = this.queries.load(Relaxed) | this.database_nanoseconds.load(Relaxed);
        Self::is_shared(this) || (database | this.pool_wait_nanoseconds.load(Relaxed)) > 0
    }

    /// Whether code that works for the request still has the context. If not, all that it has added is visible here.
    #[inline]
    pub(crate) fn is_shared(this: &Arc<Self>) -> bool {
        let is_shared = Arc::strong_count(this) > 1;
        // Pairs with the release of a context that another thread drops.
        fence(Acquire);
        is_shared
    }

    /// How this thread adds to the context that it works for. A thread reaches a context by its own share of it only, so the
    /// owner of the only share is alone.
    #[inline]
    fn access(this: &Arc<Self>) -> Access {
        if Self::is_shared(this) {
            Access::Shared
        } else {
            Access::Sole
        }
    }

    /// Prepares the context for the next request. Code that still works for this request keeps the context that it has.
    #[inline]
    pub(crate) fn recycle(this: &mut Arc<Self>) {
        let has_allocated = this.allocated.load(Relaxed) > 0;
        if Self::is_used(this) || this.span.is_some() || this.events.has_others() || has_allocated {
            Self::clear(this);
        }
    }

    fn clear(this: &mut Arc<Self>) {
        if let Some(context) = Self::owned(this) {
            context.span = None;
            let queries = std::mem::take(context.queries.get_mut());
            *context.database_nanoseconds.get_mut() = 0;
            *context.control_nanoseconds.get_mut() = 0;
            *context.nested_nanoseconds.get_mut() = 0;
            *context.pool_wait_nanoseconds.get_mut() = 0;
            *context.allocated.get_mut() = 0;
            *context.database_error.get_mut() = 0;
            context.held.leave_unattributed();
            context.held = HeldTally::default();
            context.shapes.clear();
            context.repetitions.clear();
            context.events.clear(queries);
        }
    }

    /// Replaces the context by a new one that is listed in the same slot, and returns it.
    #[cold]
    pub(crate) fn detach(this: &mut Arc<Self>) -> Arc<Self> {
        let next = Self::listed_in(this.listing.in_flight.as_ref().map(SlotHandle::another));
        std::mem::replace(this, next)
    }

    /// Exclusive access to the context, which is replaced by a new one if it is shared.
    fn owned(this: &mut Arc<Self>) -> Option<&mut Self> {
        if Self::is_shared(this) {
            drop(Self::detach(this));
        }
        Arc::get_mut(this)
    }

    /// The caller's span, if the request is part of a sampled trace.
    pub fn span(&self) -> Option<SpanContext> {
        self.span
    }

    /// Calls `f` with the context when all work for the request has ended, which may be now. A query may still run on
    /// another thread after the request itself has ended.
    pub(crate) fn when_done(self: Arc<Self>, f: impl Fn(&Self) + Send + Sync + 'static) {
        // Only the record of the request calls this, and only once.
        drop(self.on_done.set(Box::new(f)));
    }

    /// The events that have ended, in no order: the first ones, and the longest of the later ones.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter()
    }

    /// The events of a kind that [`events`](Self::events) leaves out.
    pub(crate) fn left_out(&self, kind: EventKind) -> LeftOut {
        match kind {
            EventKind::Query => self.left_out_queries(),
            _ => self.events.left_out(kind),
        }
    }

    /// All queries but those that have a slot. So a query that has none needs no sums of its own.
    fn left_out_queries(&self) -> LeftOut {
        let own = (self.database_nanoseconds.load(Relaxed))
            .saturating_sub(self.control_nanoseconds.load(Relaxed));
        let all = LeftOut {
            count: self.queries.load(Relaxed),
            nanoseconds: own.saturating_add(self.nested_nanoseconds.load(Relaxed)),
        };
        self.events.without_listed_queries(all)
    }

    /// The last event of each kind that lasts, cut at `now`.
    pub(crate) fn unfinished(&self, now: Moment) -> impl Iterator<Item = Event> {
        self.events.unfinished(now)
    }

    /// The last error that the database reported to the request.
    pub(crate) fn database_error(&self) -> Option<ErrorKind> {
        error_of(self.database_error.load(Relaxed))
    }

    /// The number of queries so far.
    pub fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    /// The sum of the times of all queries and of transaction control. Concurrent queries add up to more than the elapsed
    /// time.
    pub fn database_time(&self) -> Duration {
        Duration::from_nanos(self.database_nanoseconds.load(Relaxed))
    }

    /// The bytes that were allocated until now, if that is counted. Begins again at 0.
    pub(crate) fn take_allocated(&self) -> u64 {
        self.allocated.swap(0, Relaxed)
    }

    /// The shapes of the request's statements, each with its number of runs.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (NonZeroU32, u32)> {
        self.shapes.iter()
    }

    /// What a statement that ran many times is suspected of, and the key under which its stack was captured.
    pub(crate) fn repetition(&self, shape: NonZeroU32) -> (Suspicion, Option<SuspectKey>) {
        self.repetitions.of(shape)
    }

    /// The sum of all waits for a connection.
    pub fn pool_wait(&self) -> Duration {
        Duration::from_nanos(self.pool_wait_nanoseconds.load(Relaxed))
    }
}

/// The statements behind the shapes that a context counts.
pub trait StatementShapes: fmt::Debug + Send + Sync {
    /// Records that an endpoint ran a statement of this shape.
    fn ran_by(&self, shape: NonZeroU32, method: &str, endpoint: &str);

    /// Returns the text of the shape, if it is still known.
    fn text(&self, shape: NonZeroU32) -> Option<String>;

    /// Returns the name of the pool that runs the shape; `None` outside of any pool, or if the shape is no longer known.
    fn pool(&self, shape: NonZeroU32) -> Option<String>;

    /// Wants the stack of the next run to be captured.
    fn want_location(&self, shape: NonZeroU32);
}

/// Nanoseconds as a `u64`, which saturates after 584 years.
#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
