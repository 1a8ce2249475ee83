//! How a thread adds to the numbers of a context: alone, or beside others.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whether other threads may add to a context at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// No other thread has the context. A load and a store are enough, which cost a fraction of a read-modify-write.
    Sole,
    /// Other threads may have it.
    Shared,
}

impl Access {
    /// Adds an amount, and returns the number before.
    #[inline]
    pub(crate) fn add(self, number: &AtomicU64, amount: u64) -> u64 {
        match self {
            Self::Sole => {
                let before = number.load(Relaxed);
                number.store(before.wrapping_add(amount), Relaxed);
                before
            }
            Self::Shared => number.fetch_add(amount, Relaxed),
        }
    }

    /// Adds one to a narrow number, and returns the number before.
    #[inline]
    pub(crate) fn count(self, number: &AtomicU32) -> u32 {
        match self {
            Self::Sole => {
                let before = number.load(Relaxed);
                number.store(before.wrapping_add(1), Relaxed);
                before
            }
            Self::Shared => number.fetch_add(1, Relaxed),
        }
    }
}
