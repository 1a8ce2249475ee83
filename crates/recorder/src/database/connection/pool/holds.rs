//! How long connections are out of a pool of r2d2.

use std::sync::Arc;

use diesel::r2d2::{HandleEvent, event::CheckinEvent};

use super::probe::is_probing;
use crate::context;
use crate::database::metrics::PoolMetrics;

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
        let span = context::current_span();
        self.metrics
            .hold_seconds
            .observe_with(event.duration().as_secs_f64(), span.as_ref());
    }
}
