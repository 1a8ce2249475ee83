//! A wait for a connection, as its caller feels it, and the hold that may follow: what is observed of either, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use diesel::r2d2::{HandleEvent, event::CheckinEvent};

use super::super::metrics::{PoolMetrics, Rejection};
use crate::context;

/// Somebody waiting for a connection. It ends once: by getting one, by the timeout, or by leaving.
pub(super) struct Wait {
    pub(super) started: Instant,
    over: AtomicBool,
    metrics: Arc<PoolMetrics>,
}

impl Wait {
    pub(super) fn begin(metrics: &Arc<PoolMetrics>) -> Self {
        metrics.waiters.inc();
        Self {
            started: Instant::now(),
            over: AtomicBool::new(false),
            metrics: Arc::clone(metrics),
        }
    }

    pub(super) fn lasts(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// Whether this is what ended it.
    fn end(&self) -> bool {
        let ended = !self.over.swap(true, Ordering::AcqRel);
        if ended {
            self.metrics.waiters.dec();
        }
        ended
    }

    /// The connection is there; the answer is whether anybody still waits for it.
    pub(super) fn served(&self) -> bool {
        let ended = self.end();
        if ended {
            self.observe();
        }
        ended
    }

    pub(super) fn timed_out(&self) {
        if self.end() {
            self.metrics.rejected(Rejection::Timeout);
            self.observe();
        }
    }

    /// The caller has left.
    fn cancelled(&self) {
        if self.end() {
            self.metrics.rejected(Rejection::Cancelled);
            self.observe();
        }
    }

    fn observe(&self) {
        let waited = self.started.elapsed();
        let span = context::add_pool_wait(waited);
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

/// The caller's end of a wait: it leaves when this is dropped.
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

/// Observes how long connections were out.
#[derive(Debug)]
pub(super) struct Holds {
    pub(super) metrics: Arc<PoolMetrics>,
}

impl HandleEvent for Holds {
    fn handle_checkin(&self, event: CheckinEvent) {
        if super::probe::is_probing() {
            return;
        }
        let span = context::current_span();
        self.metrics
            .hold_seconds
            .observe_with(event.duration().as_secs_f64(), span.as_ref());
    }
}
