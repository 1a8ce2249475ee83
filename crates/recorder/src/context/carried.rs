//! How a context follows work to another thread or task.
//!
//! A closure or a future captures the context where it is wrapped, and works for it wherever it runs. A closure also notes
//! how long it waited for its thread and how long it ran there.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Event, EventKind, RequestContext, current, within};
use crate::{
    clock::{self, Moment},
    in_flight::WorkKind,
};

thread_local! {
    /// Whether the thread runs a closure that was carried to it.
    pub(super) static IS_CARRIED: Cell<bool> = const { Cell::new(false) };
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
