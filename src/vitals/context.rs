//! The request that the current code works for: which trace it belongs to, and what it has asked of the database.
//!
//! The middleware sets the context while it polls a request's handler; whatever runs within, however deep, finds it
//! with [`current`]. It does not follow a closure to another thread by itself: wrap the closure with [`carry`], as
//! the pool's `run` does. A request that nobody asks about has no context: it is made when first asked for.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::registry::SpanContext;

/// What is known of one request, shared by all that works for it, on whichever thread.
#[derive(Debug, Default)]
pub struct RequestContext {
    span: Option<SpanContext>,
    queries: AtomicU64,
    database_nanoseconds: AtomicU64,
    pool_wait_nanoseconds: AtomicU64,
}

impl RequestContext {
    /// The context of a request that is part of a sampled trace.
    pub(crate) fn of_span(span: SpanContext) -> Self {
        Self {
            span: Some(span),
            ..Self::default()
        }
    }

    /// The caller's span, if the request is part of a sampled trace.
    pub fn span(&self) -> Option<SpanContext> {
        self.span
    }

    /// Adds a query, and how long it took.
    pub(crate) fn add_query(&self, elapsed: Duration) {
        self.queries.fetch_add(1, Relaxed);
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

    /// Time that the request's queries took, all together.
    pub fn database_time(&self) -> Duration {
        Duration::from_nanos(self.database_nanoseconds.load(Relaxed))
    }

    /// Time that the request waited for connections.
    pub fn pool_wait(&self) -> Duration {
        Duration::from_nanos(self.pool_wait_nanoseconds.load(Relaxed))
    }
}

/// Saturates after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a thread works for.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Nothing,
    /// A request, whose context is made when somebody asks for it.
    Request(Option<Arc<RequestContext>>),
}

thread_local! {
    static CURRENT: RefCell<Slot> = const { RefCell::new(Slot::Nothing) };
}

/// The context of the request that this thread works for; none outside of a request.
pub fn current() -> Option<Arc<RequestContext>> {
    CURRENT.with_borrow_mut(|slot| match slot {
        Slot::Nothing => None,
        Slot::Request(context) => Some(Arc::clone(context.get_or_insert_default())),
    })
}

/// The span of the request that this thread works for. Unlike [`current`], never makes a context.
pub fn current_span() -> Option<SpanContext> {
    CURRENT.with_borrow(|slot| match slot {
        Slot::Request(Some(context)) => context.span,
        Slot::Request(None) | Slot::Nothing => None,
    })
}

/// Gives `f` the context of the request that this thread works for, to run with on another thread.
pub fn carry<T>(f: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = current();
    move || match context {
        Some(context) => within(&mut Some(context), f),
        None => f(),
    }
}

/// Runs `f` as part of the request whose context is, or will be, in `context`.
pub(crate) fn within<T>(context: &mut Option<Arc<RequestContext>>, f: impl FnOnce() -> T) -> T {
    let outer = CURRENT.replace(Slot::Request(context.take()));
    let restore = Restore { outer, context };
    let result = f();
    drop(restore);
    result
}

/// Puts the outer slot back, whether `f` returned or panicked, and keeps the context that was made meanwhile.
struct Restore<'a> {
    outer: Slot,
    context: &'a mut Option<Arc<RequestContext>>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Slot::Request(context) = CURRENT.replace(std::mem::take(&mut self.outer)) {
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
        within(&mut context, || {
            current().unwrap().add_query(Duration::from_millis(2))
        });
        within(&mut context, || {
            current().unwrap().add_query(Duration::from_millis(3))
        });
        assert!(current().is_none());
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
}
