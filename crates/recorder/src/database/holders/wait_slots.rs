//! The callers that wait for a connection of one pool, in slots that any thread can read.

use std::{
    cell::Cell,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

use crate::{
    clock::Moment,
    context::owner::{OwnerCell, WorkOwner},
    watchdog,
};

/// The number of slots of a pool: 16 KB. Callers beyond are counted, but not listed.
const SLOTS: usize = 256;

/// The value of [`WaitSlot::since`] while the slot is not filled in.
const UNKNOWN: u64 = 0;

/// The slots of one pool.
#[derive(Debug)]
pub(in crate::database) struct WaitSlots(Box<[WaitSlot]>);

/// One waiting caller. Aligned, so that the slots of two threads do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct WaitSlot {
    /// Odd while a caller uses the slot.
    generation: AtomicU64,
    /// Nanoseconds of a [`Moment`], stored after the owner.
    since: AtomicU64,
    owner: OwnerCell,
}

/// The number of a caller's slot. `None` for a caller that is not listed.
pub(in crate::database) type WaitNumber = Option<usize>;

impl Default for WaitSlots {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| WaitSlot::default()).collect())
    }
}

/// The slot that this thread tries first, so that threads do not contend.
fn first_slot() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static FIRST: Cell<Option<usize>> = const { Cell::new(None) };
    }
    FIRST.get().unwrap_or_else(|| {
        let first = THREADS.fetch_add(1, Relaxed);
        FIRST.set(Some(first));
        first
    })
}

impl WaitSlots {
    /// Lists a caller.
    #[inline]
    pub(in crate::database) fn enter(&self, owner: WorkOwner, since: Moment) -> WaitNumber {
        let first = first_slot();
        let mut numbers = (first..first + SLOTS).map(|number| number % SLOTS);
        let number = numbers.find(|number| self.0[*number].claim(owner, since));
        watchdog::rouse();
        number
    }

    /// Removes a caller from the list.
    #[inline]
    pub(in crate::database) fn leave(&self, number: WaitNumber) {
        if let Some(slot) = number.and_then(|number| self.0.get(number)) {
            slot.since.store(UNKNOWN, Relaxed);
            let generation = slot.generation.load(Relaxed);
            slot.generation.store(generation.wrapping_add(1), Release);
        }
    }

    /// The callers that wait now, each with the beginning of its wait.
    pub(super) fn read(&self) -> impl Iterator<Item = (WorkOwner, Moment)> {
        self.0.iter().filter_map(WaitSlot::read)
    }

    /// When the longest wait began, if anybody waits.
    pub(in crate::database) fn longest_since(&self) -> Option<Moment> {
        let sinces = self.0.iter().map(|slot| slot.since.load(Relaxed));
        let since = sinces.filter(|since| *since != UNKNOWN).min();
        since.map(Moment::from_nanoseconds)
    }
}

impl WaitSlot {
    /// Takes the slot for a caller. Returns false if another caller has it.
    #[inline]
    fn claim(&self, owner: WorkOwner, since: Moment) -> bool {
        let generation = self.generation.load(Relaxed);
        let is_free = generation.is_multiple_of(2)
            && (self.generation)
                .compare_exchange(generation, generation + 1, Acquire, Relaxed)
                .is_ok();
        if is_free {
            // Pairs with the fence of a reader: a reader that sees one of these stores also sees the new generation.
            fence(Release);
            self.owner.store(owner);
            let since = since.nanoseconds().max(UNKNOWN + 1);
            self.since.store(since, Release);
        }
        is_free
    }

    fn read(&self) -> Option<(WorkOwner, Moment)> {
        let generation = self.generation.load(Acquire);
        let since = self.since.load(Acquire);
        if generation.is_multiple_of(2) || since == UNKNOWN {
            return None;
        }
        let owner = self.owner.load();
        fence(Acquire);
        let is_same = self.generation.load(Relaxed) == generation;
        is_same.then(|| (owner, Moment::from_nanoseconds(since)))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;

    fn owner(name: u32) -> WorkOwner {
        WorkOwner {
            name,
            trace_id: [u64::from(name), u64::from(name)],
            ..WorkOwner::default()
        }
    }

    #[test]
    fn callers_are_listed_until_they_leave_and_those_beyond_the_slots_are_not() {
        let slots = WaitSlots::default();
        let at = Moment::from_nanoseconds;
        let numbers: Vec<_> = (0..SLOTS)
            .map(|number| slots.enter(owner(7), at(1_000 + number as u64)))
            .collect();
        assert!(numbers.iter().all(Option::is_some));
        let beyond = slots.enter(owner(8), at(1));
        assert_eq!(beyond, None);
        slots.leave(beyond);
        assert_eq!(slots.read().count(), SLOTS);
        assert_eq!(slots.longest_since(), Some(at(1_000)));
        slots.leave(numbers[0]);
        assert_eq!(slots.longest_since(), Some(at(1_001)));
        let again = slots.enter(owner(9), at(0));
        assert_eq!(again, numbers[0]);
        assert!(slots.read().any(|(owner, _)| owner.name == 9));
        for number in numbers {
            slots.leave(number);
        }
        assert_eq!((slots.read().count(), slots.longest_since()), (0, None));
    }

    #[test]
    fn a_reader_never_mixes_two_callers() {
        let slots = WaitSlots::default();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for name in [1_u32, 2] {
                let (slots, is_over) = (&slots, &is_over);
                scope.spawn(move || {
                    while !is_over.load(Relaxed) {
                        let name = u64::from(name);
                        let number = slots.enter(
                            owner(u32::try_from(name).unwrap()),
                            Moment::from_nanoseconds(name),
                        );
                        slots.leave(number);
                    }
                });
            }
            let mut seen = 0;
            while seen < 1000 {
                for (found, since) in slots.read() {
                    assert_eq!(found, owner(found.name));
                    assert_eq!(since.nanoseconds(), u64::from(found.name));
                    seen += 1;
                }
            }
            is_over.store(true, Relaxed);
        });
    }
}
