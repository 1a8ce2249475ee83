//! One caller's wait for a connection, from the call until it has one, gives up or leaves.
//!
//! Contains [`Wait`] and [`Caller`]. A wait is observed once, however it ends; it also goes to the tally of the request
//! that it was for. Nothing here knows what kind of pool the caller waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::holders::WaitNumber;
use super::metrics::{PoolMetrics, Rejection};
use crate::clock;
use crate::context::{self, owner::current_owner};

/// A wait for a connection. It ends once: with a connection, with the timeout, or when the caller leaves.
pub(super) struct Wait {
    pub(super) started: Instant,
    ended: AtomicBool,
    metrics: Arc<PoolMetrics>,
    /// The number of the slot that lists this caller.
    listed: WaitNumber,
}

impl Wait {
    pub(super) fn begin(metrics: &Arc<PoolMetrics>) -> Self {
        metrics.waiters.inc();
        let now = clock::now();
        context::note_pool_wait(now, false);
        Self {
            listed: metrics.holders.waits.enter(current_owner(), now),
            started: Instant::now(),
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
            self.metrics.waiters.dec();
            self.metrics.holders.waits.leave(self.listed);
        }
        ends
    }

    /// Ends the wait with a connection. Returns false if the caller no longer waits.
    pub(super) fn served(&self) -> bool {
        let ends = self.end();
        if ends {
            self.observe();
        }
        ends
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
        if self.end() {
            self.metrics.rejected(Rejection::Cancelled);
            self.observe();
        }
    }

    fn observe(&self) {
        let waited = self.started.elapsed();
        let span = context::note_wait_end(waited, clock::now());
        self.metrics
            .wait_seconds
            .observe_with(waited.as_secs_f64(), span.as_ref());
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
            wait: Arc::new(Wait::begin(metrics)),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.wait.cancelled();
    }
}
