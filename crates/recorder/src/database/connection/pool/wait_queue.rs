//! The bounded queue of the callers that wait for a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the callers that wait, and rejects those beyond its capacity. The order is the semaphore's.
pub(super) struct WaitQueue {
    taken: AtomicUsize,
    capacity: usize,
}

/// A position in the queue; it is free again when dropped.
pub(super) struct QueuePosition(Arc<WaitQueue>);

impl WaitQueue {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            capacity,
        })
    }

    /// Takes a position; `None` if the queue is full.
    pub(super) fn enter(queue: &Arc<Self>) -> Option<QueuePosition> {
        queue
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < queue.capacity).then_some(taken + 1)
            })
            .ok()
            .map(|_| QueuePosition(Arc::clone(queue)))
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
