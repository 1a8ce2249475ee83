//! The subscriber of `tracing`, which a program need not have: its log may be that of the `log` crate, such as `env_logger`.
//!
//! Until a first subscriber is set, `tracing` writes events and spans to that log, and from then on nothing. So a span would
//! be a line of its own, and a subscriber that is set for one line would end the lines of all crates.

use tracing::{Dispatch, Span, dispatcher};

/// Creates a span that only adds its fields to log lines. Without a subscriber, it returns a disabled one.
pub(crate) fn log_span(create: impl FnOnce() -> Span) -> Span {
    if dispatcher::has_been_set() {
        create()
    } else {
        Span::none()
    }
}

/// The subscriber and the span of the thread that it was taken on, for log lines of another thread.
#[derive(Debug)]
pub(crate) struct LogContext(Option<(Dispatch, Span)>);

impl LogContext {
    /// The ones of this thread.
    pub(crate) fn current() -> Self {
        let is_set = dispatcher::has_been_set();
        Self(is_set.then(|| (dispatcher::get_default(Clone::clone), Span::current())))
    }

    /// Calls `log` with them.
    pub(crate) fn within(self, log: impl FnOnce()) {
        match self.0 {
            Some((subscriber, span)) => {
                dispatcher::with_default(&subscriber, || span.in_scope(log));
            }
            None => log(),
        }
    }
}
