//! The request that the current code works for: which trace it belongs to, and what it has asked of the database.
//!
//! The middleware sets the context while it calls and polls a request's handler; whatever runs within, however deep,
//! finds it with [`current`]. Background jobs have a context of their own. A context does not follow work to another
//! thread or task by itself: wrap a closure with [`carry`] and a future with [`carry_future`]. The pool's `run` and
//! `actix_vitals::block` do so. A request's context is created when it is first used.

mod shapes;

use std::{
    cell::Cell,
    fmt,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use shapes::ShapeCounts;

use vitals_registry::SpanContext;

/// What is known of one request, shared by all that works for it, on whichever thread.
#[derive(Default)]
pub struct RequestContext {
    span: Option<SpanContext>,
    queries: AtomicU64,
    database_nanoseconds: AtomicU64,
    pool_wait_nanoseconds: AtomicU64,
    shapes: ShapeCounts,
    at_the_end: OnceLock<AtTheEnd>,
}

/// What is to be done with a context when all work for its request is done.
type AtTheEnd = Box<dyn Fn(&RequestContext) + Send + Sync>;

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
        if let Some(at_the_end) = self.at_the_end.take() {
            at_the_end(self);
        }
    }
}

impl RequestContext {
    /// The context of a request that is part of a sampled trace.
    pub fn of_span(span: SpanContext) -> Self {
        let mut context = Self::default();
        context.span = Some(span);
        context
    }

    /// The caller's span, if the request is part of a sampled trace.
    pub fn span(&self) -> Option<SpanContext> {
        self.span
    }

    /// Does `f` with the context when nobody works for the request any more: at once, if that is so already. For the
    /// request that is over while a query of it still runs on another thread.
    pub(crate) fn when_done(self: Arc<Self>, f: impl Fn(&Self) + Send + Sync + 'static) {
        // Set once, by the one record of the request.
        drop(self.at_the_end.set(Box::new(f)));
    }

    /// Adds a query, how long it took, and its shape if that is known.
    pub(crate) fn add_query(&self, elapsed: Duration, shape: Option<NonZeroU32>) {
        self.queries.fetch_add(1, Relaxed);
        if let Some(shape) = shape {
            self.shapes.count(shape);
        }
        self.add_database_time(elapsed);
    }

    /// Adds time in the database that is no query's: the control of a transaction.
    pub(crate) fn add_database_time(&self, elapsed: Duration) {
        self.database_nanoseconds
            .fetch_add(nanoseconds(elapsed), Relaxed);
    }

    /// Adds a wait for a connection.
    pub(crate) fn add_pool_wait(&self, elapsed: Duration) {
        self.pool_wait_nanoseconds
            .fetch_add(nanoseconds(elapsed), Relaxed);
    }

    /// Queries that the request has run so far.
    pub fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    /// Time that the request's queries and the control of its transactions took, all together: more than passed, where
    /// some ran side by side.
    pub fn database_time(&self) -> Duration {
        Duration::from_nanos(self.database_nanoseconds.load(Relaxed))
    }

    /// The shapes of the request's statements, each with how often it was run.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (NonZeroU32, u32)> {
        self.shapes.iter()
    }

    /// Time that the request waited for connections, its callers' waits added up.
    pub fn pool_wait(&self) -> Duration {
        Duration::from_nanos(self.pool_wait_nanoseconds.load(Relaxed))
    }
}

/// Who knows the statements behind the shapes that a request's context counts.
pub trait StatementShapes: fmt::Debug + Send + Sync {
    /// An endpoint ran a statement of this shape.
    fn ran_by(&self, shape: NonZeroU32, method: &str, endpoint: &str);

    /// The text of the shape, if it is still known.
    fn text(&self, shape: NonZeroU32) -> Option<String>;
}

/// Saturates after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a thread works for.
#[derive(Debug, Default)]
enum CurrentWork {
    #[default]
    Nothing,
    /// A request, whose context is made when somebody asks for it.
    Request(Option<Arc<RequestContext>>),
}

thread_local! {
    static CURRENT: Cell<CurrentWork> = const { Cell::new(CurrentWork::Nothing) };
}

/// Looks at what the thread works for, or changes it.
#[inline]
fn with_current<T>(f: impl FnOnce(&mut CurrentWork) -> T) -> T {
    let mut slot = CURRENT.take();
    let result = f(&mut slot);
    CURRENT.set(slot);
    result
}

/// The context of the request that this thread works for; none outside of a request.
pub fn current() -> Option<Arc<RequestContext>> {
    with_current(|slot| match slot {
        CurrentWork::Nothing => None,
        CurrentWork::Request(context) => Some(Arc::clone(context.get_or_insert_default())),
    })
}

/// The span of the request that this thread works for. Unlike [`current`], never makes a context.
pub fn current_span() -> Option<SpanContext> {
    with_current(|slot| match slot {
        CurrentWork::Request(Some(context)) => context.span,
        CurrentWork::Request(None) | CurrentWork::Nothing => None,
    })
}

/// The request or job that an amount was added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribution {
    /// There is none: the work runs outside of any request and job.
    Unattributed,
    /// There is one; with its span, if it is part of a sampled trace.
    To(Option<SpanContext>),
}

