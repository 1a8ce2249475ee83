//! Counts how often one request ran each statement, by the number of the statement's shape.
//!
//! The first 32 shapes are counted in the request's own memory. Further shapes are counted in hash tables that are
//! allocated when a request needs them. The number of shapes is not limited here: the table of statements, which assigns
//! the numbers, limits it.

use std::{
    num::NonZeroU32,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Shapes that are counted without an allocation.
pub(super) const INLINE: usize = 32;

/// Slots of the first hash table, a power of two. Each further table has four times as many.
const FIRST_TABLE: usize = 256;

/// The number of slots that a shape may be in.
const PROBES: usize = 8;

/// The runs of each shape. Any number of threads may count at the same time.
#[derive(Debug, Default)]
pub(super) struct ShapeCounts {
    inline: [ShapeCount; INLINE],
    tables: OnceLock<Box<ShapeTable>>,
}

impl ShapeCounts {
    /// Counts a run of `shape`. Returns the number of its runs so far.
    pub(super) fn count(&self, shape: NonZeroU32) -> u32 {
        let runs = self.inline.iter().find_map(|slot| slot.count(shape));
        runs.unwrap_or_else(|| self.count_in_tables(shape))
    }

    #[cold]
    fn count_in_tables(&self, shape: NonZeroU32) -> u32 {
        let mut link = &self.tables;
        let mut slots = FIRST_TABLE;
        loop {
            let table = link.get_or_init(|| Box::new(ShapeTable::new(slots)));
            if let Some(runs) = table.count(shape) {
                return runs;
            }
            link = &table.next;
            slots *= 4;
        }
    }

    /// Removes all shapes.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.inline {
            let count = slot.0.get_mut();
            if *count == 0 {
                return;
            }
            *count = 0;
        }
        self.tables.take();
    }

    /// The shapes, each with its number of runs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NonZeroU32, u32)> {
        let inline = self.inline.iter().map_while(ShapeCount::read);
        let first = self.tables.get();
        let tables = std::iter::successors(first, |table| table.next.get());
        inline.chain(tables.flat_map(|table| table.slots.iter().filter_map(ShapeCount::read)))
    }
}

/// A hash table with open addressing. A shape whose slots are all taken goes to the next table. Slots are never freed, so
/// it goes there each time.
#[derive(Debug)]
struct ShapeTable {
    slots: Box<[ShapeCount]>,
    next: OnceLock<Box<ShapeTable>>,
}

impl ShapeTable {
    fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| ShapeCount::default()).collect(),
            next: OnceLock::new(),
        }
    }

    /// Counts a run of `shape`. Returns the number of its runs, or `None` if other shapes have taken all its slots.
    fn count(&self, shape: NonZeroU32) -> Option<u32> {
        // Shapes have consecutive numbers. Multiplication by the golden ratio spreads them evenly.
        let first = shape.get().wrapping_mul(0x9e37_79b9).rotate_left(16) as usize;
        let mask = self.slots.len() - 1;
        (first..first + PROBES).find_map(|slot| self.slots[slot & mask].count(shape))
    }
}

/// A shape's number in the upper half, its number of runs in the lower. Zero while the slot is free.
#[derive(Debug, Default)]
struct ShapeCount(AtomicU64);

impl ShapeCount {
    /// Counts a run of `shape`. Returns the number of its runs, or `None` if the slot belongs to another shape.
    #[inline]
    fn count(&self, shape: NonZeroU32) -> Option<u32> {
        let number = u64::from(shape.get()) << 32;
        let before = self
            .0
            .fetch_update(Relaxed, Relaxed, |seen| match seen {
                0 => Some(number + 1),
                _ if seen >> 32 != number >> 32 => None,
                _ if seen & u64::from(u32::MAX) == u64::from(u32::MAX) => Some(seen),
                _ => Some(seen + 1),
            })
            .ok()?;
        let runs = before & u64::from(u32::MAX);
        Some(u32::try_from(runs).unwrap_or(u32::MAX).saturating_add(1))
    }

    fn read(&self) -> Option<(NonZeroU32, u32)> {
        let packed = self.0.load(Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Some((NonZeroU32::new(half(packed >> 32))?, half(packed)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(counts: &ShapeCounts) -> BTreeMap<u32, u32> {
        let read: Vec<_> = counts.iter().collect();
        let by_shape: BTreeMap<u32, u32> = read
            .iter()
            .map(|(shape, runs)| (shape.get(), *runs))
            .collect();
        assert_eq!(by_shape.len(), read.len(), "a shape has one slot");
        by_shape
    }

    #[test]
    fn any_number_of_shapes_is_counted_exactly() {
        for shapes in [1, 31, 32, 33, 40, 1_000, 20_000] {
            let counts = ShapeCounts::default();
            let mut expected = BTreeMap::new();
            for round in 0..3 {
                for number in 1..=shapes {
                    // Consecutive numbers, and numbers with the same lower bits.
                    for shape in [number, number << 16] {
                        if shape % 3 >= round {
                            counts.count(NonZeroU32::new(shape).unwrap());
                            *expected.entry(shape).or_default() += 1;
                        }
                    }
                }
            }
            assert_eq!(read(&counts), expected, "{shapes}");
        }
    }

    #[test]
    fn few_shapes_allocate_no_table() {
        let counts = ShapeCounts::default();
        for _ in 0..100 {
            for shape in 1..=32 {
                counts.count(NonZeroU32::new(shape).unwrap());
            }
        }
        assert!(counts.tables.get().is_none());
    }

    #[test]
    fn threads_that_count_together_count_exactly() {
        let counts = ShapeCounts::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        for shape in 1..=500 {
                            counts.count(NonZeroU32::new(shape).unwrap());
                        }
                    }
                });
            }
        });
        assert_eq!(
            read(&counts),
            (1..=500)
                .map(|shape| (shape, 40))
                .collect::<BTreeMap<_, _>>()
        );
    }
}
