//! Native (exponential) buckets: the index of a value, their sparse storage, and lowering their resolution.
//!
//! Buckets are recorded at schema 5: bucket `i` takes `2^((i-1)/32) < v <= 2^(i/32)`, as Prometheus defines it.
//! <https://prometheus.io/docs/specs/native_histograms/>
//!
//! Each shard of a series has its own buckets, and a reader merges them. A table holds the octaves from 2^-30 (about a
//! nanosecond in seconds) to 2^34 (16 GiB in bytes); an octave (32 buckets) is allocated with its first value. Other
//! values are counted in a small ordered map behind the only lock of the recording path. The counts of the table have 32
//! bits: one value in two billion carries a count over to the map.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::iter;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
    fence,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::race::OnceBox;

use super::cell::{CARRY, CellAccess, Cells, NarrowCellLine};
use super::octaves::Octaves;
use super::sparse;

/// The schema that values are recorded at.
pub(crate) const SCHEMA: i32 = 5;

/// The coarsest schema. Resolutions are not lowered below it.
const LOWEST_SCHEMA: i32 = -4;

/// Values up to this are counted in the zero bucket: 2^-128, the default of `client_golang`.
pub const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << MANTISSA_BITS);

const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;

/// Buckets in an octave.
pub(crate) const PER_OCTAVE: usize = 32;

/// The mantissas of 2^(i/32), correctly rounded, and a sentinel that no mantissa exceeds.
#[rustfmt::skip]
const BOUNDS: [u64; PER_OCTAVE + 1] = [
    0x0_0000_0000_0000, 0x0_59b0_d315_8574, 0x0_b558_6cf9_890f, 0x1_1301_d012_5b51,
    0x1_72b8_3c7d_517b, 0x1_d487_3168_b9aa, 0x2_387a_6e75_6238, 0x2_9e9d_f51f_dee1,
    0x3_06fe_0a31_b715, 0x3_71a7_373a_a9cb, 0x3_dea6_4c12_3422, 0x4_4e08_6061_892d,
    0x4_bfda_d536_2a27, 0x5_342b_569d_4f82, 0x5_ab07_dd48_5429, 0x6_247e_b03a_5585,
    0x6_a09e_667f_3bcd, 0x7_1f75_e8ec_5f74, 0x7_a114_73eb_0187, 0x8_2589_994c_ce13,
    0x8_ace5_422a_a0db, 0x9_3737_b0cd_c5e5, 0x9_c491_82a3_f090, 0xa_5503_b23e_255d,
    0xa_e89f_995a_d3ad, 0xb_7f76_f2fb_5e47, 0xc_199b_dd85_529c, 0xc_b720_dcef_9069,
    0xd_5818_dcfb_a487, 0xd_fc97_337b_9b5f, 0xe_a4af_a2a4_90da, 0xf_5076_5b6e_4540,
    u64::MAX,
];

/// The range of the mantissa is divided into this many parts. A part is narrower than any bucket, so it contains at most
/// one bound.
const GUESS_CELLS: usize = 64;
const GUESS_SHIFT: u32 = MANTISSA_BITS - GUESS_CELLS.trailing_zeros();

/// For each part of the mantissa's range, the number of bounds below it.
const GUESSES: [u8; GUESS_CELLS] = guesses();

const fn guesses() -> [u8; GUESS_CELLS] {
    let mut table = [0; GUESS_CELLS];
    let mut cell = 0;
    let mut below = 0;
    while cell < GUESS_CELLS {
        while BOUNDS[below as usize] < (cell as u64) << GUESS_SHIFT {
            below += 1;
        }
        table[cell] = below;
        cell += 1;
    }
    table
}

/// The index at schema 5 of a value above the zero threshold.
///
/// Infinity has the index after that of the largest float, as in `client_golang`.
#[inline]
pub(crate) fn index(value: f64) -> i32 {
    if value.is_infinite() {
        return finite_index(f64::MAX) + 1;
    }
    finite_index(value)
}

/// The same for a finite value. That of any other positive number is outside of the table.
#[inline]
fn finite_index(value: f64) -> i32 {
    let bits = value.to_bits();
    // Above the zero threshold every number is normal and positive.
    let exponent = (bits >> MANTISSA_BITS) as i32 - 1023;
    let mantissa = bits & MANTISSA_MASK;
    let guess = GUESSES[(mantissa >> GUESS_SHIFT) as usize];
    let above = i32::from(mantissa > BOUNDS[usize::from(guess)]);
    exponent * 32 + i32::from(guess) + above
}

