//! The context of the current code: the request or job that it works for, with its span and its tally of queries.
//!
//! The middleware sets the context while it calls and polls a request's handler. All code within finds it with
//! [`current`]. Background jobs have a context of their own. A context does not follow work to another thread or task by
//! itself: wrap a closure with [`carry`] and a future with [`carry_future`]. The pool's `run` and `actix_vitals::block` do
//! so.
//!
//! The memory of a request's context is used again for later requests of the same worker, unless code that works for the
//! request still has it.

mod access;
mod events;
mod held;
#[cfg_attr(
    not(feature = "diesel-async"),
    expect(dead_code, reason = "connections of diesel-async alone need it")
)]
pub(crate) mod identity;
pub(crate) mod owner;
mod repetitions;
mod shapes;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    mem::ManuallyDrop,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{Acquire, Relaxed},
            fence,
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use access::Access;
use events::Events;
pub(crate) use events::{Event, EventKind, LeftOut};
use held::HeldTally;
use pin_project_lite::pin_project;
use repetitions::Repetitions;
use shapes::ShapeCounts;
use vitals_registry::SpanContext;

pub use owner::{Owner, OwnerKind};

use crate::{
    clock::{self, Moment},
    database::ErrorKind,
    in_flight::{SlotHandle, WorkKind},
    suspicions::{SuspectKey, Suspicion},
    thread_work,
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

    /// Adds a query, with its own nanoseconds: without the queries within it. Returns the runs of its statement so far.
    #[inline]
    fn add_query(&self, query: &Event, own: u64, access: Access) -> u32 {
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
    fn add_pool_wait(&self, elapsed: Duration, at: Moment, access: Access) {
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
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the thread works for.
///
/// It changes with each poll. Both parts are words that are stored and read one by one: a processor waits for a store before
/// it reads two words at once.
#[derive(Debug)]
struct CurrentWork {
    /// Whether it is a request or a job.
    is_some: Cell<bool>,
    /// Its context. That of a request which is not recorded is created when it is first used.
    context: RefCell<Option<Arc<RequestContext>>>,
}

impl CurrentWork {
    /// Replaces the work, and returns what it was.
    #[inline]
    fn replace(
        &self,
        is_some: bool,
        context: Option<Arc<RequestContext>>,
    ) -> (bool, Option<Arc<RequestContext>>) {
        (self.is_some.replace(is_some), self.context.replace(context))
    }
}

/// Notes for a profile what this thread works for from now on, and adds what it has allocated to what it has worked for.
#[cold]
fn note_work(context: Option<&RequestContext>) {
    #[cfg(feature = "jemalloc")]
    if thread_work::are_allocations_counted() {
        let bytes = crate::allocated::since_last();
        with_known(|_, context| {
            if let Some(context) = context {
                context.allocated.fetch_add(bytes, Relaxed);
            }
        });
    }
    if !thread_work::is_recorded() {
        return;
    }
    match context {
        Some(context) if context.job() != 0 => thread_work::note_job(context.job()),
        Some(context) => {
            let slot = context.listing.in_flight.as_ref();
            thread_work::note_endpoint(slot.map_or(0, SlotHandle::endpoint));
        }
        None => thread_work::note_endpoint(0),
    }
}

thread_local! {
    /// Without a destructor, so that an access needs no check. A thread that ends works for nothing.
    static CURRENT: ManuallyDrop<CurrentWork> = const {
        ManuallyDrop::new(CurrentWork {
            is_some: Cell::new(false),
            context: RefCell::new(None),
        })
    };
    /// Whether the thread runs a closure that was carried to it.
    static IS_CARRIED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with whether the thread works for a request or job, and with its context if that exists. `f` must not change
/// what the thread works for.
#[inline]
fn with_known<T>(f: impl FnOnce(bool, Option<&RequestContext>) -> T) -> T {
    CURRENT.with(|current| f(current.is_some.get(), current.context.borrow().as_deref()))
}

/// Calls `f` with the context of the request or job that the thread works for, which is created if it does not exist.
/// `None` outside of both. `f` must not change what the thread works for.
#[inline]
fn with_context<T>(f: impl FnOnce(Option<&Arc<RequestContext>>) -> T) -> T {
    CURRENT.with(|current| {
        let context = current.context.borrow();
        if context.is_some() || !current.is_some.get() {
            return f(context.as_ref());
        }
        drop(context);
        f(Some(&new_context(current)))
    })
}

/// Creates the context of a request that is not recorded.
#[cold]
fn new_context(current: &CurrentWork) -> Arc<RequestContext> {
    let context = Arc::<RequestContext>::default();
    drop(current.context.replace(Some(Arc::clone(&context))));
    context
}

/// Returns the context of the request or job that this thread works for. `None` outside of both.
pub fn current() -> Option<Arc<RequestContext>> {
    with_context(|context| context.map(Arc::clone))
}

/// Returns the span of the request that this thread works for. Unlike [`current`], it never creates a context.
pub fn current_span() -> Option<SpanContext> {
    with_known(|_, context| context.and_then(|context| context.span))
}

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

/// Wraps a closure so that it works for the current request or job, on any thread.
///
/// The context is captured here, not when the closure runs. Outside of a request, the closure is unchanged.
pub fn carry<T>(f: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = current();
    let queued = context.as_deref().map(|context| {
        let now = clock::now();
        context.events.begin(EventKind::BlockingQueue, now);
        if let Some(slot) = &context.listing.in_flight {
            slot.set_work(WorkKind::BlockingQueue, now, false);
        }
        now
    });
    carry_to_thread(context, queued, f)
}

/// Wraps a closure like [`carry`], for a thread that calls it when something else is over that the request waits for.
#[cfg(feature = "diesel")]
pub(crate) fn carry_waiting<T>(f: impl FnOnce() -> T) -> impl FnOnce() -> T {
    carry_to_thread(current(), None, f)
}

/// `queued` is when the request began to wait for the thread, if it waits for nothing else.
fn carry_to_thread<T>(
    context: Option<Arc<RequestContext>>,
    queued: Option<Moment>,
    f: impl FnOnce() -> T,
) -> impl FnOnce() -> T {
    // The log lines of the other thread belong to the request, too.
    let log_span = tracing::Span::current();
    move || {
        log_span.in_scope(|| match context {
            Some(context) => {
                let _carried = CarriedWork::begin(&context, queued);
                within(&mut Some(context), f)
            }
            None => f(),
        })
    }
}

/// Marks the thread as one that a closure was carried to, and its request as one that runs there, until it is dropped.
struct CarriedWork {
    outer: bool,
    since: Moment,
    context: Arc<RequestContext>,
}

impl CarriedWork {
    fn begin(context: &Arc<RequestContext>, queued: Option<Moment>) -> Self {
        let since = clock::now();
        if let Some(queued) = queued {
            let queue = Event::new(EventKind::BlockingQueue, queued, since);
            context.events.add(&queue, RequestContext::access(context));
        }
        context.events.begin(EventKind::BlockingThread, since);
        if let Some(slot) = &context.listing.in_flight {
            slot.set_work(WorkKind::BlockingThread, since, false);
        }
        Self {
            outer: IS_CARRIED.replace(true),
            since,
            context: Arc::clone(context),
        }
    }
}

impl Drop for CarriedWork {
    fn drop(&mut self) {
        IS_CARRIED.set(self.outer);
        let now = clock::now();
        let thread = Event::new(EventKind::BlockingThread, self.since, now);
        let access = RequestContext::access(&self.context);
        self.context.events.add(&thread, access);
        if let Some(slot) = &self.context.listing.in_flight {
            slot.set_work(WorkKind::None, now, false);
        }
    }
}

/// Wraps a future so that it works for the current request or job, in any task.
///
/// A future that is passed to `actix_web::rt::spawn` or `tokio::spawn` needs this. A future that the handler itself awaits
/// does not, even in `join!`, `select!` or a stream of futures.
///
/// The tally of a request is observed when the last such work is dropped. A task that runs much longer than its request
/// should be a job instead.
pub fn carry_future<F: Future>(future: F) -> Carried<F> {
    Carried {
        future: Some(future),
        context: current(),
        log_span: tracing::Span::current(),
    }
}

pin_project! {
    /// A future that works for the request or job in which it was wrapped by [`carry_future`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Carried<F> {
        // None once it has ended.
        #[pin]
        future: Option<F>,
        context: Option<Arc<RequestContext>>,
        log_span: tracing::Span,
    }

    impl<F> PinnedDrop for Carried<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() && this.context.is_some() {
                // Queries that the future runs in its drop belong to the request, too.
                this.log_span
                    .in_scope(|| within(this.context, || this.future.set(None)));
            }
        }
    }
}

impl<F> fmt::Debug for Carried<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let context = this.context;
        let mut poll = || {
            let Some(future) = this.future.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            let polled = future.poll(cx);
            if polled.is_ready() {
                this.future.set(None);
            }
            polled
        };
        this.log_span.in_scope(|| match context {
            Some(_) => within(context, poll),
            None => poll(),
        })
    }
}

