//! The ring: the ticks of the last hour, within a fixed number of bytes whatever happens.
//!
//! Ticks are kept packed. Where a busy hour would exceed the bytes, the oldest seconds are merged into spans of 15
//! seconds, as wide as the points of a chart of the whole hour; and where even that is too much, the oldest go.

use std::{collections::VecDeque, iter, sync::Arc};

use super::{
    pack::{pack, unpack},
    tick::Tick,
};

/// How far back the ring goes, in seconds.
pub(super) const HOUR: u64 = 3600;

/// The limit of the ring, its own table included, and of all that is kept beside it for the page.
pub(super) const MAX_BYTES: usize = 8_000_000;

/// The spans that the oldest ticks are merged into, in seconds.
const COARSE: u64 = 15;

/// What an allocation takes beside its content: the counts of an `Arc`, and rounding.
pub(super) const OVERHEAD: usize = 64;

/// A packed tick.
#[derive(Clone, Debug)]
pub(super) struct PackedTick {
    time: u64,
    packed: Arc<[u8]>,
}

impl PackedTick {
    fn new(tick: &Tick) -> Self {
        Self {
            time: tick.time,
            packed: pack(tick).into(),
        }
    }

    fn bytes(&self) -> usize {
        self.packed.len() + OVERHEAD
    }
}

/// The ticks of the last hour.
#[derive(Debug)]
pub(super) struct Ring {
    records: VecDeque<PackedTick>,
    /// Records at the front that are coarse already.
    coarse: usize,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    /// An empty ring that may take `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        let seconds = usize::try_from(HOUR).unwrap_or(usize::MAX);
        let records: VecDeque<PackedTick> = VecDeque::with_capacity(seconds + 2);
        Self {
            coarse: 0,
            bytes: records.capacity() * size_of::<PackedTick>(),
            max_bytes,
            records,
        }
    }

    /// Adds a tick that is later than all others.
    pub(super) fn push(&mut self, tick: &Tick) {
        self.insert(self.records.len(), PackedTick::new(tick));
        while (self.records.front()).is_some_and(|record| record.time + HOUR <= tick.time) {
            self.remove_oldest();
        }
        self.shrink();
    }

    /// Sets the bytes that the ring may take from now on.
    pub(super) fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.max_bytes && self.records.len() > 1 {
            if !self.coarsen() {
                self.remove_oldest();
            }
        }
    }

    /// The time of the oldest tick.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.records.front().map(|record| record.time)
    }

    /// The packed ticks after `since` and up to `until`.
    pub(super) fn between(&self, since: u64, until: u64) -> Vec<PackedTick> {
        let from = self.records.partition_point(|record| record.time <= since);
        let to = (self.records).partition_point(|record| record.time <= until);
        self.records.range(from..to.max(from)).cloned().collect()
    }

    fn insert(&mut self, at: usize, record: PackedTick) {
        self.bytes += record.bytes();
        self.records.insert(at, record);
    }

    fn remove_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.bytes();
            self.coarse = self.coarse.saturating_sub(1);
        }
    }

    /// Merges the oldest seconds that are not merged yet; `false` where only the span that is still growing is left.
    fn coarsen(&mut self) -> bool {
        let span = |record: &PackedTick| record.time.div_ceil(COARSE);
        let newest = self.records.back().map(span);
        let Some(oldest) = self.records.get(self.coarse).map(span) else {
            return false;
        };
        if Some(oldest) == newest {
            return false;
        }
        let end = self
            .records
            .partition_point(|record| span(record) <= oldest);
        let merged: Vec<PackedTick> = self.records.drain(self.coarse..end).collect();
        self.bytes -= merged.iter().map(PackedTick::bytes).sum::<usize>();
        for tick in merge(&merged, COARSE) {
            self.insert(self.coarse, PackedTick::new(&tick));
            self.coarse += 1;
        }
        true
    }
}

/// Unpacks records and merges those that end in the same span of `step` seconds. Unpacked, there are never more than two
/// at a time: a tick takes many times what its record does.
pub(super) fn merge(records: &[PackedTick], step: u64) -> impl Iterator<Item = Tick> {
    let mut ticks = records
        .iter()
        .map(|record| unpack(&record.packed))
        .peekable();
    iter::from_fn(move || {
        let mut merged = ticks.next()?;
        let span = merged.time.div_ceil(step);
        while let Some(tick) = ticks.next_if(|tick| tick.time.div_ceil(step) == span) {
            merged.merge(&tick);
        }
        Some(merged)
    })
}

#[cfg(test)]
mod tests;