/// The upper bound of bucket `index` at `schema`; infinite for the bucket of infinity.
pub(crate) fn upper_bound(index: i32, schema: i32) -> f64 {
    // Indices are within ±2^15 at the finest schema, so this never leaves i32.
    let fine = if schema <= SCHEMA {
        index.saturating_mul(1 << (SCHEMA - schema))
    } else {
        index >> (schema - SCHEMA)
    };
    let exponent = fine.div_euclid(32);
    if exponent >= 1024 {
        // The last bucket would end at 2^1024, which no float reaches: it ends at the largest float.
        let largest = exponent == 1024 && fine.rem_euclid(32) == 0;
        return if largest { f64::MAX } else { f64::INFINITY };
    }
    let slot = usize::try_from(fine.rem_euclid(32)).unwrap_or(0);
    let fraction = f64::from_bits((1023 << MANTISSA_BITS) | BOUNDS[slot]);
    fraction * 2_f64.powi(exponent)
}

const GROUPS: usize = 8;
const OCTAVES: usize = 8;
/// The exponent of the table's lower end.
const FIRST_EXPONENT: i32 = -30;
/// The first index of the table.
const FIRST_INDEX: i32 = FIRST_EXPONENT * 32 + 1;
/// Indices in a group.
const GROUP_INDICES: usize = OCTAVES * PER_OCTAVE;
/// Indices in an octave.
const INDICES: i32 = 32;
/// Indices in the table.
const SPAN: usize = GROUPS * OCTAVES * PER_OCTAVE;

type Group = [OnceBox<NarrowCellLine>; OCTAVES];
type Map = BTreeMap<i32, u64>;

/// The populated buckets of one shard, at schema 5.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    zero: OnceBox<Cells>,
    /// A bit for each octave of the table that is allocated, or about to be.
    used: AtomicU64,
    groups: [OnceBox<Group>; GROUPS],
    /// Counts of indices outside of the table, and counts that were carried. Created before the first is added.
    beyond: OnceBox<Mutex<Map>>,
}

impl Buckets {
    /// Counts a value above zero.
    #[inline]
    pub(crate) fn record<A: CellAccess>(&self, value: f64) {
        let at = usize::try_from(finite_index(value) - FIRST_INDEX).unwrap_or(SPAN);
        match self.octave(at) {
            Some(octave) if octave.inc::<A>(at % PER_OCTAVE) => self.carry::<A>(octave, at),
            Some(_) => {}
            None => self.record_apart::<A>(value),
        }
    }

    /// The octave of an index of the table, if it is allocated.
    #[inline]
    fn octave(&self, at: usize) -> Option<&NarrowCellLine> {
        let group = self.groups.get(at / GROUP_INDICES)?.get()?;
        group[at / PER_OCTAVE % OCTAVES].get()
    }

    /// Counts a value whose octave is not allocated yet, or that is outside of the table. Apart from the common path, which
    /// thus has no registers to save.
    #[cold]
    fn record_apart<A: CellAccess>(&self, value: f64) {
        if value <= ZERO_THRESHOLD {
            return self.record_zero::<A>();
        }
        let index = index(value);
        match usize::try_from(index - FIRST_INDEX) {
            Ok(at) if at < SPAN => {
                let group = self.groups[at / GROUP_INDICES].get_or_init(Box::default);
                let octave = self.new_octave(group, at / PER_OCTAVE);
                if octave.inc::<A>(at % PER_OCTAVE) {
                    self.carry::<A>(octave, at);
                }
            }
            _ => self.add_beyond(index, 1, || ()),
        }
    }

    /// Carries the count of an index of the table over to the map.
    #[cold]
    fn carry<A: CellAccess>(&self, octave: &NarrowCellLine, at: usize) {
        // An index of the table is small.
        let index = FIRST_INDEX + i32::try_from(at).unwrap_or_default();
        self.add_beyond(index, u64::from(CARRY), || {
            octave.carry::<A>(at % PER_OCTAVE);
        });
    }

    /// Counts a value in the zero bucket.
    #[inline]
    pub(crate) fn record_zero<A: CellAccess>(&self) {
        let zero = match self.zero.get() {
            Some(zero) => zero,
            None => self.new_zero(),
        };
        zero.add::<A>(0, 1);
    }