impl Attribution {
    /// The span, if there is one.
    pub(crate) fn span(self) -> Option<SpanContext> {
        match self {
            Self::Unattributed => None,
            Self::To(span) => span,
        }
    }
}

/// Adds a query to the request or job that this thread works for.
pub(crate) fn add_query(elapsed: Duration, shape: Option<NonZeroU32>) -> Attribution {
    add(|context| context.add_query(elapsed, shape))
}

/// Adds time in the database that is no query's to the request that this thread works for, if it works for one.
pub(crate) fn add_database_time(elapsed: Duration) {
    add(|context| context.add_database_time(elapsed));
}

/// Adds a wait for a connection to the request that this thread works for, if it works for one. Returns that request's
/// span.
pub(crate) fn add_pool_wait(elapsed: Duration) -> Option<SpanContext> {
    add(|context| context.add_pool_wait(elapsed)).span()
}

fn add(amount: impl FnOnce(&RequestContext)) -> Attribution {
    with_current(|slot| match slot {
        CurrentWork::Nothing => Attribution::Unattributed,
        CurrentWork::Request(context) => {
            let context = context.get_or_insert_default();
            amount(context);
            Attribution::To(context.span)
        }
    })
}

/// Wraps a closure so that it works for the current request or job, on whichever thread it runs.
///
/// The context is captured here, not when the closure runs. Outside of a request, the closure is unchanged.
pub fn carry<T>(f: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = current();
    // What is logged on the other thread belongs to the request too.
    let log_span = tracing::Span::current();
    move || {
        log_span.in_scope(|| match context {
            Some(context) => within(&mut Some(context), f),
            None => f(),
        })
    }
}

/// Wraps a future so that it works for the current request or job, in whichever task it runs.
///
/// A future that the handler itself awaits needs no wrapping, whether in `join!`, `select!` or a stream of futures. A
/// future that is handed to `actix_web::rt::spawn` or `tokio::spawn` does.
///
/// The tally of a request is observed when the last such work is dropped. A task that outlives its request by far should
/// be a job of its own instead.
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
        // None once it has come to its end.
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

/// Runs `f` for the current request or job. Outside of any, the queries of `f` are nobody's on purpose, and are not counted
/// as unattributed.
pub fn on_purpose<T>(f: impl FnOnce() -> T) -> T {
    if current().is_some() {
        return f();
    }
    within(&mut None, f)
}

/// Runs `f` as part of the request whose context is, or will be, in `context`.
#[inline]
pub(crate) fn within<T>(context: &mut Option<Arc<RequestContext>>, f: impl FnOnce() -> T) -> T {
    let outer = CURRENT.replace(CurrentWork::Request(context.take()));
    let _restore = Restore { outer, context };
    f()
}

/// Puts the outer slot back, whether `f` returned or panicked, and keeps the context that was made meanwhile.
struct Restore<'a> {
    outer: CurrentWork,
    context: &'a mut Option<Arc<RequestContext>>,
}

impl Drop for Restore<'_> {
    #[inline]
    fn drop(&mut self) {
        if let CurrentWork::Request(context) = CURRENT.replace(std::mem::take(&mut self.outer)) {
            *self.context = context;
        }
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
    fn a_context_is_made_when_asked_for_and_kept_for_the_request() {
        let mut context = None;
        within(&mut context, || assert!(current_span().is_none()));
        assert!(context.is_none(), "nobody asked");
        within(&mut context, || add_query(Duration::from_millis(2), None));
        within(&mut context, || add_query(Duration::from_millis(3), None));
        assert!(current().is_none());
        assert_eq!(
            add_query(Duration::from_millis(4), None),
            Attribution::Unattributed
        );
        let context = context.unwrap();
        assert_eq!(
            (context.queries(), context.database_time()),
            (2, Duration::from_millis(5))
        );
    }

    #[test]
    fn requests_nest_and_do_not_see_each_other() {
        let span = |id| SpanContext {
            trace_id: id,
            span_id: 1,
        };
        let mut outer = Some(Arc::new(RequestContext::of_span(span(1))));
        let mut inner = Some(Arc::new(RequestContext::of_span(span(2))));
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
            carry(|| current().unwrap().add_pool_wait(Duration::from_millis(1)))
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
                add_query(Duration::from_millis(1), None);
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

    /// Asks the database when it is dropped.
    struct Guard;

    impl Drop for Guard {
        fn drop(&mut self) {
            add_query(Duration::from_millis(1), None);
        }
    }

    #[test]
    fn what_a_carried_future_does_as_it_is_dropped_belongs_to_its_request() {
        let mut context = None;
        let mut future = within(&mut context, || {
            Box::pin(carry_future(async {
                let _guard = Guard;
                std::future::pending::<()>().await;
            }))
        });
        let mut task = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut task).is_pending());
        drop(future);
        assert_eq!(context.unwrap().queries(), 1);
    }

    #[test]
    fn a_future_carried_outside_of_a_request_works_for_whoever_polls_it() {
        let mut future = std::pin::pin!(carry_future(std::future::ready(())));
        let mut task = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut task).is_ready());
        assert!(current().is_none());
    }
}
