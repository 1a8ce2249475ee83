//! The line in front of the pool: a number of places.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The line in front of the pool.
pub(super) struct Line {
    taken: AtomicUsize,
    places: usize,
}

/// A place in the line.
pub(super) struct Place(Arc<Line>);

impl Line {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            places,
        })
    }

    pub(super) fn step_in(line: &Arc<Self>) -> Option<Place> {
        line.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < line.places).then_some(taken + 1)
            })
            .ok()
            .map(|_| Place(Arc::clone(line)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