    /// Allocates an octave of the table. Its bit is set before, so that a reader finds all that is counted in it.
    fn new_octave<'a>(&self, group: &'a Group, octave: usize) -> &'a NarrowCellLine {
        self.used.fetch_or(1 << octave, Relaxed);
        group[octave % OCTAVES].get_or_init(Box::default)
    }

    #[cold]
    fn new_zero(&self) -> &Cells {
        self.zero.get_or_init(|| Box::new(Cells::new(1)))
    }

    /// Adds to the map, and calls `and` before a reader can see the change.
    #[cold]
    fn add_beyond(&self, index: i32, count: u64, and: impl FnOnce()) {
        let mut beyond = lock(self.beyond.get_or_init(Box::default));
        *beyond.entry(index).or_default() += count;
        and();
    }

    /// The count of the zero bucket.
    pub(crate) fn zero_count(&self) -> u64 {
        self.zero.get().map_or(0, |zero| zero.load(0))
    }

    /// The octaves of the table that are allocated, each with the index of its first bucket, ascending.
    #[inline]
    fn octaves(&self) -> impl Iterator<Item = (i32, &NarrowCellLine)> {
        let mut left = self.used.load(Relaxed);
        let used = iter::from_fn(move || {
            let octave = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(octave)
        });
        used.filter_map(|octave| {
            let at = octave as usize;
            let line = self.groups[at / OCTAVES].get()?[at % OCTAVES].get()?;
            Some((FIRST_INDEX + octave.cast_signed() * INDICES, line))
        })
    }

    /// Appends the populated buckets of the table, ascending.
    fn push_populated(&self, out: &mut Vec<(i32, u64)>) {
        for (first, line) in self.octaves() {
            push_populated(out, first, &line.load());
        }
    }

    /// Replaces `out` with the populated buckets of this shard without the zero bucket, ascending. Holds no lock but this
    /// shard's: two series may have the same shards in different orders.
    fn read(&self, out: &mut Vec<(i32, u64)>) {
        loop {
            // No count is carried while the lock is held.
            let beyond = self.beyond.get().map(lock);
            out.clear();
            self.push_populated(out);
            // The shard may have carried its first count meanwhile, which this walk may have missed. The fence pairs with the
            // release in `carry`.
            fence(Acquire);
            if beyond.is_some() || self.beyond.get().is_none() {
                for (index, count) in beyond.iter().flat_map(|map| map.iter()) {
                    sparse::add(out, *index, *count);
                }
                return;
            }
        }
    }

    /// First prefetch pass: loads the table's groups, so that [`touch`](Self::touch) finds the octaves.
    pub(crate) fn touch_table(&self) {
        for group in self.groups.iter().filter_map(OnceBox::get) {
            black_box(group[0].get().is_some());
        }
    }

    /// Second prefetch pass: loads the octaves.
    pub(crate) fn touch(&self) {
        for (_, octave) in self.octaves() {
            octave.touch();
        }
    }
}

fn lock(beyond: &Mutex<Map>) -> MutexGuard<'_, Map> {
    beyond.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces `out` with the populated buckets of all shards without the zero buckets, ascending.
pub(crate) fn read<'a>(
    shards: &(impl Iterator<Item = &'a Buckets> + Clone),
    out: &mut Vec<(i32, u64)>,
) {
    out.clear();
    let mut of_shard = Vec::new();
    for shard in shards.clone() {
        if out.is_empty() {
            shard.read(out);
        } else {
            shard.read(&mut of_shard);
            sparse::merge(out, &of_shard);
        }
    }
}

/// Replaces `out` with the octaves of all shards that have values, ascending. Returns whether these are all values above
/// the zero buckets.
pub(crate) fn read_octaves<'a>(
    shards: &(impl Iterator<Item = &'a Buckets> + Clone),
    out: &mut Octaves,
) -> bool {
    out.clear();
    let mut fit = true;
    for shard in shards.clone() {
        let mut at = 0;
        for (first, line) in shard.octaves() {
            fit &= out.add(&mut at, first, line);
        }
    }
    // As in `Buckets::read`.
    fence(Acquire);
    fit && shards.clone().all(|shard| shard.beyond.get().is_none())
}

/// Appends the populated buckets of an octave. Which are populated is hard to predict, so no branch depends on it.
fn push_populated(out: &mut Vec<(i32, u64)>, first: i32, counts: &[u32; PER_OCTAVE]) {
    let mut populated = [(0, 0); PER_OCTAVE];
    let mut length = 0;
    for (index, count) in (first..).zip(counts) {
        populated[length % PER_OCTAVE] = (index, u64::from(*count));
        length += usize::from(*count > 0);
    }
    out.extend_from_slice(&populated[..length]);
}

/// Halves the resolution until at most `limit` buckets are populated, and returns the new schema.
pub(crate) fn lower(buckets: &mut Vec<(i32, u64)>, limit: usize) -> i32 {
    let mut schema = SCHEMA;
    while buckets.len() > limit && schema > LOWEST_SCHEMA {
        schema -= 1;
        sparse::halve(buckets);
    }
    schema
}

#[cfg(test)]
mod tests;
