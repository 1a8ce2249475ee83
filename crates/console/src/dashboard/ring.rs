//! The ring contains the ticks of the last hour, packed, within a fixed number of bytes.
//!
//! If a busy hour would exceed that limit, the oldest seconds are merged into spans of 15 seconds, the width of a point in a
//! chart of the whole hour. If that is not enough, the oldest spans are removed.

use std::{collections::VecDeque, iter, sync::Arc};

use super::{
    pack::{pack, unpack},
    tick::Tick,
};

/// How far back the ring goes, in seconds.
pub(super) const HOUR: u64 = 3600;

/// The largest size of the ring, its table included, together with all other data of the page.
pub(super) const MAX_BYTES: usize = 8_000_000;

/// The length of the spans that the oldest ticks are merged into, in seconds.
const COARSE: u64 = 15;

/// The memory of an allocation besides its content: the counts of an `Arc`, and rounding.
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
    ticks: VecDeque<PackedTick>,
    /// How many ticks at the front are merged already.
    coarse: usize,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    /// An empty ring with a limit of `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        let seconds = usize::try_from(HOUR).unwrap_or(usize::MAX);
        let ticks: VecDeque<PackedTick> = VecDeque::with_capacity(seconds + 2);
        Self {
            coarse: 0,
            bytes: ticks.capacity() * size_of::<PackedTick>(),
            max_bytes,
            ticks,
        }
    }

    /// Adds a tick, which must be later than all others.
    pub(super) fn push(&mut self, tick: &Tick) {
        self.insert(self.ticks.len(), PackedTick::new(tick));
        while (self.ticks.front()).is_some_and(|oldest| oldest.time + HOUR <= tick.time) {
            self.remove_oldest();
        }
        self.shrink();
    }

    /// Changes the limit of the ring.
    pub(super) fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.max_bytes && self.ticks.len() > 1 {
            if !self.coarsen() {
                self.remove_oldest();
            }
        }
    }

    /// Whether there is a tick after `since` and before `until`.
    pub(super) fn has_between(&self, since: u64, until: u64) -> bool {
        let next = self.ticks.partition_point(|tick| tick.time <= since);
        self.ticks.get(next).is_some_and(|tick| tick.time < until)
    }

    /// The packed ticks after `since` and up to `until`.
    pub(super) fn between(&self, since: u64, until: u64) -> Vec<PackedTick> {
        let from = self.ticks.partition_point(|tick| tick.time <= since);
        let to = (self.ticks).partition_point(|tick| tick.time <= until);
        self.ticks.range(from..to.max(from)).cloned().collect()
    }

    fn insert(&mut self, at: usize, tick: PackedTick) {
        self.bytes += tick.bytes();
        self.ticks.insert(at, tick);
    }

    fn remove_oldest(&mut self) {
        if let Some(tick) = self.ticks.pop_front() {
            self.bytes -= tick.bytes();
            self.coarse = self.coarse.saturating_sub(1);
        }
    }

    /// Merges the oldest seconds that are not merged yet. Returns `false` if only the current span is left.
    fn coarsen(&mut self) -> bool {
        let span = |tick: &PackedTick| tick.time.div_ceil(COARSE);
        let newest = self.ticks.back().map(span);
        let Some(oldest) = self.ticks.get(self.coarse).map(span) else {
            return false;
        };
        if Some(oldest) == newest {
            return false;
        }
        let end = self.ticks.partition_point(|tick| span(tick) <= oldest);
        let merged: Vec<PackedTick> = self.ticks.drain(self.coarse..end).collect();
        self.bytes -= merged.iter().map(PackedTick::bytes).sum::<usize>();
        for tick in merge(&merged, COARSE) {
            self.insert(self.coarse, PackedTick::new(&tick));
            self.coarse += 1;
        }
        true
    }
}

/// Unpacks ticks and merges those that end in the same span of `step` seconds. At most two are unpacked at a time: an
/// unpacked tick is many times larger.
pub(super) fn merge(ticks: &[PackedTick], step: u64) -> impl Iterator<Item = Tick> {
    let mut ticks = ticks.iter().map(|tick| unpack(&tick.packed)).peekable();
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
