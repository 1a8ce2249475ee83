//! The connections of a plain pool that are in use, without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The entry of no connection. r2d2 counts the ids from 0.
const FREE: u64 = u64::MAX;

/// The ids of the connections in use. r2d2 reports the return of a connection from `try_get`, but not its checkout, so a
/// number alone would be wrong.
#[derive(Debug, Default)]
pub(super) struct CheckedOut {
    /// An entry for each connection that the pool may have. Nobody has a connection before it is set.
    entries: OnceLock<Box<[AtomicU64]>>,
}

impl CheckedOut {
    /// Makes room for all connections of a pool of this size.
    pub(super) fn resize(&self, max_size: u32) {
        let free = || (0..max_size).map(|_| AtomicU64::new(FREE)).collect();
        self.entries.get_or_init(free);
    }

    /// Adds a connection.
    pub(super) fn add(&self, id: u64) {
        self.replace(id, FREE, id);
    }

    /// Removes a connection, if it was added.
    pub(super) fn remove(&self, id: u64) {
        self.replace(id, id, FREE);
    }

    /// The number of connections.
    pub(super) fn count(&self) -> usize {
        let entries = self.entries.get().into_iter().flatten();
        entries.filter(|entry| entry.load(Relaxed) != FREE).count()
    }

    /// Replaces one entry of this value. Looks at the place of `id` first: ids count up, so most connections have their own.
    fn replace(&self, id: u64, old: u64, new: u64) {
        let Some(entries) = self.entries.get().filter(|entries| !entries.is_empty()) else {
            return;
        };
        // The remainder is below the length.
        let first = usize::try_from(id % entries.len() as u64).unwrap_or_default();
        let (behind, before) = entries.split_at(first);
        let mut entries = before.iter().chain(behind);
        entries.find(|entry| entry.compare_exchange(old, new, Relaxed, Relaxed).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_while_they_are_out() {
        let connections = CheckedOut::default();
        connections.add(1);
        assert_eq!(connections.count(), 0, "there is no pool yet");
        connections.resize(3);
        // Two of them have one place.
        for (id, expected) in [(0, 1), (3, 2), (7, 3)] {
            connections.add(id);
            assert_eq!(connections.count(), expected);
        }
        connections.remove(4);
        assert_eq!(connections.count(), 3, "it was never reported");
        for (id, expected) in [(3, 2), (0, 1), (7, 0)] {
            connections.remove(id);
            assert_eq!(connections.count(), expected);
        }
    }

    #[test]
    fn a_connection_that_is_in_use_is_found_by_any_thread() {
        let connections = CheckedOut::default();
        connections.resize(4);
        std::thread::scope(|scope| {
            for id in 0..4 {
                let connections = &connections;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        connections.add(id);
                        connections.remove(id);
                    }
                });
            }
        });
        assert_eq!(connections.count(), 0);
    }
}
