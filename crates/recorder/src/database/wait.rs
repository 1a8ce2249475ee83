//! One caller's wait for a connection, from the call until it has one, gives up or leaves.
//!
//! Contains [`Wait`] and [`Caller`]. A wait is observed once, however it ends; it also goes to the tally of the request
//! that it was for. Nothing here knows what kind of pool the caller waits for.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vitals_registry::SpanContext;

use super::holders::WaitNumber;
use super::metrics::{PoolMetrics, Rejection};
use crate::clock::{self, Moment};
use crate::context::{self, owner::current_owner};

/// A wait for a connection. It ends once: with a connection, with the timeout, or when the caller leaves.
pub(super) struct Wait {
    pub(super) since: Moment,
    ended: AtomicBool,
    metrics: Arc<PoolMetrics>,
    /// The number of the slot that lists this caller.
    listed: WaitNumber,
}

/// The end of a wait: with a connection, or without one.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitEnd {
    pub(super) waited: Duration,
    pub(super) at: Moment,
    /// The span of the request that waited.
    pub(super) span: Option<SpanContext>,
}

impl WaitEnd {
    /// Adds a wait that ends now to the tally of the request that it was for. It was `listed` or is not known to others.
    #[inline]
    fn now(since: Moment, listed: bool) -> Self {
        let at = clock::now();
        let waited = at.since(since);
        let span = if listed {
            context::note_wait_end(waited, at)
        } else {
            context::add_pool_wait(waited, at)
        };
        Self { waited, at, span }
    }
}

/// Lists a caller among those that wait for a connection of this pool.
fn list(metrics: &PoolMetrics, since: Moment) -> WaitNumber {
    metrics.waiters.inc();
    metrics.holders.waits.enter(current_owner(), since)
}

/// Removes a caller from the list.
fn unlist(metrics: &PoolMetrics, listed: WaitNumber) {
    metrics.waiters.dec();
    metrics.holders.waits.leave(listed);
}

thread_local! {
    /// Since when this thread takes an idle connection. `None` as well while the caller is listed, because one is checked.
    static TAKING_SINCE: Cell<Option<Moment>> = const { Cell::new(None) };

    /// Whether the caller that takes an idle connection was listed.
    static WAS_LISTED: Cell<bool> = const { Cell::new(false) };
}

/// Takes a connection that is idle, if there is one, by a function that does not wait. Most callers get theirs this way, and
/// are listed only if the connection [is checked](checking).
#[inline]
pub(super) fn take_idle<T>(take: impl FnOnce() -> Option<T>) -> Result<(T, WaitEnd), Moment> {
    /// Ends the taking, also if the check of a connection panics.
    struct Taking;

    impl Drop for Taking {
        fn drop(&mut self) {
            TAKING_SINCE.set(None);
        }
    }

    let since = clock::now();
    TAKING_SINCE.set(Some(since));
    WAS_LISTED.set(false);
    let taking = Taking;
    let taken = take();
    let listed = WAS_LISTED.get();
    drop(taking);
    match taken {
        Some(taken) => Ok((taken, WaitEnd::now(since, listed))),
        None => Err(since),
    }
}

/// Lists the caller that [takes an idle connection](take_idle) on this thread while `check` asks the database, which may
/// take long. After a check that fails, the pool may check another connection for the same caller.
pub(super) fn checking<T>(metrics: &PoolMetrics, check: impl FnOnce() -> T) -> T {
    struct Listed<'a> {
        metrics: &'a PoolMetrics,
        number: WaitNumber,
        since: Moment,
    }

    impl Drop for Listed<'_> {
        fn drop(&mut self) {
            unlist(self.metrics, self.number);
            TAKING_SINCE.set(Some(self.since));
        }
    }

    let listed = TAKING_SINCE.take().map(|since| {
        if !WAS_LISTED.replace(true) {
            context::note_pool_wait(since, true);
        }
        let number = list(metrics, since);
        Listed {
            metrics,
            number,
            since,
        }
    });
    let checked = check();
    drop(listed);
    checked
}

impl Wait {
    /// Begins a wait. It keeps the worker's event loop busy if it is `blocking` and the thread is the worker's.
    pub(super) fn begin(metrics: &Arc<PoolMetrics>, since: Moment, blocking: bool) -> Self {
        context::note_pool_wait(since, blocking);
        Self {
            since,
            listed: list(metrics, since),
            ended: AtomicBool::new(false),
            metrics: Arc::clone(metrics),
        }
    }

    /// Whether the caller still waits.
    pub(super) fn lasts(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Ends the wait. Returns false if it had ended before.
    fn end(&self) -> bool {
        let ends = !self.ended.swap(true, Ordering::AcqRel);
        if ends {
            unlist(&self.metrics, self.listed);
        }
        ends
    }

    /// Ends the wait with a connection. `None` if the caller no longer waits.
    ///
    /// The caller's connection observes it: see `check_out` of the recorder.
    pub(super) fn served(&self) -> Option<WaitEnd> {
        self.end().then(|| WaitEnd::now(self.since, true))
    }

    /// Ends a wait that no other thread can end, with a connection.
    pub(super) fn over(self) -> WaitEnd {
        self.end();
        WaitEnd::now(self.since, true)
    }

    /// Ends the wait at the pool's timeout.
    pub(super) fn timed_out(&self) {
        if self.end() {
            self.metrics.rejected(Rejection::Timeout);
            self.observe();
        }
    }

    /// Ends the wait because no connection could be opened.
    #[cfg_attr(
        not(feature = "diesel-async"),
        expect(
            dead_code,
            reason = "a pool of r2d2 ends each such wait at its timeout"
        )
    )]
    pub(super) fn failed(&self) {
        if self.end() {
            self.observe();
        }
    }

    /// Ends the wait because the caller has left.
    fn cancelled(&self) {
        // Nearly every wait has ended when it is dropped.
        if self.lasts() && self.end() {
            self.metrics.rejected(Rejection::Cancelled);
            self.observe();
        }
    }

    fn observe(&self) {
        self.metrics.waited(&WaitEnd::now(self.since, true));
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.cancelled();
    }
}

/// The caller's end of a wait that other threads share. The caller leaves when this is dropped.
pub(super) struct Caller {
    pub(super) wait: Arc<Wait>,
}

impl Caller {
    pub(super) fn new(metrics: &Arc<PoolMetrics>) -> Self {
        Self {
            wait: Arc::new(Wait::begin(metrics, clock::now(), false)),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.wait.cancelled();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::connection::fixture::Fixture;

    #[test]
    fn each_check_of_a_connection_lists_the_caller() {
        let fixture = Fixture::new();
        let metrics = PoolMetrics::new(&fixture.families, "default", "");
        let listed = || {
            let waiting = || metrics.waiters.value();
            let during = checking(&metrics, waiting);
            (during, waiting())
        };
        let taken = take_idle(|| Some([listed(), listed()]));
        let (counts, _) = taken.unwrap_or_else(|_| panic!("it was taken"));
        assert_eq!(counts, [(1, 0); 2]);
        assert_eq!(listed(), (0, 0), "nobody takes one");
    }
}