/// Runs `f` for the current request or job. Outside of both, the queries of `f` are not counted as unattributed, because
/// they belong to no request on purpose.
pub(crate) fn on_purpose<T>(f: impl FnOnce() -> T) -> T {
    if current().is_some() {
        return f();
    }
    within(&mut None, f)
}

/// Runs `f` as part of the request whose context is, or will be, in `context`.
#[inline]
pub(crate) fn within<T>(context: &mut Option<Arc<RequestContext>>, f: impl FnOnce() -> T) -> T {
    let _entered = enter(context);
    f()
}

/// Lets this thread work for the request whose context is, or will be, in `context`, until what this returns is dropped.
#[inline]
pub(crate) fn enter(context: &mut Option<Arc<RequestContext>>) -> Entered<'_> {
    if thread_work::is_watched() {
        note_work(context.as_deref());
    }
    let (is_inner, outer) = CURRENT.with(|current| current.replace(true, context.take()));
    Entered {
        is_inner,
        outer,
        context,
    }
}

/// When it is dropped, even by a panic, the thread works for what it worked for before. A context that was created meanwhile
/// is kept.
#[must_use = "the thread works for the request until this is dropped"]
pub(crate) struct Entered<'a> {
    /// Whether the thread worked for a request or job before.
    is_inner: bool,
    /// The context of that.
    outer: Option<Arc<RequestContext>>,
    context: &'a mut Option<Arc<RequestContext>>,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        let outer = self.outer.take();
        if thread_work::is_watched() {
            note_work(outer.as_deref());
        }
        let (_, context) = CURRENT.with(|current| current.replace(self.is_inner, outer));
        *self.context = context;
    }
}

