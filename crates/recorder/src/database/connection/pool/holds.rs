//! How long connections are out of a pool of r2d2.

use std::cell::Cell;
use std::time::Duration;

use diesel::r2d2::{HandleEvent, event::CheckinEvent};

use super::probe::is_probing;

thread_local! {
    /// How long the connection was out that this thread returns now. r2d2 reports the time first, and asks then whether
    /// the connection is broken.
    static HOLD_TIME: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Returns how long the connection was out that this thread returns now, once. `None` if a health check had it.
#[inline]
pub(in super::super) fn take_hold_time() -> Option<Duration> {
    HOLD_TIME.take()
}

/// Notes how long each connection was out, when it comes back. The manager observes it.
#[derive(Debug)]
pub(super) struct Holds;

impl HandleEvent for Holds {
    fn handle_checkin(&self, event: CheckinEvent) {
        HOLD_TIME.set((!is_probing()).then(|| event.duration()));
    }
}
