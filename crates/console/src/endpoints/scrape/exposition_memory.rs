//! Bounds the memory of expositions, including those that clients are reading.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use super::exposition::Exposition;

/// No further exposition is made while the existing ones have this many bytes.
const ENOUGH: usize = 64 << 20;

/// How often a scrape that waits for memory checks again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The expositions in memory.
pub(super) struct ExpositionMemory {
    /// The oldest comes first.
    held: Mutex<VecDeque<Held>>,
    /// How long a client may read an exposition while other scrapes wait for memory.
    lifetime: Duration,
}

struct Held {
    since: Instant,
    bytes: usize,
    exposition: Weak<Exposition>,
}

impl ExpositionMemory {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            held: Mutex::default(),
            lifetime,
        }
    }

    /// Waits until one more exposition may be made, or until `is_over`. Blocks.
    ///
    /// Gives up the oldest exposition if its client has not read it within the lifetime.
    pub(super) fn wait(&self, is_over: impl Fn() -> bool) {
        while !self.has_room(Instant::now()) && !is_over() {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn has_room(&self, now: Instant) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.exposition.strong_count() > 0);
        while held.iter().map(|held| held.bytes).sum::<usize>() >= ENOUGH {
            let is_old =
                |oldest: &Held| now.saturating_duration_since(oldest.since) >= self.lifetime;
            if !held.front().is_some_and(is_old) {
                return false;
            }
            let oldest = held.pop_front();
            if let Some(exposition) = oldest.and_then(|oldest| oldest.exposition.upgrade()) {
                exposition.give_up();
            }
        }
        true
    }

    /// Counts an exposition until its last owner drops it.
    pub(super) fn add(&self, exposition: &Arc<Exposition>) {
        let held = Held {
            since: Instant::now(),
            bytes: exposition.held(),
            exposition: Arc::downgrade(exposition),
        };
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(held);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(10);

    fn exposition() -> Arc<Exposition> {
        let mut exposition = Exposition::default();
        exposition.write_all(&vec![0; ENOUGH / 4]).expect("memory");
        Arc::new(exposition)
    }

    #[test]
    fn an_exposition_that_does_not_fit_waits_until_another_is_sent_or_old() {
        let memory = ExpositionMemory::new(LIFETIME);
        let now = Instant::now();
        let mut held: Vec<_> = (0..4).map(|_| exposition()).collect();
        for exposition in &held {
            assert!(memory.has_room(now));
            memory.add(exposition);
        }
        assert!(!memory.has_room(now), "all are held, and none is old");
        held.pop();
        assert!(memory.has_room(now), "one was sent");
        held.push(exposition());
        memory.add(&held[3]);
        assert!(!memory.has_room(now));
        assert!(memory.has_room(now + LIFETIME + Duration::from_secs(1)));
        let given_up: Vec<_> = held.iter().map(|held| held.is_given_up()).collect();
        assert_eq!(given_up, [true, false, false, false]);
    }
}
