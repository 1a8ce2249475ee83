//! A connection that a caller has.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use diesel_async::AsyncConnection;

use super::recorder::SharedRecorder;
use super::runs_elsewhere;
use crate::context;
use crate::database::health::DatabaseHealth;
use crate::database::metrics::PoolMetrics;

/// A connection of an [`AsyncPool`](super::AsyncPool). It is returned to the pool when dropped.
///
/// It dereferences to the connection, and so is a connection of diesel-async itself. `O` is the type that the pool's crate
/// has for it.
pub struct Held<O> {
    object: O,
    recorder: Option<SharedRecorder>,
    runs_elsewhere: bool,
    since: Instant,
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
        taken_at: &'static Location<'static>,
    ) -> Self {
        let recorder = SharedRecorder::of(&mut *object);
        let runs_elsewhere = runs_elsewhere::<O::Target>();
        match &recorder {
            Some(recorder) => recorder.check_out(taken_at, runs_elsewhere),
            None => health.recorder_is_replaced(),
        }
        Self {
            object,
            recorder,
            runs_elsewhere,
            since: Instant::now(),
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
        let held = self.since.elapsed();
        if let Some(recorder) = &self.recorder
            && recorder.check_in(held)
        {
            self.health.answered();
        }
        let span = context::current_span();
        self.metrics
            .hold_seconds
            .observe_with(held.as_secs_f64(), span.as_ref());
    }
}

impl<O> fmt::Debug for Held<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
