//! The generation of a slot of atomics that is used again and again: a sequence lock with one writer at a time.
//!
//! It is odd while the slot is used. A reader that finds the same odd generation before and after has read one use. The
//! orderings of all such slots are here.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// How often a slot began or ended to be used.
#[derive(Debug, Default)]
pub(crate) struct SlotGeneration(AtomicU64);

impl SlotGeneration {
    /// The present value.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Whether the slot is used.
    #[inline]
    pub(crate) fn is_odd(&self) -> bool {
        !self.get().is_multiple_of(2)
    }

    /// Begins a use: `write` stores into the slot, and readers see it afterwards. Its argument is the new generation.
    #[inline]
    pub(crate) fn begin(&self, write: impl FnOnce(u64)) {
        let generation = self.get() | 1;
        // Pairs with the fence of a reader: a reader that sees one of the stores also sees that the generation changed.
        fence(Release);
        write(generation);
        self.0.store(generation, Release);
    }

    /// Ends the use, if there is one.
    #[inline]
    pub(crate) fn end(&self) {
        self.0.store((self.get() + 1) & !1, Release);
    }

    /// Reads the slot by `read`, which gets the generation. `None` if it is not used, if `read` finds that it changes, or if
    /// it passed to another use meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(u64) -> Option<T>) -> Option<T> {
        let generation = self.0.load(Acquire);
        if generation.is_multiple_of(2) {
            return None;
        }
        let reading = read(generation)?;
        fence(Acquire);
        (self.get() == generation).then_some(reading)
    }
}
