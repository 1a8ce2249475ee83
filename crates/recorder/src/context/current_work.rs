//! What each thread works for: how the current code finds the context of its request or job.
//!
//! A thread works for one request or job at a time, or for none. The middleware says so for as long as it polls a handler
//! ([`enter`]), and so does what is [carried](super::carry) to another thread or task. The context of a request that is not
//! recorded is created when something first needs it.

#[cfg(feature = "jemalloc")]
use std::sync::atomic::Ordering::Relaxed;
use std::{
    cell::{Cell, RefCell},
    mem::{self, ManuallyDrop},
    sync::Arc,
};

use vitals_registry::SpanContext;

use super::RequestContext;
use crate::{in_flight::SlotHandle, thread_work};

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
    /// Exchanges the work for another one. Returns whether there was any.
    #[inline]
    fn swap(&self, is_some: bool, context: &mut Option<Arc<RequestContext>>) -> bool {
        mem::swap(&mut *self.context.borrow_mut(), context);
        self.is_some.replace(is_some)
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
}

/// Calls `f` with whether the thread works for a request or job, and with its context if that exists. `f` must not change
/// what the thread works for.
#[inline]
pub(super) fn with_known<T>(f: impl FnOnce(bool, Option<&RequestContext>) -> T) -> T {
    CURRENT.with(|current| f(current.is_some.get(), current.context.borrow().as_deref()))
}

/// Calls `f` with the context of the request or job that the thread works for, which is created if it does not exist.
/// `None` outside of both. `f` must not change what the thread works for.
#[inline]
pub(super) fn with_context<T>(f: impl FnOnce(Option<&Arc<RequestContext>>) -> T) -> T {
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
    let is_inner = CURRENT.with(|current| current.swap(true, context));
    Entered { is_inner, context }
}

/// When it is dropped, even by a panic, the thread works for what it worked for before. A context that was created meanwhile
/// is kept.
#[must_use = "the thread works for the request until this is dropped"]
pub(crate) struct Entered<'a> {
    /// Whether the thread worked for a request or job before.
    is_inner: bool,
    /// The context of that, in the place to which the context of this work returns.
    context: &'a mut Option<Arc<RequestContext>>,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if thread_work::is_watched() {
            note_work(self.context.as_deref());
        }
        CURRENT.with(|current| current.swap(self.is_inner, self.context));
    }
}
