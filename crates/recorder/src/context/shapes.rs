//! Counts how often one request ran each statement, by the number of the statement's shape.
//!
//! The first shapes are counted in the request's own memory, the further ones in hash tables that are allocated when a
//! request needs them. The number of shapes is not limited here: the table of statements, which assigns the numbers, limits
//! it.

use std::{
    iter,
    num::NonZeroU32,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::access::Access;

/// Shapes that are counted without an allocation.
const INLINE: usize = 32;

/// Slots of the first hash table, a power of two: one for each statement that is kept by default. Each further table has
/// four times as many.
const FIRST_TABLE: usize = 1024;

/// The most further hash tables. They have room for more shapes than there are numbers.
const FURTHER_TABLES: usize = 11;

/// The number of slots of a hash table that a shape may be in.
const PROBES: usize = 8;

/// The runs of each shape. Any number of threads may count at the same time.
///
/// A shape takes the first free one of its slots: any of the inline ones, in their order, or else some of each table. Slots
/// are never freed, so it stays there.
#[derive(Debug, Default)]
pub(super) struct ShapeCounts {
    inline: [ShapeCount; INLINE],
    tables: OnceLock<Box<Tables>>,
}

/// The hash tables. Each one is created when those before it have no free slot for a shape.
#[derive(Debug)]
struct Tables {
    first: Table,
    further: [OnceLock<Table>; FURTHER_TABLES],
}

type Table = Box<[ShapeCount]>;

impl Default for Tables {
    fn default() -> Self {
        Self {
            first: table_of(FIRST_TABLE),
            further: Default::default(),
        }
    }
}

fn table_of(slots: usize) -> Table {
    (0..slots).map(|_| ShapeCount::default()).collect()
}

impl ShapeCounts {
    /// Counts a run of `shape`. Returns the number of its runs so far.
    #[inline]
    pub(super) fn count(&self, shape: NonZeroU32, access: Access) -> u32 {
        let known = match self.tables.get() {
            None => count_in(&self.inline, shape, access),
            // Most are in the first of their slots.
            Some(tables) => match &tables.first[slot_of(shape) % FIRST_TABLE] {
                slot if slot.is_of(shape) => slot.count(shape, access),
                _ => None,
            },
        };
        known.unwrap_or_else(|| self.count_further(shape, access))
    }

    /// Counts a shape that is new, or in none of the slots that most are in. The inline slots are taken.
    #[cold]
    fn count_further(&self, shape: NonZeroU32, access: Access) -> u32 {
        let tables = self.tables.get_or_init(Box::default);
        let mut in_first = slots_of(&tables.first, shape);
        let known = in_first.find(|slot| slot.is_of(shape));
        let known = known.or_else(|| self.inline.iter().find(|slot| slot.is_of(shape)));
        if let Some(slot) = known {
            return slot.count(shape, access).unwrap_or(0);
        }
        let in_first = count_in(slots_of(&tables.first, shape), shape, access);
        let mut size = FIRST_TABLE;
        let runs = in_first.or_else(|| {
            tables.further.iter().find_map(|table| {
                size *= 4;
                let table = table.get_or_init(|| table_of(size));
                count_in(slots_of(table, shape), shape, access)
            })
        });
        runs.unwrap_or(0)
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
        let tables = self.tables.get().into_iter().flat_map(|tables| {
            let further = tables.further.iter().filter_map(OnceLock::get);
            iter::once(&tables.first).chain(further)
        });
        let slots = tables.flat_map(|table| &**table);
        let inline = self.inline.iter().map_while(ShapeCount::read);
        inline.chain(slots.filter_map(ShapeCount::read))
    }
}

/// The first slot that a shape may be in, in a table of any size.
#[inline]
fn slot_of(shape: NonZeroU32) -> usize {
    // Most shapes have consecutive numbers, of which no two are in one slot. The golden ratio spreads those that have the same
    // lower half.
    let number = shape.get();
    (number ^ (number >> 16).wrapping_mul(0x9e37_79b9)) as usize
}

/// The slots of a hash table that a shape may be in. Their number is a power of two.
fn slots_of(slots: &[ShapeCount], shape: NonZeroU32) -> impl Iterator<Item = &ShapeCount> {
    let first = slot_of(shape);
    let mask = slots.len() - 1;
    (first..first + PROBES).map(move |slot| &slots[slot & mask])
}

/// Counts a run of `shape` in one of these slots. Returns the number of its runs, or `None` if other shapes have taken all of
/// them.
#[inline]
fn count_in<'a>(
    slots: impl IntoIterator<Item = &'a ShapeCount>,
    shape: NonZeroU32,
    access: Access,
) -> Option<u32> {
    let mut slots = slots.into_iter();
    slots.find_map(|slot| slot.count(shape, access))
}

/// A shape's number in the upper half, its number of runs in the lower. Zero while the slot is free.
#[derive(Debug, Default)]
struct ShapeCount(AtomicU64);

impl ShapeCount {
    /// Whether the slot belongs to `shape`.
    #[inline]
    fn is_of(&self, shape: NonZeroU32) -> bool {
        self.0.load(Relaxed) >> 32 == u64::from(shape.get())
    }

    /// Counts a run of `shape`. Returns the number of its runs, or `None` if the slot belongs to another shape.
    #[inline]
    fn count(&self, shape: NonZeroU32, access: Access) -> Option<u32> {
        let number = u64::from(shape.get()) << 32;
        let next = |seen| match seen {
            0 => Some(number + 1),
            _ if seen >> 32 != number >> 32 => None,
            _ if seen & u64::from(u32::MAX) == u64::from(u32::MAX) => Some(seen),
            _ => Some(seen + 1),
        };
        let count = match access {
            Access::Sole => {
                let count = next(self.0.load(Relaxed))?;
                self.0.store(count, Relaxed);
                count
            }
            Access::Shared => next(self.0.fetch_update(Relaxed, Relaxed, next).ok()?)?,
        };
        Some(u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX))
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
                let access = [Access::Sole, Access::Shared][round as usize % 2];
                for number in 1..=shapes {
                    // Consecutive numbers, and numbers with the same lower bits.
                    for shape in [number, number << 16] {
                        if shape % 3 >= round {
                            counts.count(NonZeroU32::new(shape).unwrap(), access);
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
                counts.count(NonZeroU32::new(shape).unwrap(), Access::Sole);
            }
        }
        assert!(counts.tables.get().is_none());
    }

    #[test]
    fn the_tables_have_room_for_all_numbers() {
        let slots: usize = (0..=FURTHER_TABLES)
            .map(|table| FIRST_TABLE << (2 * table))
            .sum();
        assert!(slots > u32::MAX as usize);
    }

    #[test]
    fn threads_that_count_together_count_exactly() {
        let counts = ShapeCounts::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        for shape in 1..=500 {
                            counts.count(NonZeroU32::new(shape).unwrap(), Access::Shared);
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
