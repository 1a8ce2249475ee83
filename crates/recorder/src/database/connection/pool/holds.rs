//! How long connections are out of a pool of r2d2.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{HandleEvent, event::CheckinEvent};

use super::probe::is_probing;
use crate::context;
use crate::database::metrics::PoolMetrics;

thread_local! {
    /// How long the connection was out that this thread returns now. r2d2 reports the time first, and asks then whether
    /// the connection is broken.
    static HOLD_TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Returns how long the connection was out that this thread returns now, once.
pub(in super::super) fn take_hold_time() -> Duration {
    HOLD_TIME.take()
}

/// Observes how long each connection was out, when it comes back.
#[derive(Debug)]
pub(super) struct Holds {
    pub(super) metrics: Arc<PoolMetrics>,
}

impl HandleEvent for Holds {
    fn handle_checkin(&self, event: CheckinEvent) {
        if is_probing() {
            return;
        }
        HOLD_TIME.set(event.duration());
        let span = context::current_span();
        self.metrics
            .hold_seconds
            .observe_with(event.duration().as_secs_f64(), span.as_ref());
    }
}
