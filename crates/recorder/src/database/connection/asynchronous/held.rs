//! A connection that a caller has.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use diesel_async::AsyncConnection;

use super::recorder::SharedRecorder;
use super::runs_elsewhere;
use crate::clock::{self, Moment};
use crate::database::health::DatabaseHealth;
use crate::database::metrics::PoolMetrics;
use crate::database::wait::WaitEnd;

/// A connection of an [`AsyncPool`](super::AsyncPool). It is returned to the pool when dropped.
///
/// It dereferences to the connection, and so is a connection of diesel-async itself. `O` is the type that the pool's crate
/// has for it.
pub struct Held<O> {
    object: O,
    recorder: Option<SharedRecorder>,
    runs_elsewhere: bool,
    since: Moment,
    metrics: Arc<PoolMetrics>,
    health: Arc<DatabaseHealth>,
}

impl<O> Held<O>
where
    O: DerefMut,
    O::Target: AsyncConnection,
{
    pub(super) fn new(
        mut object: O,
        metrics: Arc<PoolMetrics>,
        health: Arc<DatabaseHealth>,
        wait: &WaitEnd,
        taken_at: &'static Location<'static>,
    ) -> Self {
        let recorder = SharedRecorder::of(&mut *object);
        let runs_elsewhere = runs_elsewhere::<O::Target>();
        let is_observed = if let Some(recorder) = &recorder {
            recorder.check_out(taken_at, wait, runs_elsewhere)
        } else {
            health.recorder_is_replaced();
            false
        };
        if !is_observed {
            metrics.waited(wait);
        }
        Self {
            object,
            recorder,
            runs_elsewhere,
            since: wait.at,
            metrics,
            health,
        }
    }
}

impl<O: Deref> Deref for Held<O> {
    type Target = O::Target;

    fn deref(&self) -> &O::Target {
        &self.object
    }
}

impl<O: DerefMut> DerefMut for Held<O> {
    fn deref_mut(&mut self) -> &mut O::Target {
        if let Some(recorder) = &self.recorder {
            recorder.accessed(self.runs_elsewhere);
        }
        &mut self.object
    }
}

impl<O> Drop for Held<O> {
    fn drop(&mut self) {
        let held = clock::now().since(self.since);
        let recorder = self.recorder.as_ref();
        let (was_answered, is_observed) =
            recorder.map_or((false, false), |recorder| recorder.check_in(held));
        if was_answered {
            self.health.answered();
        }
        if !is_observed {
            self.metrics.held(held);
        }
    }
}

impl<O> fmt::Debug for Held<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