/// Adds a query that ends now.
#[cfg(test)]
pub(crate) fn add_query(elapsed: Duration) -> Attribution {
    let now = clock::now();
    let end = QueryEnd {
        started: now.before(elapsed),
        at: now,
        own: nanoseconds(elapsed),
        shape: None,
        in_transaction: false,
    };
    let (attribution, _) = note_query_end(&end, u32::MAX);
    attribution
}

/// Returns the context of a request that is part of a sampled trace.
#[cfg(test)]
pub(crate) fn of_span(span: SpanContext) -> Arc<RequestContext> {
    let mut context = Arc::default();
    RequestContext::set_span(&mut context, span);
    context
}

/// Runs a query when it is dropped.
#[cfg(test)]
pub(crate) struct QueryOnDrop;

#[cfg(test)]
impl Drop for QueryOnDrop {
    fn drop(&mut self) {
        add_query(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::{panic, thread};

    use super::*;

    #[test]
    fn outside_of_a_request_there_is_no_context() {
        assert!(current().is_none());
        assert!(current_span().is_none());
    }

    #[test]
    fn a_context_is_created_when_first_used_and_kept_for_the_request() {
        let mut context = None;
        within(&mut context, || assert!(current_span().is_none()));
        assert!(context.is_none(), "it was not used");
        within(&mut context, || add_query(Duration::from_millis(2)));
        within(&mut context, || add_query(Duration::from_millis(3)));
        assert!(current().is_none());
        assert_eq!(
            add_query(Duration::from_millis(4)),
            Attribution::Unattributed
        );
        let context = context.unwrap();
        assert_eq!(
            (context.queries(), context.database_time()),
            (2, Duration::from_millis(5))
        );
    }

    #[test]
    fn the_memory_of_a_context_is_used_again_without_its_contents() {
        let mut context = RequestContext::listed_in(None);
        let address = Arc::as_ptr(&context);
        for round in 0..3 {
            let mut current = Some(Arc::clone(&context));
            within(&mut current, || {
                match round {
                    // Work on another thread alone.
                    0 => thread::spawn(carry(|| ())).join().unwrap(),
                    1 => drop(note_wait_end(Duration::from_millis(1), clock::now())),
                    _ => drop(add_query(Duration::from_millis(1))),
                }
                note_query(None, clock::now(), false);
            });
            drop(current);
            assert!(context.events().count() > 0, "{round}");
            RequestContext::recycle(&mut context);
            assert_eq!(Arc::as_ptr(&context), address);
            assert_eq!(context.events().count(), 0);
            assert_eq!(context.unfinished(clock::now()).count(), 0);
            assert_eq!(
                (context.queries(), context.pool_wait()),
                (0, Duration::ZERO)
            );
        }
    }

    #[test]
    fn requests_nest_and_do_not_see_each_other() {
        let span = |id| SpanContext {
            trace_id: id,
            span_id: 1,
        };
        let mut outer = Some(of_span(span(1)));
        let mut inner = Some(of_span(span(2)));
        within(&mut outer, || {
            within(&mut inner, || assert_eq!(current_span(), Some(span(2))));
            assert_eq!(current_span(), Some(span(1)));
        });
    }

    #[test]
    fn a_panic_leaves_no_context_behind() {
        let mut context = None;
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            within(&mut context, || panic!("on purpose"))
        }));
        assert!(result.is_err());
        assert!(current().is_none());
    }

    #[test]
    fn a_carried_closure_works_for_its_request_on_another_thread() {
        let mut context = None;
        let carried = within(&mut context, || {
            carry(|| {
                let context = current().unwrap();
                context.add_pool_wait(Duration::from_millis(1), clock::now(), Access::Sole);
            })
        });
        thread::spawn(carried).join().unwrap();
        assert_eq!(context.unwrap().pool_wait(), Duration::from_millis(1));
        thread::spawn(carry(|| assert!(current().is_none())))
            .join()
            .unwrap();
    }

    #[test]
    fn a_carried_future_works_for_its_request_in_each_poll_and_for_nobody_in_between() {
        let mut context = None;
        let mut polls = 0;
        let future = within(&mut context, || {
            carry_future(std::future::poll_fn(move |_| {
                add_query(Duration::from_millis(1));
                polls += 1;
                if polls == 3 {
                    Poll::Ready(7)
                } else {
                    Poll::Pending
                }
            }))
        });
        let mut future = std::pin::pin!(future);
        let mut task = Context::from_waker(std::task::Waker::noop());
        // Within another request: the future keeps to its own.
        let mut other = None;
        for expected in [Poll::Pending, Poll::Pending, Poll::Ready(7)] {
            let polled = within(&mut other, || future.as_mut().poll(&mut task));
            assert_eq!(polled, expected);
            assert!(current().is_none());
        }
        assert_eq!(context.unwrap().queries(), 3);
        assert!(other.is_none());
    }

    #[test]
    fn queries_in_the_drop_of_a_carried_future_belong_to_its_request() {
        let mut context = None;
        let mut future = within(&mut context, || {
            Box::pin(carry_future(async {
                let _query = QueryOnDrop;
                std::future::pending::<()>().await;
            }))
        });
        let mut task = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut task).is_pending());
        drop(future);
        assert_eq!(context.unwrap().queries(), 1);
    }

    #[test]
    fn a_future_carried_outside_of_a_request_has_no_context() {
        let mut future = std::pin::pin!(carry_future(std::future::ready(())));
        let mut task = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut task).is_ready());
        assert!(current().is_none());
    }
}
