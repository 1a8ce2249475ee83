//! The open connections of a plain pool, by the ids that r2d2 gives them.
//!
//! Each has a hold slot, which its recorder stores into as well. Opening and closing a connection takes a lock. Finding the
//! slot of a connection that is taken or returned does not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::clock;
use crate::database::holders::{HoldSlot, PoolHolders};

/// The id of a free entry. r2d2 counts the ids from 0.
const FREE: u64 = u64::MAX;

/// The entries of a chunk.
const CHUNK: usize = 64;

/// The most chunks. Connections beyond 16,384 are not listed.
const CHUNKS: usize = 256;

/// The number of hints, a power of two.
const HINTS: usize = 256;

/// The connections of one pool.
pub(super) struct PlainConnections {
    /// Allocated one after the other, when they are needed.
    chunks: [OnceLock<Box<[Entry]>>; CHUNKS],
    positions: Mutex<Positions>,
    /// Where the connection with an id probably is, by the remainder of the id.
    hints: [AtomicU32; HINTS],
}

/// The positions of entries that no connection has.
#[derive(Default)]
struct Positions {
    returned: Vec<usize>,
    /// No position from this one on was used.
    next: usize,
}

struct Entry {
    id: AtomicU64,
    slot: Arc<HoldSlot>,
}

impl Default for PlainConnections {
    fn default() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            positions: Mutex::default(),
            hints: [const { AtomicU32::new(0) }; HINTS],
        }
    }
}

impl PlainConnections {
    /// Takes an entry for a new connection, whose id is not known yet. Returns its position and its slot.
    pub(super) fn open(&self, holders: &PoolHolders) -> Option<(usize, Arc<HoldSlot>)> {
        let mut positions = self.lock();
        let returned = positions.returned.pop();
        let position = returned.unwrap_or(positions.next);
        let chunk = self.chunks.get(position / CHUNK)?;
        if returned.is_none() {
            positions.next += 1;
        }
        drop(positions);
        let entries = chunk.get_or_init(|| {
            let entry = || Entry {
                id: AtomicU64::new(FREE),
                slot: holders.new_slot(),
            };
            (0..CHUNK).map(|_| entry()).collect()
        });
        let entry = entries.get(position % CHUNK)?;
        Some((position, Arc::clone(&entry.slot)))
    }

    /// Sets the id of the connection at a position.
    pub(super) fn identify(&self, position: usize, id: u64) {
        if let Some(entry) = self.entry(position) {
            entry.id.store(id, Relaxed);
            let position = u32::try_from(position).unwrap_or(0);
            self.hint(id).store(position, Relaxed);
        }
    }

    /// The slot of a connection.
    pub(super) fn slot(&self, id: u64) -> Option<&Arc<HoldSlot>> {
        let entry = self.entry(self.position(id)?)?;
        Some(&entry.slot)
    }

    /// Frees the entry of a connection.
    pub(super) fn close(&self, id: u64) {
        if let Some(position) = self.position(id)
            && let Some(entry) = self.entry(position)
        {
            entry.id.store(FREE, Relaxed);
            entry.slot.opened(None, clock::now());
            self.lock().returned.push(position);
        }
    }

    /// The number of connections that are out.
    pub(super) fn checked_out(&self) -> usize {
        let chunks = self.chunks.iter().map_while(OnceLock::get);
        let entries = chunks.flat_map(|chunk| chunk.iter());
        entries.filter(|entry| entry.slot.is_out()).count()
    }

    fn position(&self, id: u64) -> Option<usize> {
        let is_here = |entry: &Entry| entry.id.load(Relaxed) == id;
        let hint = self.hint(id).load(Relaxed) as usize;
        if self.entry(hint).is_some_and(is_here) {
            return Some(hint);
        }
        let chunks = self.chunks.iter().map_while(OnceLock::get);
        chunks.flat_map(|chunk| chunk.iter()).position(is_here)
    }

    fn hint(&self, id: u64) -> &AtomicU32 {
        // The remainder is below the length.
        &self.hints[usize::try_from(id % HINTS as u64).unwrap_or_default()]
    }

    fn entry(&self, position: usize) -> Option<&Entry> {
        let chunk = self.chunks.get(position / CHUNK)?.get()?;
        chunk.get(position % CHUNK)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Positions> {
        (self.positions.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::database::connection::fixture::Fixture;

    fn holders() -> Arc<PoolHolders> {
        PoolHolders::new(&Fixture::new().families, "plain")
    }

    fn open(connections: &PlainConnections, holders: &PoolHolders, id: u64) {
        let (position, _) = connections.open(holders).unwrap();
        connections.identify(position, id);
    }

    #[test]
    fn connections_are_found_by_their_ids_while_they_are_open() {
        let (connections, holders) = (PlainConnections::default(), holders());
        // More than a chunk, and ids with the same hint.
        for id in (0..100).map(|number| number * 128) {
            open(&connections, &holders, id);
            let slot = connections.slot(id).unwrap();
            slot.begin(None, clock::now());
        }
        assert_eq!(connections.checked_out(), 100);
        assert!(connections.slot(1).is_none());
        for id in (0..100).map(|number| number * 128) {
            assert!(connections.slot(id).unwrap().end(Duration::ZERO), "{id}");
            connections.close(id);
            assert!(connections.slot(id).is_none());
        }
        assert_eq!(connections.checked_out(), 0);
        open(&connections, &holders, 7);
        assert_eq!(connections.lock().returned.len(), 99, "an entry is reused");
    }

    #[test]
    fn threads_find_their_connections_while_others_come_and_go() {
        let (connections, holders) = (PlainConnections::default(), holders());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (connections, holders) = (&connections, &holders);
                scope.spawn(move || {
                    for round in 0..200 {
                        let id = round * 4 + thread;
                        open(connections, holders, id);
                        connections.slot(id).unwrap().begin(None, clock::now());
                        assert!(connections.slot(id).unwrap().end(Duration::ZERO));
                        connections.close(id);
                    }
                });
            }
        });
        assert_eq!(connections.checked_out(), 0);
        assert!(connections.lock().next <= 4);
    }
}
